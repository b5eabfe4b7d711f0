"""Rows as Arrow tables, and verdicts as rows and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from replay.diagnosis.verdicts import VerdictRow, decode_row, encode_facts
from replay.recording.schema import TABLES

_ARROW_TYPES: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "BIGINT[]": pa.list_(pa.int64()),
}

UNREADABLE = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)
"""What decoding the content of a recording may raise."""


def arrow_table(table: str, rows: Iterable[Sequence[object]]) -> pa.Table:
    """Rows of `table`, values in the order of its columns."""
    columns = TABLES[table]
    values = list(zip(*rows, strict=True)) or [() for _ in columns]
    arrays = [
        pa.array(column, _ARROW_TYPES[kind])
        for column, (_, kind) in zip(values, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def parts_table(ordinal: int, data: bytes, part_bytes: int) -> pa.Table:
    """Rows of `keyframe_parts`: `data` in parts of `part_bytes`, which are not copied."""
    starts = range(0, len(data), part_bytes)
    offsets = pa.array([*starts, len(data)], pa.int32()).buffers()[1]
    parts = pa.Array.from_buffers(pa.binary(), len(starts), [None, offsets, pa.py_buffer(data)])
    names = [name for name, _ in TABLES["keyframe_parts"]]
    ordinals = pa.repeat(pa.scalar(ordinal, pa.int64()), len(starts))
    return pa.Table.from_arrays([ordinals, pa.array(range(len(starts)), pa.int64()), parts], names)


def verdict_row(verdict: VerdictRow) -> tuple[object, ...]:
    """Tier, sentence and advice are kept as well, for those who read with SQL."""
    return (
        verdict.verdict,
        verdict.tier,
        verdict.resource,
        verdict.start,
        verdict.end,
        verdict.sentence,
        verdict.evidence,
        encode_facts(verdict).decode(),
    )


def verdict_of(row: Sequence[Any]) -> VerdictRow:
    """Inverse of `verdict_row`. Raises one of `UNREADABLE` on a damaged row."""
    return decode_row(*row)
