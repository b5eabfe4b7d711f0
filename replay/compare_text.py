"""A comparison as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replay.compare import Comparison, Difference, Side

_SIGNS = {"better": "+", "worse": "-", "same": "=", "different": "~", "unknown": "?"}


def render_text(comparison: Comparison) -> str:
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"A  {_side(comparison.a)}"
    yield f"B  {_side(comparison.b)}"
    for title, rows in (
        ("Metrics", comparison.metrics),
        ("Where the capacity in demand went", comparison.verdict_shares),
        ("Ceilings", comparison.ceilings),
    ):
        if rows:
            yield ""
            yield f"{title:<48} {'A':>12} {'B':>12} {'change':>12}"
            yield from (_row(one) for one in _ordered(rows))
    if comparison.notes:
        yield ""
        yield from (f"Note: {note}" for note in comparison.notes)
    yield ""
    yield "+ better   - worse   = same or within noise   ~ neither   ? not known"


def _side(side: Side) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in side.facts.items())
    runs = f"{side.runs} run{'s' if side.runs != 1 else ''}"
    clock = ", virtual clock" if side.virtual else ""
    outcome = f", ended {side.outcome}" if side.outcome else ""
    return f"{side.target}: {side.title} ({runs}{clock}{outcome}; {facts})"


def _ordered(rows: Sequence[Difference]) -> list[Difference]:
    """What can be told first; otherwise as it comes."""
    return sorted(rows, key=lambda one: one.judgement == "unknown")


def _row(one: Difference) -> str:
    sign = _SIGNS[one.judgement]
    unit = f" ({one.unit})" if one.unit and one.unit != "share" else ""
    name = f"{sign} {one.name}{unit}"
    if one.change is None:
        return f"{name:<48} {_number(one.a, one)} {_number(one.b, one)}  {one.missing_reasons[0]}"
    change = _number(one.change, one, signed=True)
    if one.unit != "share" and one.ratio is not None:
        change = f"{(one.ratio - 1) * 100:+11.1f}%" if abs(one.ratio) < 100 else change
    noise = {"within": "  within noise", "beyond": "  beyond noise"}.get(one.noise, "")
    return f"{name:<48} {_number(one.a, one)} {_number(one.b, one)} {change}{noise}"


def _number(value: float | None, one: Difference, signed: bool = False) -> str:
    if value is None:
        return f"{'-':>12}"
    if one.unit == "share":
        return f"{value * 100:+11.1f}%" if signed else f"{value * 100:11.1f}%"
    return f"{value:+12.5g}" if signed else f"{value:12.5g}"
