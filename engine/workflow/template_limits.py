"""`Allowance`: how much one rendering of a template may do, and `LimitedEnvironment`, which counts.

Templates are rendered on the engine's loop, so one that runs without end would stop everything. The
sandbox of Jinja2 limits what a template may touch, not how long it takes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_STEPS = 500_000
"""Passes through a block, calls, filters, and elements of lists that are made."""
MOST_CHARACTERS = 2_500_000
"""Of one text, whether it is the output or on the way to it."""
MOST_CPU_SECONDS = 1.0
MOST_BITS = 100_000
"""Of a whole number."""
_MOST_FOR_SLOW_FILTERS = 100_000
"""Characters, for filters whose time grows faster than their text."""
_STEPS_BETWEEN_LOOKS = 64

_WIDE = re.compile(
    r"%(?:\([^)]*\))?[-+ #0\d.]*?(?:\*|\d{5})"  # '%10000d', '%*d'
    r"|\{[^{}]*:[^{}]*(?:\{|\d{5})"  # '{:10000}', '{:{width}}'
)
"""A format that is wider than anybody writes, or as wide as an argument says."""


class TemplateLimitError(Exception):
    """`str` says what the template does too much of, as the end of a sentence about it."""


class Allowance:
    """What is left for one rendering."""

    def __init__(self) -> None:
        self._steps = 0
        self._next_look = _STEPS_BETWEEN_LOOKS
        self._until: float | None = None
        """Set at the first look: most templates end before, and asking for the time costs more than
        they do."""

    def step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps < self._next_look:
            return
        self._next_look = self._steps + _STEPS_BETWEEN_LOOKS
        if self._steps > MOST_STEPS:
            raise TemplateLimitError(f"takes more than {MOST_STEPS:,} steps")
        now = time.thread_time()
        if self._until is None:
            self._until = now + MOST_CPU_SECONDS
        elif now > self._until:
            raise TemplateLimitError(f"takes more than {MOST_CPU_SECONDS:g} s")


class _CountingCode(CodeGenerator):
    """Counts a step in every block: each pass of a loop, each call of a macro."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.allowance.step()")
        super().blockvisit(nodes, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat_values((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._visit_weighed(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._visit_weighed(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._visit_weighed(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _visit_weighed(
        self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame
    ) -> None:
        self.write("environment.weighed(")
        visit(node, frame)
        self.write(")")


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Every rendering begins with a fresh `allowance`; what exceeds it raises
    `TemplateLimitError`. One thread at a time may use it."""

    code_generator_class = _CountingCode
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self, **options: Any) -> None:
        self.allowance = Allowance()
        super().__init__(**options, finalize=self.weighed)
        self.filters.update(
            {name: self._limited(name, function) for name, function in self.filters.items()}
        )

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A field of a mapping goes before a method of its type: `{{ scores.clear }}`."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def concat(self, parts: Iterable[str]) -> str:
        """How Jinja2 puts together the output, and what macros and `set` blocks make."""
        texts, length = [], 0
        for part in parts:
            length += len(part)
            _check_length(length)
            texts.append(part)
        return "".join(texts)

    def concat_values(self, values: tuple[Any, ...]) -> str:
        """The operator `~`."""
        return self.concat(str(self.weighed(value)) for value in values)

    def weighed(self, value: Any) -> Any:
        """The value, unless there is too much in it to be made, written or compared."""
        if isinstance(value, str):
            _check_length(len(value))
        elif isinstance(value, int):
            _check_bits(value.bit_length())
        else:
            self._weigh(value)
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.allowance.step()
        self._check_operands(operator, left, right)
        return self.weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **named: Any) -> Any:
        self.allowance.step()
        # The sandbox wraps `str.format`.
        subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(subject, str | bytes | int | float):
            if function.__name__ == "join":
                args = tuple(_listed(value) for value in args)
            self._check_growth(function.__name__, subject, args, named)
        return self.weighed(super().call(context, function, *args, **named))

    def _limited(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The filter, with its arguments and its result checked."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def limited(*args: Any, **named: Any) -> Any:
            self.allowance.step()
            for value in (*args[first:], *named.values()):
                self.weighed(value)
            if len(args) > first:
                value = args[first]
                if name == "join":
                    value = _listed(value)
                    args = (*args[:first], value, *args[first + 1 :])
                self._check_growth(name, value, args[first + 1 :], named)
            return self.weighed(function(*args, **named))

        return limited

    def _weigh(self, value: Any) -> int:
        """About how many characters it has when it is written out: what is in it twice counts
        twice. The count of it takes steps."""
        rest, characters = [value], 0
        while rest:
            value = rest.pop()
            if isinstance(value, Namespace):
                value = object.__getattribute__(value, "_Namespace__attrs")
            if isinstance(value, Mapping):
                self.allowance.step(len(value))
                rest.extend(value)
                rest.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                self.allowance.step(len(value))
                rest.extend(value)
            else:
                characters += len(value) if isinstance(value, str | bytes) else 1
            _check_length(characters)
        return characters

    def _check_operands(self, operator: str, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            bits = max(left.bit_length(), right.bit_length())
            if operator == "*":
                bits = left.bit_length() + right.bit_length()
            elif operator == "**":
                bits = left.bit_length() * abs(right)
            _check_bits(bits)
        elif operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
                    self._check_made(sequence, len(sequence) * times)
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            self._check_made(left, len(left) + len(right))
        elif operator == "%" and isinstance(left, str | bytes):
            self._check_format(left, "%", [right])

    def _check_made(self, like: Sized, length: int) -> None:
        if isinstance(like, str | bytes):
            _check_length(length)
        else:
            self.allowance.step(max(0, length))

    def _check_growth(
        self, name: str, subject: Any, args: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        """Of a filter or method, before it makes more than it was given."""
        arguments = [*args, *named.values()]
        if name in _SLOW_FILTERS and isinstance(subject, str):
            _check_length(len(subject), _MOST_FOR_SLOW_FILTERS)
        if name in _GROWTH:
            _check_length(_GROWTH[name](subject, arguments))
        if name in ("format", "format_map") and isinstance(subject, str):
            self._check_format(subject, "%" if "{" not in subject else "{", arguments)
        if name == "sum" and any(isinstance(value, list | tuple) for value in arguments):
            raise TemplateLimitError("adds up something else than numbers")

    def _check_format(self, text: str | bytes, mark: str, values: Sequence[Any]) -> None:
        words = text.decode("latin-1") if isinstance(text, bytes) else text
        if _WIDE.search(words):
            raise TemplateLimitError("formats a value to more than 9,999 characters, or to any")
        _check_length(words.count(mark) * max(map(self._weigh, values), default=0))


def _check_length(length: int, most: int = MOST_CHARACTERS) -> None:
    if length > most:
        raise TemplateLimitError(f"makes a text of more than {most:,} characters")


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise TemplateLimitError(f"makes a number of more than {MOST_BITS:,} bits")


def _listed(value: Any) -> Any:
    """An iterable of which the length is known; anything else as it is."""
    return [*value] if isinstance(value, Iterable) and not isinstance(value, Sized) else value


def _widest(subject: Any, arguments: Sequence[Any]) -> int:
    """Where a number, or the length of a text, is how much is made."""
    sizes = (len(value) if isinstance(value, str | bytes) else value for value in arguments)
    return max((abs(size) for size in sizes if isinstance(size, int)), default=0)


def _in_every_line(subject: Any, arguments: Sequence[Any]) -> int:
    lines = subject.count("\n") + subject.count("\t") + 1 if isinstance(subject, str) else 1
    return lines * _widest(subject, arguments)


def _in_every_word(subject: Any, arguments: Sequence[Any]) -> int:
    return len(subject) * _widest("", [v for v in arguments if isinstance(v, str)])


def _replaced(subject: Any, arguments: Sequence[Any]) -> int:
    text = subject if isinstance(subject, str | bytes) else str(subject)
    texts = [value for value in arguments if isinstance(value, type(text))]
    if len(texts) < 2:
        return 0
    return text.count(texts[0]) * max(len(value) for value in texts)  # type: ignore[arg-type]


def _joined(subject: Any, arguments: Sequence[Any]) -> int:
    values = [value for value in (subject, *arguments) if isinstance(value, Sized)]
    separator = max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
    return separator * max((len(value) for value in values), default=0)


def _translated(subject: Any, arguments: Sequence[Any]) -> int:
    table = arguments[0] if arguments and isinstance(arguments[0], Mapping) else {}
    return len(subject) * max((len(v) for v in table.values() if isinstance(v, str)), default=0)


_SLOW_FILTERS = frozenset({"pprint", "striptags", "urlize", "wordwrap", "xmlattr"})
_GROWTH: dict[str, Callable[[Any, Sequence[Any]], int]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "to_bytes", "batch", "slice"), _widest),
    # What they make grows with a power of the number, or with all that is in the value.
    **dict.fromkeys(
        ("round", "tojson"), lambda subject, arguments: 10_000 * _widest("", arguments)
    ),
    **dict.fromkeys(("indent", "expandtabs"), _in_every_line),
    "wordwrap": _in_every_word,
    "replace": _replaced,
    "join": _joined,
    "translate": _translated,
}
"""By name of a filter or method: about how many characters it will make, at most."""
