"""`ReopenedFolder`: the folder of a run that was interrupted and is to go on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from engine.errors import UserError
from engine.events.continuation import remove_segments
from engine.events.run_folder import RunFolder, read_record
from engine.events.run_record import RunRecord
from engine.rows.run_store import read_workflow
from engine.run.fingerprint import (
    Fingerprint,
    fingerprint_of,
    read_fingerprint,
    resumed_workflow,
)
from engine.workflow.load import LoadedWorkflow
from replay.export.restored_journal import restore_journal
from replay.runs.recorder import finish_import
from replay.sources.base import SourceError

CLAIM_SECONDS = 60.0
"""For the recorder of the part before, which may have much to import."""


class ReopenedFolder:
    """Claims the folder of an interrupted run; `give_back` leaves the run as it was."""

    made: list[Path] = []  # noqa: RUF012

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where the run can't go on."""
        self.folder = RunFolder.reopen(path, CLAIM_SECONDS)
        record = read_record(self.folder)
        if record is None:
            raise UserError(f"{path} holds no run that could go on.")
        self.record: RunRecord = record
        self._segments: int | None = None

    def workflow(
        self, loaded: LoadedWorkflow, records: int | None, seed: int | None
    ) -> LoadedWorkflow:
        """The workflow as it began, and columns that were added since. Raises `UserError` where it
        has changed otherwise."""
        return resumed_workflow(loaded, self.begun(), records, seed)

    def is_complete(self, loaded: LoadedWorkflow, retry_dropped: bool) -> bool:
        """Whether nothing is left to be made."""
        begun = self.begun()
        if begun is None or self.record.outcome != "success":
            return False
        folder = None if loaded.path is None else loaded.path.parent
        same_columns = begun.columns == fingerprint_of(loaded.workflow, folder).columns
        return same_columns and not (retry_dropped and self.record.rows_dropped)

    def begun(self) -> Fingerprint | None:
        """The workflow with which the run began; None where nothing was made."""
        try:
            data = read_workflow(self.folder.fd)
        except OSError as error:
            path = self.folder.path
            raise UserError(f"what {path} has kept can't be read: {error.strerror}") from None
        if data is not None:
            return read_fingerprint(data)
        if self.record.rows_done:
            raise UserError(
                f"{self.folder.path} was made by a headgate that kept no cells, so it can't go on; "
                "begin a new run"
            )
        return None

    def prepare(self) -> None:
        """Have the whole journal in place.

        Raises:
            UserError: That is not possible.
        """
        folder = self.folder
        try:
            if not folder.segment_numbers():
                finish_import(folder)
            with folder.importer_lock():
                restore_journal(folder)
            _remove_reserves(folder)
            self._segments = len(folder.segment_numbers())
        except SourceError as error:
            raise UserError(str(error)) from error
        except OSError as error:
            raise UserError(f"the run can't go on: {folder.path}: {error.strerror}") from error

    def give_back(self) -> None:
        """Only for a run that has not gone on."""
        if self._segments is not None:
            undo(self.folder, self._segments)


def undo(folder: RunFolder, segments: int) -> None:
    """Remove what a start of a run that did not go on has left behind the first `segments`."""
    remove_segments(folder, segments)
    _remove_reserves(folder)


def _remove_reserves(folder: RunFolder) -> None:
    """What a killed process has kept free on the disk."""
    with suppress(OSError):
        for path in folder.path.glob(".run*"):
            path.unlink(missing_ok=True)
