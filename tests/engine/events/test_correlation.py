from __future__ import annotations

import asyncio

from engine.events import RuntimeCorrelation, RuntimeCorrelationProvider
from engine.virtual_time import run_virtual

TASK = RuntimeCorrelation("run", 0, "question", task_execution_id="e1")


def test_a_child_task_belongs_to_the_task_until_that_ends() -> None:
    provider = RuntimeCorrelationProvider()
    seen: list[RuntimeCorrelation | None] = []

    async def child() -> None:
        seen.append(provider.current())
        await asyncio.sleep(2.0)
        seen.append(provider.current())

    async def task() -> asyncio.Task[None]:
        token = provider.set(TASK)
        try:
            left_behind = asyncio.ensure_future(child())
            await asyncio.sleep(1.0)
            return left_behind
        finally:
            provider.reset(token)
            assert provider.current() is None

    async def main() -> None:
        await (await task())

    run_virtual(main())
    assert seen == [TASK, None]


def test_tasks_beside_each_other_have_their_own() -> None:
    provider = RuntimeCorrelationProvider()

    async def task(execution: str) -> str | None:
        token = provider.set(RuntimeCorrelation("run", task_execution_id=execution))
        await asyncio.sleep(1.0)
        now = provider.current()
        provider.reset(token)
        return now.task_execution_id if now is not None else None

    async def main() -> list[str | None]:
        return await asyncio.gather(*(task(f"e{number}") for number in range(3)))

    assert run_virtual(main()) == ["e0", "e1", "e2"]


def test_the_outer_one_is_back_after_the_inner_one() -> None:
    provider = RuntimeCorrelationProvider()
    outer = provider.set(TASK)
    inner = provider.set(RuntimeCorrelation("run", task_execution_id="e2"))
    provider.reset(inner)
    assert provider.current() == TASK
    provider.reset(outer)
    assert provider.current() is None
