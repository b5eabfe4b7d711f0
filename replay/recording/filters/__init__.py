"""The filter language: one grammar, compiled to SQL over a view and to a predicate over its rows.

    judge                 rows in which a name or a text holds this word
    "rate limit"          the same for a text with spaces
    column:judge          a field that is this; `kind:request_*` with a wildcard
    wait>2s  row:17       numbers with < <= > >= = !=; times in ms, s, m, h
    !failed  not failed   what does not match
    a b   a and b   a or b   (a or b) c

Capitals of ASCII make no difference. A field without a value matches no comparison.
"""

from __future__ import annotations

from replay.recording.filters.grammar import FilterError, Node, parse
from replay.recording.filters.subjects import (
    ERRORS,
    EVENTS,
    LEASES,
    QUEUE,
    RUNS,
    STALLS,
    SUBJECTS,
    Field,
    Subject,
    subject_of,
)

__all__ = [
    "ERRORS",
    "EVENTS",
    "LEASES",
    "QUEUE",
    "RUNS",
    "STALLS",
    "SUBJECTS",
    "Field",
    "FilterError",
    "Node",
    "Subject",
    "parse",
    "subject_of",
]
