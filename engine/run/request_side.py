"""`RequestSide`: what a run makes its calls with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from engine.clock import Clock
from engine.events import EventStream, RuntimeCorrelationProvider
from engine.events.continuation import LastIds
from engine.identity import ProviderModelKey
from engine.models.build import build_client
from engine.models.caller import ModelCaller
from engine.models.executor import ModelRequestExecutor
from engine.models.network import connection_shares, raise_descriptor_limit
from engine.models.usage import Price, Usage
from engine.request_admission.budgets import BudgetSizes
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.run.capacity_values import pool_limits, socket_limits
from engine.run.plan import RunPlan
from engine.run.provider_watch import ProviderWatch
from engine.workflow.schema import OpenAIProvider, Workflow


class RequestSide:
    """Request admission, the providers' clients, and the watch over providers that are out.

    Args:
        plan: What is run.
        stream: Takes the events.
        clock: Shows the time of the running loop.
        ids: The last ids that earlier parts of the run have used.
        on_usage: Called with the tokens of each answered call, and its cost in USD if known.

    Raises:
        UserError: A client can't be made, such as for a missing key.
    """

    def __init__(
        self,
        plan: RunPlan,
        stream: EventStream,
        clock: Clock,
        ids: LastIds,
        on_usage: Callable[[Usage, float | None], None],
    ) -> None:
        workflow = plan.workflow
        self._plan = plan
        self.admission = AdaptiveRequestAdmissionController(
            stream=stream,
            clock=clock,
            loop=asyncio.get_running_loop(),
            config=plan.request_admission,
            source=random.Random(workflow.seed),
            leases_issued=ids.request_leases,
        )
        sockets = socket_limits(workflow, plan.resources.static_caps)
        raise_descriptor_limit(sum(sockets.values()))
        pools = pool_limits(workflow, plan.resources.static_caps)
        self._connections = pools | connection_shares(sockets)
        self._clients = {
            name: build_client(
                name, provider, clock, max_connections=max(1, self._connections[name])
            )
            for name, provider in workflow.providers.items()
        }
        executor = ModelRequestExecutor(
            admission=self.admission,
            clients=self._clients,
            stream=stream,
            clock=clock,
            correlation=RuntimeCorrelationProvider(),
            attempts=ids.attempts,
            prices={
                alias: Price(model.price.input, model.price.output, model.price.cached_input)
                for alias, model in workflow.models.items()
                if model.price is not None
            },
            on_usage=on_usage,
        )
        self.caller = ModelCaller(executor)
        self.watch = ProviderWatch(
            self.admission, executor, plan.probe_requests(), workflow.key_variables()
        )

    def register(self) -> None:
        """Make the resources of the run known to admission, with their caps and budgets.

        The smallest cap comes first, so that no limit starts above the cap that the aliases share.
        """
        plan, admission = self._plan, self.admission
        workflow = plan.workflow
        _apply_budgets(workflow, admission)
        for alias, wanted_cap in sorted(
            plan.resources.raw_caps.items(), key=lambda item: item[::-1]
        ):
            raw_cap = min(wanted_cap, max(1, self._connections[workflow.models[alias].provider]))
            for domain in workflow.domains(alias):
                admission.register(plan.resources.resolve(alias, domain), raw_cap, alias)
            if workflow.run.health_check:
                admission.register(plan.resources.resolve(alias, "healthcheck"), raw_cap, alias)
        for key, sizes in _model_budgets(workflow).items():
            admission.limit_model(key, sizes)

    async def close(self) -> None:
        """Ends the watch, all waits and all connections."""
        await self.watch.close()
        self.admission.shutdown()
        for client in self._clients.values():
            await client.close()


def _apply_budgets(workflow: Workflow, admission: AdaptiveRequestAdmissionController) -> None:
    for name, provider in workflow.providers.items():
        if isinstance(provider, OpenAIProvider):
            sizes = BudgetSizes(provider.requests_per_minute, provider.tokens_per_minute)
            admission.limit_provider(name, provider.max_parallel_requests, sizes)


def _model_budgets(workflow: Workflow) -> dict[ProviderModelKey, BudgetSizes]:
    """Budgets by model; of aliases that share one, the smallest counts."""
    sizes_by_model: dict[ProviderModelKey, BudgetSizes] = {}
    for model in workflow.models.values():
        key = ProviderModelKey(model.provider, model.model)
        sizes = BudgetSizes(
            model.requests_per_minute,
            model.tokens_per_minute,
            model.input_tokens_per_minute,
            model.output_tokens_per_minute,
        )
        known = sizes_by_model.get(key, BudgetSizes())
        sizes_by_model[key] = BudgetSizes(
            *(_smaller(a, b) for a, b in zip(known, sizes, strict=True))
        )
    return sizes_by_model


def _smaller(first: float | None, second: float | None) -> float | None:
    return min((size for size in (first, second) if size is not None), default=None)
