"""`BaseColumn`: what every column type says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from engine.identity import RequestDomain
from engine.strict_model import StrictModel
from engine.workflow.columns.endpoint import Endpoint
from engine.workflow.columns.findings import Finding, LintView
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.columns.rendering import condition_template
from engine.workflow.templates import can_be_empty, template_variables

ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


@dataclass(frozen=True)
class BuildContext:
    """What generators are made from."""

    chat: Mapping[str, Endpoint]
    """By alias."""
    embedding: Mapping[str, Endpoint]
    functions: Mapping[str, Callable[..., Any]]
    """What the columns' references lead to, by name of the column."""
    folder: Path
    """Where the workflow file is: the only place from which files are read."""
    inline: bool
    """Run what would block on the loop instead of in a thread, as virtual time demands."""
    built: Mapping[str, ColumnGenerator]
    """Generators of the columns that this one depends on."""
    between: Callable[[Sequence[str], str], tuple[str, ...]]
    """Columns through which these ones reach another one, themselves included, in topological
    order."""


class BaseColumn(StrictModel):
    """Settings that all columns have."""

    type: str
    name: ColumnName
    """Name of the column, under which templates use its value."""
    depends_on: list[str] = Field([])
    """Columns that must be there first, besides those that templates name."""
    skip_when: str | None = None
    """An expression of Jinja2 over the row, such as `score < 3`; where it is true, nothing is made
    and the value is `skip_value`."""
    skip_value: Any = None
    """Value of a row that is skipped."""
    drop: bool = False
    """Leave the column out of the output: it serves others alone."""

    example: ClassVar[str] = ""
    """A column of this type, in YAML."""

    @field_validator("skip_when")
    @classmethod
    def _is_condition(cls, value: str | None) -> str | None:
        if value is not None:
            template_variables(condition_template(value))
        return value

    def templates(self) -> dict[str, str]:
        """Templates of the column, by the path of their field."""
        return {}

    def own_dependencies(self) -> set[str]:
        """Columns that it needs besides those of its templates, of `skip_when` and `depends_on`."""
        return set()

    def dependencies(self) -> tuple[str, ...]:
        """Columns that must be there first, sorted."""
        needed = self.own_dependencies() | set(self.depends_on)
        for template in self.templates().values():
            needed |= template_variables(template)
        if self.skip_when is not None:
            needed |= template_variables(condition_template(self.skip_when))
        return tuple(sorted(needed))

    def aliases(self) -> Sequence[str]:
        """Models that it may call."""
        return ()

    def domain(self) -> RequestDomain:
        """What it wants of its models."""
        return "chat"

    def reference(self) -> str | Callable[..., Any] | None:
        """The Python object that it uses: `module:name`, or the object itself."""
        return None

    def renewed(self) -> Sequence[str]:
        """Columns whose values it may make again."""
        return ()

    def generator(self, build: BuildContext) -> ColumnGenerator:
        """What makes its values. Raises `UserError` for what can't be made."""
        raise NotImplementedError

    def filters_rows(self) -> bool:
        """Whether it is of use although nothing uses its value."""
        return False

    def calls_per_row(self) -> tuple[int, int]:
        """Fewest and most requests of a row whose calls succeed."""
        return (len(self.aliases()), len(self.aliases()))

    def may_be_empty(self, empty_values: frozenset[str]) -> bool:
        """Whether its value may be empty, where those of `empty_values` may be."""
        return self.skip_when is not None

    def must_not_be_empty(self) -> dict[str, str]:
        """Templates, by field, with which a row fails that renders them to nothing."""
        return {}

    def lint(self, view: LintView) -> Iterator[Finding]:
        """What is probably not meant."""
        if self.drop and self.name not in view.used and not self.filters_rows():
            yield Finding(
                "unused_column",
                f'column "{self.name}" is dropped from the output, and no other column uses it',
                self.name,
            )
        for field, template in self.must_not_be_empty().items():
            if can_be_empty(template, view.empty_values):
                yield Finding(
                    "empty_template",
                    f'column "{self.name}", {field}: can be empty, and a row for which it is fails',
                    self.name,
                )


def checked_templates(value: Any) -> Any:
    """For validators: a template, or nothing. Raises `ValueError` for one that is broken."""
    if isinstance(value, str):
        template_variables(value)
    return value
