"""A hand-made comparison of two runs."""

from __future__ import annotations

from replay.metrics.compare import Comparison, Side
from replay.metrics.difference import differ
from replay.metrics.overlay import POINTS, QUEUE, Course, Setting


def course(seconds: float, rows: int, dropped: int, depth: float, limit: float) -> Course:
    return Course(
        seconds,
        rows,
        dropped,
        {
            QUEUE: [depth * (1 - point / POINTS) for point in range(POINTS)],
            "beta/judge-large/chat limit": [
                limit if point % 80 < 40 else limit / 2 for point in range(POINTS)
            ],
        },
        [(point + 1) / POINTS for point in range(POINTS)],
    )


def make_comparison() -> Comparison:
    a = Side("runs/monday", "support-dialogues", 1, False, "success", {"producer": "headgate"})
    b = Side("runs/tuesday", "support-dialogues", 1, False, "failed", {"producer": "headgate"})
    return Comparison(
        2,
        a,
        b,
        "unknown",
        [
            differ("wall_time", "s", "lower", 43.2, 61.0, "unknown"),
            differ("request_wait mean", "s", "lower", 0.91, 2.4, "unknown"),
            differ("provider_time mean", "s", None, 0.71, 0.71, "unknown"),
        ],
        [
            differ("working", "share", "higher", 0.8, 0.45, "unknown"),
            differ("request_cooldown", "share", "lower", 0.1, 0.5, "unknown"),
            differ("dependency", "share", "lower", 0.1, 0.05, "unknown"),
        ],
        [differ("beta/judge-large/chat: lowest limit", "requests", "higher", 9, 2, "unknown")],
        [],
        [],
        (course(43.2, 1000, 0, 120, 12), course(61.0, 990, 10, 200, 16)),
        [Setting("request domain initial limits beta/judge-large/chat", "12", "16")],
    )
