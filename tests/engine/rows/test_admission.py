from __future__ import annotations

import pytest

from engine.rows.admission import RowGroupAdmission, RowGroups, RowGroupSpec


def test_rows_are_cut_into_groups_and_the_last_takes_the_rest() -> None:
    groups = RowGroups(25, 10)
    assert list(groups) == [RowGroupSpec(0, 0, 10), RowGroupSpec(1, 10, 10), RowGroupSpec(2, 20, 5)]
    assert (len(groups), groups.records, groups.buffer_size) == (3, 25, 10)
    assert list(groups[1:]) == [groups[1], groups[-1]]
    with pytest.raises(IndexError):
        groups[3]
    assert list(groups[2].row_range()) == [20, 21, 22, 23, 24]
    assert list(RowGroups(0, 10)) == []


def test_a_plan_costs_nothing_however_many_rows_there_are() -> None:
    groups = RowGroups(10**15, 7)
    assert len(groups) == -(-(10**15) // 7)
    assert groups[-1] == RowGroupSpec(10**15 // 7, 10**15 // 7 * 7, 10**15 % 7)
    admission = RowGroupAdmission(2, groups)
    assert admission.try_admit() == RowGroupSpec(0, 0, 7)


def test_at_most_the_target_is_in_flight_and_in_order() -> None:
    groups = RowGroups(50, 10)
    admission = RowGroupAdmission(2, groups)
    assert admission.try_admit() == groups[0]
    assert admission.try_admit() == groups[1]
    assert admission.try_admit() is None
    assert admission.next == groups[2]
    admission.finish(1)
    assert admission.in_flight == (0,)
    assert admission.try_admit() == groups[2]
    assert admission.try_admit() is None
    assert (admission.admitted, admission.finished) == (3, 1)


def test_nothing_is_left_at_the_end_and_nothing_finishes_twice() -> None:
    admission = RowGroupAdmission(4, RowGroups(5, 5))
    assert admission.try_admit() is not None
    assert admission.try_admit() is None
    assert admission.next is None
    admission.finish(0)
    with pytest.raises(KeyError):
        admission.finish(0)
    assert admission.finished == 1


def test_no_row_group_at_all_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RowGroupAdmission(0, ())
