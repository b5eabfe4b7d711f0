"""`start_warnings`: what a user should know before a run begins, although nothing is wrong."""

from __future__ import annotations

from collections import defaultdict

from engine.workflow.schema import Workflow


def start_warnings(workflow: Workflow) -> tuple[tuple[str, str], ...]:
    """Code and sentence of each."""
    return tuple(_differing_caps(workflow))


def _differing_caps(workflow: Workflow) -> list[tuple[str, str]]:
    shared: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for alias, model in workflow.models.items():
        shared[model.provider, model.model][alias] = model.max_parallel_requests
    found = []
    for (provider, name), caps in shared.items():
        if len(set(caps.values())) > 1:
            listed = ", ".join(f"{alias} ({cap})" for alias, cap in caps.items())
            lowest = min(caps.values())
            found.append(
                (
                    "aliases_differ",
                    f"the aliases {listed} share {provider}/{name}, so the lowest of their "
                    f"max_parallel_requests, {lowest}, holds for all of them",
                )
            )
    return found
