"""From a run that is over to the next one of its script; what stands behind is not live."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.widgets.header import Header
from tests.console.driven import Driven, drive


def test_once_the_run_is_over_the_next_one_is_shown() -> None:
    more: list[bool] = []

    async def test(driven: Driven) -> None:
        driven.session.shown = replace(driven.session.shown, liveness="ended", outcome="success")
        driven.session.changed = True
        await driven.tick(1.0)
        assert driven.app.is_running
        assert driven.app.return_value is None
        more.append(True)
        await driven.tick(1.0)
        assert driven.app.return_value == "next"

    drive(test, next_run=lambda: bool(more))


@pytest.mark.parametrize("keys", [("left_square_bracket",), ("question_mark",)])
def test_who_looks_at_something_in_it_is_left_there(keys: tuple[str, ...]) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(*keys)
        driven.session.shown = replace(driven.session.shown, liveness="ended", outcome="success")
        driven.session.changed = True
        await driven.tick(1.0)
        assert driven.app.return_value is None

    drive(test, next_run=lambda: True)


def test_what_is_read_late_is_not_called_live() -> None:
    async def test(driven: Driven) -> None:
        assert " LIVE " in driven.text(Header)
        driven.session.shown = replace(driven.session.shown, lag=20.0)
        driven.session.changed = True
        await driven.tick(1.0)
        text = driven.text(Header)
        assert " LIVE " not in text
        assert " BEHIND " in text
        assert "20 s behind the run" in text

    drive(test)
