"""What a stream can be made to say: mutations of good lines, and what must hold of any outcome.

`HEADGATE_FUZZ=N` multiplies the number of examples of every test in this folder.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from engine.events import JournalEnd, JournalHeader, JournalLine, encode_lines
from tests.fixtures.data_designer_format import content
from tests.replay.random_engine import RandomEngine

FACTOR = max(1, int(os.environ.get("HEADGATE_FUZZ", "1")))

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All that may steer a terminal; tabs and line feeds are the output's own."""

HOSTILE_TEXTS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://127.0.0.1/\x1b\\link",
    "\x9b2J",
    "\u202egnp.exe",
    "\u2066\u2069\u200f",
    "a\x00b",
    "line\nfeed\r\x08\x7f",
    "\u2028\u2029",
    "[bold]markup[/]",
    "<script>&'\"",
    "%s{0}{x!r}$(id)`id`",
    "🦜👩‍👩‍👧 é한",
    "x" * 70_000,
    "",
)
HOSTILE_NUMBERS = (
    -1,
    0,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**40,
    -(2**70),
    0.5,
    1e-320,
    1e15,
    1e300,
    -1e300,
)
HOSTILE_JSON = (
    b'{"stream":"scheduler","event_kind":"selected","captured_at_monotonic":NaN,"sequence":3}',
    b'{"stream":"scheduler","event_kind":"selected","captured_at_monotonic":1e999,"sequence":3}',
    b'{"stream":"request","event_kind":"x","captured_at_monotonic":-Infinity,"sequence":1}',
    b"[" * 5_000 + b"]" * 5_000,
    b'{"stream":"scheduler","diagnostics":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"}",
    b'{"stream":"nothing"}',
    b'{"stream":"scheduler"}',
    b'{"event_kind":"selected"}',
    b"null",
    b'"text"',
    b"\xff\xfe\x00\x00",
    b"{" * 300,
    b"\x00" * 200,
    b'{"stream":"header","run":{"run_id":"x","name":"y"},"segment":1,"first_ordinal":-5}',
    b'{"stream":"header","run":{"run_id":1}}',
    b'{"stream":"header","run":{"run_id":"x","name":"y","schema_version":99},"segment":1,'
    b'"first_ordinal":1}',
    b'{"stream":"end","outcome":"exploded","captured_at_monotonic":1,"scheduler_sequence":1,'
    b'"request_sequence":1}',
    b'{"stream":"end","outcome":"success","captured_at_monotonic":1,"scheduler_sequence":1,'
    b'"request_sequence":1}',
    b"" + b"y" * 300_000,
)

DEEPEST = 400
"""Objects in a line that is still taken apart."""

_replacement = st.one_of(
    st.sampled_from(HOSTILE_TEXTS),
    st.sampled_from(HOSTILE_NUMBERS),
    st.sampled_from([None, True, [], {}, [[1]], {"a": {"b": [None]}}]),
    st.dictionaries(st.sampled_from(HOSTILE_TEXTS), st.sampled_from(HOSTILE_NUMBERS), max_size=3),
)


def bounded(examples: int, **more: Any) -> settings:
    """Few examples, the same ones every time; no deadline, as the machine may be busy."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def own_lines(seed: int = 3, row_groups: int = 1) -> list[bytes]:
    """A whole run in headgate's words."""
    engine = RandomEngine(seed, row_groups)
    events = engine.play()
    end = JournalEnd("success", events[-1].captured_at_monotonic, 0, 0)
    lines: list[JournalLine] = [JournalHeader(engine.run, 1, 1), *events, end]
    return encode_lines(lines).splitlines()


def foreign_lines() -> list[bytes]:
    """A whole run in Data Designer's."""
    return content(storm=True, rows=4, buffer_size=4, seed=1, requests=True).splitlines()


class Content(bytes):
    """Bytes that are told by their length: a failing example is reproduced by its seed."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes, crc {zlib.crc32(self):08x}>"


@st.composite
def streams(draw: st.DrawFn, lines: list[bytes]) -> Content:
    """The lines with some of them torn, mistyped, moved, doubled, gigantic or not lines at all."""
    lines = list(lines)
    for _ in range(draw(st.integers(1, 8))):
        if not lines:
            break
        place = draw(st.integers(0, len(lines) - 1))
        what = draw(st.integers(0, 8))
        if what == 0:
            lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]
        elif what == 1:
            lines.insert(place, lines[draw(st.integers(0, len(lines) - 1))])
        elif what == 2:
            other = draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        elif what == 3:
            lines.insert(place, draw(st.sampled_from(HOSTILE_JSON)))
        elif what == 4:
            del lines[place : place + draw(st.integers(1, 20))]
        elif what == 5:
            lines[place] = _flipped(lines[place], draw(st.integers(0, 2**31)))
        else:
            lines[place] = _mistyped(lines[place], draw)
    joined = b"\n".join(lines)
    torn = joined[: -draw(st.integers(1, 40))] if draw(st.booleans()) else joined + b"\n"
    return Content(torn)


def _flipped(line: bytes, seed: int) -> bytes:
    if not line:
        return b"\xff"
    place = seed % len(line)
    return line[:place] + bytes([line[place] ^ (1 << seed % 8)]) + line[place + 1 :]


def _mistyped(line: bytes, draw: st.DrawFn) -> bytes:
    """One value somewhere in the line becomes another."""
    if line.count(b"{") > DEEPEST:  # whether Python can write it depends on the stack of the day
        return line
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line
    if not isinstance(value, dict) or not value:
        return line
    inside: Any = value
    while True:
        key = draw(st.sampled_from(sorted(inside)))
        below = inside[key]
        if not isinstance(below, dict) or not below or draw(st.booleans()):
            inside[key] = draw(_replacement)
            break
        inside = below
    return json.dumps(value).encode()
