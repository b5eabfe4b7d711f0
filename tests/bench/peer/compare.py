"""headgate and NVIDIA NeMo Data Designer do the same work in turn, and what it costs.

    make bench-peer [OPTIONS="--quick --only run"]

Each engine lives in a process of its own with its own packages; a measurement is asked of one, then
of the other, the order changing with every iteration, so that whatever else the machine does hits
both. What is compared are the ratios of such pairs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from console.cli import exit_codes
from console.cli.stdout import print_json
from engine.errors import UserError
from engine.events.run_folder import RunFolder
from replay.metrics.stats import Interval, describe, judge, median_interval
from replay.recording.ingest import Ingest
from replay.runs.artifact import GateVerdict
from replay.sources.feed import open_journal
from tests.bench.command import run_command
from tests.bench.peer.common import CAP
from tests.bench.peer.sides import Worker, check_alike, check_interpreter, scripted_server

GROUPS = (1, 8, 64, 256)
TASKS = (1_000, 10_000, 100_000)
PLENTY = 1_000_000
PEER_ADMISSIONS = {8: 4_000, 64: 500, 256: 200}
"""By number of groups, how many tasks the peer admits at most, with all of them queued: its cost of
a cycle stays what it is. Where there is no entry it goes to the end, as we always do."""
WAITERS, PEER_WAITERS, CALL_SECONDS = 1000, 250, 0.05


class Measured(msgspec.Struct):
    """One comparison over all iterations. `ratios` tell how many times cheaper headgate was."""

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    ratios: list[float]


class Gate(msgspec.Struct):
    claim: str
    verdict: GateVerdict
    value: Interval
    unit: str = ""


class PeerReport(msgspec.Struct):
    versions: dict[str, str]
    measured: list[Measured]
    gates: list[Gate]


@dataclass
class Comparison:
    ours: Worker
    theirs: Worker
    iterations: int
    say: Callable[[str], None]
    measured: list[Measured] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)

    def measure(
        self,
        name: str,
        unit: str,
        request: dict[str, Any],
        cost: Callable[[Any], float],
        scale: float = 1.0,
        theirs: dict[str, Any] | None = None,
    ) -> Measured:
        """Both sides in turn; `theirs` is what the peer is asked where that differs."""
        measured = Measured(name, unit, [], [], [])
        for iteration in range(self.iterations):
            answers: dict[str, float] = {}
            for side in ("ours", "theirs") if iteration % 2 else ("theirs", "ours"):
                worker = self.ours if side == "ours" else self.theirs
                requested = request if side == "ours" or theirs is None else theirs
                answers[side] = cost(worker.ask(**requested)) * scale
            measured.ours.append(answers["ours"])
            measured.theirs.append(answers["theirs"])
            measured.ratios.append(answers["theirs"] / max(answers["ours"], 1e-12))
        self.measured.append(measured)
        ratio = median_interval(measured.ratios)
        ours, peers = describe(measured.ours).p50, describe(measured.theirs).p50
        self.say(
            f"  {name:<46} {ours:9.2f} {peers:11.2f} {unit}"
            f"   {ratio.median:7.1f}x  [{ratio.low:.1f}, {ratio.high:.1f}]"
        )
        return measured

    def gate(
        self,
        claim: str,
        values: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "x",
    ) -> None:
        verdict = judge(values, at_least=at_least, at_most=at_most)
        self.gates.append(Gate(claim, verdict, median_interval(values), unit))


def compare_with_peer(
    interpreter: Path, iterations: int, quick: bool, only: frozenset[str], as_json: bool
) -> bool:
    """True where every gate holds. Raises `UserError` where the peer can't be run."""
    check_interpreter(interpreter)

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-peer-")))
        ours = stack.enter_context(Worker(Path(sys.executable), "headgate", home))
        theirs = stack.enter_context(Worker(interpreter, "data_designer", home))
        check_alike(ours, theirs)
        versions = {
            "headgate": ours.hello["version"],
            "data-designer": theirs.hello["version"],
            "python": ours.hello["python"],
        }
        say(
            f"headgate {versions['headgate']} and Data Designer {versions['data-designer']}, "
            f"Python {versions['python']}, {iterations} interleaved pairs each; times are medians "
            "of CPU, ratios have their 95 % interval where there are pairs enough"
        )
        comparison = Comparison(ours, theirs, iterations, say)
        if not only or "admission" in only:
            compare_admission(comparison, quick)
        if not only or "requests" in only:
            compare_requests(comparison, quick)
        if not only or "run" in only:
            compare_runs(comparison, quick, home)
        report = PeerReport(versions, comparison.measured, comparison.gates)
    if as_json:
        print_json(report)
    say("Gates")
    for gate in report.gates:
        value = gate.value
        say(
            f"  {gate.verdict:<12} {gate.claim}: {value.median:.3g}{gate.unit} "
            f"[{value.low:.3g}, {value.high:.3g}]"
        )
    return all(gate.verdict == "passed" for gate in report.gates)


def compare_admission(comparison: Comparison, quick: bool) -> None:
    """Enqueue, select, acquire, commit, release; without any sink on either side."""
    comparison.say("Task admission, microseconds of CPU per task")
    sizes = TASKS[:2] if quick else TASKS
    actual: dict[tuple[bool, int, int, int], Measured] = {}
    for cell in admission_cells(sizes):
        model_work, capacity, tasks, groups = cell
        name = (
            f"{'model' if model_work else 'local'} work, {groups:>3} groups, {tasks:>6} tasks, "
            f"{'plenty' if capacity == PLENTY else f'cap {capacity}'}"
        )
        request = {
            "measure": "admission",
            "groups": groups,
            "capacity": capacity,
            "tasks": tasks,
            "model_work": model_work,
            "most": tasks,
        }
        theirs = {**request, "most": min(tasks, PEER_ADMISSIONS.get(groups, tasks))}
        actual[cell] = comparison.measure(name, "us", request, float, 1e6, theirs)
    for groups, target in ((1, 3.0), (256, 50.0)):
        for model_work in (False, True):
            cells = [item for item in actual if item[0] == model_work and item[3] == groups]
            worst = min(cells, key=lambda item: describe(actual[item].ratios).p50)
            comparison.gate(
                f"admission at {groups} group{'s' if groups > 1 else ''} at least {target:g} times "
                f"cheaper, {'model' if model_work else 'local'} work, the worst cell "
                f"({worst[2]} tasks, {'plenty' if worst[1] == PLENTY else f'cap {worst[1]}'})",
                actual[worst].ratios,
                at_least=target,
            )
    # Logarithmic: four times the groups cost a constant more; in proportion they cost four times.
    for capacity in (PLENTY, CAP):
        few, many = (actual[False, capacity, sizes[1], groups] for groups in (64, 256))
        growth = [b / a for a, b in zip(few.ours, many.ours, strict=True)]
        comparison.gate(
            f"our cost grows at most with the log of the groups, 64 to 256, "
            f"{'plenty' if capacity == PLENTY else f'cap {capacity}'}",
            growth,
            at_most=1.5,
        )


def admission_cells(sizes: Sequence[int]) -> Iterator[tuple[bool, int, int, int]]:
    for model_work in (False, True):
        for capacity in (PLENTY, CAP):
            for tasks in sizes:
                for groups in GROUPS:
                    yield model_work, capacity, tasks, groups


def compare_requests(comparison: Comparison, quick: bool) -> None:
    comparison.say("Request admission, microseconds of CPU per lease, without any sink")
    many = 10_000 if quick else 100_000

    def cost(answer: Any) -> float:
        return float(answer)

    fresh = comparison.measure(
        "acquire and release",
        "us",
        {"measure": "requests", "earlier": 0, "measured": 2000},
        cost,
        1e6,
    )
    later = comparison.measure(
        f"after {many:,} requests (the peer: 5,000)",
        "us",
        {"measure": "requests", "earlier": many, "measured": 2000},
        cost,
        1e6,
        {"measure": "requests", "earlier": 5_000, "measured": 2000},
    )
    comparison.gate("request lease at least 5 times cheaper", fresh.ratios, at_least=5)
    comparison.gate(
        f"our request lease costs the same after {many:,} requests",
        [b / a for a, b in zip(fresh.ours, later.ours, strict=True)],
        at_most=1.2,
    )
    comparison.say(f"Waiters: calls of {CALL_SECONDS * 1000:g} ms behind a cap of {CAP}, seconds")
    ours: list[float] = []
    for _ in range(comparison.iterations):
        request = {"waiters": WAITERS, "seconds": CALL_SECONDS}
        held = comparison.ours.ask(measure="waiters", **request)
        ours.append(held / comparison.ours.ask(measure="semaphore", **request))
    comparison.gate(f"{WAITERS} waiters, against a bare semaphore", ours, at_most=1.05)
    comparison.measure(
        f"{PEER_WAITERS} waiters",
        "s ",
        {"measure": "waiters", "waiters": PEER_WAITERS, "seconds": CALL_SECONDS},
        cost,
    )


def compare_runs(comparison: Comparison, quick: bool, home: Path) -> None:
    """A whole run, its rows written; the scripted provider in the process, and behind HTTP."""
    records = 100 if quick else 400
    cells = records * 4
    comparison.say(
        f"A run of {records} records, 4 model columns, cap {CAP}; "
        "microseconds of CPU per model cell"
    )

    def cost(answer: Any) -> float:
        if answer["rows"] != records:
            raise UserError(f"a run made {answer['rows']} of {records} rows: nothing to compare")
        return float(answer["cpu"]) / cells

    request: dict[str, Any] = {"measure": "run", "records": records, "recorded": False}
    for worker in (comparison.ours, comparison.theirs):
        worker.ask(**request, base_url=None)  # what is imported late is imported now
    plain = comparison.measure(
        "provider in the process, no sink", "us", {**request, "base_url": None}, cost, 1e6
    )
    request["recorded"] = True
    journal = comparison.measure(
        "  journal; their JSON Lines", "us", {**request, "base_url": None}, cost, 1e6
    )
    comparison.gate("a run without a sink at most 1/2 of the CPU", plain.ratios, at_least=2)
    comparison.gate(
        "a run with its journal at most 1/5 of the CPU with their JSON Lines",
        journal.ratios,
        at_least=5,
    )
    with scripted_server(home) as base_url:
        request = {**request, "base_url": base_url}
        # Printed and not judged: here the client packages of both are most of the bill.
        comparison.measure(
            "provider behind HTTP on loopback, no sink",
            "us",
            {**request, "recorded": False},
            cost,
            1e6,
        )
        comparison.measure("  journal; their JSON Lines", "us", request, cost, 1e6)
    compare_sizes(comparison, 300 if quick else 2000, home)


def compare_sizes(comparison: Comparison, records: int, home: Path) -> None:
    """Bytes per event, of a run long enough for what is written once to weigh nothing."""
    folder = home / "recorded"
    request = {"measure": "run", "records": records, "recorded": True, "base_url": None}
    ours = comparison.ours.ask(**request, keep=str(folder))
    theirs = comparison.theirs.ask(**{**request, "records": 100})
    recording = home / "recording.duckdb"
    feed = open_journal(RunFolder(folder))
    ingest = Ingest(feed, recording)
    while ingest.step(10_000):
        pass
    ingest.finish()
    events = ingest.last_ordinal
    ingest.close()
    feed.close()
    journal, duckdb = ours["bytes"] / events, recording.stat().st_size / events
    comparison.say(
        f"Bytes per event, {events:,} events: journal {journal:.0f}, recording {duckdb:.0f}; "
        f"their JSON Lines {theirs['bytes'] / theirs['events']:.0f}"
    )
    comparison.gate("journal at most 450 bytes an event", [journal], at_most=450, unit=" B")
    comparison.gate("recording at most 100 bytes an event", [duckdb], at_most=100, unit=" B")


@click.command()
@click.option(
    "--python",
    "interpreter",
    type=click.Path(path_type=Path),
    required=True,
    help="Python of an environment with data-designer 0.9.7.",
)
@click.option("--iterations", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Fewer cells and records: a minute instead of ten.")
@click.option(
    "--only",
    type=click.Choice(["admission", "requests", "run"]),
    multiple=True,
    help="Only these parts.",
)
@click.option("--json", "as_json", is_flag=True, help="Every measurement as JSON on stdout.")
def main(
    interpreter: Path, iterations: int, quick: bool, only: tuple[str, ...], as_json: bool
) -> int:
    """Compare with NVIDIA NeMo Data Designer: the same work, interleaved, equal sinks.

    Both engines run in processes of their own. Exits with 1 where a gate does not hold.
    """
    held = compare_with_peer(interpreter, iterations, quick, frozenset(only), as_json)
    return exit_codes.OK if held else exit_codes.FINDINGS


if __name__ == "__main__":
    sys.exit(run_command(main))
