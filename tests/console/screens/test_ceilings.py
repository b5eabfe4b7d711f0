"""Ceilings: from one change of a ceiling to the next."""

from __future__ import annotations

from tests.console.driven import Driven, drive


def test_the_changes_of_a_ceiling_one_after_the_other() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("3")
        calls = [*await driven.press("n"), *await driven.press("up", "N")]
        moves = [call for call in calls if call.startswith("seek_match")]
        assert moves == [
            "seek_match 1 kind IN ('request_limit_decreased', 'request_limit_increased')"
            " AND resource = 'beta/judge-large/chat'",
            "seek_match -1 kind IN ('request_limit_decreased', 'request_limit_increased')"
            " AND resource = 'alpha/gen-8b/chat'",
        ]

    drive(test)
