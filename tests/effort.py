"""How hard the generated tests try: a sample in `make test`, everything in `make test-all`."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

THOROUGH = os.environ.get("HEADGATE_TESTS") == "all"


def effort(sample: T, everything: T) -> T:
    """`sample`, or `everything` under `make test-all`."""
    return everything if THOROUGH else sample
