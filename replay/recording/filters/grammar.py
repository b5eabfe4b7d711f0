"""The grammar of filters, by recursive descent.

    filter     = [ any ]
    any        = all { "or" all }
    all        = factor { [ "and" ] factor }
    factor     = ( "!" | "not" ) factor | "(" any ")" | comparison | text
    comparison = NAME operator text            operator: ":" "=" "!=" "<" "<=" ">" ">="
    text       = WORD | '"' characters '"'     within quotes, \\ before a quote or another \\
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal[":", "=", "!=", "<", "<=", ">", ">="]

MOST_CHARACTERS = 1_000
DEEPEST = 50
"""Parentheses and negations within one another."""

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<punctuation>[()]|!(?!=))
    | (?P<quoted>"(?:[^"\\]|\\["\\])*")
    | (?P<field>[A-Za-z_][A-Za-z_0-9]*)(?P<operator>!=|<=|>=|[:=<>])
    | (?P<word>[^\s()"!:=<>][^\s()"]*)
    )""",
    re.VERBOSE,
)
_VALUE = re.compile(r'(?P<quoted>"(?:[^"\\]|\\["\\])*")|(?P<word>[^\s()"]+)')
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|k|M|G|%)?")
_SCALES = {
    None: 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "%": 0.01,
}


class FilterError(ValueError):
    """A filter that can't be understood, with the position at which that became clear."""

    def __init__(self, sentence: str, position: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.position = position

    def under(self, text: str) -> str:
        """The filter, a caret under the mistake, and the sentence."""
        return f"{text}\n{' ' * self.position}^ {self.sentence}"


@dataclass(frozen=True, slots=True)
class Contains:
    """A word that any text of the row may hold."""

    text: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A field compared with a text, and where in the filter both stand."""

    field: str
    operator: Operator
    value: str
    quoted: bool
    """Within quotes `*` is a character like others."""
    position: int
    value_position: int


@dataclass(frozen=True, slots=True)
class Not:
    """Rows that do not match `node`."""

    node: Node


@dataclass(frozen=True, slots=True)
class AllOf:
    """Rows that match every node."""

    nodes: tuple[Node, ...]
    """Without any, every row matches."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Rows that match at least one node."""

    nodes: tuple[Node, ...]


Node = Contains | Compare | Not | AllOf | AnyOf


def parse(text: str) -> Node:
    """Parse a filter; an empty one matches every row. Raises `FilterError`."""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(f"a filter has at most {MOST_CHARACTERS} characters", MOST_CHARACTERS)
    for position, character in enumerate(text):
        if not character.isprintable():
            raise FilterError("this character can't be shown; leave it out", position)
    return _Parser(text).parse()


def number(text: str) -> float | None:
    """`2`, `1.5s`, `250ms`, `3m`, `12k`; None if it is none of these."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else float(match[1]) * _SCALES[match[2]]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["(", ")", "!", "word", "quoted", "compare", "end"]
    text: str
    position: int
    compare: Compare | None = None


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._index = 0
        self._depth = 0

    def parse(self) -> Node:
        if len(self._tokens) == 1:
            return AllOf(())
        node = self._any()
        rest = self._next
        if rest.kind != "end":
            raise FilterError("this parenthesis closes nothing", rest.position)
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._index]

    def _is(self, keyword: str) -> bool:
        return self._next.kind == "word" and self._next.text.lower() == keyword

    def _any(self) -> Node:
        nodes = [self._all()]
        while self._is("or"):
            self._index += 1
            nodes.append(self._all())
        return nodes[0] if len(nodes) == 1 else AnyOf(tuple(nodes))

    def _all(self) -> Node:
        nodes = [self._factor()]
        while True:
            if self._is("and"):
                self._index += 1
            elif self._next.kind in (")", "end") or self._is("or"):
                break
            nodes.append(self._factor())
        return nodes[0] if len(nodes) == 1 else AllOf(tuple(nodes))

    def _factor(self) -> Node:
        token = self._next
        negated = token.kind == "!" or self._is("not")
        if negated or token.kind == "(":
            self._index += 1
            self._depth += 1
            if self._depth > DEEPEST:
                raise FilterError("too many parentheses within one another", token.position)
            node: Node = Not(self._factor()) if negated else self._in_parentheses(token)
            self._depth -= 1
            return node
        if token.kind in ("end", ")") or self._is("or") or self._is("and"):
            raise FilterError("something to look for is missing here", token.position)
        self._index += 1
        return Contains(token.text) if token.compare is None else token.compare

    def _in_parentheses(self, opening: _Token) -> Node:
        node = self._any()
        if self._next.kind != ")":
            raise FilterError("this parenthesis is not closed", opening.position)
        self._index += 1
        return node


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position] == '"':
                raise FilterError("this quotation mark is not closed", position)
            raise FilterError("the name of a field is missing before this", position)
        end = match.end()
        if match["punctuation"]:
            tokens.append(_Token(match["punctuation"], match["punctuation"], position))  # type: ignore[arg-type]
        elif match["quoted"]:
            tokens.append(_Token("quoted", _unquoted(match["quoted"]), position))
        elif match["field"]:
            value = _VALUE.match(text, end)
            if value is None:
                raise FilterError(f"a value for {match['field']} is missing here", end)
            quoted = value["quoted"]
            compare = Compare(
                match["field"].lower(),
                match["operator"],  # type: ignore[arg-type]
                _unquoted(quoted) if quoted else value["word"],
                bool(quoted),
                position,
                end,
            )
            tokens.append(_Token("compare", text[position : value.end()], position, compare))
            end = value.end()
        else:
            tokens.append(_Token("word", match["word"], position))
        position = end
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _unquoted(text: str) -> str:
    return re.sub(r"\\([\"\\])", r"\1", text[1:-1])
