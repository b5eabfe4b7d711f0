"""`Case`: one kind of provider, and how a run of the installed program against it is to end.

`judge` runs it and holds the run against all of that: rows, reasons, exit code, one sentence, time,
the first paragraph of `why`, and the rules of `verify`.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from console.cli.main import run_cli
from tests.e2e.ended_run import ENGINE, RECORDER, kill_all, processes_of, wait_for
from tests.e2e.faulty_server import serving
from tests.e2e.program import HEADGATE, environment
from tests.engine.run.faulty_provider import Behaviour, FaultyProvider, completion

RECORDS = 40
LATENCY_SECONDS = 0.02
SLACK_SECONDS = 60
"""On top of `Case.seconds`, for a machine that is busy with other tests, before a run is killed."""
ODD_KINDS: dict[str, Any] = {
    "before": [{"name": "kind", "type": "sampler", "categories": {"ODD": 1, "plain": 4}}],
    "column": {"prompt": "{{ kind }} {{ id }}"},
}
"""Parts of a workflow some of whose prompts begin with ODD."""


@dataclass
class Ended:
    """How a run ended, and what its provider saw."""

    run: Path
    code: int
    stdout: str
    stderr: str
    seconds: float
    rows: list[dict[str, Any]]
    record: dict[str, Any]
    provider: FaultyProvider
    engine_bytes: list[int]
    """Resident memory of the engine, whenever it was measured."""

    @property
    def texts(self) -> Counter[str]:
        return Counter(row["text"] for row in self.rows)

    @property
    def repeats(self) -> int:
        """Calls beyond the first one of each prompt."""
        return self.provider.calls - len(self.provider.prompts)


def no_more(ended: Ended) -> None:
    """Nothing else is to be checked."""


@dataclass(frozen=True)
class Case:
    """See the module. What is not said holds of a run without trouble."""

    serve: Callable[[], Behaviour] = lambda: lambda call: completion()
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Of the workflow: `provider`, `model`, `column`, `run`, `before`, or any key of it."""
    exit_code: int = 0
    text: str = ""
    """The workflow file, in place of `parts`; ADDRESS stands for that of the provider."""
    rows: int | range | None = None
    """Rows that are written; None for all but those that are dropped."""
    dropped: str = ""
    """Class of the failure that drops rows, or its error where it has none: each row whose prompt
    has ODD in it; with `text`, those that are missing."""
    says: str = ""
    """In the sentence with the reason; of a run that does not begin, in its only line."""
    warns: str = ""
    """In a line on stderr, or a note behind the summary."""
    why: str = "did work|sets the pace"
    """A pattern that the first paragraph of `why` matches."""
    seconds: float = 20.0
    """The run may take no longer, on a machine that is busy with nothing else."""
    latency_seconds: float = LATENCY_SECONDS
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """Before the command."""
    hides_models: bool = False
    address: Callable[[str], str] = lambda address: address
    out_of_reach: tuple[float, float] | None = None
    """Nobody listens at the address from so many seconds after the first call on, for so many."""
    interrupts: tuple[tuple[int, str], ...] = ()
    """Shortly after the call of that number came in: a signal to the command, `KILL_ENGINE`, or
    `MEASURE`, which takes down the memory of the engine. Several for one call come in turn."""
    acts: tuple[tuple[int, Callable[[], None]], ...] = ()
    """What else happens then, in a thread of its own."""
    arguments: tuple[str, ...] = ()
    """Further ones of the command."""
    resumes: bool = False
    """It goes on in the folder."""
    stops_after: float | None = None
    """Seconds until SIGINT."""
    check: Callable[[Ended], None] = no_more


def workflow(case: Case, address: str) -> dict[str, Any]:
    parts = dict(case.parts)
    provider = {"type": "openai", "base_url": case.address(address), **parts.pop("provider", {})}
    model = {"provider": "p", "model": "m1", "max_parallel_requests": 8, **parts.pop("model", {})}
    column = {"prompt": "About {{ id }}", **parts.pop("column", {})}
    made = {
        "name": "case",
        "records": RECORDS,
        "providers": {"p": provider},
        "models": {"m": model, **parts.pop("more_models", {})},
        "columns": [
            {"name": "id", "type": "sampler", "uuid": True},
            *parts.pop("before", []),
            {"name": "text", "type": "llm_text", "model": "m", **column},
            *parts.pop("behind", []),
        ],
        "run": {"cooldown_seconds": 0.2, **parts.pop("run", {})},
    }
    return {**made, **parts}


def judge(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run it, and hold it against what the case says. `HEADGATE_HOME` is to be that of `folder`."""
    ended = run_case(case, folder)
    said = ended.stdout + ended.stderr
    assert ended.code == case.exit_code, said
    assert "Traceback" not in said
    assert ended.seconds < case.seconds + SLACK_SECONDS
    if case.warns:
        assert re.search(case.warns, said), said
    if case.exit_code == 2:
        _check_refused(case, ended)
        case.check(ended)
        return ended
    records = ended.record["records"]
    odd = 0
    if case.dropped:
        spoilt = sum("ODD" in prompt for prompt in ended.provider.prompts)
        odd = records - len(ended.rows) if case.text else spoilt
        assert odd > 0
    rows = records - odd if case.rows is None else case.rows
    assert len(ended.rows) in (rows if isinstance(rows, range) else [rows]), said
    assert len({json.dumps(row, default=str) for row in ended.rows}) == len(ended.rows)
    if case.dropped:
        assert not any("ODD" in str(row.get("kind")) for row in ended.rows)
    _check_reasons(case, ended, odd, capsys)
    assert run_cli(["why", str(ended.run)]) == 0
    paragraph = first_paragraph(capsys.readouterr().out)
    assert re.search(case.why, paragraph), paragraph
    verified = run_cli(["verify", str(ended.run)])
    assert verified == 0, capsys.readouterr().out
    case.check(ended)
    return ended


def _check_refused(case: Case, ended: Ended) -> None:
    """A run that does not begin says why in one line, and leaves nothing."""
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert ended.stdout == ""
    assert re.search(case.says, lines[0]), lines[0]
    assert not ended.run.exists()


def _check_reasons(case: Case, ended: Ended, odd: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The same reason everywhere: on screen, in `run.json`, in `runs`, beside the rows."""
    record = ended.record
    assert record.get("rows_done", 0) == len(ended.rows)
    assert (record.get("rows_dropped") or 0) == odd
    reasons = [line for line in ended.stdout.splitlines() if line.startswith("Reason")]
    assert len(reasons) == bool(record.get("message"))
    if case.says:
        assert re.search(case.says, reasons[0]), reasons[0]
        assert " ".join(record["message"].split()) in " ".join(reasons[0].split())
    if case.says and record["outcome"] != "cancelled":
        capsys.readouterr()
        assert run_cli(["runs"]) == 0
        assert record["message"].split(". ")[0][:50] in capsys.readouterr().out
    file = ended.run / "dropped.parquet"
    dropped = pq.read_table(file).to_pylist() if file.exists() else []
    classes = Counter(row["class"] or row["error_type"] for row in dropped)
    assert classes == ({case.dropped: odd} if odd else {})


def run_case(case: Case, folder: Path) -> Ended:
    run = folder / "run"
    measured: list[int] = []
    with serving(case.serve(), case.latency_seconds) as provider:
        provider.hides_models = case.hides_models
        file = folder / "workflow.yaml"
        file.write_text(_workflow_text(case, provider.address))
        where = ("--resume" if case.resumes else "--out", str(run), *case.arguments)
        command = [*case.prefix, str(HEADGATE), "run", str(file), "--headless", *where]
        plain = {k: v for k, v in environment(folder).items() if not k.lower().endswith("_proxy")}
        began = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=folder,
            env={**plain, **case.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as front:
            for number, what in case.interrupts:
                provider.act_on(number, partial(_interrupt, front, run, what, measured))
            for number, act in case.acts:
                provider.act_on(number, threading.Thread(target=act, daemon=True).start)
            if case.stops_after is not None:
                timer = threading.Timer(case.stops_after, front.send_signal, [signal.SIGINT])
                timer.daemon = True
                timer.start()
            if case.out_of_reach is not None:
                provider.leave_after(*case.out_of_reach)
            try:
                stdout, stderr = front.communicate(timeout=case.seconds + SLACK_SECONDS)
            finally:
                seconds = time.monotonic() - began
                if front.poll() is None:
                    front.kill()
                    kill_all(run)
        wait_for(lambda: not processes_of(run, ENGINE, RECORDER), "the end of all processes")
    dataset = run / "dataset"
    files = sorted(dataset.glob("*.parquet")) if dataset.is_dir() else []
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    record_file = run / "run.json"
    record = json.loads(record_file.read_text()) if record_file.exists() else {}
    return Ended(run, front.returncode, stdout, stderr, seconds, rows, record, provider, measured)


def _workflow_text(case: Case, address: str) -> str:
    if case.text:
        return case.text.replace("ADDRESS", case.address(address))
    return yaml.safe_dump(workflow(case, address), allow_unicode=True)


def _interrupt(front: subprocess.Popen[str], run: Path, what: str, measured: list[int]) -> None:
    if what == "MEASURE":
        for pid in processes_of(run, ENGINE):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            measured.append(pages * resource.getpagesize())
    elif what == "KILL_ENGINE":
        for pid in processes_of(run, ENGINE):
            os.kill(pid, signal.SIGKILL)
    elif front.poll() is None:
        front.send_signal(getattr(signal, what))


def first_paragraph(report: str) -> str:
    """The one after the heading, in one line."""
    return " ".join(re.split(r"\n\s*\n", report.strip())[1].split())
