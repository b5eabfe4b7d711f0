"""Makes the pictures of the documentation from recordings: `python -m tests.docs.pictures`.

The recordings come from runs under virtual time, so that every call of this makes the same ones;
the console draws them and exports what it shows as SVG.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple

from console.app import ConsoleApp
from console.goto import parse_target
from console.outcome import StartView
from engine.benchmark.scenario import Scenario
from engine.run.plan import plan_run
from engine.workflow.demo import demo_workflow
from engine.workflow.load import LoadedWorkflow
from replay.playback.session import Session
from tests.console.driven import STILL

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = (120, 40)
RECORDS = 240
SETTLED = 3
"""Turns in which a console comes to rest after it was opened."""


class Picture(NamedTuple):
    screen: str
    at: str
    """Run time."""


PICTURES = (
    Picture("overview", "0:06"),
    Picture("queue", "0:06"),
    Picture("ceilings", "0:09"),
    Picture("leases", "0:06"),
    Picture("stalls", "0:12"),
    Picture("events", "0:06"),
    Picture("capacity", "0:12"),
)


def record(folder: Path) -> Path:
    """A recording of the demo, in virtual time."""
    from console.cli.bench.iteration import run_once

    plan = plan_run(LoadedWorkflow(demo_workflow(RECORDS), None, {}), inline_functions=True)
    path = folder / "demo.duckdb"
    scenario = Scenario("demo", "the demo", (), "virtual")
    run_once(scenario, plan, virtual=True, recording=path, number=0)
    return path


async def draw(recording: Path, picture: Picture) -> str:
    session = Session.open(recording, growing=False)
    try:
        app = ConsoleApp(
            session,
            title="demo",
            surroundings=STILL,
            follow=False,
            start=StartView(picture.screen, parse_target(picture.at)),
        )
        async with app.run_test(size=SIZE) as pilot:
            for _ in range(SETTLED):
                await app.settle()
                await pilot.pause()
            return app.export_screenshot(title="headgate", simplify=True)
    finally:
        session.close()


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        recording = record(Path(directory))
        for picture in PICTURES:
            svg = asyncio.run(draw(recording, picture))
            (IMAGES / f"{picture.screen}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
