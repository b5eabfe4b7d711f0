"""The folder through which `headgate exec` and its command talk: it goes with the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.ended_run import wait_for
from tests.e2e.program import HEADGATE, environment, headgate

SCRIPT = """
import os, sys
print(os.environ["HEADGATE_EXEC"], flush=True)
sys.stdin.read()
"""


def age(folder: Path) -> None:
    long_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (long_ago, long_ago))


def test_it_outlives_a_headgate_that_is_killed_only_as_long_as_the_script(tmp_path: Path) -> None:
    home = tmp_path / "tmp"
    home.mkdir()
    env = {"TMPDIR": str(home)}
    with subprocess.Popen(
        [HEADGATE, "exec", "--", sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment(tmp_path, env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        folder = Path(first.stdout.readline().strip())
        assert folder.parent == home
        first.kill()
        first.wait(30)
        age(folder)
        assert headgate("exec", "--", "true", cwd=tmp_path, env=env).returncode == 0
        assert (folder / "exec.json").exists()
        first.stdin.close()  # the script ends
        assert first.stdout.read() == ""
    age(folder)
    wait_for(
        lambda: (
            headgate("exec", "--", "true", cwd=tmp_path, env=env).returncode == 0
            and not folder.exists()
        ),
        "the end of the folder",
    )
    assert list(home.iterdir()) == []
