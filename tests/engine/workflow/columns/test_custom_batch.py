from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.errors import PermanentTaskError
from tests.engine.workflow.columns.cells import batch, generator, workflow
from tests.engine_run import run_engine


def test_a_batch_function_takes_the_rows_of_a_group() -> None:
    def ranks(rows: list[dict[str, Any]]) -> list[int]:
        return [sorted(row["n"] for row in rows).index(row["n"]) for row in rows]

    column = {"type": "custom", "function": "m:ranks", "batch": True, "depends_on": ["n"]}
    made_by = generator(column, "n", functions={"x": ranks}, inline=False)
    assert made_by.task_type == "batch"
    assert batch(made_by, range(3), [{"n": 5}, {"n": 1}, {"n": 3}]) == [2, 0, 1]


@pytest.mark.parametrize("values", [[1], "ab", None, [1, 2, 3]])
def test_a_batch_of_another_size_is_refused(values: Any) -> None:
    column = {"type": "custom", "function": "m:f", "batch": True, "depends_on": ["n"]}
    made_by = generator(column, "n", functions={"x": lambda rows: values})
    with pytest.raises(PermanentTaskError, match="a list of as many values"):
        batch(made_by, range(2), [{"n": 5}, {"n": 1}])


def test_a_batch_goes_on_without_rows_that_were_dropped(tmp_path: Path) -> None:
    seen: list[int] = []

    def count(rows: list[dict[str, Any]]) -> list[int]:
        seen.extend(row["n"] for row in rows)
        return [len(rows)] * len(rows)

    made = workflow(
        {"name": "n", "type": "sampler", "integers": {"low": 1, "high": 9}},
        {
            "name": "check",
            "type": "validation",
            "columns": ["n"],
            "sql": "n % 2 = 0",
        },
        {
            "name": "size",
            "type": "custom",
            "function": count,
            "batch": True,
            "depends_on": ["n", "check"],
        },
        records=40,
        run={"stop_at_drop_share": None},
    )
    ran = run_engine(made, dataset=tmp_path)
    [table] = [pq.read_table(file) for file in tmp_path.glob("*.parquet")]
    even = [number for number in table["n"].to_pylist() if number % 2 == 0]
    assert len(table) == len(even) == len(seen) == ran.result.rows_done > 0
    assert set(table["size"].to_pylist()) == {len(even)}
