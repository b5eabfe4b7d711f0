"""A run of very many columns, as a user runs it: `python tests/bench/wide_run.py`.

500 columns of 2,500 rows, whose tasks wait all at once; `--columns 11 --row-groups 3` is a run of
large row groups. It goes on in processes of its own, whose memory is looked at ten times a second;
then `why` explains it. With `--kill-after` the engine is killed on the way, and the same must hold.
Exit code 1 where a limit is exceeded.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITS_MB = {"recorder": 700, "front": 400}
"""The engine has none: its rows and tasks are what the run consists of. Nor has `why`: where its
rules are newer than those of the recording it folds all of it again."""
LOOK_SECONDS = 0.1


def workflow(columns: int, rows: int, row_groups: int) -> str:
    texts = "".join(
        f'  - {{ name: c{number}, type: llm_text, model: m, prompt: "{{{{ t }}}} {number}" }}\n'
        for number in range(columns - 1)
    )
    return (
        f"name: wide\nrecords: {rows * row_groups}\nseed: 1\n"
        "providers: { a: { type: scripted, latency: { mean: 0.0005, spread: 0 } } }\n"
        "models:\n  m: { provider: a, model: mod, max_parallel_requests: 32 }\n"
        "columns:\n  - { name: t, type: sampler, values: [x, y] }\n"
        f"{texts}run: {{ buffer_size: {rows}, max_in_flight_tasks: 256 }}\n"
    )


def peak_mb(pid: int) -> float:
    """Most memory that a process has had; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")),
        0.0,
    )


def children(pid: int) -> dict[str, int]:
    """Engine and recorder that a front has started, by name."""
    known = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        if parent == pid and "replay.runs.recorder" in command:
            known["recorder"] = int(entry.name)
        elif parent == pid and "console.cli.run.engine_process" in command:
            known["engine"] = int(entry.name)
    return known


def watch(front: subprocess.Popen[bytes], kill_after: float | None) -> dict[str, float]:
    """The peaks of all three processes, until the front has ended."""
    peaks: dict[str, float] = {}
    began = time.monotonic()
    known: dict[str, int] = {}
    while front.poll() is None:
        if len(known) < 2:
            known |= children(front.pid)
        for name, pid in {"front": front.pid, **known}.items():
            peaks[name] = max(peaks.get(name, 0.0), peak_mb(pid))
        if kill_after is not None and time.monotonic() - began > kill_after and "engine" in known:
            os.kill(known["engine"], signal.SIGKILL)
            kill_after = None
        time.sleep(LOOK_SECONDS)
    return peaks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--rows", type=int, default=2_500, help="of a row group")
    parser.add_argument("--row-groups", type=int, default=1)
    parser.add_argument("--kill-after", type=float, help="seconds until the engine is killed")
    options = parser.parse_args()
    headgate = [str(Path(sys.executable).with_name("headgate"))]
    with tempfile.TemporaryDirectory(prefix="headgate-wide-") as name:
        home = Path(name)
        environment = {**os.environ, "HEADGATE_HOME": str(home / "home")}
        definition = home / "wide.yaml"
        definition.write_text(workflow(options.columns, options.rows, options.row_groups))
        began = time.monotonic()
        front = subprocess.Popen(
            [*headgate, "run", str(definition), "--headless", "--out", str(home / "run")],
            env=environment,
        )
        peaks = watch(front, options.kill_after)
        print(f"ran        {time.monotonic() - began:,.0f} s, exit code {front.returncode}")
        began = time.monotonic()
        explained = subprocess.Popen(
            [*headgate, "why", str(home / "run")], env=environment, stdout=subprocess.DEVNULL
        )
        peaks["why"] = 0.0
        while explained.poll() is None:
            peaks["why"] = max(peaks["why"], peak_mb(explained.pid))
            time.sleep(LOOK_SECONDS)
        print(f"explained  {time.monotonic() - began:,.1f} s, exit code {explained.returncode}")
        failed = explained.returncode != 0
        for process, peak in peaks.items():
            limit = LIMITS_MB.get(process)
            over = limit is not None and peak > limit
            failed = failed or over
            most = "" if limit is None else f" (at most {limit})"
            print(f"{process:<10} {peak:,.0f} MB{most}{'   OVER THE LIMIT' if over else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
