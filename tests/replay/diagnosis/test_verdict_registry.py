"""The registry of verdicts: complete, described, the only list, and readable over versions."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from console.theme import verdict_look
from replay.diagnosis.report.schema import schema
from replay.diagnosis.verdicts import (
    BY_NAME,
    VERDICTS,
    WORKING,
    Context,
    Facts,
    Verdict,
    VerdictRow,
    decode_row,
    encode_facts,
)
from replay.diagnosis.verdicts.base import Hatch, Role
from replay.diagnosis.verdicts.cooldowns import (
    RequestOutage,
    RequestOverload,
)
from replay.diagnosis.verdicts.errors import ERRORS
from replay.diagnosis.verdicts.flow import AwaitsSlowCall
from replay.diagnosis.verdicts.loop import ProcessStopped
from replay.diagnosis.verdicts.registry import AnyVerdict, Bare, Unlisted
from replay.diagnosis.verdicts.requests import (
    ClientBackoff,
    RequestPlateau,
    RequestRateBudget,
    SlowTasks,
)
from replay.recording.rows import verdict_of

ROOT = Path(__file__).parents[3]
PROOFS = {
    f"replay/diagnosis/{name}.py"
    for name in ("attribution", "holders", "proofs", "slot_division", "report/pace")
}
"""What blames them by name, or says whether a slot between two calls is idle."""
WAIT_REASONS = "console/formatting.py"
"""Reasons of a wait, of which some have the name of a verdict."""
UNTAGGED = [
    json.loads(line)
    for line in (ROOT / "tests" / "fixtures" / "untagged_verdicts.jsonl").read_text().splitlines()
]
"""Rows as recordings had them before details were typed, with the words of that time."""


def subclasses(kind: type[Verdict]) -> Iterator[type[Verdict]]:
    """Those of the product: classes of tests live until the collector comes by."""
    for subclass in kind.__subclasses__():
        if not subclass.__module__.startswith("tests."):
            yield subclass
        yield from subclasses(subclass)


def read(row: dict[str, Any]) -> VerdictRow:
    return verdict_of([*list(row.values())[:-1], json.dumps(row["detail"])])


@pytest.mark.parametrize("kind", VERDICTS, ids=lambda kind: kind.__name__)
def test_a_verdict_has_words_a_proof_and_a_look(kind: type[Verdict]) -> None:
    assert kind.phrase
    assert kind.proof
    assert kind.display.role in get_args(Role)
    assert kind.display.hatch in get_args(Hatch)


def test_a_sentence_without_its_facts_cannot_be_made() -> None:
    """Every verdict whose sentence says a fact has a field for it without a default."""
    for kind in VERDICTS:
        needed = [field.name for field in msgspec.structs.fields(kind) if field.required]
        if needed:
            with pytest.raises(TypeError):
                kind()
        else:
            assert kind().sentence("provider/model/chat", 1.5, Context()).endswith(".")
    facts_needed = {kind for kind in VERDICTS if any(f.required for f in fields_of(kind))}
    assert {"task_capacity", "request_domain_limit", "dependency", "provider_errors"} <= {
        str(kind.__struct_config__.tag) for kind in facts_needed
    }


def test_a_row_that_lacks_facts_claims_no_more_than_its_name_and_time() -> None:
    row = decode_row("request_domain_limit", "D", "a/m/chat", 1.0, 2.5, "", [], '{"limit": 2}')
    assert row.sentence == "a/m: ceiling below its maximum, for 1.5 s."
    assert row.tier == "D"
    assert row.advice == ""


def fields_of(kind: type[Verdict]) -> tuple[Any, ...]:
    return msgspec.structs.fields(kind)


def test_every_class_with_a_name_is_listed() -> None:
    named = {kind for kind in subclasses(Verdict) if kind.__struct_config__.tag}
    families = {kind for kind in named if kind.__subclasses__()}
    assert named - families - {Unlisted, Bare} == set(VERDICTS)


def test_letters_and_looks_tell_verdicts_apart() -> None:
    letters = [kind.display.letter for kind in VERDICTS]
    assert len(set(letters)) == len(letters)
    looks = [(kind.display.role, kind.display.hatch) for kind in VERDICTS]
    assert len(set(looks)) == len(looks)


def test_the_schema_describes_every_field_of_every_verdict() -> None:
    definitions = schema()["$defs"]
    for name, definition in definitions.items():
        for field, described in definition["properties"].items():
            is_tag = field == "verdict" and "enum" in described
            assert is_tag or described.get("description"), f"{name}.{field}"
            if field.endswith(("seconds", "_age", "age", "p95")):
                assert "s" in described["unit"], f"{name}.{field}"
    mapping = definitions["VerdictLine"]["properties"]["detail"]["discriminator"]["mapping"]
    assert mapping.keys() - {"unlisted", "bare"} == BY_NAME.keys()
    for name in BY_NAME:
        fields = BY_NAME[name].__struct_fields__
        assert set(fields) <= definitions[BY_NAME[name].__name__]["properties"].keys()


@pytest.mark.parametrize("row", UNTAGGED, ids=lambda row: f"{row['verdict']}-{row['resource']}")
def test_facts_without_a_tag_are_read_as_those_of_today(row: dict[str, Any]) -> None:
    verdict = read(row)
    if not row["detail"].get("limit", True):  # recorded without its facts
        assert type(verdict.detail) is Bare
        assert "0" not in verdict.sentence.replace("8.0 s", "")
        return
    assert type(verdict.detail) is BY_NAME[row["verdict"]]
    assert verdict.tier == row["tier"]
    assert verdict.sentence.endswith(".")
    kept = json.loads(encode_facts(verdict))
    assert kept.pop("verdict") == row["verdict"]
    fields = {*BY_NAME[row["verdict"]].__struct_fields__, *Context.__struct_fields__}
    facts = {name: fact for name, fact in row["detail"].items() if fact and name in fields}
    assert {name: kept[name] for name in facts} == facts


def test_there_are_facts_without_a_tag_of_every_verdict() -> None:
    tagged_from_the_first = {
        *(str(kind.__struct_config__.tag) for kind in (*ERRORS, ProcessStopped, ClientBackoff)),
        *(str(kind.__struct_config__.tag) for kind in (AwaitsSlowCall, RequestOutage, SlowTasks)),
        *(str(kind.__struct_config__.tag) for kind in (RequestPlateau, RequestRateBudget)),
        str(RequestOverload.__struct_config__.tag),
    }
    never_recorded = {WORKING, "queue_order", *tagged_from_the_first}
    assert {row["verdict"] for row in UNTAGGED} == BY_NAME.keys() - never_recorded


@pytest.mark.parametrize("row", UNTAGGED, ids=lambda row: f"{row['verdict']}-{row['resource']}")
def test_facts_come_out_of_a_recording_and_a_dump_as_they_went_in(row: dict[str, Any]) -> None:
    verdict = read(row)
    again = read({**row, "sentence": "", "detail": json.loads(encode_facts(verdict))})
    assert again == verdict
    facts = Facts(verdict.detail, verdict.context, [1])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=Facts) == facts


def test_the_words_of_a_recording_count_where_the_verdict_is_not_known() -> None:
    detail = {"verdict": "sunspots", "flux": 3, "advice": "Wait.", "waiting": 2, "also": {}}
    row = {**UNTAGGED[0], "verdict": "sunspots", "tier": "E", "sentence": "The sun was to blame."}
    verdict = read({**row, "detail": detail})
    assert (verdict.tier, verdict.sentence, verdict.advice) == ("E", row["sentence"], "Wait.")
    assert verdict.context.waiting == 2
    assert verdict_look("sunspots").letter == "S"


@pytest.mark.parametrize("facts", ["", "[]", '{"also": {"dependency": "half"}}'])
def test_damaged_facts_are_refused(facts: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_row("task_capacity", "C", None, 0.0, 1.0, "", [], facts)


def test_facts_of_another_type_are_not_used() -> None:
    row = decode_row("task_capacity", "C", None, 0.0, 1.0, "", [], '{"limit": "many"}')
    assert row.sentence == "No task slot free, for 1.0 s."


def names_in(node: ast.AST) -> set[str]:
    constants = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return {value for value in constants if isinstance(value, str) and value in BY_NAME}


def lists_of_verdicts(source: str) -> list[tuple[int, set[str]]]:
    """Literals, calls and functions that name three verdicts or more."""
    kinds = (ast.Dict, ast.Set, ast.List, ast.Tuple, ast.Call, ast.FunctionDef)
    return [
        (node.lineno, names_in(node))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds) and len(names_in(node)) > 2
    ]


def test_nothing_but_the_registry_and_the_proofs_lists_verdicts() -> None:
    actual = {}
    for wing in ("engine", "replay", "console"):
        for path in sorted((ROOT / wing).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            listed = lists_of_verdicts(path.read_text(encoding="utf-8"))
            if listed and name not in {*PROOFS, WAIT_REASONS} and "diagnosis/verdicts/" not in name:
                actual[name] = listed
    assert actual == {}


def test_a_list_of_verdicts_would_be_seen() -> None:
    assert lists_of_verdicts('ORDER = ("dependency", "group_cap", "leaked_lease")')
    assert lists_of_verdicts('LOOKS = {"dependency": 1, "group_cap": 2, "leaked_lease": 3}')
    assert lists_of_verdicts(
        "def f(v):\n if v == 'dependency': return 1\n return v in ('group_cap', 'borrow_debt')"
    )


NEW_VERDICT = """

class Sunspots(Verdict, tag="sunspots"):
    tier = "E"
    phrase = "the sun was active"
    proof = "a flare, and nothing else"
    display = Display("*", "slow", "cross")
    rank = 4
    proved_from = "solar wind"
    what_to_do = "Wait for the night."

    flares: Annotated[int | None, fact("Flares seen")] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return f"{self.flares} flares held up {resource}."


FLOW = (*FLOW, Sunspots)
"""
EVERYWHERE = """
from pathlib import Path
from engine.events import RunInfo
from console.cli.main import run_cli
from console.theme import Appearance, verdict_look
from console.widgets.blame_bar import BlameBar
from replay.diagnosis.slot_division import RANK
from replay.diagnosis.report.provability import not_provable
from replay.diagnosis.report.build import verdict_line
from replay.diagnosis.report.text import facts_of
from replay.diagnosis.report.shares import subject
from replay.diagnosis.verdicts import Context, advice, phrase, tier
from replay.diagnosis.verdicts.flow import Sunspots
from replay.diagnosis.verdicts.row import row_of
from replay.diagnosis.report.schema import schema
from replay.playback.frame import Share
from replay.recording.rows import verdict_of, verdict_row
from tests.plans.generate import TABLES

assert (tier("sunspots"), phrase("sunspots")) == ("E", "the sun was active")
assert advice("sunspots") == "Wait for the night."
assert RANK["sunspots"] == 4
assert not_provable(RunInfo("r", "n", lacks=("solar wind",))) == ("sunspots",)
row = verdict_of(verdict_row(row_of(Sunspots(flares=3), "a/m/chat", 1.0, 4.0, [2], Context())))
line = verdict_line(row, 0.0)
assert (line.sentence, line.tier) == ("3 flares held up a/m/chat.", "E")
assert facts_of(line)[-1] == "what to do: Wait for the night."
assert schema()["$defs"]["Sunspots"]["properties"]["flares"]["description"] == "Flares seen"
assert verdict_look("sunspots").letter == "*"
assert subject(Share("sunspots", 1.0, "a/m/chat")) == "a/m: the sun was active"
bar = BlameBar(Appearance())
bar.show((Share("working", 0.5), Share("sunspots", 0.5)), "")
assert "the sun was active" in str(bar.draw(80, 4))
assert "| `sunspots` | E | the sun was active |" in TABLES["verdicts"]()
run_cli(["why", "--fail-on", "slowness", "x"])
"""


def test_a_new_verdict_is_one_class_in_one_file(tmp_path: Path) -> None:
    for folder in ("engine", "replay", "console", "tests/plans"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    with (tmp_path / "replay/diagnosis/verdicts/flow.py").open("a", encoding="utf-8") as file:
        file.write(NEW_VERDICT)
    done = subprocess.run(
        [sys.executable, "-c", EVERYWHERE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sunspots" in done.stderr  # among the verdicts that --fail-on knows


def test_any_detail_is_known_by_its_tag() -> None:
    for row in UNTAGGED:
        detail = read(row).detail
        again = msgspec.json.decode(msgspec.json.encode(detail), type=AnyVerdict)
        assert type(again) is type(detail)
