"""Data Designer's lines as they are written: their shape, their group keys, nothing interpreted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from engine.events import ALL_REQUEST_KINDS, Number, RequestResource, RuntimeCorrelation, stream_of
from replay.state.payload import amounts


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


class Diagnostics(msgspec.Struct, frozen=True, gc=False):
    """The diagnostics of a line. Lines that say the same may share one: none of it is changed."""

    facts: dict[str, Any]
    """As they are written."""
    group: str | None
    """The label of the task's group, where they name one."""
    needs: dict[str, int]
    """What the task needs, by resource; empty where they name no group."""


_NOTHING = msgspec.Raw()
_NO_DIAGNOSTICS = Diagnostics({}, None, {})


class WireLine(msgspec.Struct, gc=False):
    """One line of either stream."""

    event_kind: str
    captured_at_monotonic: Annotated[float, Meta(ge=0.0, lt=1e10)]
    sequence: Number
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
    diagnostics: msgspec.Raw = _NOTHING
    details: Diagnostics = msgspec.field(name="~details", default=_NO_DIAGNOSTICS)
    """The decoded diagnostics. No field of the line."""
    view: Snapshot | None = msgspec.field(name="~view", default=None)
    """The decoded snapshot, where it is more than a repetition. No field of the line."""
    is_request: bool = msgspec.field(name="~is_request", default=False)
    """By its kind; for an unknown kind by the fields that the line has. No field of the line."""

    @property
    def attempt_id(self) -> str | None:
        return None if self.request_attempt_id is msgspec.UNSET else self.request_attempt_id


class _WholeLine(WireLine, gc=False):
    """What is wrong with a line is told as of a whole, not of the part that was decoded alone."""

    diagnostics: dict[str, Any] = {}  # type: ignore[assignment]


_WITH_SNAPSHOT = frozenset({"scheduler_health_snapshot", "admission_blocked", "group_capped"})
_FREQUENT_BYTES = 512
"""Bytes up to which diagnostics are looked for among those of earlier lines."""
_line_decoder = msgspec.json.Decoder(WireLine)
_whole_decoder = msgspec.json.Decoder(_WholeLine)
_facts_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_view_decoder: msgspec.json.Decoder[Snapshot | None] = msgspec.json.Decoder(Snapshot | None)


def decode(line: bytes) -> WireLine:
    """A line, its snapshot decoded only where it is more than a repetition.

    Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError` for what is no line.
    """
    try:
        decoded = _line_decoder.decode(line)
        written = bytes(decoded.diagnostics)
        if not written:
            decoded.details = _NO_DIAGNOSTICS
        elif len(written) <= _FREQUENT_BYTES:
            decoded.details = _frequent_details(written)
        else:
            decoded.details = _details(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _whole_decoder.decode(line)
        raise
    kind = decoded.event_kind
    wanted = kind in _WITH_SNAPSHOT and decoded.snapshot
    decoded.view = _view(bytes(decoded.snapshot)) if wanted else None
    decoded.snapshot = decoded.diagnostics = _NOTHING  # would keep the whole line in memory
    decoded.is_request = kind in ALL_REQUEST_KINDS or (
        decoded.request_attempt_id is not msgspec.UNSET and stream_of(kind) is None
    )
    return decoded


def _details(written: bytes) -> Diagnostics:
    facts = _facts_decoder.decode(written)
    group = key_label(facts.get("task_group_key"))
    needs = {} if group is None else amounts(facts.get("resource_request"))
    return Diagnostics(facts, group, needs)


_frequent_details = lru_cache(maxsize=1024)(_details)


@lru_cache(maxsize=64)
def _view(written: bytes) -> Snapshot | None:
    """Lines that follow each other mostly see the same."""
    return _view_decoder.decode(written)


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
    return _join(tuple(map(str, identity)))


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
