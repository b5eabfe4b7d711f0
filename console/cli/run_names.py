"""How commands name a run, and how a shell completes that."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


class RunName(click.ParamType[str]):
    """A path, or a run of the list by its id, name, the begin or end of its id, or `latest`."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from engine.events.run_index import list_runs
        from replay.runs.open import LATEST

        items = [CompletionItem(LATEST, help="the newest run")]
        for run in list_runs():
            items.append(CompletionItem(run.run_id, help=run.name))
        known = [item for item in items if item.value.startswith(incomplete)]
        return known if known and "/" not in incomplete else [CompletionItem(incomplete, "file")]


RUN = RunName()
