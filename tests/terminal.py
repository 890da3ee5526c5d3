"""A real terminal for the console, in which tests type and read: a tmux server of its own with one window."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, run
from tests.program import until

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Terminal:
    """One program in one window."""

    def __init__(self, folder: Path) -> None:
        # A socket for each test: a server that is ending takes no new session, and keeps its socket a while.
        self._server = ("tmux", "-S", str(folder / "tmux"), "-f", "/dev/null")
        self._status = folder / "status"

    def tmux(self, *arguments: str) -> str:
        """The output of a tmux command."""
        return run(*self._server, *arguments)

    def start(self, command: str, columns: int = 80, rows: int = 24) -> None:
        """Start a program by a shell's command line; its exit code is written when it ends."""
        script = f"cd {ROOT}; env LANG=C.UTF-8 {command}; echo $? > {self._status}; sleep 60"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", script)

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window larger or smaller."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, *options: str) -> str:
        """What the terminal shows; options are those of tmux's capture-pane."""
        return self.tmux("capture-pane", "-p", *options)

    def shows(self, *parts: str) -> str:
        """Wait until the screen shows all this, and return it."""

        def look() -> str | None:
            screen = self.screen()
            return screen if all(part in screen for part in parts) else None

        try:
            return until(look, "it") or ""
        except AssertionError:
            raise AssertionError(f"never saw {parts} but\n{self.screen()}") from None

    @property
    def pid(self) -> int:
        """The program's process."""
        shell = self.tmux("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def ended(self) -> int:
        """Wait for the program's end; its exit code."""
        until(lambda: self._status.exists() and self._status.read_text().strip(), f"its end, but\n{self.screen()}")
        return int(self._status.read_text())

    def close(self) -> None:
        """End the tmux server and all in it."""
        subprocess.run([*self._server, "kill-server"], check=False, capture_output=True, timeout=10)
