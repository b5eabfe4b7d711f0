"""`Fingerprint`: what the values of a run depend on, to tell whether a workflow is still the same.

It holds names and digests, no prompts and no values. What only says how fast a run may go or where
its endpoints are is left out, and so is the code of functions: a fault in it may be mended before
the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from engine.errors import UserError
from engine.workflow.columns.seed import SeedColumn
from engine.workflow.folder_files import OutsideFolder, file_inside
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Model, Workflow

_NOT_OF_VALUES = frozenset(
    """
    provider max_parallel_requests requests_per_minute tokens_per_minute input_tokens_per_minute
    output_tokens_per_minute timeout_seconds stream price
    """.split()
)
"""Fields of a model that change no answer."""
_DIGEST_BYTES = 8
_FILE_BYTES = 1 << 20


class ColumnFingerprint(msgspec.Struct, frozen=True):
    """What the cells of one column depend on."""

    name: str
    fields: dict[str, str]
    """Field -> digest of its value, where it is not the default."""


class Fingerprint(msgspec.Struct, frozen=True):
    """What the cells of a run depend on; a run goes on only with the same."""

    seed: int
    records: int
    buffer_size: int
    columns: tuple[ColumnFingerprint, ...]
    models: dict[str, dict[str, str]]

    def differences(self, now: Fingerprint) -> list[str]:
        """How a workflow has changed since this one, in words; columns added at its end are no
        difference."""
        changes = [
            f"{name} is {getattr(now, field)}, it was {getattr(self, field)}"
            for name, field in (
                ("seed", "seed"),
                ("records", "records"),
                ("run.buffer_size", "buffer_size"),
            )
            if getattr(now, field) != getattr(self, field)
        ]
        before = [column.name for column in self.columns]
        after = [column.name for column in now.columns]
        gone = [name for name in before if name not in after]
        changes += [f'column "{name}" is gone' for name in gone]
        if not gone and after[: len(before)] != before:
            new = [name for name in after[: len(before)] if name not in before]
            what = f'column "{new[0]}" stands before others' if new else "the columns are reordered"
            changes.append(f"{what} (new columns go to the end)")
        known = {column.name: column.fields for column in self.columns}
        for column in now.columns:
            if column.name in known:
                subject = f'column "{column.name}"'
                changes += _changed(subject, known[column.name], column.fields)
        for alias, fields in self.models.items():
            if alias in now.models:
                changes += _changed(f'model "{alias}"', fields, now.models[alias])
        return changes


def fingerprint_of(workflow: Workflow, folder: Path | None = None) -> Fingerprint:
    """`folder`: where the files lie that the workflow names."""
    return Fingerprint(
        workflow.seed,
        workflow.records,
        workflow.run.buffer_size,
        tuple(
            ColumnFingerprint(
                column.name, _digests(column, frozenset({"name"})) | _file_digest(column, folder)
            )
            for column in workflow.columns
        ),
        {alias: _model_digests(model) for alias, model in workflow.models.items()},
    )


def read_fingerprint(data: bytes) -> Fingerprint:
    """Raises `UserError` for what is none."""
    try:
        return msgspec.json.decode(data, type=Fingerprint)
    except msgspec.MsgspecError:
        raise UserError(
            "what this run has kept of its workflow can't be read, so it can't go on; begin a new "
            "run"
        ) from None


def resumed_workflow(
    loaded: LoadedWorkflow, begun: Fingerprint | None, records: int | None, seed: int | None
) -> LoadedWorkflow:
    """The workflow with the seed and the number of records with which the run began.

    Args:
        loaded: The workflow as it is now.
        begun: What it was when the run began; None if that is not known, because nothing was made.
        records: Number of records that the user asks for now.
        seed: Seed that the user asks for now.

    Raises:
        UserError: It has changed; the difference is named.
    """
    if begun is None:
        return loaded.override(records=records, seed=seed)
    loaded = loaded.override(
        records=begun.records if records is None else records,
        seed=begun.seed if seed is None else seed,
    )
    folder = None if loaded.path is None else loaded.path.parent
    differences = begun.differences(fingerprint_of(loaded.workflow, folder))
    if differences:
        raise UserError(
            f"the workflow is not the one with which the run began: {'; '.join(differences)}. "
            "Undo that, or begin a new run; columns may be added at the end"
        )
    return loaded


def _changed(subject: str, before: dict[str, str], after: dict[str, str]) -> list[str]:
    names = sorted(name for name in before | after if before.get(name) != after.get(name))
    return [f"{', '.join(names)} of {subject} differs"] if names else []


def _file_digest(column: BaseModel, folder: Path | None) -> dict[str, str]:
    """Of the file that a column takes its values from: its size, its begin and its end."""
    if folder is None or not isinstance(column, SeedColumn):
        return {}
    try:
        with file_inside(folder, column.path).open("rb") as file:
            digest = hashlib.blake2b(file.read(_FILE_BYTES), digest_size=_DIGEST_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FILE_BYTES))
            digest.update(file.read() + str(size).encode())
    except (OSError, OutsideFolder):  # the generator of the column says what is wrong
        return {}
    return {"content of the file": digest.hexdigest()}


def _model_digests(model: Model) -> dict[str, str]:
    return _digests(model, _NOT_OF_VALUES)


def _digests(part: BaseModel, left_out: frozenset[str]) -> dict[str, str]:
    digests = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name not in left_out and (name == "type" or value != field.default):
            digests[name] = _digest(_plain(value))
    return digests


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    return value


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_name_of)
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def _name_of(value: Any) -> str:
    return str(getattr(value, "__qualname__", value))
