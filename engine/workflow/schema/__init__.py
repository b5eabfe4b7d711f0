"""What a workflow file, or Python that makes a workflow, may say."""

from engine.models.settings import Model, OpenAIProvider, Provider, ScriptedProvider, TokenPrice
from engine.workflow.columns.custom import CustomColumn
from engine.workflow.columns.embedding import EmbeddingColumn
from engine.workflow.columns.expression import ExpressionColumn
from engine.workflow.columns.llm_judge import LlmJudgeColumn, Score
from engine.workflow.columns.llm_structured import LlmStructuredColumn
from engine.workflow.columns.llm_text import LlmTextColumn
from engine.workflow.columns.registry import COLUMN_TYPES, Column
from engine.workflow.columns.sampler import Integers, SamplerColumn
from engine.workflow.columns.seed import SeedColumn
from engine.workflow.columns.validation import ValidationColumn
from engine.workflow.schema.run_settings import RunSettings
from engine.workflow.schema.workflow import (
    MOST_CELLS_IN_A_ROW_GROUP,
    MOST_RECORDS,
    Workflow,
)

__all__ = [
    "COLUMN_TYPES",
    "MOST_CELLS_IN_A_ROW_GROUP",
    "MOST_RECORDS",
    "Column",
    "CustomColumn",
    "EmbeddingColumn",
    "ExpressionColumn",
    "Integers",
    "LlmJudgeColumn",
    "LlmStructuredColumn",
    "LlmTextColumn",
    "Model",
    "OpenAIProvider",
    "Provider",
    "RunSettings",
    "SamplerColumn",
    "Score",
    "ScriptedProvider",
    "SeedColumn",
    "TokenPrice",
    "ValidationColumn",
    "Workflow",
]
