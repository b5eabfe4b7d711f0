"""What the pictures of a run say in words."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any, cast

from replay.export.charts import blame
from replay.export.svg import document
from replay.recording.query import RecordingQuery


class QueryDouble:
    """Answers with a run of 10 s that did work but for a moment."""

    def run(self, sql: str) -> tuple[tuple[()], Iterator[Sequence[Any]]]:
        blamed = [("working", 0.0, 99.6), ("request_cooldown", 1.0, 0.4), ("queue_order", 2.0, 0.0)]
        return (), iter([(10.0, 0.0)] if "FROM run" in sql else blamed)


def test_a_legend_leaves_out_what_comes_to_nothing() -> None:
    picture = document([blame(cast(RecordingQuery, QueryDouble()))])
    said = [
        element.text or ""
        for element in ET.fromstring(picture).iter()
        if element.tag.endswith("}text")
    ]
    shares = [item for item in said if item.endswith(" %") and not item[0].isdigit()]
    assert shares == ["working 99.6 %", "cooldown after 429s 0.4 %"]
