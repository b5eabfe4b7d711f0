"""Values of cells as bytes, from which the very same values are read again.

MessagePack has no form for some types that functions of users return, and would turn them into
others: those are marked. A value of a type that is not known here can't be kept.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

_INT64 = range(-(2**63), 2**64)
_PLAIN = frozenset({float, bool, type(None), bytes})
_TUPLE, _INTEGER, _DATETIME, _DATE, _TIME, _DECIMAL, _UUID, _SET, _FROZENSET, _TEXT, _DELTA = range(
    1, 12
)
_MAX_DEPTH = 200


class UnkeepableValue(ValueError):
    """A value of a type that can't be kept; its cell is made again."""


def pack(values: list[Any]) -> bytes:
    """Several values. Raises `UnkeepableValue`."""
    try:
        return _encoder.encode([_marked(value, 0) for value in values])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnkeepableValue(type(error).__name__) from None


def unpack(data: bytes) -> Any:
    """What `pack` was given. Raises `ValueError` for what is no packed value."""
    try:
        return _decoder.decode(data)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError("not a packed value") from error


def _marked(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is str:
        return value if value.isascii() or _is_encodable(value) else _surrogates(value)
    if kind is int:
        return value if value in _INT64 else msgspec.msgpack.Ext(_INTEGER, str(value).encode())
    if depth > _MAX_DEPTH:
        raise UnkeepableValue("nested too deeply")
    if kind is list:
        return [_marked(item, depth + 1) for item in value]
    if kind is dict:
        if not all(type(key) in (str, int, bool) for key in value):
            raise UnkeepableValue("keys")
        return {_marked(key, depth): _marked(item, depth + 1) for key, item in value.items()}
    mark = _MARKS.get(kind)
    if mark is None:
        raise UnkeepableValue(kind.__name__)
    code, parts = mark
    content = parts(value)
    if isinstance(content, list):
        content = _encoder.encode([_marked(item, depth + 1) for item in content])
    return msgspec.msgpack.Ext(code, content)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _surrogates(text: str) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(_TEXT, text.encode("utf-8", "surrogatepass"))


def _seconds(value: datetime.timedelta) -> bytes:
    return f"{value.days} {value.seconds} {value.microseconds}".encode()


_MARKS: dict[type, tuple[int, Callable[[Any], Any]]] = {
    tuple: (_TUPLE, list),
    datetime.datetime: (_DATETIME, lambda value: value.isoformat().encode()),
    datetime.date: (_DATE, lambda value: value.isoformat().encode()),
    datetime.time: (_TIME, lambda value: value.isoformat().encode()),
    datetime.timedelta: (_DELTA, _seconds),
    decimal.Decimal: (_DECIMAL, lambda value: str(value).encode()),
    uuid.UUID: (_UUID, lambda value: value.bytes),
    set: (_SET, list),
    frozenset: (_FROZENSET, list),
}


def _delta(data: bytes) -> datetime.timedelta:
    days, seconds, micros = map(int, data.split())
    return datetime.timedelta(days, seconds, micros)


_READ: dict[int, Callable[[bytes], Any]] = {
    _TUPLE: lambda data: tuple(_decoder.decode(data)),
    _INTEGER: lambda data: int(data),
    _DATETIME: lambda data: datetime.datetime.fromisoformat(data.decode()),
    _DATE: lambda data: datetime.date.fromisoformat(data.decode()),
    _TIME: lambda data: datetime.time.fromisoformat(data.decode()),
    _DELTA: _delta,
    _DECIMAL: lambda data: decimal.Decimal(data.decode()),
    _UUID: lambda data: uuid.UUID(bytes=data),
    _SET: lambda data: set(_decoder.decode(data)),
    _FROZENSET: lambda data: frozenset(_decoder.decode(data)),
    _TEXT: lambda data: data.decode("utf-8", "surrogatepass"),
}


def _ext(code: int, data: memoryview) -> Any:
    read = _READ.get(code)
    if read is None:
        raise ValueError(f"unknown mark {code}")
    return read(bytes(data))


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_ext)
