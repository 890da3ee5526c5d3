"""The in-kernel data path: XDP programs carry a session's IP packets between the card and a veth pair.

The operator sees one end, the session's device. The other is in a network namespace without a name, which lives as
long as this process has a descriptor of it; with it go all pairs, and with them the devices. See bpf/kernel_path.bpf.c.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from socket import htonl, htons
from threading import Lock
from typing import Any, TypeVar

from msgspec import Struct, field
from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK, RTM_NEWQDISC, RTM_SETLINK
from pyroute2.netlink.rtnl.ifinfmsg import IFF_NOARP, IFF_UP, ifinfmsg

from engine.api.values import TRAFFIC_FIELDS
from engine.card.facts import Card, takes_xdp_frames
from engine.card.xdp import (
    XdpError,
    XdpProgram,
    by_cpu,
    delete_entry,
    entry_of,
    set_entry,
    sum_over_cpus,
)
from engine.datapath import DatapathError, errands
from engine.datapath.errands import Ask, ErrandError, Errands
from engine.datapath.own import CLOSED, STRAYS, Network, Own
from engine.egress.losses import Losses
from engine.egress.making import Making, make
from engine.egress.quiet import no_address
from engine.host import kthreads, netns
from engine.host.device_mac import DEVICE_MAC
from engine.host.errors import HostError
from engine.host.layout import numbers
from engine.host.links import mtu_at
from engine.host.rtnl import Rtnl, RtnlError, Template, attribute, last_acknowledged, packed, request
from engine.settings.limits import MAX_SESSIONS
from engine.wire.ethernet import MAX_VLANS, vlan_ids
from engine.wire.place import Place

ETHERNET_MTU = 1500
VLAN_TAG, PPPOE_HEADER = 4, 8
GENERATIONS = 1 << 16
"""Hidden ends get an index of their own each, until there have been that many."""
THREADS = 256
"""So many sessions have a kernel thread of their own, which costs 25 KB each."""

# As in bpf/kernel_path.bpf.c.
_RECEIVED_DROPS = (
    *("bad_ip", "closed_in", "router_message", "not_for_us", "forged"),
    *("too_long", "no_room", "egress_refused"),
)
_SENT_DROPS = (
    *("not_ip", "not_open", "closed_out", "not_from_us"),
    *("too_long", "too_long_for_card", "no_room", "no_card"),
)
_RECEIVED, _SENT = ("packets", "bytes", *_RECEIVED_DROPS), ("packets", "bytes", *_SENT_DROPS)
_TRAFFIC = 8 * len(TRAFFIC_FIELDS)
"""Octets of a session's."""


class _Match(ctypes.Structure):
    """What frames are matched by; what stands in frames is in network byte order."""

    _fields_ = [
        ("macs", ctypes.c_uint8 * 12),
        ("session_id", ctypes.c_uint16),
        ("vlans", ctypes.c_uint16 * MAX_VLANS),
        ("unused", ctypes.c_uint16),
    ]


class _Session(ctypes.Structure):
    """A session; as `_Match`."""

    _fields_ = [
        ("macs", ctypes.c_uint8 * 12),
        ("tags", ctypes.c_uint32 * MAX_VLANS),
        ("session_id", ctypes.c_uint16),
        ("tag_count", ctypes.c_uint16),
        ("mtu", ctypes.c_uint16),
        ("clamp", ctypes.c_uint16),
        ("longest", ctypes.c_uint16),
        ("open", ctypes.c_uint16),
        ("index", ctypes.c_uint32),
        ("ipv4", ctypes.c_uint8 * 4),
        ("ipv6", ctypes.c_uint8 * 16),
        ("network_count", ctypes.c_uint32),
        ("told", ctypes.c_uint32),
    ]

    def set_own(self, own: Own) -> None:
        """Its own addresses."""
        self.open = own.open
        self.ipv4[:] = own.ipv4.packed if own.ipv4 is not None else bytes(4)
        self.ipv6[:] = own.ipv6.packed if own.ipv6 is not None else bytes(16)
        self.network_count = len(own.networks)


class _Network(ctypes.Structure):
    """What is routed to a session."""

    _fields_ = [("length", ctypes.c_uint32), ("number", ctypes.c_uint32), ("address", ctypes.c_uint8 * 16)]


def _network(key: int, network: Network) -> bytes:
    """Its key in the programs' map."""
    before = bytes(10) + b"\xff\xff" if network.version == 4 else b""
    entry = _Network(length=32 + 8 * len(before) + network.prefixlen, number=key)
    entry.address[:] = before + network.network_address.packed
    return bytes(entry)


_MAPS: dict[str, tuple[Any, Any]] = {
    "numbers": (_Match, ctypes.c_uint32),
    "sessions": (ctypes.c_uint32, _Session),
    "networks": (_Network, ctypes.c_uint32),
    "traffic": (ctypes.c_uint32, numbers(TRAFFIC_FIELDS)),
    "strays": (ctypes.c_uint32, numbers(STRAYS)),
    "devices": (ctypes.c_uint32, ctypes.c_uint32),
    "received": (ctypes.c_uint32, numbers(_RECEIVED)),
    "sent": (ctypes.c_uint32, numbers(_SENT)),
}
"""Keys and values."""


class PathCounters(Struct):
    """What the in-kernel path did on one queue; as in `engine.datapath.QueueCounters`."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    drops: Counter[str] = field(default_factory=Counter)


def obstacle(which: Card, mode: str) -> str:
    """Why a card with its XDP program in this mode can't do it, in one line; empty if it can."""
    if mode != "native":
        return f"{which.name} runs XDP in generic mode, which can't carry the in-kernel path"
    if not takes_xdp_frames(which.index, which.driver):
        return f"the driver of {which.name} doesn't send what XDP redirects to it (no ndo_xdp_xmit)"
    return ""


T = TypeVar("T")


class HiddenNet:
    """Makes veth pairs between the calling thread's namespace and one without a name, where a thread lives."""

    # Of all engines of the process. Kernel threads get the ends' names: no others may be taken for ours.
    _made = count(os.getpid())
    _shared = Lock()

    def __init__(self, inherited: int = -1) -> None:
        """`inherited` is a descriptor of the namespace that an earlier process has left; it is closed with all else."""
        self.descriptor = inherited
        self._rtnl: Rtnl | None = None
        self._ahead: Rtnl | None = None
        """Another thread's: see `making`."""
        self._errands: Errands | None = None
        self._visible = self._sysfs = -1
        self._resident: ThreadPoolExecutor | None = None
        self._statistics: Rtnl | None = None
        self._removals: Rtnl | None = None
        self._settings: socket.socket | None = None
        """By which the visible ends' are changed that rtnetlink doesn't know."""
        self._losses = Losses()

    def open(self) -> None:
        """Raises DatapathError."""
        if self._rtnl is not None:
            return
        self._resident = ThreadPoolExecutor(1, "souppp-hidden")
        try:
            self._visible = netns.open_net()
            self._settings = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self.run(self._settle)
        except OSError as error:
            self.close()
            what = "CAP_SYS_ADMIN is needed for that" if error.errno == errno.EPERM else error.strerror
            raise DatapathError(f"cannot make a network namespace for the in-kernel path: {what}") from None

    def run(self, work: Callable[[], T]) -> T:
        """Have something done in the namespace, by the thread that lives there; raises what that raises.

        To go there each time would take CAP_SYS_ADMIN.
        """
        assert self._resident is not None
        return self._resident.submit(work).result()

    @property
    def errands(self) -> Errands:
        """What is done in the namespace while the engine goes on. Raises DatapathError."""
        if self._errands is None:
            self._errands = self.run(Errands)
        return self._errands

    def _settle(self) -> None:
        if self.descriptor < 0:
            netns.unshare_net()
            self.descriptor = netns.open_net()
        else:
            netns.set_net(self.descriptor)
        self._rtnl, self._ahead, self._statistics, self._removals = Rtnl(), Rtnl(), Rtnl(), Rtnl()
        with suppress(OSError):  # read-only, or no IPv6 in this kernel
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with suppress(OSError):
            self._sysfs = netns.open_sysfs()

    @property
    def is_open(self) -> bool:
        """Whether there is such a namespace."""
        return self._rtnl is not None

    def check(self) -> None:
        """Whether pairs can be made at all: makes one and deletes it. Raises DatapathError."""
        with HiddenNet._shared:
            self.delete(self.pair(0, f"souppp{os.getpid()}"))

    def making(self, key: int, name: str, mtu: int = ETHERNET_MTU, program: int = -1, *, ahead: bool = False) -> Making:
        """What makes the device `name`, down, for a session; it hangs on the index of its hidden end.

        With a program, by its descriptor, the hidden end is up and has that. When the MTU is changed later the kernel
        reads all routes of IPv6. What is made `ahead` is made by one other thread. Raises DatapathError.
        """
        self.open()
        by, settings = self._ahead if ahead else self._rtnl, self._settings
        assert by is not None
        assert settings is not None
        index = (1 + next(HiddenNet._made) % GENERATIONS) * MAX_SESSIONS + key
        octets = name.encode().ljust(len(_NAME), b"\0")
        pair = _pair(_uint32(index), b"%010d\0" % index, octets, _uint32(self._visible), _uint32(mtu))
        steps = [errands.ask(by.fileno(), last_acknowledged([pair]))]
        if program >= 0:
            # First: as it comes up, the kernel sees whether the other end takes what is redirected.
            steps += (errands.set_offload(settings.fileno(), name, *offload) for offload in _OFFLOADS)
            up = [run_program(_uint32(index), _uint32(program)), _up(_uint32(index))]
            steps.append(errands.ask(by.fileno(), last_acknowledged([no_address(index)]), Ask.LACKING))
            steps.append(errands.ask(by.fileno(), last_acknowledged(up)))
        return Making(tuple(steps), partial(_refused, name), index)

    def pair(self, key: int, name: str, mtu: int = ETHERNET_MTU, program: int = -1) -> int:
        """Make such a device here and now; the index of its hidden end. Raises DatapathError."""
        making = self.making(key, name, mtu, program)
        try:
            return make(making)
        except DatapathError:
            if making.end is not None:
                self.delete(making.end)
            raise

    def carry(self, index: int, program: int) -> None:
        """Have a hidden end's packets go through a program, by its descriptor, in place of any other. Raises RtnlError.

        It is there as long as the pair is: a link of BPF would take a descriptor for each session.
        """
        assert self._rtnl is not None
        self._rtnl.do([run_program(_uint32(index), _uint32(program))])

    def mtu_of(self, index: int) -> int:
        """Of a device of the visible namespace. Raises HostError."""
        assert self._settings is not None
        try:
            return mtu_at(self._settings.fileno(), index)
        except OSError as error:
            raise HostError(f"The card {index} can't be looked at: {error.strerror}.") from None

    def give_thread(self, index: int, cpu: int) -> None:
        """Let a kernel thread of its own serve a hidden end, always on the same CPU, where that can be had.

        Otherwise its packets are sent by whichever CPU their sender is on, and pass each other when it moves.
        In a container, which sees no kernel threads, the thread stays with the scheduler, which moves it seldom.
        """
        if self._sysfs < 0:
            return
        with suppress(OSError):
            with open(f"class/net/{index:010d}/threaded", "wb", 0, opener=self._in_sysfs) as threaded:
                threaded.write(b"1")
            if thread := kthreads.newest(f"napi/{index:010d}"):
                os.sched_setaffinity(thread, {cpu})

    def _in_sysfs(self, path: str, flags: int) -> int:
        return os.open(path, flags, dir_fd=self._sysfs)

    def delete(self, index: int) -> None:
        """Delete a pair that isn't in use yet, if it is there. Raises RtnlError."""
        assert self._rtnl is not None
        self._rtnl.do([_delete(_uint32(index))], (errno.ENODEV,))

    def spare(self, ends: Iterable[int]) -> None:
        """Give none of these indexes to another hidden end: an earlier process has left them."""
        latest = max((end // MAX_SESSIONS for end in ends), default=0)
        with HiddenNet._shared:
            HiddenNet._made = count(max(next(HiddenNet._made), latest))

    def remove(self, index: int, deleted: bool = False) -> None:
        """Delete the pair of a hidden end unless that went with its device; for one thread at a time.

        Raises RtnlError.
        """
        assert self._removals is not None
        if not deleted:
            self._removals.do([_delete(_uint32(index))], (errno.ENODEV,))

    def lost(self) -> int:
        """Packets for devices that were behind, see `Losses.look`; for one thread at a time."""
        return self._losses.look(self._statistics) if self._statistics is not None else 0

    def close(self) -> None:
        """Let the namespace go, and all pairs with it."""
        if self._errands is not None:
            self._errands.close()
        self._errands = None
        if self._resident is not None:
            self._resident.shutdown()
        self._resident = None
        for each in (self._rtnl, self._ahead, self._statistics, self._removals, self._settings):
            if each is not None:
                each.close()
        for fd in (self._visible, self._sysfs, self.descriptor):
            if fd >= 0:
                os.close(fd)
        self._rtnl = self._ahead = self._statistics = self._removals = self._settings = None
        self._visible = self._sysfs = self.descriptor = -1


class KernelPath:
    """The sessions that the XDP programs of one card carry, from construction to `close`."""

    def __init__(self, which: Card, program: XdpProgram, hidden: HiddenNet) -> None:
        """Raises XdpError."""
        for name, (key, value) in _MAPS.items():
            program.check_map(name, key, value)
        self._card = which
        self._maps = program.descriptors
        self._hidden = hidden
        self._indexes: dict[int, int] = {}
        self._connecting: dict[int, int] = {}
        """Errands that let the card's packets come to them; by key, until the first are to flow."""
        self._entries: dict[int, tuple[_Match, _Session]] = {}
        """What frames are matched by, and the session, as in the programs' maps; by key."""
        self._networks: dict[int, frozenset[Network]] = {}
        """What is routed to each, likewise."""
        self._parting = False
        self._cpus = sorted(os.sched_getaffinity(0))
        self._traffic = mmap.mmap(self._maps["traffic"], _TRAFFIC * MAX_SESSIONS, prot=mmap.PROT_READ)
        set_entry(self._maps["devices"], _uint32(0), _uint32(which.index))

    def open_device(self, key: int, name: str, mtu: int = ETHERNET_MTU) -> int:
        """Make a session's device in the calling thread's namespace, down and without an address.

        Returns the index of its hidden end, for `HiddenNet.remove`. Raises DatapathError.
        """
        index = self._hidden.pair(key, name, mtu, self._maps["push"])
        self.connect(key, index)
        return index

    def making(self, key: int, name: str, mtu: int) -> Making:
        """What another thread makes it by; `connect` is to follow. Raises DatapathError."""
        return self._hidden.making(key, name, mtu, self._maps["push"], ahead=True)

    def adopt_device(self, key: int, name: str, end: int) -> int:
        """Take over a device that an earlier process has left, by the index of its hidden end; as `open_device`."""
        try:
            self._hidden.carry(end, self._maps["push"])
        except RtnlError as error:
            raise DatapathError(f"cannot take over the device {name}: {error.strerror}") from None
        self.connect(key, end)
        return end

    def connect(self, key: int, index: int) -> None:
        """Let the card's packets come to a hidden end, by the time that they may flow: it takes who is there."""
        self._leave_unconnected(key)
        entry = errands.enter(self._maps["devices"], _uint32(1 + key), _uint32(index))
        self._connecting[key] = self._hidden.errands.give([entry])
        self._indexes[key] = index
        if key < THREADS:
            self._hidden.give_thread(index, self._cpus[key % len(self._cpus)])

    def _leave_unconnected(self, key: int) -> None:
        if (connecting := self._connecting.pop(key, None)) is not None:
            with suppress(ErrandError):
                self._hidden.errands.withdraw(connecting)

    def add_session(self, key: int, place: Place, mtu: int, own: Own = CLOSED) -> None:
        """Let packets of up to `mtu` octets flow between card and device, to and from its own addresses.

        Raises XdpError or HostError.
        """
        # A device forwards frames of one VLAN tag more than its MTU.
        longest = self._hidden.mtu_of(self._card.index) + VLAN_TAG - VLAN_TAG * len(place.vlans) - PPPOE_HEADER
        match = _Match(session_id=htons(place.session_id))
        match.macs[:] = place.own_mac + place.peer_mac
        for at, vid in enumerate(vlan_ids(place.vlans)):
            match.vlans[at] = htons(vid)
        session = _Session(
            session_id=match.session_id,
            tag_count=len(place.vlans),
            mtu=mtu,
            clamp=mtu if mtu < ETHERNET_MTU else 0,
            longest=longest,
            index=self._indexes[key],
        )
        session.set_own(own)
        session.macs[:] = place.peer_mac + place.own_mac
        for at, tag in enumerate(place.vlans):
            session.tags[at] = htonl(tag.tpid << 16 | tag.tci)
        self._entries[key] = match, session
        self._set_session(key, session, own.networks)
        set_entry(self._maps["numbers"], bytes(match), _uint32(key))

    def set_own(self, key: int, own: Own) -> None:
        """Change a session's own addresses; does nothing if none of its packets ever flowed. Raises XdpError."""
        if key in self._entries:
            _, session = self._entries[key]
            session.set_own(own)
            self._set_session(key, session, own.networks)

    def _set_session(self, key: int, session: _Session, networks: Iterable[Network]) -> None:
        """What is routed to it is in the map for as long as packets may flow by it."""
        if session.open and (connecting := self._connecting.pop(key, None)) is not None:
            try:
                self._hidden.errands.end(connecting)
            except ErrandError as error:
                raise XdpError(f"cannot fill the XDP program's map: {error.strerror}") from None
        wanted, had = frozenset(networks), self._networks.get(key, frozenset())
        for network in wanted - had:
            set_entry(self._maps["networks"], _network(key, network), _uint32(network.prefixlen))
        set_entry(self._maps["sessions"], _uint32(key), bytes(session))
        for network in had - wanted:
            delete_entry(self._maps["networks"], _network(key, network))
        self._networks[key] = wanted

    def remove_session(self, key: int) -> None:
        """Stop its packets, if they flow."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            if not self._parting:  # else it goes with the programs, and leads to a session without packets until then
                delete_entry(self._maps["numbers"], bytes(entry[0]))
            self._set_session(key, _Session(), ())
            del self._networks[key]

    def part(self) -> None:
        """All sessions are about to end, and `close` follows."""
        self._parting = True

    def traffic(self, sessions: int) -> array[int]:
        """As `Datapath.traffic`."""
        return array("Q", self._traffic[: _TRAFFIC * sessions])

    def strays(self, key: int) -> Counter[str]:
        """As `Datapath.strays`. Raises XdpError."""
        found = struct.unpack(f"={len(STRAYS)}Q", entry_of(self._maps["strays"], _uint32(key), 8 * len(STRAYS)))
        return Counter(dict(zip(STRAYS, found, strict=True)))

    def queue_counters(self, queues: int) -> list[PathCounters]:
        """One per queue. Cards send a redirected frame on the queue that belongs to the CPU: it is counted there."""
        found = []
        for queue in range(queues):
            packets, octets, *drops = sum_over_cpus(self._maps["received"], queue, len(_RECEIVED))
            lost = Counter(dict(zip(_RECEIVED_DROPS, drops, strict=True)))
            found.append(PathCounters(rx_packets=packets, rx_bytes=octets, drops=lost))
        for cpu, (packets, octets, *drops) in enumerate(by_cpu(self._maps["sent"], 0, len(_SENT))):
            of = found[cpu % queues]
            of.tx_packets += packets
            of.tx_bytes += octets
            of.drops.update(dict(zip(_SENT_DROPS, drops, strict=True)))
        found[0].drops["egress_full"] += self._hidden.lost()
        return found

    def close(self) -> None:
        """The program must be closed by its owner."""
        for key in [*self._connecting]:
            self._leave_unconnected(key)
        self._traffic.close()


def _refused(name: str, error: ErrandError) -> DatapathError:
    return DatapathError(f"cannot make the device {name}: {error.strerror}")


# --- requests ---


def _uint32(value: int) -> bytes:
    return struct.pack("=I", value)


_INDEX, _NETNS, _MTU, _PROGRAM = 0x7E570001, 0x7E570002, 0x7E570003, 0x7E570006
_HIDDEN, _NAME = b"7E57000003\0", b"7E5700000000004\0"
"""What stands in the templates for what is filled in."""

_XDP_FLAGS_DRV_MODE = 1 << 2  # linux/if_link.h
_ONE_QUEUE = [("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1)]
_device = {
    "flags": IFF_NOARP,
    "change": IFF_NOARP,
    "attrs": [
        ("IFLA_IFNAME", _NAME[:-1].decode()),
        ("IFLA_NET_NS_FD", _NETNS),
        ("IFLA_MTU", _MTU),
        ("IFLA_ADDRESS", DEVICE_MAC.hex(":")),
        *_ONE_QUEUE,
    ],
}
_veth = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", _device)]})]}
_pair = Template(
    request(
        ifinfmsg,
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        [("IFLA_IFNAME", _HIDDEN[:-1].decode()), *_ONE_QUEUE, ("IFLA_LINKINFO", _veth)],
        index=_INDEX,
    ),
    _uint32(_INDEX),
    _HIDDEN,
    _NAME,
    _uint32(_NETNS),
    _uint32(_MTU),
)
_native = {"attrs": [("IFLA_XDP_FD", _PROGRAM), ("IFLA_XDP_FLAGS", _XDP_FLAGS_DRV_MODE)]}
run_program = Template(
    request(ifinfmsg, RTM_SETLINK, 0, [("IFLA_XDP", _native)], index=_INDEX), _uint32(_INDEX), _uint32(_PROGRAM)
)
"""Have the program of this descriptor run in a device's driver, in place of any other, for as long as that is there."""
_up = Template(request(ifinfmsg, RTM_NEWLINK, 0, index=_INDEX, flags=IFF_UP, change=IFF_UP), _uint32(_INDEX))

_delete = Template(request(ifinfmsg, RTM_DELLINK, 0, index=_INDEX), _uint32(_INDEX))

_TC_H_ROOT, _TCA_KIND = 0xFFFFFFFF, 1
queue_before = Template(
    packed(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        struct.pack("=BxxxiIII", 0, _INDEX, 0, _TC_H_ROOT, 0) + attribute(_TCA_KIND, b"pfifo\0"),
    ),
    _uint32(_INDEX),
)
"""Let packets wait before a pair's device while its other end is behind (Linux 6.16), not be lost. A kernel without
queueing disciplines does without, and answers ENOENT or EOPNOTSUPP. pyroute2's message takes 20 ms to import."""

_OFFLOADS = ((0x2C, 1), (0x17, 0))
"""ETHTOOL_SGRO: the device takes redirected packets, many at once; ETHTOOL_STXCSUM: what it sends is complete."""
