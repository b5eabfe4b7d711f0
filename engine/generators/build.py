"""`build_generators`: the generator of every column of a workflow."""

from __future__ import annotations

from engine.generators.base import ColumnGenerator
from engine.generators.custom import CustomGenerator
from engine.generators.endpoint import Endpoint, endpoints_of
from engine.generators.expression import ExpressionGenerator
from engine.generators.llm_text import LlmTextGenerator
from engine.generators.sampler import SamplerGenerator
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Column, ExpressionColumn, LlmTextColumn, SamplerColumn


def build_generators(
    loaded: LoadedWorkflow, *, inline_functions: bool = False
) -> dict[str, ColumnGenerator]:
    """By column name, in declared order. Raises `UserError` for a function of a wrong shape.

    `inline_functions` runs sync user functions on the loop instead of in a thread, as virtual time
    demands.
    """
    endpoints = endpoints_of(loaded.workflow)
    return {
        column.name: _build(column, loaded, endpoints, inline_functions)
        for column in loaded.workflow.columns
    }


def _build(
    column: Column, loaded: LoadedWorkflow, endpoints: dict[str, Endpoint], inline: bool
) -> ColumnGenerator:
    if isinstance(column, SamplerColumn):
        return SamplerGenerator(column)
    if isinstance(column, ExpressionColumn):
        return ExpressionGenerator(column)
    if isinstance(column, LlmTextColumn):
        return LlmTextGenerator(column, endpoints[column.model])
    return CustomGenerator(column, loaded.functions[column.name], endpoints, inline)
