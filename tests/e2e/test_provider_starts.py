"""Addresses, keys, proxies, options and workflow files that are odd: a run begins and makes every
row, or does not begin, and one sentence says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.provider_case import Case, Ended
from tests.effort import effort
from tests.engine.run.faulty_provider import Call, completion

EIGHT = {"records": 8}
DEAD = "http://127.0.0.1:9"
SOCKS = "socks5h://127.0.0.1:9"


def redirect(status: int) -> Case:
    def behaviour(call: Call) -> Any:
        path = call.request.path
        if path.endswith("/"):
            return completion()
        return web.Response(status=status, headers={"location": path + "/"})

    def check(ended: Ended) -> None:
        assert ended.provider.calls <= 2 * 8, "the address that was named is used from then on"

    return Case(lambda: behaviour, EIGHT, check=check)


def refused(says: str, **parts: Any) -> Case:
    def check(ended: Ended) -> None:
        assert ended.provider.calls == 0

    return Case(exit_code=2, says=says, check=check, seconds=15.0, **parts)


def at_zero(address: str) -> str:
    return address.replace("127.0.0.1", "0.0.0.0")


def key_arrives(ended: Ended) -> None:
    assert {sent["Authorization"] for sent in ended.provider.headers} == {"Bearer sk-abcdef"}


def header_arrives(ended: Ended) -> None:
    assert [sent["X-Title"] for sent in ended.provider.headers] == ["x"] * 3


ADDRESSES = {
    "with a slash": Case(parts=EIGHT, address=lambda address: address + "/"),
    "without its version": refused(
        r"base_url.*/v1", address=lambda address: address.removesuffix("/v1")
    ),
    "of an operation": refused(
        "chat/completions", address=lambda address: address + "/chat/completions"
    ),
    "a redirect, 307": redirect(307),
    "a redirect, 301": redirect(301),
    "a host that is not there": refused(
        "no-such-host.invalid", address=lambda _: "http://no-such-host.invalid/v1"
    ),
    "a dead proxy before this machine": Case(
        parts=EIGHT, env={"HTTP_PROXY": DEAD, "http_proxy": DEAD, "ALL_PROXY": SOCKS}
    ),
    "0.0.0.0, which no_proxy names": Case(
        parts=EIGHT, address=at_zero, env={"http_proxy": DEAD, "no_proxy": "0.0.0.0"}
    ),
    "0.0.0.0 behind SOCKS": Case(
        parts=EIGHT, address=at_zero, env={"all_proxy": SOCKS, "ALL_PROXY": SOCKS}
    ),
    "a host behind SOCKS": refused(
        "SOCKS5H proxy", address=lambda _: "http://host.invalid/v1", env={"all_proxy": SOCKS}
    ),
    "models that are never listed": Case(parts=EIGHT, hides_models=True, seconds=30.0),
}
KEYS = {
    "that is not set": refused(
        "NOT_SET_KEY.*not set", parts={"provider": {"api_key_env": "NOT_SET_KEY"}}
    ),
    "with the line break of its file": Case(
        parts={**EIGHT, "provider": {"api_key_env": "MY_KEY"}},
        env={"MY_KEY": "sk-abcdef\n"},
        check=key_arrives,
    ),
    "that no header takes": refused(
        "MY_KEY.*no HTTP header takes",
        parts={"provider": {"api_key_env": "MY_KEY"}},
        env={"MY_KEY": "sk-ab\ncd"},
    ),
}


def bodies_hold(**options: Any) -> Callable[[Ended], None]:
    def check(ended: Ended) -> None:
        for body in ended.provider.bodies:
            assert {name: body[name] for name in options} == options

    return check


def of_azure(ended: Ended) -> None:
    assert ended.provider.calls == 3


def few_at_once(ended: Ended) -> None:
    assert ended.provider.most_in_flight <= 2


def named(ended: Ended) -> None:
    assert {body["model"] for body in ended.provider.bodies} == {"meta/llama-3.3:free"}


THREE = {"records": 3}
OPTIONS = {
    "top_p": Case(parts={**THREE, "model": {"top_p": 0.9}}, check=bodies_hold(top_p=0.9)),
    "a body of its own": Case(
        parts={**THREE, "model": {"extra_body": {"reasoning_effort": "low"}}},
        check=bodies_hold(reasoning_effort="low"),
    ),
    "headers": Case(
        parts={**THREE, "provider": {"headers": {"X-Title": "x"}}},
        check=header_arrives,
    ),
    "requests per minute": Case(parts={**THREE, "model": {"requests_per_minute": 60}}),
    "a schema": Case(
        lambda: lambda call: completion('{"a": 1}'),
        {**THREE, "column": {"type": "llm_structured", "schema": {"type": "object"}}},
    ),
    "an option that there is not": refused(
        'unknown key "output_format"',
        parts={"column": {"type": "llm_structured", "output_format": {"type": "object"}}},
    ),
    "a seed file that is not there": refused(
        "seeds.csv", parts={"before": [{"name": "s", "type": "seed", "path": "seeds.csv"}]}
    ),
    "a query within the address": refused(
        "`query` of the provider", address=lambda address: f"{address}?api-version=2024-06-01"
    ),
    "a query": Case(
        parts={**THREE, "provider": {"query": {"api-version": "2024-06-01"}}},
        address=lambda address: address.replace("/v1", "/openai/deployments/x"),
        check=of_azure,
    ),
    "a model with a slash": Case(parts={"model": {"model": "meta/llama-3.3:free"}}, check=named),
    "two aliases": Case(
        parts={
            "records": 30,
            "model": {"max_parallel_requests": 32},
            "more_models": {"n": {"provider": "p", "model": "m1", "max_parallel_requests": 2}},
            "behind": [{"name": "other", "type": "llm_text", "model": "n", "prompt": "{{ id }}"}],
        },
        warns=r"aliases m \(32\), n \(2\) share p/m1.*2, holds for all",
        check=few_at_once,
        why="p/m1",
    ),
    "a group that is larger than the run": Case(parts={"records": 7, "run": {"buffer_size": 1000}}),
}
HEAD = """
name: odd
records: 6
providers: { p: { type: openai, base_url: "ADDRESS" } }
models: { m: { provider: p, model: m1 } }
columns:
"""


def file(columns: str, **expected: Any) -> Case:
    return Case(text=HEAD + columns, **expected)


def refused_file(columns: str, says: str, head: str = HEAD) -> Case:
    return refused(says, text=head + columns)


def column_holds(*values: Any) -> Callable[[Ended], None]:
    def check(ended: Ended) -> None:
        assert {row["c"] for row in ended.rows} <= set(values)
        assert len({row["c"] for row in ended.rows}) > 1

    return check


def sent(prompt: str) -> Callable[[Ended], None]:
    def check(ended: Ended) -> None:
        assert set(ended.provider.prompts) == {prompt}

    return check


UID = "  - { name: uid, type: sampler, uuid: true }\n"
ASK = '  - { name: t, type: llm_text, model: m, prompt: "About {{ c }} {{ uid }}" }\n'
FILES = {
    "words that YAML takes for values": file(
        "  - { name: c, type: sampler, values: [DK, NO, SE, on, 2024-01-01, 010] }\n" + UID + ASK,
        check=column_holds("DK", "NO", "SE", "on", "2024-01-01", "010"),
    ),
    "values that are not as written": file(
        "  - { name: c, type: sampler, values: [NO, 1.10, null] }\n" + UID + ASK,
        warns=r"1\.10, null",
    ),
    "words as keys": file(
        "  - { name: c, type: sampler, categories: { DK: 1, NO: 1 } }\n" + UID + ASK,
        check=column_holds("DK", "NO"),
    ),
    "a tab": refused_file("\t- { name: id, type: sampler, uuid: true }\n", "line|tab"),
    "no records": refused_file(UID, "records.*1", HEAD.replace("records: 6", "records: 0")),
    "a circle": refused_file(
        '  - { name: a, type: expression, template: "{{ b }}" }\n'
        '  - { name: b, type: expression, template: "{{ a }}" }\n',
        "cycle",
    ),
    "words of Python": file(
        "  - { name: class, type: sampler, values: [x] }\n"
        '  - { name: lambda, type: llm_text, model: m, prompt: "{{ class }}" }\n'
        '  - { name: items, type: expression, template: "{{ lambda }}" }\n' + UID
    ),
    "a word of Jinja": file(
        "  - { name: loop, type: sampler, values: [x] }\n"
        '  - { name: t, type: llm_text, model: m, prompt: "{{ loop }}" }\n' + UID,
        check=sent("x"),
    ),
    "a column true": refused_file("  - { name: true, type: sampler, values: [x] }\n", "name"),
    "a field that some rows lack": file(
        "  - { name: c, type: sampler, values: [{ a: { b: Elm } }, { a: {} }] }\n"
        + UID
        + '  - { name: t, type: llm_text, model: m, prompt: "Write {{ c.a.b }} {{ uid }}" }\n',
        exit_code=1,
        rows=range(6),
        dropped="UndefinedError",
        why='column t: the template of column "t" failed on this row, which has no "b"',
    ),
    "a prompt that is empty": file(
        '  - { name: a, type: sampler, values: [null, ""] }\n'
        '  - { name: t, type: llm_text, model: m, prompt: "{{ a }}" }\n',
        exit_code=1,
        rows=0,
        dropped="EmptyPrompt",
        why="prompt .*empty",
    ),
    "an unknown column": refused_file(
        "  - { name: a, type: sampler, values: [x] }\n"
        '  - { name: t, type: llm_text, model: m, prompt: "{{ aa }}" }\n',
        'unknown column "aa"',
    ),
}
CASES = {
    **{f"an address: {name}": case for name, case in ADDRESSES.items()},
    **{f"a key: {name}": case for name, case in KEYS.items()},
    **{f"an option: {name}": case for name, case in OPTIONS.items()},
    **{f"a file: {name}": case for name, case in FILES.items()},
}
SAMPLE = ("an option: two aliases",)


@pytest.mark.parametrize("name", effort(SAMPLE, tuple(CASES)))
def test_a_run_begins_or_says_why_not(name: str, judged: Callable[[Case], Ended]) -> None:
    judged(CASES[name])
