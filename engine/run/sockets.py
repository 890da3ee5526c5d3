"""Where engines' sockets are: made, found, and tidied away after a crash."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from engine.host.errors import Trouble
from engine.host.peers import open_to_groups

RUN = Path("/run/souppp")
STATE = Path("/var/lib/souppp")
LAB = "lab"
SUFFIX = ".sock"
BACKLOG = 64


class SocketError(Trouble):
    """No socket to be had or found: one line for the operator."""


def usual_paths(card: str, *, lab: bool, fallback: Path | None) -> tuple[Path, ...]:
    """Where an engine listens if it isn't told, best first; below `fallback` where /run can't be written to.

    A card's name is its own within a network namespace only: the second is for where an engine on a card of the same
    name, in another namespace, has the first.
    """
    card = kernels_name(card)
    with suppress(OSError):
        RUN.mkdir(mode=0o755, exist_ok=True)
    # Who may write to the one above may make it: an engine that ends takes it away at any time if it is empty.
    may = any(os.access(each, os.W_OK) for each in (RUN, RUN.parent))
    folder = RUN if may or fallback is None else fallback
    if lab:
        return (folder / f"{LAB}-{os.getpid()}{SUFFIX}",)
    return folder / f"{card}{SUFFIX}", folder / f"{card}-{network()}{SUFFIX}"


def kernels_name(card: str) -> str:
    """What the kernel shows for a card that may be called by another name of its."""
    if Path("/sys/class/net", card).exists():
        return card
    from engine.card.facts import card_name  # with pyroute2, which is seldom needed here and takes long to import

    return card_name(card)


def network() -> int:
    """The number of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


class Listening(Struct, frozen=True):
    """A socket that clients can connect to; who does is answered when it is served (`engine.run.server`)."""

    path: Path
    socket: socket.socket
    file: os.stat_result

    def close(self) -> None:
        """Take it away, and the folder for such if it is empty; but never what another has put in its place."""
        self.socket.close()
        with suppress(OSError):
            if os.path.samestat(self.file, os.lstat(self.path)):
                self.path.unlink()
            if self.path.parent == RUN:
                RUN.rmdir()


def listen(path: Path) -> Listening:
    """A socket for root and the two groups; what dead engines left in its folder goes. Needs to be root for the groups.

    Raises SocketError where something else is there, a living engine too.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _tidy(path.parent)
        # It gets its name when it listens: who sees it can connect, and nobody takes it for a dead engine's.
        unnamed = path.with_name(f".{os.urandom(4).hex()}")
        made.bind(str(unnamed))
        try:
            file = os.lstat(unnamed)
            open_to_groups(unnamed)
            made.listen(BACKLOG)
            os.link(unnamed, path)
        finally:
            unnamed.unlink(missing_ok=True)
    except OSError as error:
        made.close()
        what = "something is there already" if path.exists() else error.strerror or str(error)
        raise SocketError(f"{path} can't be listened on: {what}. Nobody can attach to this engine.") from None
    return Listening(path, made, file)


def connect(path: Path) -> socket.socket:
    """A connection to the engine that listens there. Raises SocketError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(str(path))
    except OSError as error:
        made.close()
        if isinstance(error, PermissionError):
            what = "it is for root and the members of the groups souppp and souppp-ro"
        elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
            what = "no engine listens there. Start one: `souppp-tui serve CARD`"
        else:
            what = error.strerror or str(error)
        raise SocketError(f"{path}: {what}.") from None
    return made


def find(name: str | None, folders: Sequence[Path] = (RUN, STATE)) -> Path:
    """The socket of the engine on a card, of the lab's (`lab`), or at a path; without a name of the only one there is.

    Raises SocketError where there is none, or more than one to choose from.
    """
    if name is not None and "/" in name:
        return Path(name)
    there = {path.stem: path for folder in reversed(folders) for path in _sockets(folder) if alive(path)}
    if name is not None and name in there:
        return there[name]
    if name is not None:
        there = {stem: path for stem, path in there.items() if re.fullmatch(rf"{re.escape(name)}-\d+", stem)}
        if not there and (shown := kernels_name(name)) != name:
            return find(shown, folders)
    match [*there]:
        case [only]:
            return there[only]
        case []:
            where = "on this host" if name is None else f"on {name}" if name != LAB else "in a lab"
            raise SocketError(f"No engine runs {where}. Start one: `souppp-tui serve {name or 'CARD'}`.")
        case several:
            raise SocketError(f"Several engines run on this host: {', '.join(sorted(several))}. Name one.")


def alive(path: Path) -> bool:
    """Whether somebody listens there; who may not connect can't tell, and takes it for granted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _sockets(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_socket())
    return []


def _tidy(folder: Path) -> None:
    """Take away what engines left that were killed."""
    for path in _sockets(folder):
        if not alive(path):
            path.unlink(missing_ok=True)
