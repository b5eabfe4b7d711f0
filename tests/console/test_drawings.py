"""Charts, blame and lanes: from numbers to cells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.blame import by_verdict
from console.paint import StyledLine
from console.playback_mode import mode_of, run_seconds
from console.theme import UNICODE, Appearance, verdict_look
from console.widgets.blame_bar import BlameBar, parts
from console.widgets.chart import ceiling_chart, nice_step, resample, sparkline, stacked_chart
from console.widgets.group_table import GroupTable
from console.widgets.lanes import LaneBook
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import phrase
from replay.playback.frame import LeaseBar
from tests.console.frames import FRAMES, paused, replaying


def text(line: StyledLine) -> str:
    return "".join(part for part, _ in line)


def bar(lease: str, start: float, end: float | None, column: str = "a") -> LeaseBar:
    return LeaseBar(lease, f"{column}/1", column, "g", 0, start, end, None, ())


def test_resampling_keeps_peaks_and_order() -> None:
    assert resample([0, 9, 0, 1], 2) == [9, 1]
    assert resample([1, 2], 4) == [1, 1, 2, 2]
    assert resample([], 4) == []


def test_sparkline() -> None:
    assert sparkline([0, 1, 8, 4], 4, 8, UNICODE) == " ▁█▄"
    assert sparkline([], 3, 1, UNICODE) == "   "


def test_ceiling_chart() -> None:
    lines = ceiling_chart(
        [8, 8, 4, 4], [8, 4, 4, 0], [False, False, True, True], [0, 0, 1, 0], 8, 4, 4, UNICODE
    )
    assert [text(line) for line in lines] == ["▔▔▼░", "█ ░░", "██▔▔", "███ "]
    limit = [style for line in lines for part, style in line if "▔" in part]
    assert all("orange" in style for style in limit)


def test_a_legend_names_verdicts_before_resources() -> None:
    reported = ("request_cooldown", "request_domain_limit", "task_capacity")
    losses = [Share(verdict, 0.1, "provider/model-of-some-size/chat") for verdict in reported]
    bar = BlameBar(Appearance())
    bar.show((Share("working", 0.7), *losses), "")
    wide, narrow = (" ".join(map(text, bar.draw(80, height)[2:])) for height in (6, 4))
    assert wide.count("provider/model-of-some-size/chat") == len(losses)
    assert "provider/model-of-some-size/chat" not in narrow
    for verdict in reported:
        assert phrase(verdict) in wide
        assert phrase(verdict) in narrow


@pytest.mark.parametrize("width", [66, 78, 118])
def test_a_group_has_room_for_its_name_and_what_blocks_it(width: int) -> None:
    frame = replaying()
    label = "number, topic"
    group = replace(frame.groups[0], label=label, queued=4, blocked_by="no_capacity")
    table = GroupTable(Appearance())
    table.show(replace(frame, groups=(group,)))
    line = text(table.draw(width, 9)[2])
    assert line.startswith(" number, topic ")
    assert line.endswith("  slots in use")
    assert len(line) <= width


def test_of_many_groups_those_are_shown_in_which_most_wait() -> None:
    table = GroupTable(Appearance())
    frame = FRAMES["crowd"]()
    table.show(frame)
    lines = [text(line) for line in table.draw(100, 12)]
    deepest = max(group.queued for group in frame.groups)
    assert all(f" {deepest} " in line for line in lines[2:-1])
    assert lines[-1].startswith(" 491 more groups, ")


def test_a_cell_shared_by_two_layers_shows_both() -> None:
    lines = stacked_chart([("sky", [0.25]), ("orange", [0.75])], 1.0, 1, 2, UNICODE)
    assert lines[0] == (("█", "orange"),)
    assert lines[1] == (("▄", "sky on orange"),)
    letters = stacked_chart([("sky", [0.5]), ("orange", [0.5])], 1.0, 1, 2, UNICODE, ("a", "b"))
    assert [text(line) for line in letters] == ["b", "a"]


@pytest.mark.parametrize("width", [1, 3, 10, 117])
def test_the_blame_bar_is_always_full(width: int) -> None:
    shares = [Share("working", 0.41), Share("dependency", 0.335), Share("unknown", 0.255)]
    assert sum(cells for _, cells in parts(shares, width)) == width


def test_verdicts_are_told_apart_without_colour() -> None:
    verdicts = (
        "working dependency queue_order row_group_horizon task_capacity group_cap borrow_debt "
        "request_cooldown request_domain_limit request_aggregate_cap request_waiters_ahead "
        "request_ramp provider_latency retry_backoff downstream_completion unsatisfiable "
        "policy_mutual_denial leaked_lease lost_wakeup event_loop_lag producer_gone unknown"
    ).split()
    assert len({verdict_look(verdict).letter for verdict in verdicts}) == len(verdicts)


def test_one_share_a_verdict() -> None:
    merged = by_verdict(
        [
            Share("dependency", 0.2, "x"),
            Share("working", 0.1),
            Share("dependency", 0.3, "y"),
            Share("request_cooldown", 0.4, "y"),
        ]
    )
    assert merged == [
        Share("working", 0.1),
        Share("dependency", 0.5),
        Share("request_cooldown", 0.4, "y"),
    ]


def test_lanes_hold_no_two_leases_at_once() -> None:
    bars = [bar("1", 0, 5), bar("2", 1, 3), bar("3", 4, None), bar("4", 6, 8), bar("5", 0, 9, "b")]
    lanes = LaneBook().lay_out(bars, "column", 0.5, 9.0, ["a", "b"])
    lanes_shown = [(lane.label, [b.lease_id for b in lane.bars]) for lane in lanes]
    assert lanes_shown == [("a", ["1", "4"]), ("", ["2", "3"]), ("b", ["5"])]
    packed = LaneBook().lay_out(bars, "packed", 0.5, 9.0, ["a", "b"])
    assert len(packed) == 3
    single = LaneBook().lay_out(bars, "lease", 0.0, 9.0, ["a", "b"])
    assert [lane.bars[0].lease_id for lane in single] == ["1", "5", "2", "3", "4"]


def test_a_lease_keeps_its_lane_when_those_above_are_gone() -> None:
    book = LaneBook()
    book.lay_out([bar("1", 0, 5), bar("2", 1, None)], "column", 0.5, 5.0, ["a"])
    lanes = book.lay_out([bar("2", 1, None), bar("3", 6, None)], "column", 0.5, 7.0, ["a"])
    assert [[b.lease_id for b in lane.bars] for lane in lanes] == [["3"], ["2"]]


def test_modes() -> None:
    expected = {
        "healthy": "LIVE",
        "storm": "LIVE",
        "paused": "PAUSED",
        "replaying": "PAUSED",
        "ended": "ENDED",
        "lost": "LOST",
        "empty": "WAITING",
        "behind": "BEHIND",
        "crowd": "LIVE",
        "gap": "LIVE",
    }
    assert {name: mode_of(make(), playing=False) for name, make in FRAMES.items()} == expected
    assert mode_of(replaying(), playing=True) == "REPLAY"
    assert mode_of(paused(), playing=True) == "REPLAY"
    past = replace(FRAMES["lost"](), ordinal=5, following=False)
    assert mode_of(past, playing=False) == "PAUSED"


def test_speed() -> None:
    assert run_seconds(0.25, 2.0, 100.0) == 0.5
    assert run_seconds(float("inf"), 1.0, 36_000.0) == 3600.0
    assert run_seconds(float("inf"), 1.0, 10.0) == 128.0


@pytest.mark.parametrize(
    ("span", "most", "step"), [(30, 7, 5), (0.05, 5, 0.01), (86_400, 8, 14_400)]
)
def test_axis_steps(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == step
