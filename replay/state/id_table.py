"""`IdTable` and `RecordTable`: values by task id for runs with very many live tasks.

A dictionary takes 34 to 80 bytes for an entry, and the id beside it 64. Ids of cells are
`column/row`: here a column's rows stand in blocks of consecutive rows, and their ids are not kept
but made again. A value then takes its own bytes and little more. A look-up takes several times as
long as in a dictionary, so that only runs with more than `WIDE` live tasks are worth it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from struct import Struct
from typing import Generic, TypeVar

WIDE = 200_000
"""Number of live tasks from which on a table takes the index of a dictionary."""

_BLOCK_BITS = 6
_BLOCK_ROWS = 1 << _BLOCK_BITS
_LAST_IN_BLOCK = _BLOCK_ROWS - 1
_MOST_DIGITS = 9

V = TypeVar("V")
B = TypeVar("B")


def _split(task_id: str) -> tuple[str, int] | None:
    """Column and row of an id that can be made of them again; None for any other id."""
    column, slash, digits = task_id.rpartition("/")
    if (
        not slash
        or len(digits) > _MOST_DIGITS
        or not digits.isdecimal()
        or not digits.isascii()
        or (digits[0] == "0" and len(digits) > 1)
    ):
        return None
    return column, int(digits)


class _Blocks(MutableMapping[str, V], Generic[V, B]):
    """A table over blocks of type `B`. Iteration is by column, and by block of rows within it, in
    the order in which each came to be; other ids come last."""

    __slots__ = ("_blocks", "_len", "_others")

    def __init__(self, values: Mapping[str, V] | None = None) -> None:
        self._blocks: dict[str, dict[int, B]] = {}
        self._others: dict[str, V] = {}
        """Of ids that are not like those of cells."""
        self._len = 0
        if values is not None:
            self.update(values)

    @abstractmethod
    def _new_block(self) -> B: ...

    @abstractmethod
    def _read(self, block: B, index: int, task_id: str) -> V | None: ...

    @abstractmethod
    def _write(self, block: B, index: int, task_id: str, value: V) -> bool:
        """True if there was no value."""

    @abstractmethod
    def _erase(self, block: B, index: int, task_id: str) -> bool:
        """True if no value is left in the block."""

    def __len__(self) -> int:
        return self._len

    def __contains__(self, task_id: object) -> bool:
        return isinstance(task_id, str) and self.get(task_id) is not None

    def __iter__(self) -> Iterator[str]:
        for column, blocks in self._blocks.items():
            for number, block in blocks.items():
                for index in range(_BLOCK_ROWS):
                    task_id = f"{column}/{(number << _BLOCK_BITS) + index}"
                    if self._read(block, index, task_id) is not None:
                        yield task_id
        yield from self._others

    def get(self, task_id: str, default: V | None = None) -> V | None:  # type: ignore[override]
        split = _split(task_id)
        if split is None:
            return self._others.get(task_id, default)
        column, row = split
        blocks = self._blocks.get(column)
        block = None if blocks is None else blocks.get(row >> _BLOCK_BITS)
        value = None if block is None else self._read(block, row & _LAST_IN_BLOCK, task_id)
        return default if value is None else value

    def __getitem__(self, task_id: str) -> V:
        value = self.get(task_id)
        if value is None:
            raise KeyError(task_id)
        return value

    def __setitem__(self, task_id: str, value: V) -> None:
        split = _split(task_id)
        if split is None:
            self._len += task_id not in self._others
            self._others[task_id] = value
            return
        column, row = split
        blocks = self._blocks.get(column)
        if blocks is None:
            blocks = self._blocks[column] = {}
        block = blocks.get(row >> _BLOCK_BITS)
        if block is None:
            block = blocks[row >> _BLOCK_BITS] = self._new_block()
        self._len += self._write(block, row & _LAST_IN_BLOCK, task_id, value)

    def __delitem__(self, task_id: str) -> None:
        self.pop(task_id)

    def pop(self, task_id: str, *default: V) -> V:  # type: ignore[override]
        value = self.get(task_id)
        if value is None:
            if default:
                return default[0]
            raise KeyError(task_id)
        self._len -= 1
        split = _split(task_id)
        if split is None:
            del self._others[task_id]
            return value
        column, row = split
        blocks = self._blocks[column]
        number = row >> _BLOCK_BITS
        if self._erase(blocks[number], row & _LAST_IN_BLOCK, task_id):
            del blocks[number]
            if not blocks:
                del self._blocks[column]
        return value


class IdTable(_Blocks[V, list[V | None]]):
    """References to values that many ids share."""

    __slots__ = ()

    def _new_block(self) -> list[V | None]:
        return [None] * _BLOCK_ROWS

    def _read(self, block: list[V | None], index: int, task_id: str) -> V | None:
        return block[index]

    def _write(self, block: list[V | None], index: int, task_id: str, value: V) -> bool:
        new = block[index] is None
        block[index] = value
        return new

    def _erase(self, block: list[V | None], index: int, task_id: str) -> bool:
        block[index] = None
        return not any(block)


RECORD = Struct("<iqdd")
"""A positive number, and what belongs to it."""
_NOTHING, _OBJECT = 0, -1
_FIRST = Struct("<i")
_EMPTY_RECORD = bytes(RECORD.size)
_EMPTY_BLOCK = bytes(RECORD.size * _BLOCK_ROWS)


class RecordTable(_Blocks["bytes | V", bytearray]):
    """Records of `RECORD`, kept as the bytes they are, and objects in index of some of them."""

    __slots__ = ("_objects",)

    def __init__(self, values: Mapping[str, bytes | V] | None = None) -> None:
        self._objects: dict[str, V] = {}
        super().__init__(values)

    def copy(self) -> RecordTable[V]:
        """The objects are the same there."""
        copy = RecordTable[V]()
        copy._objects, copy._others = dict(self._objects), dict(self._others)
        copy._blocks = {
            column: {number: block[:] for number, block in blocks.items()}
            for column, blocks in self._blocks.items()
        }
        copy._len = self._len
        return copy

    def _new_block(self) -> bytearray:
        return bytearray(_EMPTY_BLOCK)

    def _read(self, block: bytearray, index: int, task_id: str) -> bytes | V | None:
        offset = RECORD.size * index
        (number,) = _FIRST.unpack_from(block, offset)
        if number == _NOTHING:
            return None
        if number == _OBJECT:
            return self._objects[task_id]
        return bytes(block[offset : offset + RECORD.size])

    def _write(self, block: bytearray, index: int, task_id: str, value: bytes | V) -> bool:
        offset = RECORD.size * index
        (number,) = _FIRST.unpack_from(block, offset)
        if isinstance(value, bytes):
            if number == _OBJECT:
                del self._objects[task_id]
            block[offset : offset + RECORD.size] = value
        else:
            _FIRST.pack_into(block, offset, _OBJECT)
            self._objects[task_id] = value
        return bool(number == _NOTHING)

    def _erase(self, block: bytearray, index: int, task_id: str) -> bool:
        offset = RECORD.size * index
        (number,) = _FIRST.unpack_from(block, offset)
        if number == _OBJECT:
            del self._objects[task_id]
        block[offset : offset + RECORD.size] = _EMPTY_RECORD
        return block == _EMPTY_BLOCK
