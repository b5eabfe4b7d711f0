from __future__ import annotations

import gc
import weakref

from engine.run.collector import THRESHOLDS, collect_seldom


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_still_collected() -> None:
    before = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.isenabled()
        assert gc.get_threshold() == THRESHOLDS
        rings = []
        for _ in range(3 * THRESHOLDS[0]):
            rings.append(weakref.ref(Ring()))
        assert sum(ring() is None for ring in rings) >= THRESHOLDS[0]
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
