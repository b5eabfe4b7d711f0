"""Rows of stretches as rows of single bins."""

from __future__ import annotations

from collections.abc import Iterable

from replay.state.bins import BinRow, within


def bin_by_bin(rows: Iterable[BinRow]) -> list[BinRow]:
    return [
        single
        for row in rows
        for number in range(row.bin, row.bin + row.bins)
        for single in within([row], number, number)
    ]
