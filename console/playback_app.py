"""`PlaybackApp`: the keys that move the cursor of a session."""

from __future__ import annotations

from typing import Any

from textual.events import Key

from console.frames_app import FramesApp
from console.goto import Target, resolve
from console.playback_mode import SPEEDS
from console.screens.dialogs import GoToDialog
from console.screens.questions import FilterDialog
from console.session_thread import Command, SessionLike
from console.theme import Appearance


class PlaybackApp(FramesApp):
    """Pause, play, step, seek; a live run is followed until then."""

    appearance: Appearance

    def __init__(
        self, session: SessionLike, *, follow: bool, at_end: bool = False, **options: Any
    ) -> None:
        """
        Args:
            session: The session to show.
            follow: Follow the newest event; False plays from the first one.
            at_end: Do not play, but stay at the end of what is read.
            options: As for the class above.
        """
        super().__init__(session, **options)
        self._playing = not follow and not at_end
        self._at_end = at_end
        self._reading = at_end
        self._resume_follows = False
        if follow or at_end:
            self._session_thread.push(lambda session: session.follow())
        else:
            self._session_thread.push(lambda session: session.seek_ordinal(1))

    def _move(self, command: Command) -> None:
        """Move the cursor, and hold it where it then is."""
        self._playing = False
        self._resume_follows = False

        def held(session: SessionLike) -> None:
            session.hold()
            command(session)

        self._command(held)

    def seek_time(self, time: float) -> None:
        self._move(lambda session: session.seek_time(time))

    def seek_ordinal(self, ordinal: int) -> None:
        self._move(lambda session: session.seek_ordinal(ordinal))

    def seek_match(self, condition: str, direction: int) -> None:
        self._move(lambda session: session.seek_match(condition, direction))

    def action_step(self, delta: int) -> None:
        self._move(lambda session: session.step(delta))

    def action_stall(self, direction: int) -> None:
        self._move(lambda session: session.seek_stall(direction))

    def action_start(self) -> None:
        self.seek_ordinal(1)

    def action_end(self) -> None:
        self.action_follow()

    def action_follow(self) -> None:
        self._playing = False
        self._resume_follows = False
        self._command(lambda session: session.follow())

    def action_toggle_play(self) -> None:
        """Pause, or play from here; a live run paused at its newest event is followed again."""
        frame = self._frame
        if frame is None:
            return
        if self._playing:
            self._playing = False
            self._command(lambda session: session.hold())
        elif self._resume_follows:
            self.action_follow()
        elif frame.following and frame.liveness == "live":
            self._resume_follows = True
            self._command(lambda session: session.hold())
        else:
            at_end = frame.ordinal >= frame.last_ordinal
            self._playing = True

            def play(session: SessionLike) -> None:
                session.hold()
                if at_end:
                    session.seek_ordinal(1)

            self._command(play)

    def action_slower(self) -> None:
        self._change_speed(-1)

    def action_faster(self) -> None:
        self._change_speed(1)

    def _change_speed(self, by: int) -> None:
        index = SPEEDS.index(self._speed) + by
        self._speed = SPEEDS[max(0, min(index, len(SPEEDS) - 1))]
        self._show_header()

    def action_ask_time(self) -> None:
        self.push_screen(GoToDialog(self.appearance, self._refusal), self._go_to)

    def on_key(self, event: Key) -> None:
        """Pass on a key that was typed while a dialog with a text was opening."""
        if (
            isinstance(self.screen, GoToDialog | FilterDialog)
            and event.is_printable
            and event.character
        ):
            self.screen.type_ahead(event.character)

    def _refusal(self, target: Target) -> str:
        destination = (
            resolve(target, self._frame) if self._frame is not None else "Nothing is read yet."
        )
        return destination if isinstance(destination, str) else ""

    def _go_to(self, target: Target | None) -> None:
        frame = self._frame
        if target is None or frame is None:
            return
        destination = resolve(target, frame)
        if isinstance(destination, str):
            self._problem = destination
        elif destination.ordinal is not None:
            self.seek_ordinal(destination.ordinal)
        elif destination.time is not None:
            self.seek_time(destination.time)
