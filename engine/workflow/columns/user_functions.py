"""Functions of the user: how a workflow names them, and what may be said of their failures."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any


def checked_reference(value: str | Callable[..., Any]) -> str | Callable[..., Any]:
    """For validators: `module:function`, or the function itself. Raises `ValueError`."""
    if isinstance(value, str):
        module, _, function = value.partition(":")
        if not (function.isidentifier() and all(p.isidentifier() for p in module.split("."))):
            raise ValueError('function must be written as "module:function"')
    return value


def failure_sentence(function: Callable[..., Any], column: str, error: BaseException) -> str:
    """Where the function failed, without the exception's message, which may have row values."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(function), "__code__", None)
    lines = [f.lineno for f in frames if code is not None and f.filename == code.co_filename]
    where = f" at line {lines[-1]}" if lines else ""
    name = getattr(function, "__name__", type(function).__name__)
    return f'the function {name} of column "{column}" failed{where}'
