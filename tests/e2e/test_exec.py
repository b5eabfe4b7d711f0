"""`headgate exec` around scripts that use a package of Data Designer's shape."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.events.run_folder import RunFolder, read_record
from engine.events.run_record import RunRecord
from replay.recording.reader import open_recording
from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.scripts import CREATE, EVENTS, run_script
from tests.fixtures.data_designer_format import lines
from tests.fixtures.data_designer_stand_in import write_stand_in


def records(desk: Path) -> list[RunRecord]:
    done = headgate("runs", "--json", cwd=desk)
    folders = [RunFolder(Path(row["folder"])) for row in json.loads(done.stdout)]
    read = [read_record(folder) for folder in folders]
    assert None not in read
    return sorted(
        (item for item in read if item is not None), key=lambda record: record.wall_start or 0
    )


def kinds(folder: Path) -> list[tuple[str, int]]:
    """Kind and sequence of each event of a recording, sorted."""
    reader = open_recording(RunFolder(folder).recording)
    try:
        events = reader.events(1, 1_000_000)
    finally:
        reader.close()
    return sorted((event.event_kind, event.sequence) for _, event in events)


def test_a_run_is_recorded_whole(desk: Path) -> None:
    done = run_script(desk, CREATE, "--out", "here")
    assert done.returncode == 0, done.stderr
    record = read_record(RunFolder(desk / "here"))
    assert record is not None
    assert (record.state, record.outcome, record.rows_done) == ("complete", "success", 5)
    assert (record.name, record.producer, record.records) == ("script", "data_designer", 5)
    assert kinds(desk / "here") == sorted(
        (event["event_kind"], event["sequence"]) for event in EVENTS
    )
    assert f"headgate watch {record.run_id}" in done.stderr
    assert done.stdout == ""


def test_a_resumed_run_is_measured_by_the_rows_that_were_left(tmp_path: Path) -> None:
    resumed = lines(storm=False, rows=5)
    (started,) = [line for line in resumed if line["event_kind"] == "scheduler_job_started"]
    started["diagnostics"]["num_records"] = 20
    write_stand_in(tmp_path, resumed)
    done = run_script(tmp_path, CREATE, "--out", "here")
    assert "success, 5 of 5 rows" in done.stderr
    verified = headgate("verify", "here", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout


def test_each_run_of_a_script_has_a_folder_of_its_own(desk: Path) -> None:
    script = CREATE + 'DataDesigner().preview(run_id="run-2")\n'
    done = run_script(desk, script, "--out", "here")
    assert done.returncode == 0, done.stderr
    run_records = records(desk)
    assert [record.name for record in run_records] == ["script", "script preview"]
    assert kinds(desk / "here") == kinds(desk / "here-2")
    assert all(f"headgate watch {record.run_id}" in done.stderr for record in run_records)


def test_the_script_and_its_children_see_their_own_world(desk: Path) -> None:
    """Arguments, input, output, exit code, path and a sitecustomize of their own."""
    (desk / "site").mkdir()
    (desk / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.theirs = 1\n")
    script = """
import sys, sysconfig
print(theirs, sys.modules["sitecustomize"].__file__, sys.argv, sys.stdin.read())
print(sys.path)
print("to stderr", file=sys.stderr)
sys.exit(7)
"""
    (desk / "script.py").write_text(script)
    command = [sys.executable, "script.py", "--out", "x", "-h"]
    alone, done = (
        subprocess.run(
            [*prefix, *command],
            cwd=desk,
            env=environment(desk, {"PYTHONPATH": "site"}),
            input="their input",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for prefix in ((), (HEADGATE, "exec", "--"))
    )
    own = str(desk / "site" / "sitecustomize.py")
    shown = ["script.py", "--out", "x", "-h"]
    assert done.stdout.splitlines()[0] == f"1 {own} {shown} their input"
    assert done.stdout == alone.stdout
    assert done.stderr.startswith("to stderr\n")
    assert "no Data Designer run was seen" in done.stderr
    assert done.returncode == 7


def test_without_a_sitecustomize_there_is_none(desk: Path) -> None:
    script = """
import sys
try:
    import sitecustomize
    print(sitecustomize.__file__)
except ImportError as error:
    print(error, "sitecustomize" in sys.modules)
"""
    bare = subprocess.run(
        [sys.executable, "-c", script], cwd=desk, capture_output=True, text=True, check=True
    )
    assert run_script(desk, script).stdout == bare.stdout


def test_a_sitecustomize_that_fails_is_told_by_python_itself(desk: Path) -> None:
    (desk / "sitecustomize.py").write_text("1 / 0\n")
    done = run_script(desk, "print('runs')", PYTHONPATH=str(desk))
    assert done.stdout == "runs\n"
    assert "ZeroDivisionError" in done.stderr
    assert "Error in sitecustomize" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_death_by_signal_is_passed_on(desk: Path, number: signal.Signals) -> None:
    done = run_script(desk, f"import os; os.kill(os.getpid(), {int(number)})")
    assert done.returncode == -number


def test_a_killed_script_leaves_all_its_whole_lines(desk: Path) -> None:
    script = """
import os, signal, time
from data_designer.interface import DataDesigner
DataDesigner().create(stop_after=200)
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run_script(desk, script, "--out", "here")
    assert done.returncode == -signal.SIGKILL
    record = read_record(RunFolder(desk / "here"))
    assert record is not None
    assert record.state == "lost"
    expected = sorted((event["event_kind"], event["sequence"]) for event in EVENTS[:200])
    assert kinds(desk / "here") == expected
    shown = headgate("watch", "--once", "here", cwd=desk)
    assert "lost" in shown.stdout.lower()


def test_a_script_that_ends_before_its_run_did_cancels_it(desk: Path) -> None:
    script = """
from data_designer.interface import DataDesigner
DataDesigner().create(stop_after=200)
"""
    run_script(desk, script, "--out", "here")
    record = read_record(RunFolder(desk / "here"))
    assert record is not None
    assert (record.state, record.outcome) == ("complete", "cancelled")
    assert "script ended" in record.message


def test_a_forked_child_writes_into_no_run_of_its_parent(desk: Path) -> None:
    script = """
import os
from data_designer.interface import DataDesigner
designer = DataDesigner()
designer.create(stop_after=200)
child = os.fork()
if child == 0:
    designer.create(run_id="of the child")
    os._exit(0)
os.waitpid(child, 0)
designer.create(run_id="run-2")
"""
    done = run_script(desk, script, "--name", "forks")
    assert done.returncode == 0, done.stderr
    run_records = records(desk)
    assert [record.name for record in run_records] == ["forks"] * 3
    assert sorted(str(record.outcome) for record in run_records) == [
        "cancelled",
        "success",
        "success",
    ]
    assert all(record.state == "complete" for record in run_records)
    assert len({record.pid for record in run_records}) == 2


def test_runs_of_spawned_and_called_pythons_are_recorded(desk: Path) -> None:
    script = """
import multiprocessing, subprocess, sys
from data_designer.interface import DataDesigner

def work(name):
    DataDesigner().create(dataset_name=name)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work, args=("spawned",))
    process.start()
    process.join()
    subprocess.run([sys.executable, "-c", "import script; script.work('called')"], check=True)
"""
    done = run_script(desk, script)
    assert done.returncode == 0, done.stderr
    assert [(record.name, record.outcome) for record in records(desk)] == [
        ("spawned", "success"),
        ("called", "success"),
    ]


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ((sys.executable, "-I"), "under -I Python does not load what headgate puts on PYTHONPATH"),
        ((sys.executable, "-sE"), "under -sE Python does not load"),
        ((sys.executable, "-X", "utf8", "-S"), "under -S Python does not load"),
        (("/bin/echo",), "started no Python"),
        (("env", "-i", sys.executable), "the environment was cleared"),
        (("sh", "-c", f"env -i {sys.executable} script.py"), "or its environment was cleared"),
        ((sys.executable,), "no Data Designer run was seen"),
    ],
)
def test_what_could_not_be_watched_is_said(desk: Path, python: tuple[str, ...], said: str) -> None:
    done = run_script(desk, "print('runs')", python=python)
    assert done.returncode == 0
    assert said in done.stderr


def test_a_process_that_is_left_behind_is_named_and_its_run_recorded(desk: Path) -> None:
    script = f"""
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
for number in range(3):
    os.close(number)
    os.open(os.devnull, os.O_RDWR)
open("pid", "w").write(str(os.getpid()))
os.rename("pid", "daemon")
while not os.path.exists("go"):
    time.sleep(0.02)
{CREATE}
open("over", "w").close()
"""
    waits = "import os, time\nwhile not os.path.exists('daemon'): time.sleep(0.01)\n"
    (desk / "daemon.py").write_text(script)
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, 'daemon.py'])\n{waits}"
    done = run_script(desk, starts, TMPDIR=str(desk))
    pid = int((desk / "daemon").read_text())
    try:
        assert f"still runs (pid {pid})" in done.stderr
        assert "nothing is recorded yet" in done.stderr
    finally:
        (desk / "go").touch()
        await_file(desk / "over")
    (record,) = records(desk)
    assert headgate("why", record.run_id, cwd=desk).returncode == 0  # imports it
    (record,) = records(desk)
    assert (record.producer, record.rows_done) == ("data_designer", 5)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["nosuchcommand"], 127, "no such command on the PATH"),
        (["./nosuch.py"], 127, "no such file"),
        (["./script.py"], 126, "is not executable"),
        (["./data_designer"], 126, "is a folder"),
    ],
)
def test_a_command_that_can_not_run(desk: Path, command: list[str], code: int, said: str) -> None:
    (desk / "script.py").write_text(CREATE)
    done = headgate("exec", "--", *command, cwd=desk)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--bogus", "--", "echo"], "--bogus"), ([], "COMMAND"), (["--out", "x"], "COMMAND")],
)
def test_misuse_is_told_before_anything_runs(desk: Path, arguments: list[str], said: str) -> None:
    done = headgate("exec", *arguments, cwd=desk)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_options_behind_the_command_are_its_own(desk: Path) -> None:
    done = headgate("exec", "/bin/echo", "--out", "x", "--live", cwd=desk)
    assert (done.returncode, done.stdout) == (0, "--out x --live\n")


def test_the_folder_of_another_run_is_refused_before_anything_runs(desk: Path) -> None:
    (desk / "full").mkdir()
    (desk / "full" / "thing").touch()
    done = run_script(desk, "print('runs')", "--out", "full")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not empty" in done.stderr


NO_SINK = """
from types import SimpleNamespace
def create_resource_provider(*, artifact_storage):
    return SimpleNamespace(scheduler_event_sink=None, request_event_sink=None)
"""
NO_SUBSCRIPTION = """
from types import SimpleNamespace
def event(fields):
    return SimpleNamespace(**fields)
def emit(one):
    pass
"""


MOVED = """
import data_designer.engine
class DataDesigner:
    def create(self):
        print("made")
"""
NO_FACTORY = "import data_designer.engine.resources.resource_provider\n" + MOVED


@pytest.mark.parametrize(
    "modules",
    [
        {"engine/resources/resource_provider": NO_SINK},
        {"engine/resources/resource_provider": "create_it = 3", "interface": NO_FACTORY},
        {"engine/resources/resource_provider": None, "interface": MOVED},
    ],
    ids=["no sink", "no factory", "no module"],
)
def test_an_unknown_version_runs_unrecorded_with_one_warning(
    desk: Path, modules: dict[str, str | None]
) -> None:
    (desk / "data_designer" / "engine" / "resources" / "resource_provider.py").unlink()
    write_stand_in(desk, EVENTS, modules)
    done = run_script(desk, CREATE + "print('to the end')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("to the end\n")
    assert done.stderr.count("this version of Data Designer") == 1
    assert done.stderr.count("\n") == 1


def test_a_known_version_that_is_only_imported_is_no_unknown_one(desk: Path) -> None:
    write_stand_in(desk, EVENTS, {"interface": MOVED})
    done = run_script(desk, "import data_designer.interface\nprint('to the end')")
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert done.stderr == (
        "headgate: Data Designer was imported, but made no run: nothing was recorded\n"
    )


def test_a_version_without_subscriptions_gives_what_it_has(desk: Path) -> None:
    write_stand_in(desk, EVENTS, {"engine/observability": NO_SUBSCRIPTION})
    done = run_script(desk, CREATE, "--out", "here")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this version of Data Designer") == 1
    seen = {kind for kind, _ in kinds(desk / "here")}
    assert {"task_lease_released", "model_request_completed"} < seen
    assert "request_lease_acquired" not in seen


def test_sinks_of_their_own_get_what_they_would_get(desk: Path) -> None:
    script = """
from data_designer.interface import DataDesigner

class Sink:
    def __init__(self, fails):
        self.kinds, self.fails = [], fails
    def accepts_scheduler_event(self, kind):
        return kind == "task_completed"
    def emit_scheduler_event(self, event):
        self.take(event)
    def emit_request_event(self, event):
        self.take(event)
    def take(self, event):
        self.kinds.append(event.event_kind)
        if self.fails:
            raise ValueError("theirs")

scheduler, request = Sink(True), Sink(False)
DataDesigner(scheduler_event_sink=scheduler, request_event_sink=request).create()
print(set(scheduler.kinds), sorted(set(request.kinds)))
"""
    done = run_script(desk, script, "--out", "here")
    bare = subprocess.run(
        [sys.executable, "script.py"], cwd=desk, capture_output=True, text=True, check=True
    )
    printed = bare.stdout.splitlines()
    assert "sink raised ValueError" in printed
    assert set(done.stdout.splitlines()) == set(printed)
    assert kinds(desk / "here") == sorted(
        (event["event_kind"], event["sequence"]) for event in EVENTS
    )


def test_a_folder_that_can_not_be_made_is_told_and_the_script_goes_on(desk: Path) -> None:
    (desk / "headgate-runs").write_text("a file")
    done = run_script(desk, CREATE + "print('to the end')")
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert "could not be recorded" in done.stderr


def test_a_disk_that_takes_no_more_is_told_once(desk: Path) -> None:
    small = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    done = run_script(desk, small + CREATE + "print('to the end')", "--out", "here")
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert done.stderr.count("takes no more") == 1
    assert "is recorded with gaps" in done.stderr


def test_a_control_folder_that_is_swept_away_harms_nothing(desk: Path) -> None:
    sweep = "import os, shutil, time\nshutil.rmtree(os.environ['HEADGATE_EXEC'])\ntime.sleep(0.2)\n"
    done = run_script(desk, sweep + CREATE + "print('to the end')")
    assert (done.returncode, done.stdout) == (0, "to the end\n")
    assert "Traceback" not in done.stderr
