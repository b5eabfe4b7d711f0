"""Runs for the list, always the same, and what is done with them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from console.screens.runs import RunActions
from engine.events import UserError
from replay.metrics.compare import Comparison
from replay.runs.catalogue import RunEntry
from tests.console.comparison_parts import make_comparison

NOW = 1_790_000_000.0
RUNS = (
    RunEntry(
        "20260921T091500Z-support-dialogues-1f3a",
        "support-dialogues",
        Path("/data/runs/support-1"),
        "live",
        started=NOW - 163,
        seconds=163,
        records=1000,
        bytes=4_300_000,
        producer="headgate",
    ),
    RunEntry(
        "20260921T080000Z-translations-77b0",
        "translations",
        Path("/data/runs/translations"),
        "complete",
        "success",
        NOW - 9_000,
        812.4,
        9_988,
        12,
        10_000,
        61_000_000,
        "headgate",
    ),
    RunEntry(
        "20260920T220000Z-support-dialogues-09cc",
        "support-dialogues",
        Path("/data/runs/support-0"),
        "complete",
        "success",
        NOW - 40_000,
        158.0,
        1000,
        0,
        1000,
        4_100_000,
        "headgate",
    ),
    RunEntry(
        "20260919T120000Z-judge-eval-55aa",
        "judge-eval",
        Path("/data/runs/judge"),
        "lost",
        None,
        NOW - 170_000,
        61.0,
        0,
        0,
        500,
        900_000,
        "data_designer",
    ),
    RunEntry("20260901T120000Z-old-1111", "old", Path("/mnt/away/old"), "away"),
)


@dataclass
class Deeds:
    """What the page did."""

    entries: list[RunEntry] = field(default_factory=lambda: list(RUNS))
    calls: list[str] = field(default_factory=list)
    refuses: str = ""

    def note(self, call: str) -> None:
        if self.refuses:
            raise UserError(self.refuses)
        self.calls.append(call)

    def stop(self, path: Path) -> str:
        self.note(f"stop {path.name}")
        return path.name

    def delete(self, entry: RunEntry) -> None:
        self.note(f"delete {entry.path.name}")
        self.entries.remove(entry)

    def compare(self, a: Path, b: Path) -> Comparison:
        self.note(f"compare {a.name} {b.name}")
        return make_comparison()

    def actions(self) -> RunActions:
        return RunActions(
            entries=lambda: list(self.entries),
            cause=lambda entry: "cooldown after 429s 42 %" if entry.rows_dropped else "",
            stop=self.stop,
            delete=self.delete,
            compare=self.compare,
            refresh_seconds=None,
            local=time.gmtime,
            now=lambda: NOW,
        )
