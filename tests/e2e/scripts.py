"""Scripts around a package of Data Designer's shape, run under `headgate exec`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.program import headgate
from tests.fixtures.data_designer_format import lines

EVENTS = lines(storm=True, rows=5)
CREATE = "from data_designer.interface import DataDesigner\nDataDesigner().create()\n"


def run_script(
    desk: Path, script: str, *options: str, python: tuple[str, ...] = (sys.executable,), **env: str
) -> subprocess.CompletedProcess[str]:
    (desk / "script.py").write_text(script)
    return headgate("exec", *options, "--", *python, "script.py", cwd=desk, env=env)
