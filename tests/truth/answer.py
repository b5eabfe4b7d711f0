"""What headgate says of a recording: `why`, as text and as JSON."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import msgspec

from console.cli import exit_codes
from console.cli.main import run_cli


class Blame(msgspec.Struct, frozen=True):
    """One row of a division of time."""

    verdict: str
    fraction: float
    resource: str | None = None
    phrase: str = ""
    advice: str = ""


class Part(msgspec.Struct, frozen=True):
    """The slots of one provider."""

    part: str
    seconds: float
    blame: tuple[Blame, ...]


class Said(msgspec.Struct, frozen=True):
    """One verdict."""

    verdict: str
    tier: str
    start: float
    end: float
    sentence: str
    resource: str | None = None
    advice: str = ""

    @property
    def span(self) -> tuple[float, float]:
        return self.start, self.end

    def is_about(self, provider_model: str) -> bool:
        return provider_model in f"{self.resource}/ {self.sentence}"


class RunSaid(msgspec.Struct, frozen=True):
    seconds: float
    began_monotonic: float | None = None
    """Monotonic second of the first event; None where the recording does not keep it."""
    outcome: str | None = None


class Report(msgspec.Struct, frozen=True):
    """The part of `why --json` that the rules read."""

    answer: str
    run: RunSaid
    run_blame: tuple[Blame, ...]
    run_blame_by_provider: tuple[Part, ...]
    verdicts: tuple[Said, ...]


class Answer(msgspec.Struct, frozen=True):
    """Text and JSON of one recording."""

    text: str
    report: Report

    @property
    def headline(self) -> str:
        return self.report.answer

    @property
    def plain(self) -> str:
        """The text in one line, so that a sentence can be found whatever its line breaks."""
        return " ".join(self.text.split())

    @property
    def outcome_line(self) -> str:
        """The first paragraph: how the run ended."""
        return " ".join(self.text.split("\n\n", 1)[0].split())

    @property
    def slot_seconds(self) -> float:
        """All time of request slots in demand."""
        of_providers = sum(part.seconds for part in self.report.run_blame_by_provider)
        fraction = sum(row.fraction for row in self.report.run_blame if row.resource is not None)
        return of_providers / fraction if fraction > 0 else 0.0

    def fraction(self, *verdicts: str, resource: str | None = None) -> float:
        """Share of all slots in demand that these verdicts have."""
        return sum(
            row.fraction
            for row in self.report.run_blame
            if row.verdict in verdicts
            and (resource is None or (row.resource or "").startswith(f"{resource}/"))
        )


def ask(recording: Path) -> Answer:
    """Ask the command line, in this process. Raises `AssertionError` where it fails."""
    return Answer(_why(recording), msgspec.json.decode(_why(recording, "--json"), type=Report))


def _why(recording: Path, *options: str) -> str:
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(output):
        code = run_cli(["why", *options, str(recording)])
    output.flush()
    output.seek(0)
    text = output.read()
    assert code == exit_codes.OK, f"why {recording} ended with {code}: {text[-2000:]}"
    return text
