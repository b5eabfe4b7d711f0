"""The documented views: the interface for SQL on a recording.

Names, columns, types and units of the views stay; the tables that they are computed from may change
with the schema. The views are made when a recording is opened for queries, so that every recording
has them, whichever version wrote it.

Each view has a module, where every column stands once, with its type, unit, meaning and SQL.
Whatever lists views or columns (`headgate sql --views`, `plans/recording.md`, exports) derives it
from `ALL_VIEWS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter

from replay.recording.views.blame import BLAME
from replay.recording.views.ceilings import CEILINGS
from replay.recording.views.events import EVENTS
from replay.recording.views.leases import LEASES
from replay.recording.views.requests import REQUESTS
from replay.recording.views.run import RUN, RecordedRun, RunColumn, RunView
from replay.recording.views.series import SERIES
from replay.recording.views.spending import SPENDING
from replay.recording.views.stalls import STALLS
from replay.recording.views.tasks import TASKS
from replay.recording.views.view import RECORDING, Column, View, create_macros

__all__ = [
    "ALL_VIEWS",
    "CONVENTIONS",
    "RECORDING",
    "RUN",
    "VIEWS",
    "Column",
    "RecordedRun",
    "RunColumn",
    "RunView",
    "View",
    "create_macros",
    "in_order_of_creation",
]

VIEWS: tuple[View, ...] = (
    TASKS,
    REQUESTS,
    SPENDING,
    LEASES,
    CEILINGS,
    STALLS,
    BLAME,
    SERIES,
    EVENTS,
)
"""The views that are SQL over the tables of a recording, in the order of the documentation."""

ALL_VIEWS: tuple[View | RunView, ...] = (*VIEWS, RUN)

CONVENTIONS = (
    "Times (s) are seconds since the first event of the run; waits and lengths are seconds, null "
    "where an end is not known. A column without a unit is a name, an id, text or a truth value. "
    "utc(t) and local(t) give any time of a view as a timestamp, the second in the time zone of "
    "the reader; null where the producer does not tell the wall time."
)


def in_order_of_creation(views: Iterable[View]) -> list[View]:
    """`views`, each behind those that it reads."""
    by_name = {view.name: view for view in views}
    order = TopologicalSorter({view.name: view.reads for view in by_name.values()}).static_order()
    return [by_name[name] for name in order]
