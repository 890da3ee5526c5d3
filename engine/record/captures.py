"""Which sessions' control frames go to which capture file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from engine.api.values import Severity
from engine.record.pcapng import CaptureError, CaptureFile
from engine.sessions.session import SeenFrame, Session

Tell = Callable[[Severity, str, str], None]
"""Reports an event: how much it matters, its kind, its text."""


class Captures:
    """All captures of one engine; a session is in one at most."""

    def __init__(self, everything: Path | None, wall: Callable[[float], float], tell: Tell) -> None:
        """`everything` is a file for the frames of all sessions; `wall` turns the engine's time into Unix time.

        Raises CaptureError.
        """
        self._everything = CaptureFile(everything) if everything is not None else None
        self._wall = wall
        self._tell = tell
        self._files: dict[int, CaptureFile] = {}
        self._open: set[CaptureFile] = set()

    def __contains__(self, key: int) -> bool:
        return key in self._files

    def joined(self, key: int, session: Session) -> None:
        """A new session is there: its frames belong into the capture of everything, if there is one."""
        if self._everything is not None:
            self._tap(key, session, self._everything)

    def start(self, sessions: Iterable[tuple[int, Session]], path: Path) -> None:
        """Write these sessions' frames to a new file, instead of where they went before; raises CaptureError.

        Sessions come with their keys. What goes wrong later is told, and writing ends.
        """
        file = CaptureFile(path)
        for key, session in sessions:
            self._tap(key, session, file)
        self._open.add(file)
        self._close_unused()

    def stop(self, sessions: Iterable[tuple[int, Session]]) -> None:
        """Write these sessions' frames no more."""
        for key, session in sessions:
            session.tap = None
            self._files.pop(key, None)
        self._close_unused()

    def close(self) -> None:
        """Finish all files."""
        self._files.clear()
        self._close_unused()
        if self._everything is not None:
            self._finish(self._everything)

    def withdraw(self) -> None:
        """Nothing will be captured: leave no file behind that would be in the way of the next try."""
        if self._everything is not None:
            self._everything.withdraw()

    def _tap(self, key: int, session: Session, file: CaptureFile) -> None:
        self._files[key] = file
        name = session.settings.name

        def tap(seen: SeenFrame) -> None:
            if file.full:
                return
            try:
                file.write(seen.frame, self._wall(seen.at), seen.sent, name)
            except CaptureError as error:
                self._tell(Severity.ERROR, "capture", str(error))
            if file.full:
                self._tell(Severity.WARNING, "capture", f"{file.path} has reached its limit: nothing more is written.")

        session.tap = tap

    def _close_unused(self) -> None:
        for file in self._open.difference(self._files.values()):
            self._open.discard(file)
            self._finish(file)

    def _finish(self, file: CaptureFile) -> None:
        try:
            file.close()
        except CaptureError as error:
            self._tell(Severity.ERROR, "capture", str(error))
