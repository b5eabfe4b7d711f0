"""A comparison as lines of text: first how much a difference may mean, then the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replay.diagnosis.report.text_layout import cut, left, wrap
from replay.diagnosis.verdicts import BY_NAME, MIN_SHARE_SHOWN, count_text
from replay.metrics.compare import ENOUGH, SMALL_SECONDS, SMALL_SHARE, Comparison, Side
from replay.metrics.difference import NOTHING, SMALL, Difference

WIDTH = 80
_NAME, _NUMBER, _CHANGE = 37, 10, 11
WORDS = {
    "better": "better",
    "worse": "worse",
    "same": "same",
    "seems_better": "better?",
    "seems_worse": "worse?",
    "too_close": "too close",
    "different": "differ",
}


def render_text(comparison: Comparison) -> str:
    """The whole comparison."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    yield from wrap(f"A  {_side(comparison.a)}", WIDTH, rest="   ")
    yield from wrap(f"B  {_side(comparison.b)}", WIDTH, rest="   ")
    yield ""
    yield from wrap(meaning(comparison), WIDTH)
    shares = [
        difference
        for difference in comparison.verdict_shares
        if max(difference.a or 0.0, difference.b or 0.0) >= MIN_SHARE_SHOWN
        or difference.change is None
    ]
    for title, rows in (
        ("Metrics", comparison.metrics),
        ("Where the capacity in demand went", shares),
        ("Ceilings (requests at once)", comparison.ceilings),
    ):
        yield from _table(
            title, [difference for difference in rows if difference.change is not None]
        )
    yield from _not_compared(
        [difference for difference in comparison.every if difference.change is None]
    )
    yield ""
    for note in comparison.notes:
        yield from wrap(f"Note: {note}", WIDTH, rest="  ")
    yield from wrap(summary_line(comparison), WIDTH)


def _side(side: Side) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in side.facts.items())
    runs = count_text(side.runs, "run")
    clock = ", virtual clock" if side.virtual else ""
    outcome = f", ended {side.outcome}" if side.outcome else ""
    return f"{side.target}: {side.title} ({runs}{clock}{outcome}; {facts})"


def meaning(comparison: Comparison) -> str:
    """What the differences may be taken for, given how often each side ran."""
    a, b = comparison.a.runs, comparison.b.runs
    if comparison.other_work:
        return (
            f"A and B did not do the same work ({'; '.join(comparison.other_work)}): what differs"
            " is neither better nor worse."
        )
    if comparison.noise == "none":
        return "A virtual clock leaves nothing to chance: every difference is real."
    if comparison.noise == "measured":
        return (
            f"{a} and {b} runs tell what is noise: better and worse are differences beyond it,"
            " same is what lies within."
        )
    runs = (
        "One run each"
        if a == b == 1
        else f"{count_text(a, 'run')} of A and {count_text(b, 'run')} of B"
    )
    return (
        f"{runs}: by how much such runs differ by chance is not known, so nothing here is found to"
        f" be better or worse. better? and worse? only look so; up to {100 * SMALL:.0f} %,"
        f" {1000 * SMALL_SECONDS:.0f} ms or {100 * SMALL_SHARE:.0f} points of the capacity are too"
        f" close to tell. Benchmark artifacts with {ENOUGH} runs each can tell."
    )


def _table(title: str, rows: Sequence[Difference]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"{title:<{_NAME}}{'A':>{_NUMBER}}{'B':>{_NUMBER}}{'change':>{_CHANGE}}"
    about = ""
    for difference in rows:
        resource, _, fact = difference.name.rpartition(": ")
        if resource and resource != about:
            about = resource
            yield f"  {cut(resource, WIDTH - 2)}"
        name = f"    {fact}" if resource else f"  {name_text(difference)}"
        a, b = (
            number_text(difference.a, difference.unit),
            number_text(difference.b, difference.unit),
        )
        yield (
            f"{left(cut(name, _NAME - 1), _NAME)}{a:>{_NUMBER}}{b:>{_NUMBER}}"
            f"{change_text(difference):>{_CHANGE}}  {WORDS[difference.judgement]}"
        )


def _not_compared(rows: Sequence[Difference]) -> Iterator[str]:
    """By reason: which numbers at least one side does not have."""
    names: dict[str, dict[str, None]] = {}
    for difference in rows:
        about = difference.name.rpartition(": ")[0] or name_text(difference)
        names.setdefault("; ".join(dict.fromkeys(difference.missing_reasons)), {})[about] = None
    if names:
        yield ""
        yield "Not compared"
        for why, of in names.items():
            yield from wrap(f"{', '.join(of)}: {why}", WIDTH, "  ", "    ")


def summary_line(comparison: Comparison) -> str:
    """How many differences are better, worse or neither."""
    judgements = [difference.judgement for difference in comparison.every]
    counts = [
        f"{judgements.count(judgement)} {word}"
        for judgement, word in WORDS.items()
        if judgement in judgements
    ]
    return f"B against A: {', '.join(counts) or 'nothing to compare'}."


def name_text(difference: Difference) -> str:
    """A difference's name; of a verdict, its phrase."""
    verdict = BY_NAME.get(difference.name)
    return difference.name if verdict is None else verdict.phrase


def change_text(difference: Difference) -> str:
    """The change from A to B: in points, in the unit, in percent or as a factor."""
    assert difference.change is not None
    if abs(difference.change) < NOTHING:
        return "0"
    if difference.unit == "share":
        return f"{_signed(100 * difference.change)} pts"
    if difference.ratio is None:
        return number_text(difference.change, difference.unit, "+")
    if abs(difference.ratio) >= 10:
        return f"{difference.ratio:.0f} times"
    return f"{_signed(100 * (difference.ratio - 1))} %"


def _signed(value: float) -> str:
    """One decimal, or as many as the first digit needs."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else f"{value:+.1g}"


def number_text(value: float | None, unit: str, sign: str = "") -> str:
    """A value in its unit; `-` for one that is not known. Short times are in ms."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit != "s":
        return f"{value:{sign}.5g}"
    if 0 < abs(value) < 0.9995:
        return f"{1000 * value:{sign}.{3 if abs(value) >= 1e-4 else 2}g} ms"
    return f"{value:{sign}.{1 if abs(value) >= 100 else 2}f} s"
