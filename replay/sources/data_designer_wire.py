"""Data Designer's lines as they are written: their shape, their group keys, nothing interpreted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from engine.events import REQUEST_KINDS, RequestResource, RuntimeCorrelation, stream_of


class Pressure(msgspec.Struct, frozen=True, gc=False):
    """The request pressure that each request event carries."""

    effective_max: int = 0
    current_limit: int = 0
    in_flight_count: int = 0
    waiters: int = 0
    blocked_until_monotonic: float | None = None
    rate_limit_ceiling: int | None = None
    consecutive_rate_limits: int = 0
    last_outcome: str | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """The task admission view that each scheduler event carries. Its group keys are reprs."""

    resource_limits: dict[str, int] = {}
    resources_available: dict[str, int] = {}
    leased_resources: dict[str, int] = {}
    leased_resources_by_group: dict[str, dict[str, int]] = {}
    running_counts_by_group: dict[str, int] = {}
    policy_debt_by_group_resource: dict[str, int] = {}


_NOTHING = msgspec.Raw()


class Line(msgspec.Struct, gc=False):
    """One line of either stream."""

    event_kind: str
    captured_at_monotonic: float
    sequence: int
    captured_correlation: RuntimeCorrelation | None = None
    task_id: str | None = None
    task_execution_id: str | None = None
    task_lease_id: str | None = None
    scheduler_resource_key: str | None = None
    reason_or_result: str | None = None
    request_attempt_id: str | msgspec.UnsetType | None = msgspec.UNSET
    request_lease_id: str | None = None
    request_resource_key: RequestResource | None = None
    request_group_key: RequestResource | None = None
    reason_or_outcome: str | None = None
    pressure_snapshot: Pressure | None = None
    snapshot: msgspec.Raw = _NOTHING
    diagnostics: dict[str, Any] = {}
    view: Snapshot | None = msgspec.field(name="~view", default=None)
    """The decoded snapshot, where it is more than a repetition. No field of the line."""

    @property
    def is_request(self) -> bool:
        """By its kind; for an unknown kind by the fields that the line has."""
        if self.event_kind in REQUEST_KINDS:
            return True
        return self.request_attempt_id is not msgspec.UNSET and stream_of(self.event_kind) is None

    @property
    def attempt_id(self) -> str | None:
        return None if self.request_attempt_id is msgspec.UNSET else self.request_attempt_id


_WITH_SNAPSHOT = frozenset({"scheduler_health_snapshot", "admission_blocked", "group_capped"})
_line_decoder = msgspec.json.Decoder(Line)
_view_decoder: msgspec.json.Decoder[Snapshot | None] = msgspec.json.Decoder(Snapshot | None)


def decode(line: bytes) -> Line:
    """A line, its snapshot decoded only where it is more than a repetition.

    Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError` for what is no line.
    """
    decoded = _line_decoder.decode(line)
    wanted = decoded.event_kind in _WITH_SNAPSHOT and decoded.snapshot
    decoded.view = _view_decoder.decode(decoded.snapshot) if wanted else None
    decoded.snapshot = _NOTHING  # it would keep the whole line in memory
    return decoded


_STRING = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_STRINGS = rf"{_STRING}(?:, {_STRING})*"
_group_pattern = re.compile(
    rf"\{{'kind': {_STRING}, 'identity': \[(?P<list>{_STRINGS})\]\}}"
    rf"|TaskGroupKey\(kind={_STRING}, identity=\((?P<tuple>{_STRINGS}),?\)\)",
    re.DOTALL,
)
_debt_tail = re.compile(rf", ({_STRING})[\])]\Z", re.DOTALL)
_string_pattern = re.compile(_STRING, re.DOTALL)
_escape_pattern = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_MAX_KEY = 4096


@lru_cache(maxsize=4096)
def group_label(key: str) -> str:
    """The label of a group written as a Python repr; what is none stays as it is, clipped."""
    match = _group_pattern.fullmatch(key) if len(key) <= _MAX_KEY else None
    return _label(match) if match else key[:_MAX_KEY]


@lru_cache(maxsize=4096)
def debt_key(key: str) -> tuple[str, str] | None:
    """(group label, resource) of a debt key; None where it is none."""
    if len(key) > _MAX_KEY or key[:1] not in ("[", "("):
        return None
    group = _group_pattern.match(key, 1)
    tail = _debt_tail.match(key, group.end()) if group else None
    if group is None or tail is None:
        return None
    return _label(group), _unquote(tail[1])


def key_label(key: Any) -> str | None:
    """The label of a group written as an object {"kind", "identity"}; None where it is none."""
    if not isinstance(key, dict):
        return None
    identity = key.get("identity")
    if not isinstance(identity, list) or not identity:
        return None
    return _join(tuple(str(part) for part in identity))


@lru_cache(maxsize=4096)
def _join(identity: tuple[str, ...]) -> str:
    return "/".join(identity)


def _label(match: re.Match[str]) -> str:
    parts = match["list"] or match["tuple"]
    return _join(tuple(_unquote(text) for text in _string_pattern.findall(parts)))


def _unquote(literal: str) -> str:
    return _escape_pattern.sub(_unescape, literal[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 1:
        return _ESCAPES.get(code, code)
    number = int(code[1:], 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return "\ufffd"
    # the line was cleaned of control characters before, and a repr may not smuggle them in
    return chr(number) if chr(number).isprintable() else "\ufffd"
