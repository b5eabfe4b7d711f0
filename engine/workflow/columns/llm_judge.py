"""`LlmJudgeColumn`: scores that a model gives by a rubric."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine.strict_model import StrictModel
from engine.workflow.columns.base import BuildContext, ColumnName
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.columns.structured import (
    SchemaShape,
    StructuredColumn,
    StructuredGenerator,
)


class Score(StrictModel):
    """One question of a rubric, and what its answers mean."""

    name: ColumnName
    """Name of the score, as `{{ column.name.score }}` in templates."""
    description: str
    """What is judged."""
    options: dict[int | str, str] = Field(min_length=1)
    """Value to its meaning: the only values that the model may give."""

    def schema_part(self) -> dict[str, Any]:
        meaning = "; ".join(f"{value}: {text}" for value, text in self.options.items())
        return {
            "type": "object",
            "required": ["reasoning", "score"],
            "additionalProperties": False,
            "properties": {
                "reasoning": {"type": "string", "description": "Why, in one or two sentences."},
                "score": {
                    "enum": list(self.options),
                    "description": f"{self.description} ({meaning})",
                },
            },
        }


class LlmJudgeColumn(StructuredColumn):
    """Scores that a model gives by a rubric: for each score its value and the reasoning, as
    `{{ column.name.score }}` and `{{ column.name.reasoning }}`."""

    type: Literal["llm_judge"] = "llm_judge"
    """Scores that a model gives."""
    scores: list[Score] = Field(min_length=1)
    """The rubric."""

    example: ClassVar[str] = (
        "{ name: quality, type: llm_judge, model: judge, prompt: 'Judge this: {{ reply }}', "
        "scores: [{ name: clear, description: Is it clear, options: { 1: 'no', 2: 'yes' } }] }"
    )

    @field_validator("scores")
    @classmethod
    def _distinct(cls, value: list[Score]) -> list[Score]:
        names = [score.name for score in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two scores are named "{name}"')
        return value

    def schema_of_answer(self) -> dict[str, Any]:
        return {
            "type": "object",
            "required": [score.name for score in self.scores],
            "additionalProperties": False,
            "properties": {score.name: score.schema_part() for score in self.scores},
        }

    def generator(self, build: BuildContext) -> ColumnGenerator:
        shape = RubricShape(self.schema_of_answer(), self.scores)
        return StructuredGenerator(self, self.conversation(build), shape)


class RubricShape(SchemaShape):
    """Scores of a rubric. A number that came as text, or a word in other case, is the option that
    it names."""

    def __init__(self, schema: dict[str, Any], scores: list[Score]) -> None:
        super().__init__(schema)
        self._options = {
            score.name: {str(option).casefold(): option for option in score.options}
            for score in scores
        }

    def problems(self, value: Any) -> list[str]:
        return super().problems(self.value(value))

    def value(self, answer: Any) -> Any:
        if not isinstance(answer, dict):
            return answer
        return {name: self._named(name, entry) for name, entry in answer.items()}

    def _named(self, name: str, entry: Any) -> Any:
        if not isinstance(entry, dict) or "score" not in entry:
            return entry
        score = entry["score"]
        if isinstance(score, float) and score.is_integer():
            score = int(score)
        options = self._options.get(name, {})
        return {**entry, "score": options.get(str(score).strip().casefold(), score)}
