"""Every page in every state at every size: it is drawn, says what it is and in which state the run
is, stays within its terminal, and looks as it did when somebody last looked.

What it looked like is in `__snapshots__/matrix/STATE.txt`: the text of each screen, with a digest
of its styles. `--snapshot-update` writes it anew; read what has changed then.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.strip import Strip

from console.controls import SCREENS
from tests.console.driven import Driven, running
from tests.effort import effort

PAGES = {
    **{
        control.brief: (control.keys,)
        for control in SCREENS
        if control.action.startswith("app.go(")
    },
    "Tasks": ("2", "enter"),
    "Task": ("2", "enter", "enter"),
    "Tokens": ("9", "c"),
    "Call": ("2", "enter", "enter", "up", "up", "enter"),
}
STATES = {
    "healthy": "LIVE",
    "behind": "BEHIND",
    "paused": "PAUSED",
    "replaying": "PAUSED",
    "ended": "ENDED",
    "lost": "LOST",
    "empty": "WAITING",
    "crowd": "LIVE",
    "gap": "LIVE",
}
SIZES = ((40, 10), (80, 24), (120, 40), (200, 60))
KEPT = Path(__file__).parent / "__snapshots__" / "matrix"


@pytest.mark.parametrize("state", effort(("lost", "crowd"), tuple(STATES)))
def test_every_page_at_every_size(state: str, request: pytest.FixtureRequest) -> None:
    drawn: dict[str, str] = {}

    async def main() -> None:
        async with running(state, (80, 24)) as driven:
            for name, keys in PAGES.items():
                for key in keys:
                    await driven.press(key)
                for size in SIZES:
                    await driven.pilot.resize_terminal(*size)
                    await driven.settle()
                    title, lines = f"{name} {size[0]}x{size[1]}", strips(driven)
                    check(driven, name, state, size, [line.text for line in lines])
                    drawn[title] = as_text(lines)

    asyncio.run(main())
    kept = KEPT / f"{state}.txt"
    if request.config.getoption("update_snapshots"):
        kept.write_text("".join(f"== {title} {text}\n" for title, text in drawn.items()), "utf-8")
    before = kept.read_text("utf-8")
    changed = [title for title, text in drawn.items() if f"== {title} {text}\n" not in before]
    assert not changed, f"{kept} shows them otherwise"


def strips(driven: Driven) -> list[Strip]:
    return [Strip(line) for line in driven.app.screen._compositor.render_strips(None)]


def as_text(lines: list[Strip]) -> str:
    styles = "|".join(
        f"{segment.style} {segment.cell_length}" for line in lines for segment in line
    )
    digest = hashlib.sha256(styles.encode()).hexdigest()[:12]
    return "\n".join([digest, *(line.text.rstrip() for line in lines)])


def check(driven: Driven, name: str, state: str, size: tuple[int, int], lines: list[str]) -> None:
    where = f"{name} {state} {size}"
    assert len(lines) == size[1], where
    assert all(cell_len(line) == size[0] for line in lines), where
    assert f" {STATES[state]} " in lines[0], where
    page = driven.app.page
    assert page is not None
    if state != "empty" or name not in ("Tasks", "Task", "Call"):
        assert page.page_name == name, where
    if size[0] >= 80:
        assert sum(bool(line.strip()) for line in lines) >= 5, where
