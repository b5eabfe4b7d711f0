"""`lint`: what a workflow permits, and what is probably not meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from engine.identity import ProviderModelKey
from engine.workflow.columns.findings import Finding, LintView
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.endpoints import resource_resolver
from engine.workflow.schema import Workflow


def lint(workflow: Workflow, generators: Mapping[str, ColumnGenerator]) -> list[Finding]:
    """What is probably not meant: columns first, in their order, then models and providers."""
    view = LintView(
        workflow.records,
        _empty_values(workflow),
        frozenset(name for column in workflow.columns for name in column.dependencies()),
    )
    findings: list[Finding] = []
    for column in workflow.columns:
        findings += column.lint(view)
        findings += generators[column.name].findings(view)
    return [*findings, *_unused(workflow), *_caps_that_never_fill(workflow)]


def _empty_values(workflow: Workflow) -> frozenset[str]:
    empty: frozenset[str] = frozenset()
    for name in workflow.graph.order:
        if workflow.column(name).may_be_empty(empty):
            empty |= {name}
    return empty


def _unused(workflow: Workflow) -> Iterator[Finding]:
    used = {alias for column in workflow.columns for alias in column.aliases()}
    for alias in workflow.models:
        if alias not in used:
            yield Finding("unused_model", f'model "{alias}" is used by no column')
    needed = {model.provider for model in workflow.models.values()}
    for provider in workflow.providers:
        if provider not in needed:
            yield Finding("unused_provider", f'provider "{provider}" is used by no model')


def _caps_that_never_fill(workflow: Workflow) -> Iterator[Finding]:
    """A worker makes one call at a time, unless a function makes more."""
    run = workflow.run
    rows = min(workflow.records, run.buffer_size * run.max_concurrent_row_groups)
    columns: Counter[ProviderModelKey] = Counter()
    for column in workflow.columns:
        if column.type == "custom":
            continue
        models = [workflow.models[alias] for alias in column.aliases()]
        columns.update({ProviderModelKey(model.provider, model.model) for model in models})
    for endpoint, cap in resource_resolver(workflow.models).static_caps.items():
        most = min(run.max_in_flight_tasks, rows * columns[endpoint])
        if 0 < most < cap.cap:
            yield Finding(
                "cap_never_fills",
                f"max_parallel_requests of {', '.join(cap.aliases)} is {cap.cap:,}, and at most "
                f"{most:,} calls are wanted at once: {rows:,} rows in flight in "
                f"{columns[endpoint]} columns, {run.max_in_flight_tasks:,} tasks",
            )
