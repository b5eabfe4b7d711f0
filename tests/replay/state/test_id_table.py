"""Tables by task id hold what dictionaries hold."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from replay.state.id_table import RECORD, IdTable, RecordTable
from tests.effort import effort

COLUMNS = ("a", "b/c", "", "deep/er")
ODD = ("a/01", "a/-1", "a/1x", "a/", "a", "", "/", "a/\N{ARABIC-INDIC DIGIT ONE}", "a/1234567890")


def an_id(dice: random.Random) -> str:
    if dice.random() < 0.2:
        return dice.choice(ODD)
    return f"{dice.choice(COLUMNS)}/{dice.choice((0, 1, 63, 64, 65, 700, 999_999_999))}"


@pytest.mark.parametrize("seed", range(effort(8, 300)))
def test_a_table_is_a_dictionary(seed: int) -> None:
    dice = random.Random(seed)
    shared = [object() for _ in range(3)]
    known: dict[str, object] = {}
    table: IdTable[object] = IdTable()
    records: dict[str, bytes | object] = {}
    record_table: RecordTable[object] = RecordTable()
    for step in range(400):
        task_id = an_id(dice)
        if dice.random() < 0.4:
            assert table.pop(task_id, None) is known.pop(task_id, None)
            assert record_table.pop(task_id, b"") == records.pop(task_id, b"")
        else:
            known[task_id] = table[task_id] = dice.choice(shared)
            record = RECORD.pack(dice.randint(1, 9), dice.randint(-1, 9), dice.random(), 0.0)
            records[task_id] = record_table[task_id] = dice.choice((record, shared[0]))
        probe = an_id(dice)
        assert table.get(probe) is known.get(probe)
        assert (probe in record_table) == (probe in records)
        assert len(table) == len(known) == len(list(table))
        if step % 20 == 0:
            assert dict(table) == known
            assert dict(record_table) == dict(record_table.copy()) == records
            assert list(RecordTable(record_table)) == list(record_table)
    for task_id in list(table):
        del table[task_id]
        del record_table[task_id]
    assert not table._blocks
    assert not record_table._blocks
    assert not record_table._objects


def test_what_is_missing_raises() -> None:
    for missing in ("a/1", "odd"):
        with pytest.raises(KeyError):
            IdTable[int]().pop(missing)
        with pytest.raises(KeyError):
            RecordTable[int]()[missing]


def test_an_entry_takes_few_bytes() -> None:
    value = object()
    ids = range(50_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        table = IdTable({f"c/{number}": value for number in ids})
        records: RecordTable[object] = RecordTable(
            {f"c/{number}": RECORD.pack(1, number, 0.0, 1.0) for number in ids}
        )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == len(records) == 50_000
    assert (after - before) / 50_000 < 50
