"""The C helper `libsouppp.so`: one AF_XDP socket and one thread for each queue of the card.

IP packets of known sessions go between the card and the sessions' file descriptors without touching Python. Control
frames come here in batches, and go out in batches. All methods but `traffic`, `add_traffic` and `queue_counters` belong
to one thread; those three may be called from any until `close`.
"""

from __future__ import annotations

import ctypes
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import cache
from types import TracebackType

from msgspec import Struct

from engine.api.values import TRAFFIC_FIELDS
from engine.datapath.own import CLOSED, EVERYTHING, LOST, Open, Own
from engine.host.errors import Trouble
from engine.host.files import REMEDY, private
from engine.host.layout import Places, Told, numbers, places, stranger
from engine.settings.limits import MAX_OWN, MAX_SESSIONS
from engine.wire.place import Place

LIBRARY = private("libsouppp.so")

BATCH_FRAMES = 32
BATCH_OCTETS = 1 << 18
MAX_FRAME = 2048
MIN_FRAME = 14

_COPYING = {None: 0, True: 1, False: 2}
_EGRESS_NONE, _EGRESS_OWN, _EGRESS_ROUTED, _EGRESS_DUCTED = range(4)
_NUMBERS = ("cpu_ns", "rx_waiting", "tx_waiting", "ring_size")
"""What a queue tells beside its counters."""
_MADE = {"drops", "rx_ring_fill", "tx_ring_fill", "cpu"}
"""What is made of it."""


class DatapathError(Trouble):
    """One line for the operator: what could not be done and what to do."""


class QueueCounters(Struct, frozen=True):
    """One queue since the start. Octets are those of Ethernet frames without FCS.

    `rx_packets` is `rx_data + rx_control` and the drops on the way in; `tx_packets` is `tx_data + tx_control`.
    The drops `rx_ring_full` and `rx_dropped` happen in the kernel and are not in `rx_packets`.
    """

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    rx_data: int
    """IP packets handed to sessions."""
    rx_control: int
    """Frames handed to `Datapath.receive_control`."""
    tx_data: int
    tx_control: int
    drops: dict[str, int]
    """Every reason, those that never occurred too; the words are those of `counters.h`."""
    rx_ring_fill: float
    """0.0 to 1.0, at this moment."""
    tx_ring_fill: float
    cpu: float
    """CPU seconds of the queue's thread."""


class _Options(ctypes.Structure):
    _fields_ = [
        ("queues", ctypes.c_uint32),
        ("max_sessions", ctypes.c_uint32),
        ("xsk_map", ctypes.c_int),
        ("copying", ctypes.c_uint32),
        ("busy_poll", ctypes.c_bool),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        ("address", ctypes.c_uint8 * 16),
        ("length", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
    ]


class _Own(ctypes.Structure):
    _fields_ = [
        ("open", ctypes.c_uint32),
        ("network_count", ctypes.c_uint32),
        ("ipv4", ctypes.c_uint8 * 4),
        ("ipv6", ctypes.c_uint8 * 16),
        ("networks", _Network * MAX_OWN),
    ]


class _Session(ctypes.Structure):
    _fields_ = [
        ("own_mac", ctypes.c_uint8 * 6),
        ("peer_mac", ctypes.c_uint8 * 6),
        ("session_id", ctypes.c_uint16),
        ("vlan_count", ctypes.c_uint16),
        ("vlans", ctypes.c_uint16 * 2 * 2),
        ("mtu", ctypes.c_uint32),
        ("egress", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("ipv4", ctypes.c_uint8 * 4),
        ("ipv6", ctypes.c_uint8 * 8),
        ("own", _Own),
    ]


_LAYOUT: dict[str, Places] = {
    "souppp_options": places(_Options),
    "souppp_session": places(_Session),
    "souppp_own": places(_Own),
    "souppp_network": places(_Network),
    "session_counters": places(numbers((*TRAFFIC_FIELDS, *LOST))),
    "values": {
        name: (value, 0)
        for name, value in {
            "SOUPPP_ANY": _COPYING[None],
            "SOUPPP_ZERO_COPY": _COPYING[True],
            "SOUPPP_COPY": _COPYING[False],
            "SOUPPP_EGRESS_NONE": _EGRESS_NONE,
            "SOUPPP_EGRESS_OWN": _EGRESS_OWN,
            "SOUPPP_EGRESS_ROUTED": _EGRESS_ROUTED,
            "SOUPPP_EGRESS_DUCTED": _EGRESS_DUCTED,
            "IPV4_OPEN": Open.IPV4,
            "IPV6_OPEN": Open.IPV6,
            "SOUPPP_NETWORKS": MAX_OWN,
            "MAX_FRAME": MAX_FRAME,
        }.items()
    },
}
"""What is written here as in `souppp.h`."""

_BRIEF = ("souppp_receive_control", "souppp_send_control")
"""They take microseconds and never wait, so the interpreter is kept: to get it back beside a busy screen takes long."""


@cache
def _library() -> ctypes.CDLL:
    """The helper, of which all that is repeated here has been compared. Raises DatapathError."""
    try:
        library, holding = ctypes.CDLL(str(LIBRARY), use_errno=True), ctypes.PyDLL(str(LIBRARY))
        _declare(library, holding)
    except (OSError, AttributeError) as error:
        lacks_libraries = isinstance(error, OSError) and LIBRARY.exists()
        remedy = "run `apt-get install libxdp1 libbpf1`" if lacks_libraries else REMEDY
        raise DatapathError(f"cannot load the C helper ({error}): {remedy}") from None
    if reason := _stranger(library):
        raise DatapathError(f"the C helper is not the one that belongs to this program ({reason}): {REMEDY}")
    return library


def _declare(library: ctypes.CDLL, holding: ctypes.CDLL) -> None:
    """Say what the functions take and give; raises AttributeError if one is missing."""
    handle, u32 = ctypes.c_void_p, ctypes.c_uint32
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "souppp_open": (handle, [ctypes.c_char_p, handle, handle, ctypes.c_size_t]),
        "souppp_close": (None, [handle]),
        "souppp_add_queues": (ctypes.c_bool, [handle, ctypes.c_char_p, u32, handle, ctypes.c_size_t]),
        "souppp_control_event": (ctypes.c_int, [handle]),
        "souppp_zero_copy": (ctypes.c_bool, [handle]),
        "souppp_receive_control": (u32, [handle, handle, u32, handle, u32]),
        "souppp_send_control": (u32, [handle, ctypes.c_char_p, handle, u32]),
        "souppp_control_taken": (u32, [handle]),
        "souppp_add_session": (ctypes.c_int, [handle, u32, handle]),
        "souppp_set_own": (ctypes.c_int, [handle, u32, handle]),
        "souppp_remove_session": (ctypes.c_int, [handle, u32]),
        "souppp_routed_egress": (ctypes.c_int, [handle, ctypes.c_int]),
        "souppp_open_duct": (ctypes.c_int, [handle, u32, u32, handle]),
        "souppp_duct_broken": (ctypes.c_bool, [handle]),
        "souppp_add_traffic": (None, [handle, handle, u32]),
        "souppp_strays": (None, [handle, u32, handle]),
        "souppp_queue_names": (ctypes.POINTER(ctypes.c_char_p), []),
        "souppp_queue": (None, [handle, u32, handle]),
        "souppp_layout": (ctypes.POINTER(Told), []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(holding if name in _BRIEF else library, name)
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)


def _stranger(library: ctypes.CDLL) -> str:
    """What is not the same there as here; empty if all is."""
    if text := stranger(_LAYOUT, library.souppp_layout()):
        return text
    counted = {name for name in _queue_names(library) if not name.startswith("drop_")}
    wanted = {*QueueCounters.__struct_fields__} - _MADE | {*_NUMBERS}
    return f"counters of a queue: {', '.join(sorted(counted ^ wanted))}" if counted != wanted else ""


def _queue_names(library: ctypes.CDLL) -> tuple[str, ...]:
    names: list[str] = []
    pointer = library.souppp_queue_names()
    while (name := pointer[len(names)]) is not None:
        names.append(name.decode())
    return tuple(names)


def _as_struct(own: Own) -> _Own:
    """Raises ValueError where there are too many networks."""
    if len(own.networks) > MAX_OWN:
        raise ValueError(f"{len(own.networks)} networks of {MAX_OWN}")
    what = _Own(open=own.open, network_count=len(own.networks))
    if own.ipv4 is not None:
        what.ipv4[:] = own.ipv4.packed
    if own.ipv6 is not None:
        what.ipv6[:] = own.ipv6.packed
    for place, network in zip(what.networks, own.networks, strict=False):
        place.address[:] = network.network_address.packed.ljust(16, b"\0")
        place.length, place.version = network.prefixlen, network.version
    return what


class Datapath:
    """The queues 0 … queues-1 of a card, from construction to `close`.

    The worker threads live in the network namespace of the thread that makes this.
    """

    def __init__(
        self,
        ifname: str,
        queues: int,
        xsk_map_fd: int,
        *,
        max_sessions: int = MAX_SESSIONS,
        busy_poll: bool = False,
        zero_copy: bool | None = None,
    ) -> None:
        """Opens a socket on each queue and puts it into the XDP program's map.

        Without `zero_copy` that is had where the driver can; generic XDP needs False. Raises DatapathError.
        """
        self._library = _library()
        self._names = _queue_names(self._library)
        self._queues, self._max_sessions = queues, max_sessions
        options = _Options(queues, max_sessions, xsk_map_fd, _COPYING[zero_copy], busy_poll)
        error = ctypes.create_string_buffer(256)
        handle = self._library.souppp_open(ifname.encode(), ctypes.byref(options), error, len(error))
        if handle is None:
            raise DatapathError(error.value.decode())
        self._handle: int | None = handle
        self._control_taken = 0
        self._octets = ctypes.create_string_buffer(BATCH_OCTETS)
        self._ends = array("I", bytes(4 * BATCH_FRAMES))
        self._ends_address = self._ends.buffer_info()[0]
        self.control_fd: int = self._library.souppp_control_event(handle)
        """Readable while control frames wait; `receive_control` resets it."""
        self.zero_copy: bool = self._library.souppp_zero_copy(handle)

    def add_queues(self, ifname: str, queues: int) -> None:
        """Serve the queues up to `queues` as well, of the card by the name it has now. Raises DatapathError.

        No other thread may ask for counters meanwhile.
        """
        error = ctypes.create_string_buffer(256)
        if not self._library.souppp_add_queues(self._handle, ifname.encode(), queues, error, len(error)):
            raise DatapathError(error.value.decode())
        self._queues = queues

    def receive_control(self) -> list[bytes]:
        """The waiting control frames, whole with their VLAN tags and padding; those of known sessions come first.

        At most BATCH_FRAMES a call; `control_fd` stays readable while more wait.
        """
        count = self._library.souppp_receive_control(
            self._handle, self._octets, BATCH_OCTETS, self._ends_address, BATCH_FRAMES
        )
        ends = self._ends[:count]
        if not ends:
            return []
        octets = ctypes.string_at(self._octets, ends[-1])
        frames, start = [], 0
        for end in ends:
            frames.append(octets[start:end])
            start = end
        return frames

    def send_control(self, frames: Sequence[bytes]) -> int:
        """Sends whole frames, in this order, padded to 60 octets; returns how many the helper took.

        Raises ValueError for a frame no Ethernet card could send.
        """
        ends, end = array("I"), 0
        for frame in frames:
            if not MIN_FRAME <= len(frame) <= MAX_FRAME:
                raise ValueError(f"a frame of {len(frame)} octets")
            end += len(frame)
            ends.append(end)
        taken: int = self._library.souppp_send_control(self._handle, b"".join(frames), ends.buffer_info()[0], len(ends))
        return taken

    def control_taken(self) -> int:
        """How many of the frames that `send_control` took, from the first on, the card has taken in turn.

        A card without a carrier takes frames too, and loses them.
        """
        more = (self._library.souppp_control_taken(self._handle) - self._control_taken) & 0xFFFFFFFF
        self._control_taken += more
        return self._control_taken

    def add_session(
        self, slot: int, key: Place, egress_fd: int, mtu: int, own: Own = CLOSED, *, ducted: bool = False
    ) -> None:
        """Lets a session's IP packets, of up to `mtu` octets, flow to and from `egress_fd`, which is non-blocking.

        Those to and from its `own` addresses only, until `set_own` says otherwise.

        With -1 for the descriptor the session is only made known: its control frames come before strangers'. If it is
        `ducted` its packets flow all the same, by those of `open_duct`.
        Counters of the slot go on from where they were. Raises DatapathError if the slot or the key is in use.
        """
        kind = _EGRESS_DUCTED if ducted else _EGRESS_NONE if egress_fd < 0 else _EGRESS_OWN
        self._add(slot, key, mtu, own, egress=kind, fd=egress_fd)

    def add_routed_session(
        self, slot: int, key: Place, mtu: int, *, ipv4: bytes = bytes(4), ipv6_prefix: bytes = bytes(8)
    ) -> None:
        """Like `add_session`, but through the descriptor of `open_routed_egress`.

        Packets to the address `ipv4` (4 octets), or into the /48 `ipv6_prefix` (8 octets, the last two zero), go out
        through this session; all zero is none.

        Raises DatapathError also if another session has the address, or no routed egress is open.
        """
        self._add(slot, key, mtu, EVERYTHING, egress=_EGRESS_ROUTED, fd=-1, ipv4=ipv4, ipv6=ipv6_prefix)

    def _add(
        self,
        slot: int,
        key: Place,
        mtu: int,
        own: Own,
        *,
        egress: int,
        fd: int,
        ipv4: bytes = bytes(4),
        ipv6: bytes = bytes(8),
    ) -> None:
        session = _Session(session_id=key.session_id, vlan_count=len(key.vlans), mtu=mtu, egress=egress, fd=fd)
        session.own = _as_struct(own)
        session.own_mac[:] = key.own_mac
        session.peer_mac[:] = key.peer_mac
        session.ipv4[:] = ipv4
        session.ipv6[:] = ipv6
        for place, tag in zip(session.vlans, key.vlans, strict=False):
            place[:] = (tag.tpid, tag.tci)
        self._check(self._library.souppp_add_session(self._handle, slot, ctypes.byref(session)), "add", slot)

    def set_own(self, slot: int, own: Own) -> None:
        """Changes a session's own addresses: when this returns no other one's packets flow.

        Raises DatapathError if there is no such session.
        """
        self._check(self._library.souppp_set_own(self._handle, slot, ctypes.byref(_as_struct(own))), "change", slot)

    def remove_session(self, slot: int) -> None:
        """When this returns no worker touches the session's descriptor any more.

        Raises DatapathError if there is no such session.
        """
        self._check(self._library.souppp_remove_session(self._handle, slot), "remove", slot)

    def open_routed_egress(self, fd: int) -> None:
        """Sets the descriptor shared by all routed sessions; it must stay open until `close`. Raises DatapathError."""
        error = self._library.souppp_routed_egress(self._handle, fd)
        if error:
            raise DatapathError(f"cannot use the routed egress: {os.strerror(-error)}")

    def open_duct(self, queue: int, size: int) -> tuple[int, ...]:
        """Have packets of ducted sessions go by rings in memory that another process has too, from now on.

        Each ring has `size` octets, a power of two. Gives what that process gets, descriptors of the caller's: the
        memory, and a socket by which each side wakes the other. Raises DatapathError.
        """
        given = array("i", bytes(4 * 2))
        error = self._library.souppp_open_duct(self._handle, queue, size, given.buffer_info()[0])
        if error:
            raise DatapathError(f"cannot share memory with the stack program: {os.strerror(-error)}")
        return tuple(given)

    def duct_broken(self) -> bool:
        """Whether another process has put into such a ring what makes no sense: then nothing passes there."""
        broken: bool = self._library.souppp_duct_broken(self._handle)
        return broken

    def _check(self, error: int, verb: str, slot: int) -> None:
        if error:
            raise DatapathError(f"cannot {verb} session {slot} in the data path: {os.strerror(-error)}")

    def traffic(self, sessions: int) -> array[int]:
        """`engine.api.values.TRAFFIC_FIELDS` of the slots 0 … sessions-1, one after another, as type `Q`."""
        numbers = array("Q", bytes(32 * sessions))
        self.add_traffic(numbers)
        return numbers

    def add_traffic(self, numbers: array[int]) -> None:
        """Add what `traffic` gives to such numbers, with the interpreter free meanwhile."""
        sessions = len(numbers) // 4
        if sessions > self._max_sessions:
            raise ValueError(f"{sessions} sessions of {self._max_sessions}")
        self._library.souppp_add_traffic(self._handle, numbers.buffer_info()[0], sessions)

    def strays(self, slot: int) -> Counter[str]:
        """How many packets a session's own addresses had nothing to do with, or that had nowhere to go, by LOST."""
        found = array("Q", bytes(8 * len(LOST)))
        self._library.souppp_strays(self._handle, slot, found.buffer_info()[0])
        return Counter(dict(zip(LOST, found, strict=True)))

    def queue_counters(self) -> list[QueueCounters]:
        """One per queue."""
        return [self._queue(queue) for queue in range(self._queues)]

    def _queue(self, queue: int) -> QueueCounters:
        numbers = array("Q", bytes(8 * len(self._names)))
        self._library.souppp_queue(self._handle, queue, numbers.buffer_info()[0])
        named = dict(zip(self._names, numbers, strict=True))
        size = named.pop("ring_size")
        return QueueCounters(
            drops={name[5:]: named.pop(name) for name in self._names if name.startswith("drop_")},
            rx_ring_fill=named.pop("rx_waiting") / size,
            tx_ring_fill=named.pop("tx_waiting") / size,
            cpu=named.pop("cpu_ns") / 1e9,
            **named,
        )

    def close(self) -> None:
        """Sends what was handed to `send_control`, ends the threads and frees the queues.

        After it nothing but `close` may be called.
        """
        if self._handle is not None:
            self._library.souppp_close(self._handle)
            self._handle = None

    def __enter__(self) -> Datapath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
