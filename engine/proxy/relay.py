"""Connections that need nobody's thoughts any more: a thread of the C helper passes on what both sides say.

It splices, and never takes the interpreter. Numbers are read from memory that it counts in.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import Counter
from contextlib import suppress
from enum import IntEnum
from functools import cache
from itertools import count
from types import TracebackType

from msgspec import Struct

from engine.datapath import LIBRARY
from engine.host.errors import Trouble
from engine.host.files import REMEDY
from engine.host.layout import Places, Told, numbers, places, stranger
from engine.settings.limits import MAX_SESSIONS

BATCH = 256


class RelayError(Trouble):
    """One line for the operator: what could not be done and what to do."""


class Why(IntEnum):
    """Why a connection ended. All but the first ended with a reset: of both sides, or of a server not yet connected."""

    DONE = 0
    """Each side said all that it had to say."""
    CLIENT_GONE = 1
    SERVER_GONE = 2
    IDLE = 3
    CUT = 4
    SHORT = 5
    """Of memory."""
    UNCONNECTED = 6
    """The server couldn't be connected, or not in time."""


class Ended(Struct, frozen=True):
    """A connection that ended; `up` are the octets that the server took, `down` those that the client took."""

    id: int
    tag: int
    up: int
    down: int
    why: Why
    client: int = -1
    """The client's socket where the server wasn't connected yet: it is the owner's again."""
    error: int = 0
    """errno, of what kept the server from being connected."""


class _Relayed(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("idle", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("client", ctypes.c_int32),
        ("server", ctypes.c_int32),
        ("slot", ctypes.c_uint32),
        ("from_client", ctypes.c_uint32),
        ("answer", ctypes.c_uint32),
        ("from_server", ctypes.c_uint32),
    ]


class _Ended(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("up", ctypes.c_uint64),
        ("down", ctypes.c_uint64),
        ("why", ctypes.c_uint32),
        ("client", ctypes.c_int32),
        ("error", ctypes.c_int32),
    ]


_RELAYED = struct.Struct("=QQQiiIIII")
"""The same, to be filled in."""
assert _RELAYED.size == ctypes.sizeof(_Relayed)
_ENDED = struct.Struct("=QQQIii4x")
"""The same, to be taken apart in a tenth of the time."""
assert _ENDED.size == ctypes.sizeof(_Ended)
_WHYS = tuple(Why)
_COUNTERS = ("up", "down", "connections")
_LAYOUT: dict[str, Places] = {
    "souppp_relayed": places(_Relayed),
    "souppp_ended": places(_Ended),
    "slot_counters": places(numbers(_COUNTERS)),
    "why": {f"RELAY_{why.name}": (why.value, 0) for why in Why},
}
"""What is written here as in `relay.h`."""


@cache
def _library() -> ctypes.CDLL:
    """The helper, of which all that is repeated here has been compared. Raises RelayError."""
    try:
        library = ctypes.CDLL(str(LIBRARY), use_errno=True)
        _declare(library)
    except (OSError, AttributeError) as error:
        raise RelayError(f"cannot load the C helper ({error}): {REMEDY}") from None
    if text := stranger(_LAYOUT, library.souppp_relay_layout()):
        raise RelayError(f"the C helper is not the one that belongs to this program ({text}): {REMEDY}")
    return library


def _declare(library: ctypes.CDLL) -> None:
    """Say what the functions take and give; raises AttributeError if one is missing."""
    handle, u32 = ctypes.c_void_p, ctypes.c_uint32
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "souppp_relay_open": (handle, [u32]),
        "souppp_relay_close": (None, [handle]),
        "souppp_relay_add": (handle, [handle, ctypes.POINTER(_Relayed), ctypes.c_char_p]),
        "souppp_relay_cut": (ctypes.c_int, [handle, u32]),
        "souppp_relay_event": (ctypes.c_int, [handle]),
        "souppp_relay_ended": (u32, [handle, handle, u32]),
        "souppp_relay_traffic": (None, [handle, handle]),
        "souppp_relay_connecting": (handle, [handle]),
        "souppp_relay_counters": (handle, [handle]),
        "souppp_relay_layout": (ctypes.POINTER(Told), []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def load() -> None:
    """Load the helper, for a `Relay` that is made when no file can be opened any more. Raises RelayError."""
    _library()


class Relay:
    """All connections of a process, each with a tag: its session's key. One thread uses it."""

    def __init__(self, tags: int = MAX_SESSIONS) -> None:
        """`tags` is how many there are at a time. Raises RelayError."""
        self._library = _library()
        handle = self._library.souppp_relay_open(tags)
        if handle is None:
            raise RelayError(f"cannot start the relay: {os.strerror(ctypes.get_errno())}")
        self._handle: int | None = handle
        self._ids = count(1)
        self._connections: dict[int, tuple[int, int]] = {}
        """Tag, and the helper's own name for it, by id."""
        self._slots: dict[int, int] = {}
        """By tag."""
        self._free = list(range(tags - 1, -1, -1))
        self._open = Counter[int]()
        """Connections by tag that were not told as ended."""
        self._forgotten = set[int]()
        self._told = (_Ended * BATCH)()
        self._relayed = _Relayed()
        self._connecting = ctypes.c_uint32.from_address(self._library.souppp_relay_connecting(handle))
        size = len(_COUNTERS) * tags
        self._counters = (ctypes.c_uint64 * size).from_address(self._library.souppp_relay_counters(handle))

    def fileno(self) -> int:
        """Readable while connections that ended wait for `ended`."""
        event: int = self._library.souppp_relay_event(self._handle)
        return event

    def add(
        self,
        client_fd: int,
        server_fd: int,
        tag: int,
        client_pending: bytes = b"",
        server_pending: bytes = b"",
        idle: float = 0.0,
        answer: bytes = b"",
        patience: float = 0.0,
    ) -> int:
        """Passes on what two connected sockets say, from now on the relay's; the id of what they are together.

        `client_pending` and `server_pending` were read before and go to the other side first; before them the client
        gets `answer`, which is not counted. After `idle` seconds without an octet it ends; 0 is never. With `patience`
        the server is still being connected, for so many seconds at most: the client hears nothing before, and is the
        caller's again, by `Ended.client`, if it comes to nothing. Raises RelayError, and the descriptors are closed.
        """
        try:
            return self._add(client_fd, server_fd, tag, client_pending, server_pending, idle, answer, patience)
        except RelayError:
            for descriptor in (client_fd, server_fd):
                with suppress(OSError):
                    os.close(descriptor)
            raise

    def _add(
        self,
        client: int,
        server: int,
        tag: int,
        from_client: bytes,
        from_server: bytes,
        idle: float,
        answer: bytes,
        patience: float,
    ) -> int:
        id_ = next(self._ids)
        times = int(idle * 1e9), int(patience * 1e9)
        lengths = len(from_client), len(answer), len(from_server)
        _RELAYED.pack_into(self._relayed, 0, id_, *times, client, server, self._slot(tag), *lengths)
        first = from_client + answer + from_server
        handle = self._library.souppp_relay_add(self._handle, self._relayed, first)
        if handle is None:
            raise RelayError(f"cannot relay a connection: {os.strerror(ctypes.get_errno())}")
        self._connections[id_] = tag, handle
        self._open[tag] += 1
        return id_

    def _slot(self, tag: int) -> int:
        self._forgotten.discard(tag)
        slot = self._slots.get(tag)
        if slot is None:
            if not self._free:
                raise RelayError(f"cannot relay a connection: {len(self._slots)} sessions have connections already")
            slot = self._slots[tag] = self._free.pop()
        return slot

    def ended(self) -> list[Ended]:
        """Connections that ended and were not told yet; `fileno` stays readable while there are more."""
        told: int = self._library.souppp_relay_ended(self._handle, self._told, BATCH)
        octets = memoryview(self._told).cast("B")[: told * ctypes.sizeof(_Ended)]
        return [self._tell(*one) for one in _ENDED.iter_unpack(octets)]

    def _tell(self, id_: int, up: int, down: int, why: int, client: int, error: int) -> Ended:
        tag, _ = self._connections.pop(id_)
        self._open[tag] -= 1
        if not self._open[tag]:
            del self._open[tag]
            if tag in self._forgotten:
                self.forget(tag)
        return Ended(id_, tag, up, down, _WHYS[why], client, error)

    @property
    def connecting(self) -> int:
        """How many wait for their servers to be connected."""
        return self._connecting.value

    def traffic(self, id_: int) -> tuple[int, int]:
        """Octets up and down of a connection until now. Raises KeyError once it was told as ended."""
        found = (ctypes.c_uint64 * 2)()
        self._library.souppp_relay_traffic(self._connections[id_][1], found)
        return found[0], found[1]

    def counters(self, tag: int) -> tuple[int, int, int]:
        """Octets up and down of all connections that a tag ever had, and how many it has now."""
        slot = self._slots.get(tag)
        if slot is None:
            return 0, 0, 0
        up, down, connections = self._counters[3 * slot : 3 * slot + 3]
        return up, down, connections

    def cut(self, tag: int) -> None:
        """Ends all connections that were added with a tag, at once and with a reset; `ended` tells of each."""
        if tag in self._slots:
            error = self._library.souppp_relay_cut(self._handle, self._slots[tag])
            assert error == 0, errno.errorcode[-error]

    def forget(self, tag: int) -> None:
        """The counters of a tag that is not used any more, once its last connection has ended."""
        if self._open[tag]:
            self._forgotten.add(tag)
        elif (slot := self._slots.pop(tag, None)) is not None:
            self._forgotten.discard(tag)
            self._counters[3 * slot : 3 * slot + 2] = [0, 0]
            self._free.append(slot)

    def close(self) -> None:
        """Resets all connections and ends the thread. After it nothing but `close` may be called."""
        if self._handle is not None:
            self._library.souppp_relay_close(self._handle)
            self._handle = None

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
