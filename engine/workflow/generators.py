"""`build_generators`: the generator of every column of a workflow."""

from __future__ import annotations

from pathlib import Path

from engine.workflow.columns.base import BuildContext
from engine.workflow.columns.endpoint import endpoints_of
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.columns.rendering import ColumnCondition
from engine.workflow.load import LoadedWorkflow


def build_generators(
    loaded: LoadedWorkflow, *, inline_functions: bool = False
) -> dict[str, ColumnGenerator]:
    """By column name, in declared order. Raises `UserError` for a column that can't be made.

    `inline_functions` runs sync user functions on the loop instead of in a thread, as virtual time
    demands.
    """
    workflow = loaded.workflow
    built: dict[str, ColumnGenerator] = {}
    context = BuildContext(
        chat=endpoints_of(workflow.models, workflow.providers),
        embedding=endpoints_of(workflow.models, workflow.providers, "embedding"),
        functions=loaded.functions,
        folder=Path.cwd() if loaded.path is None else loaded.path.parent,
        inline=inline_functions,
        built=built,
        between=workflow.graph.between,
    )
    for name in workflow.graph.order:
        column = workflow.column(name)
        generator = column.generator(context)
        if column.skip_when is not None:
            generator.skip = ColumnCondition(name, column.skip_when)
            generator.skip_value = column.skip_value
        built[name] = generator
    return {column.name: built[column.name] for column in workflow.columns}
