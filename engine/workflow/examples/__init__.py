"""Example workflows: each in a folder of its own, with the files that it needs."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
EXAMPLES: dict[str, str] = {
    "question-answer": "questions, answers and a judge; wrong answers are written again",
    "multi-provider-review": "texts of one provider, reviewed by the models of two others",
    "structured-extraction": "JSON of a schema out of letters, with a check of the values",
    "embedding-deduplication": "sentences without near duplicates, by their embeddings",
    "seed-rewriting": "passages of a file, rewritten for other readers",
}
"""Name to what it makes."""
_REMOTE = re.compile(r"\{ type: openai[^}]*\}")
_SCRIPTED = "{ type: scripted, latency: { mean: 0.05, spread: 0.02 } }"


def example_files(name: str, *, scripted: bool = False) -> dict[str, str]:
    """The files of an example, by name.

    Args:
        name: One of `EXAMPLES`.
        scripted: Put scripted providers in place of real ones: no key, no network.
    """
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((FOLDER / name).iterdir())
        if path.is_file()
    }
    if scripted:
        files["workflow.yaml"] = _REMOTE.sub(_SCRIPTED, files["workflow.yaml"])
    return files
