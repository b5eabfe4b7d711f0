"""`start_warnings`: what a user should know before a run begins, although nothing is wrong."""

from __future__ import annotations

from collections import defaultdict

from engine.models.network import connection_shares
from engine.run.capacity_values import socket_limits
from engine.workflow.endpoints import resource_resolver
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow


def start_warnings(loaded: LoadedWorkflow) -> tuple[tuple[str, str], ...]:
    """Code and sentence of each."""
    workflow = loaded.workflow
    return (*loaded.warnings, *_differing_caps(workflow), *_few_descriptors(workflow))


def _few_descriptors(workflow: Workflow) -> list[tuple[str, str]]:
    wanted = socket_limits(workflow, resource_resolver(workflow.models).static_caps)
    shares = connection_shares(wanted)
    return [
        (
            "few_descriptors",
            f'provider "{name}" gets at most {shares[name]} calls at once, not {count}: this '
            "process may not open more files (ulimit -Hn)",
        )
        for name, count in wanted.items()
        if shares[name] < count
    ]


def _differing_caps(workflow: Workflow) -> list[tuple[str, str]]:
    shared: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for alias, model in workflow.models.items():
        shared[model.provider, model.model][alias] = model.max_parallel_requests
    warnings = []
    for (provider, name), caps in shared.items():
        if len(set(caps.values())) > 1:
            listed = ", ".join(f"{alias} ({cap})" for alias, cap in caps.items())
            lowest = min(caps.values())
            warnings.append(
                (
                    "aliases_differ",
                    f"the aliases {listed} share {provider}/{name}, so the lowest of their "
                    f"max_parallel_requests, {lowest}, holds for all of them",
                )
            )
    return warnings
