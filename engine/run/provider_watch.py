"""`ProviderWatch`: probes what is out, and says why a run can't go on without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from engine.events.failures import FAILURES
from engine.identity import RequestResourceKey
from engine.models.client import ModelRequest, spoken_seconds
from engine.models.executor import ModelRequestExecutor
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import FailureReport


class ProviderWatch:
    """The scheduler's `RequestHolds`, and the `on_probe_due` of `Outages`.

    Args:
        admission: Knows which resources are out.
        executor: Sends the probes.
        probes: What each resource is asked when it is probed.
        keys: The variables of the environment that hold the keys, by provider.
    """

    def __init__(
        self,
        admission: AdaptiveRequestAdmissionController,
        executor: ModelRequestExecutor,
        probes: Mapping[RequestResourceKey, ModelRequest],
        keys: Mapping[str, str],
    ) -> None:
        self._admission = admission
        self._executor = executor
        self._requests = probes
        self._keys = keys
        self._tasks: set[asyncio.Task[None]] = set()
        admission.outages.on_probe_due = self._probe

    def _probe(self, resource: RequestResourceKey) -> None:
        request = self._requests.get(resource)
        if request is None:
            return
        task = asyncio.get_running_loop().create_task(self._executor.probe(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel the probes that are out."""
        self._admission.outages.on_probe_due = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def finish(self, on_finished: Callable[[], object]) -> bool:
        """Cancel the probes that are out; `on_finished` is called at their end."""
        self.drain()
        if not self._tasks:
            return True
        for task in self._tasks:
            task.add_done_callback(lambda _: on_finished())
        return False

    def held_attempts(self) -> int:
        return self._admission.outages.held_attempts()

    def drain(self) -> None:
        """Ends all waits for providers, as no further call is wanted."""
        self._admission.drain()
        for task in self._tasks:
            task.cancel()

    def why_held(self) -> str:
        """One sentence: what each suspended resource answers, and what to do."""
        sentences = [
            self._why(resource, report, returns)
            for resource, report, returns in self._admission.outages.suspensions()
        ]
        return "; ".join(dict.fromkeys(sentences))

    def _why(
        self, resource: RequestResourceKey, report: FailureReport, returns: float | None
    ) -> str:
        kind = FAILURES[report.failure]
        answer = report.message.removeprefix("the provider ")
        subject = f'provider "{resource.provider_name}", model {resource.model_id}'
        key = self._keys.get(resource.provider_name)
        if key is not None and kind.name in ("auth", "quota_spent", "quota_used_up"):
            subject += f" (key in {key})"
        sentence = f"{subject}: it {answer}"
        if returns is not None and returns > 0:
            sentence += f"; the quota is back in {spoken_seconds(returns)}"
        return f"{sentence}. To do: {kind.advice}"
