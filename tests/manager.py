"""A service manager that keeps descriptors from one process of a service to the next, as sd_notify(3) has it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import F_DUPFD, fcntl
from pathlib import Path

from tests.conftest import ROOT
from tests.program import COMMAND, PATIENCE, until
from tests.stories import telling

HANDED_OVER = 75


class Manager:
    """Runs `souppp-tui serve` with these arguments, and again when it has handed over."""

    def __init__(self, folder: Path, *arguments: str | Path, keeps: bool = True) -> None:
        self.folder = folder
        self.stored: dict[int, str] = {}
        """Descriptors that are kept, and their names."""
        self.told: list[str] = []
        """What the service notified of, by lines."""
        self._arguments = [*COMMAND, "serve", *map(str, arguments)]
        self._keeps = keeps
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(folder / "notify"))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.start()

    def start(self, within: Sequence[str] = ()) -> None:
        """Start the service with all that is kept, by another program; returns when it is ready."""
        told = len(self.told)
        handed = {3 + number: fd for number, fd in enumerate(self.stored)}
        names = ":".join(self.stored.values())
        # Only the process itself knows its number before it runs the program: a shell, which becomes it, says so.
        script = 'export LISTEN_PID=$$; exec "$@"'
        command = [*within, *self._arguments]
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"), "FDSTORE": str(int(self._keeps))}
        if handed:
            environment |= {"LISTEN_FDS": str(len(handed)), "LISTEN_FDNAMES": names}
        # Beyond all that it is handed, so that none takes another's place on the way.
        spare = {fd: fcntl(fd, F_DUPFD, max(handed, default=0) + 1) for fd in self.stored}
        moves = " ".join(f"{number}<&{spare[fd]}" for number, fd in handed.items())
        closed = " ".join(f"{fd}<&-" for fd in spare.values())
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(
                [
                    "bash",
                    "-c",
                    f"{f'exec {moves} {closed}; ' if handed else ''}{script}",
                    "-",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                env=environment,
                pass_fds=[*spare.values()],
            )
        for fd in spare.values():
            os.close(fd)
        until(lambda: "READY=1" in self.told[told:] or self.process.poll() is not None, "that it is ready")
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        """All that its processes wrote."""
        return (self.folder / "said").read_text()

    def restart(self, number: int) -> float:
        """Send it a signal, and start it again when it has ended; returns the seconds that nobody was there."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert code in (0, HANDED_OVER), self.said
        ended = time.monotonic()
        self.start()
        return time.monotonic() - ended

    def hang_up(self) -> None:
        """Hear nothing any more."""
        self._notified.shutdown(socket.SHUT_RDWR)  # closed under its reader, the number could be another's already
        self._listener.join()
        self._notified.close()

    def forget(self) -> None:
        """Keep nothing any more."""
        while self.stored:
            os.close(self.stored.popitem()[0])

    def close(self, number: int = 15) -> None:
        """Stop it and forget what is kept."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            assert self.process.wait(PATIENCE) == 0, self.said
        if self._listener.is_alive():
            self.hang_up()
        self.forget()

    def _listen(self) -> None:
        while True:
            octets, fds, _, _ = socket.recv_fds(self._notified, 65536, 253)
            if not octets:
                return
            lines = octets.decode().splitlines()
            self.told += lines
            values = dict(line.partition("=")[::2] for line in lines)
            name = values.get("FDNAME", "")
            if "FDSTORE" in values:
                self.stored |= dict.fromkeys(fds, name)
            elif "FDSTOREREMOVE" in values:
                for fd in [fd for fd, kept in self.stored.items() if kept == name]:
                    del self.stored[fd]
                    os.close(fd)
            else:  # a barrier
                for fd in fds:
                    os.close(fd)


@contextmanager
def managed(folder: Path, *arguments: str | Path, keeps: bool = True) -> Iterator[Manager]:
    """A service that ends with the block."""
    manager = Manager(folder, *arguments, keeps=keeps)
    try:
        with telling(f"the service {' '.join(map(str, arguments))}", lambda: manager.said):
            yield manager
    finally:
        manager.close()
