"""One thing has one name: words of older designs stay out of code and docs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLD = re.compile(
    r"throttle|SchedulingHint|_model_aliases_for_generator|is_llm_bound|llm_wait"
    r"|TrackingSemaphore|_semaphore",
    re.IGNORECASE,
)
QUOTES_DATA_DESIGNER = {
    "README.md": "llm_wait",
    "plans/event-stream.md": "llm_wait",
    "engine/benchmark/peer/data_designer.py": "llm_wait",
}
"""Where a name of Data Designer's own is told as such."""


def test_old_names_do_not_come_back() -> None:
    files = [ROOT / "README.md", *ROOT.glob("plans/*.md")]
    for package in ("engine", "replay", "console"):
        files += ROOT.glob(f"{package}/**/*.py")
    assert len(files) > 100
    found = {}
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        names = set(OLD.findall(file.read_text())) - {QUOTES_DATA_DESIGNER.get(name)}
        if names:
            found[name] = names
    assert found == {}
