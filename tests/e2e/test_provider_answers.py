"""Answers with status 200 that are none, that are not what a column wants, or that arrive damaged,
late or never: what a user sees of the run, which rows are there, and why not the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.provider_case import ODD_KINDS, RECORDS, Case, Ended
from tests.effort import effort
from tests.engine.run.damaged_answers import BROKEN, TIMEOUT_SECONDS, WHOLE, closed_later
from tests.engine.run.faulty_provider import Behaviour, Call, completion, failure

OUT_SECONDS = effort(3.0, 16.0)


def json_answer(body: Any) -> Callable[[Call], Any]:
    return lambda call: web.json_response(body)


def while_out(answer: Callable[[Call], Any]) -> Callable[[], Behaviour]:
    return lambda: (
        lambda call: answer(call) if 0.3 <= call.seconds < 0.3 + OUT_SECONDS else completion()
    )


def few_probes(ended: Ended) -> None:
    assert ended.repeats <= 40, "calls in flight as it goes out, and probes"


RATE_LIMIT = {"message": "Rate limit exceeded", "code": 429}
OUTAGES = {
    "an error of 429": Case(
        while_out(json_answer({"error": RATE_LIMIT})),
        {"records": 400},
        why="429|slow down|rate limit|out",
        seconds=60,
        check=few_probes,
    ),
    "an error and no content": Case(
        while_out(
            json_answer({"choices": [{"message": {"content": None}}], "error": {"code": 502}})
        ),
        {"records": 400},
        why="out",
        seconds=60,
        check=few_probes,
    ),
    "choices null": Case(
        while_out(json_answer({"id": None, "choices": None})),
        {"records": 400},
        why="out",
        seconds=60,
        check=few_probes,
    ),
    "choices empty": Case(
        while_out(json_answer({"id": "x", "choices": []})),
        {"records": 400},
        why="out",
        seconds=60,
        check=few_probes,
    ),
    "an error of 402": Case(
        lambda: json_answer({"error": {"message": "no", "code": 402}}),
        {"records": 60},
        exit_code=1,
        rows=0,
        says="402",
        why="402|quota",
    ),
}


def odd(answer: Callable[[Call], Any], dropped: str = "", tries: int = 1, **expected: Any) -> Case:
    """Prompts with ODD in them get this answer whenever they are sent, `tries` times at most."""

    def check(ended: Ended) -> None:
        sent = {n for prompt, n in ended.provider.prompts.items() if "ODD" in prompt}
        assert sent == {tries}
        text = expected.get("text")
        if text is not None:
            made = {row["text"] for row in ended.rows if row["kind"] == "ODD"}
            assert made == {text}

    return Case(
        lambda: lambda call: answer(call) if "ODD" in call.prompt else completion(),
        {**ODD_KINDS, **expected.get("parts", {})},
        1 if dropped else 0,
        dropped=dropped,
        why=f"dropped.*{dropped.replace('_', ' ')}" if dropped else "did work|sets the pace",
        check=check,
    )


def usage(prompt: Any, completed: Any, total: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": total}


def fine(used: Any) -> Callable[[Call], Any]:
    choices = [{"finish_reason": "stop", "message": {"content": "odd"}}]
    return json_answer({"choices": choices, "usage": used})


def once(body: bytes) -> Callable[[Call], Any]:
    """Such a body the first time, then an answer."""
    return lambda call: completion() if call.tries else web.Response(body=body)


AGAIN = {"name": "again", "type": "llm_text", "model": "m", "prompt": "Repeat: {{ text }}"}
LONG = "word " * 210_000
HALF = {"name": "kind", "type": "sampler", "categories": {"ODD": 1, "plain": 1}}
SHAPES = {
    "no content": odd(lambda call: completion(None), "empty_answer", 2),
    "thinking that used up its tokens": odd(
        lambda call: completion(None, "length", reasoning_content="hm"), "reasoning_only", 2
    ),
    "a refusal": odd(lambda call: completion(None, refusal="I can't help with that."), "refusal"),
    "a filter": odd(lambda call: completion("The first half", "content_filter"), "filtered_answer"),
    "an empty text": odd(lambda call: completion(""), "empty_answer", 2),
    "a text that is cut": odd(lambda call: completion("cut in the", "length"), text="cut in the"),
    "thinking in the text": odd(lambda call: completion("<think>x</think>\nso"), text="so"),
    "a list": odd(lambda call: completion([{"type": "text", "text": "so"}]), text="so"),
    "usage null": odd(fine(None), text="odd"),
    "usage in words": odd(fine(usage("12", "3", "15")), text="odd"),
    "usage that is odd": odd(fine(usage({"text": 3}, -4, 1e30)), text="odd"),
    "usage in fractions": odd(fine(usage(3.5, 1e30, 4)), text="odd"),
    "usage beyond all bounds": odd(fine(usage(10**30, 3, 4)), text="odd"),
    "control characters": odd(
        lambda call: completion("a\x00b\x1b[31mred"), text="a\x00b\x1b[31mred"
    ),
    "no UTF-8": odd(once(b'{"choices": [{"message": {"content": "caf\xe9"}}]}'), tries=2),
    "an empty body": odd(once(b""), tries=2),
    "a long text": odd(
        lambda call: completion(LONG), text=LONG, parts={"records": 10, "before": [HALF]}
    ),
    "a long text, passed on": odd(
        lambda call: completion(LONG),
        text=LONG,
        parts={"records": 6, "before": [HALF], "behind": [AGAIN]},
    ),
    "half a character, passed on": odd(
        lambda call: completion("cut \ud83d"), text="cut \ufffd", parts={"behind": [AGAIN]}
    ),
}


def picky(call: Call) -> Any:
    """A model that takes no max_tokens, and thinks before it speaks."""
    if "max_tokens" in call.body:
        return failure(400, "unsupported_parameter", "'max_tokens' is not supported")
    if (call.body.get("max_completion_tokens") or 10_000) < 50:
        return completion(None, "length", reasoning_content="hm")
    return completion()


PICKY = {
    "max_tokens": Case(lambda: picky, {"records": 20, "model": {"max_tokens": 100}}),
    "a health check": Case(lambda: picky, {"records": 20, "run": {"health_check": True}}),
    "both": Case(
        lambda: picky,
        {"records": 20, "model": {"max_tokens": 100}, "run": {"health_check": True}},
    ),
}


def every_third(answer: Callable[[Call], Any]) -> Callable[[], Behaviour]:
    """Every third request gets this answer; its repetition is answered."""
    return lambda: (
        lambda call: answer(call) if call.number % 3 == 0 and not call.tries else completion()
    )


def wire(answer: Callable[[Call], Any], repeated: bool | None = True) -> Case:
    """`repeated`: whether such an answer costs a repetition; None where that depends."""

    def check(ended: Ended) -> None:
        assert repeated is None or (ended.repeats > 0) == repeated
        assert ended.repeats <= RECORDS

    return Case(
        every_third(answer),
        {"provider": {"timeout_seconds": TIMEOUT_SECONDS}},
        why="connection|answer|time-out|slower|failed" if repeated else "did work",
        seconds=40,
        check=check,
    )


def slow_once(call: Call) -> Any:
    return asyncio.sleep(3600) if "SLOW" in call.prompt and not call.tries else completion()


WIRE = {
    **{f"the wire: {kind}": wire(answer) for kind, answer in BROKEN.items()},
    **{f"the wire: {kind}": wire(answer, False) for kind, answer in WHOLE.items()},
    "the wire: closed a little later": wire(closed_later, None),
    "hung calls in each group": Case(
        lambda: slow_once,
        {
            "records": 120,
            "provider": {"timeout_seconds": 3.0},
            "before": [{"name": "kind", "type": "sampler", "categories": {"SLOW": 1, "plain": 6}}],
            "column": ODD_KINDS["column"],
            "run": {"buffer_size": 10},
        },
        why="hung|time",
        seconds=40,
    ),
}
CASES = {**OUTAGES, **SHAPES, **PICKY, **WIRE}
SAMPLE = ("a refusal",)


@pytest.mark.parametrize("name", effort(SAMPLE, tuple(CASES)))
def test_a_run_says_what_was_wrong_with_the_answers(
    name: str, judged: Callable[[Case], Ended]
) -> None:
    judged(CASES[name])
