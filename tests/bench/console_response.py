"""How soon a console answers, and what it costs while it shows nothing new and beside a run.

Printed, each with its budget: from the start of a process to the first picture of a recording of 1M
events (`--events`), beside an empty Textual app; a seek with its picture; processor time of a
console in which nothing happens; a key's effect on the screen while a run writes 5,000 events a
second; the time of a run of scripted providers with a console attached and without. Terminals are
buffers of 120×40. Times are by the wall clock: nothing else may run. Exit code 1 where a budget is
missed. `--reuse` takes a recording that `recording_scale.py --keep` has left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from textual.app import App
from textual.events import Key

sys.path.insert(0, str(Path(__file__).parents[2]))
from console.app import ConsoleApp
from console.screens.base import FrameScreen
from console.surroundings import Surroundings
from engine.workflow.demo import demo_workflow
from replay.playback.session import Session
from tests.bench import console_update
from tests.bench.attached_console import RUN_WITHOUT_END
from tests.bench.console_update import SIZE, BufferDriver, wait_drawn
from tests.bench.recording_scale import Repeated
from tests.engine_run import run_engine
from tests.replay.producer import Producer

PAINT_BUDGET_SECONDS = 1.5
PAINTS = 5
SEEKS = 100
SEEK_BUDGET_MS = 50.0
IDLE_SECONDS = 10.0
IDLE_BUDGET_PERCENT = 0.5
KEY_BUDGET_MS = 50.0
KEYS = 80
EVENTS_A_SECOND = 5_000
PIECES_A_SECOND = 50
BETWEEN_KEYS_SECONDS = 0.23
LONGEST_EFFECT_SECONDS = 5.0
RECORDS = 240
WALL_BUDGET_PERCENT = 2.0
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 10: 2.26}
"""Two-sided 95 % of Student's distribution, by the number of pairs."""


class Empty(App[None]):
    """What Textual costs by itself."""


def console(session: Session, tick_seconds: float | None = 0.25) -> ConsoleApp:
    surroundings = Surroundings(tick_seconds=tick_seconds)
    app = ConsoleApp(session, surroundings=surroundings, at_end=True, follow=False)
    app.driver_class = BufferDriver
    return app


def say(what: object) -> None:
    """To whoever started this process: what is printed otherwise the app keeps."""
    print(what, file=sys.__stdout__, flush=True)


async def paint(recording: Path | None) -> None:
    """Say so once the first picture is there."""
    if recording is None:
        empty = Empty(driver_class=BufferDriver)
        async with empty.run_test(headless=False, size=SIZE):
            await drawn(empty)
            say("painted")
        return
    with closing(Session.open(recording, growing=False)) as session:
        app = console(session)
        async with app.run_test(headless=False, size=SIZE):
            await app.settle()
            assert app.page is not None
            assert app.page.frame is not None
            await wait_drawn(app)
            say("painted")


async def drawn(app: App[None]) -> None:
    event = asyncio.Event()
    app.screen.call_after_refresh(event.set)
    await event.wait()


def measure_paint(recording: Path | None) -> float:
    """Seconds from the start of a process to its picture."""
    command = [sys.executable, __file__, "--paint", str(recording or "")]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "painted\n"
        return time.perf_counter() - began


async def measure_seeks(recording: Path) -> list[float]:
    """Milliseconds until the picture of another moment is there."""
    dice, spent = random.Random(1), []
    with closing(Session.open(recording, growing=False)) as session:
        app = console(session, None)
        async with app.run_test(headless=False, size=SIZE):
            await app.settle()
            assert app.page is not None
            assert app.page.frame is not None
            first, last = app.page.frame.t0, app.page.frame.t1
            for _ in range(SEEKS):
                began = time.perf_counter()
                app.seek_time(dice.uniform(first, last))
                await app.settle()
                await wait_drawn(app)
                spent.append(1000 * (time.perf_counter() - began))
    return spent


async def measure_idle(recording: Path) -> float:
    """Per cent of a core, of a console on a recording that nobody touches."""
    with closing(Session.open(recording, growing=False)) as session:
        app = console(session)
        async with app.run_test(headless=False, size=SIZE):
            await app.settle()
            await asyncio.sleep(1.0)
            before = time.process_time()
            await asyncio.sleep(IDLE_SECONDS)
            return 100 * (time.process_time() - before) / IDLE_SECONDS


class WatchedDriver(BufferDriver):
    """Notes the first write to the terminal at which a condition holds."""

    shows: Callable[[], bool] | None = None
    seen: float | None = None

    def write(self, data: str) -> None:
        super().write(data)
        cls = WatchedDriver
        if cls.shows is not None and cls.seen is None and cls.shows():
            cls.seen = time.perf_counter()


def effects(app: ConsoleApp) -> list[tuple[str, Callable[[], bool]]]:
    """Keys, and what the screen shows once they have had their effect."""

    def page(name: str) -> Callable[[], bool]:
        return lambda: isinstance(app.screen, FrameScreen) and app.screen.page_name == name

    def follows(wanted: bool) -> Callable[[], bool]:
        return lambda: (
            app.page is not None
            and app.page.frame is not None
            and app.page.frame.following is wanted
        )

    return [
        ("4", page("Leases")),
        ("6", page("Events")),
        ("left_square_bracket", follows(False)),
        ("f", follows(True)),
        ("1", page("Overview")),
        ("left_square_bracket", follows(False)),
        ("f", follows(True)),
        ("3", page("Ceilings")),
    ]


async def press_keys(folder: str) -> None:
    """Print the milliseconds of each key."""
    with closing(Session.open(folder)) as session:
        app = ConsoleApp(session)
        app.driver_class = WatchedDriver
        async with app.run_test(headless=False, size=SIZE):
            await asyncio.sleep(2.0)
            for number in range(KEYS):
                keys = effects(app)
                key, shows = keys[number % len(keys)]
                WatchedDriver.seen, WatchedDriver.shows = None, shows
                began = time.perf_counter()
                app.post_message(Key(key, "[" if key == "left_square_bracket" else key))
                while WatchedDriver.seen is None:
                    await asyncio.sleep(0.002)
                    if time.perf_counter() - began > LONGEST_EFFECT_SECONDS:
                        raise TimeoutError(f"{key} has no effect")
                say(1000 * (WatchedDriver.seen - began))
                await asyncio.sleep(BETWEEN_KEYS_SECONDS)


def measure_keys(home: Path) -> list[float]:
    """Beside a producer and its recorder."""
    ran = run_engine(demo_workflow(records=300))
    now = time.time()
    run = msgspec.structs.replace(ran.run, wall_start=now, monotonic_start=0.0)
    events = Repeated(ran.run, ran.events, RUN_WITHOUT_END)
    producer = Producer(home, run)
    folder = str(producer.folder.path)
    recorder = subprocess.Popen([sys.executable, "-m", "replay.runs.recorder", folder])
    producer.write(events.poll(1).events)
    pressing = subprocess.Popen(
        [sys.executable, __file__, "--keys", folder], stdout=subprocess.PIPE, text=True
    )
    began, piece = time.time(), 0
    while pressing.poll() is None:
        at = time.time() - now
        producer.write(
            [
                msgspec.structs.replace(event, captured_at_monotonic=at)
                for event in events.poll(EVENTS_A_SECOND // PIECES_A_SECOND).events
            ]
        )
        piece += 1
        time.sleep(max(0.0, began + piece / PIECES_A_SECOND - time.time()))
    assert pressing.stdout is not None
    spent = [float(line) for line in pressing.stdout]
    producer.end(time.time() - now)
    recorder.wait(120)
    assert pressing.returncode == 0
    return spent


async def attend(folder: str) -> None:
    """A console on a live run until somebody ends this process."""
    with closing(Session.open(folder)) as session:
        app = ConsoleApp(session)
        app.driver_class = BufferDriver
        async with app.run_test(headless=False, size=SIZE):
            await asyncio.Event().wait()


def run_seconds(folder: Path, attached: bool) -> float:
    """How long a run of scripted providers takes."""
    headgate = str(Path(sys.executable).parent / "headgate")
    environment = {**os.environ, "HEADGATE_HOME": str(folder.parent / "home")}
    command = [headgate, "demo", "--headless", f"--records={RECORDS}", f"--out={folder}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as run:
        beside = None
        while run.poll() is None:
            if attached and beside is None and (folder / "journal").exists():
                beside = subprocess.Popen([sys.executable, __file__, "--attend", str(folder)])
            time.sleep(0.02)
        if beside is not None:
            beside.send_signal(signal.SIGTERM)
            beside.wait(30)
    record = json.loads((folder / "run.json").read_text())
    return float(record["wall_end"] - record["wall_start"])


def attach_cost(home: Path, pairs: int) -> tuple[float, float]:
    """Mean and half of the 95 % interval of the per cent that a console adds to a run's time."""
    costs = []
    for pair in range(pairs):
        times = {}
        for attached in (pair % 2 == 0, pair % 2 == 1):
            times[attached] = run_seconds(home / f"run-{pair}-{attached}", attached)
        costs.append(100 * (times[True] / times[False] - 1))
    half = T_95.get(pairs, 2.2) * statistics.stdev(costs) / pairs**0.5
    return statistics.mean(costs), half


class Budgets:
    def __init__(self) -> None:
        self.missed = False

    def say(self, what: str, value: float, most: float, unit: str) -> None:
        self.missed |= value > most
        verdict = "" if value <= most else "   OVER BUDGET"
        print(f"{what:<52} {value:>8.2f} {unit:<3} (at most {most:g}){verdict}", flush=True)


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def measure_recording(recording: Path, budgets: Budgets) -> None:
    paints = [(measure_paint(None), measure_paint(recording)) for _ in range(PAINTS)]
    empty, whole = (statistics.median(times) for times in zip(*paints, strict=True))
    print(f"{'empty Textual app, first picture':<52} {empty:>8.2f} s")
    print(f"{'recording, first picture':<52} {whole:>8.2f} s")
    budgets.say("first picture over the empty app", whole - empty, PAINT_BUDGET_SECONDS, "s")
    seeks = asyncio.run(measure_seeks(recording))
    budgets.say("seek with its picture, p95", p95(seeks), SEEK_BUDGET_MS, "ms")
    idle = asyncio.run(measure_idle(recording))
    budgets.say("idle, of a core", idle, IDLE_BUDGET_PERCENT, "%")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=4, help="runs with and without a console")
    parser.add_argument("--reuse", type=Path, help="Take this recording; build none.")
    for name in ("--paint", "--keys", "--attend"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.paint is not None:
        asyncio.run(paint(Path(options.paint) if options.paint else None))
        return 0
    if options.keys is not None:
        asyncio.run(press_keys(options.keys))
        return 0
    if options.attend is not None:
        asyncio.run(attend(options.attend))
        return 0
    budgets = Budgets()
    home = Path(tempfile.mkdtemp(prefix="headgate-response-"))
    try:
        recording = options.reuse
        if recording is None:
            recording = home / "recording.duckdb"
            scale = Path(console_update.__file__).parent / "recording_scale.py"
            build = ["--build", str(recording), f"--events={options.events}"]
            subprocess.run([sys.executable, str(scale), *build], check=True)
        measure_recording(recording, budgets)
        spent = measure_keys(home)
        print(f"{'key in a live run, p50':<52} {statistics.median(spent):>8.2f} ms")
        budgets.say(
            f"key in a run of {EVENTS_A_SECOND:,} ev/s, p95", p95(spent), KEY_BUDGET_MS, "ms"
        )
        mean, half = attach_cost(home, options.pairs)
        print(f"{'time that a console adds to a run':<52} {mean:>8.2f} %   ± {half:.2f}, 95 %")
        if mean > WALL_BUDGET_PERCENT and mean - half > 0:
            budgets.missed = True
            print("the console slows the run: OVER BUDGET")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return int(budgets.missed)


if __name__ == "__main__":
    sys.exit(main())
