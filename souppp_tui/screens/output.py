"""A box with what a program says while it runs; leaving it ends the program."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import ModalScreen

from souppp_tui.show.words import clean
from souppp_tui.widgets.lines import Row, Rows

KEPT = 2000
"""Lines."""
LONGEST = 4096
"""Octets of one; what is longer is broken."""


class Output(ModalScreen[None]):
    """Follows the last line until the operator moves away from it."""

    DEFAULT_CSS = """
    Output { align: center middle; background: $background 60%; }
    Output > Rows { background: $surface; border: round $accent; padding: 0 1; width: 96%; height: 90%; }
    """

    def __init__(self, title: str, arguments: Sequence[str]) -> None:
        super().__init__()
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.ended = ""
        self.list = Rows(self._row, "bar")
        self.list.border_title = clean(title).replace("[", "\\[")
        self.list.border_subtitle = "esc ends it"

    def compose(self) -> ComposeResult:
        """One box."""
        yield self.list

    def on_mount(self) -> None:
        """Run the program."""
        self._reading = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._end(f"{self._arguments[0]} can't be run: {error.strerror}.")
            return
        assert process.stdout is not None
        rest = b""
        while octets := await process.stdout.read(LONGEST):
            *whole, rest = (rest + octets).split(b"\n")
            if len(rest) >= LONGEST:
                whole, rest = [*whole, rest], b""
            self.lines.extend(line.decode(errors="replace").rstrip("\r").expandtabs() for line in whole)
            self._show()
        if rest:
            self.lines.append(rest.decode(errors="replace"))
        status = await process.wait()
        self._end("It has ended." if not status else f"It has ended with status {status}.")

    def _end(self, text: str) -> None:
        self.ended = text
        self.list.border_subtitle = "esc closes"
        self._show()

    def _show(self) -> None:
        count = len(self.lines) + bool(self.ended)
        follows = self.list.top + self.list.height >= self.list.count
        self.list.sync(count, count - 1 if follows and count else None)

    def _row(self, row: int, width: int) -> Row:
        return ([(self.lines[row], "text")] if row < len(self.lines) else [(self.ended, "dim")]), ""

    def on_resize(self) -> None:
        """Draw to the new size."""
        self.call_after_refresh(self._show)

    def on_key(self, event: Key) -> None:
        """Scroll or leave."""
        event.stop()
        event.prevent_default()
        steps = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, "space": 10, "pageup": -10}
        if event.key in steps:
            top = max(0, min(self.list.top + steps[event.key], self.list.count - self.list.height))
            self.list.scroll_to(y=top, animate=False, force=True)
        elif event.key in ("escape", "q", "ctrl+c"):
            self.dismiss(None)

    def on_unmount(self) -> None:
        """Nobody looks any more: it ends, with all that it has started."""
        if self._reading is not None:
            self._reading.cancel()
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
