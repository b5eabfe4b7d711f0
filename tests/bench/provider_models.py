"""What request admission gets out of each kind of provider, as a table and pictures in `plans/`.

    make bench-providers [OPTIONS="--quick"]

Virtual time, one client that has always work. For each provider model and recovery policy: goodput
of what a client gets that knows the script, the share of calls that were refused, and how much
longer a call took than it takes alone. Over round trips of 0.1, 1 and 20 s with lognormal latency,
and of 1 s with constant and heavy-tailed latency; `--quick`: lognormal alone, nothing is written.
"""

from __future__ import annotations

import re
import statistics
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

import click

from console.cli import exit_codes
from engine.benchmark.providers import (
    PROVIDER_MODELS,
    Distribution,
    ProviderModel,
    provider_script,
)
from engine.request_admission.config import RecoveryPolicy, RequestAdmissionConfig
from tests.bench.command import run_command
from tests.engine.request_admission.provider_lab import Load, observe

PLANS = Path(__file__).parents[2] / "plans"
PAGE = PLANS / "request-admission.md"
IMAGES = PLANS / "images"
RECORDS = 4000
LOADS: tuple[tuple[float, Distribution], ...] = (
    (0.1, "lognormal"),
    (1.0, "lognormal"),
    (20.0, "lognormal"),
    (1.0, "constant"),
    (1.0, "heavy"),
)
"""Seconds of a round trip, and how latencies scatter."""
QUICK_LOADS = LOADS[:3]
POLICIES: tuple[RecoveryPolicy, ...] = ("adaptive", "published")
COLOURS = {"adaptive": "#2a78c8", "published": "#c8862a"}
MODELS = [kind for kind in PROVIDER_MODELS if kind.ends is None]
DRAWN = ("hidden-cap", "unbounded-queue", "storm", "flapping")
SEED = 7
_TABLE = re.compile(r"(<!-- provider models -->\n).*?(<!-- end -->)", re.DOTALL)


class Measured(NamedTuple):
    goodput: float
    refused: float
    inflation: float


class Row(NamedTuple):
    """One provider under one policy, over all loads."""

    kind: ProviderModel
    policy: RecoveryPolicy
    measured: list[Measured]

    @property
    def mean(self) -> float:
        return statistics.mean(measured.goodput for measured in self.measured)

    @property
    def worst(self) -> float:
        return min(measured.goodput for measured in self.measured)

    @property
    def refused(self) -> float:
        return max(measured.refused for measured in self.measured)

    @property
    def inflation(self) -> float:
        return statistics.mean(measured.inflation for measured in self.measured)


def load_of(
    kind: ProviderModel, policy: RecoveryPolicy, seconds: float, distribution: Distribution
) -> Load:
    script = {"seed": SEED, **provider_script(kind, seconds, distribution)}
    return observe(script, RECORDS, kind.cap, RequestAdmissionConfig(recovery=policy))


def measure(kind: ProviderModel, load: Load, seconds: float) -> Measured:
    optimum = kind.optimum(seconds)
    needed = optimum["lost_seconds"] + load.answered * optimum["seconds_per_record"]
    return Measured(needed / load.seconds, load.refused, load.latency / seconds)


def table(rows: list[Row]) -> str:
    lines = [
        "| provider | adaptive: goodput mean / worst | refused | latency | published: goodput mean"
        " / worst | refused | latency |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in MODELS:
        cells = [f"`{kind.name}`"]
        for policy in POLICIES:
            row = next(row for row in rows if row.kind is kind and row.policy == policy)
            cells += [
                f"{row.mean:.0%} / {row.worst:.0%}",
                f"{row.refused:.1%}",
                f"{row.inflation:.1f} ×",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    for policy in POLICIES:
        own = [row for row in rows if row.policy == policy]
        mean = statistics.mean(row.mean for row in own)
        lines.append(
            f"\n`{policy}`: mean {mean:.0%}, worst {min(row.worst for row in own):.0%}, at most"
            f" {max(row.refused for row in own):.1%} refused."
        )
    return "\n".join(lines) + "\n"


def bars(rows: list[Row]) -> str:
    """Mean goodput of each provider, a bar for each policy."""
    step, width, left = 34, 640, 170
    height = 40 + step * len(MODELS)
    parts = [_text(left, 16, "goodput, of what a client gets that knows the script", 12)]
    for share in (0.5, 0.88, 1.0):
        x = left + share * (width - left - 20)
        parts.append(f'<path d="M{x:.0f} 24V{height - 8}" stroke="#bbb" stroke-dasharray="3 3"/>')
        parts.append(_text(x - 12, height, f"{share:.0%}", 10))
    for number, kind in enumerate(MODELS):
        top = 30 + step * number
        parts.append(_text(4, top + 16, kind.name, 12))
        for policy in POLICIES:
            row = next(row for row in rows if row.kind is kind and row.policy == policy)
            y = top + 12 * POLICIES.index(policy)
            long = min(1.05, row.mean) * (width - left - 20)
            parts.append(
                f'<rect x="{left}" y="{y}" width="{long:.0f}" height="11"'
                f' fill="{COLOURS[policy]}"><title>{policy}: {row.mean:.1%}</title></rect>'
            )
    return _svg(width, height + 6, parts)


def course(kind: ProviderModel, loads: dict[RecoveryPolicy, Load]) -> str:
    """The limit over time, a line for each policy; time in round trips of a second."""
    width, height, left, trips = 640, 190, 36, 160.0
    top = 1.1 * max(kind.cap, kind.places)
    parts = [_text(left, 14, f"{kind.name}: the limit, by round trips", 12)]
    for mark in sorted({0, int(kind.places), kind.cap}):
        y = height - 20 - mark / top * (height - 44)
        parts.append(f'<path d="M{left} {y:.0f}H{width}" stroke="#ddd"/>')
        parts.append(_text(4, y + 4, str(mark), 10))
    for trip in range(0, int(trips) + 1, 40):
        parts.append(_text(left + trip / trips * (width - left - 16), height - 4, str(trip), 10))
    for policy, load in loads.items():
        first = load.limits[0][1] if load.limits else kind.cap
        points = [(0.0, float(min(kind.cap, 32) if policy == "adaptive" else kind.cap))]
        for at, limit in load.limits or [(0.0, first)]:
            points += [(at, points[-1][1]), (at, float(limit))]
        points.append((min(trips, load.seconds), points[-1][1]))
        path = " ".join(
            f"{'L' if number else 'M'}{left + at / trips * (width - left - 16):.1f}"
            f" {height - 20 - limit / top * (height - 44):.1f}"
            for number, (at, limit) in enumerate(points)
            if at <= trips
        )
        parts.append(
            f'<path d="{path}" fill="none" stroke="{COLOURS[policy]}" stroke-width="1.6"/>'
        )
    return _svg(width, height, parts)


def _text(x: float, y: float, words: str, size: int) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}">{escape(words)}</text>'


def _svg(width: int, height: int, parts: list[str]) -> str:
    legend = [
        f'<rect x="{width - 190 + 96 * n}" y="6" width="10" height="10" fill="{COLOURS[policy]}"/>'
        + _text(width - 176 + 96 * n, 15, policy, 11)
        for n, policy in enumerate(POLICIES)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" fill="#333">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
        + "\n".join([*parts, *legend])
        + "\n</svg>\n"
    )


@click.command()
@click.option("--quick", is_flag=True, help="Lognormal latencies alone; nothing is written.")
def main(quick: bool) -> int:
    """Measure every provider model under both policies, and renew the page.

    Exits with 1 where the adaptive policy misses its targets.
    """
    rows = []
    for kind in MODELS:
        for policy in POLICIES:
            measured = [
                measure(kind, load_of(kind, policy, seconds, distribution), seconds)
                for seconds, distribution in (QUICK_LOADS if quick else LOADS)
            ]
            row = Row(kind, policy, measured)
            rows.append(row)
            click.echo(
                f"{kind.name:<24} {policy:<10} goodput {row.mean:.3f} worst {row.worst:.3f}"
                f"  refused {row.refused:.2%}  latency {row.inflation:.2f}",
                err=True,
            )
    click.echo(table(rows))
    if not quick:
        PAGE.write_text(_TABLE.sub(lambda m: m[1] + table(rows) + m[2], PAGE.read_text()))
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / "providers-goodput.svg").write_text(bars(rows))
        for name in DRAWN:
            kind = next(kind for kind in MODELS if kind.name == name)
            loads = {policy: load_of(kind, policy, 1.0, "lognormal") for policy in POLICIES}
            (IMAGES / f"providers-{name}.svg").write_text(course(kind, loads))
    adaptive = [row for row in rows if row.policy == "adaptive"]
    held = (
        statistics.mean(row.mean for row in adaptive) >= 0.95
        and min(row.worst for row in adaptive) >= 0.88
        and max(row.refused for row in adaptive) <= 0.02
    )
    return exit_codes.OK if held else exit_codes.FINDINGS


if __name__ == "__main__":
    sys.exit(run_command(main))
