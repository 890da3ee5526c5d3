"""The XDP program on the card, and those of the in-kernel data path with it: load them, attach them, read counters.

It is attached by a `bpf_link`, which the kernel takes off the card when the last descriptor of it is closed, however
the process ends. Everything works on the network namespace of the calling thread.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from select import select
from typing import Any

from msgspec import Struct

from engine.card import verifier
from engine.card.xdp_loader import LOADED
from engine.datapath.own import Open
from engine.host.device_mac import DEVICE_MAC
from engine.host.errors import Trouble
from engine.host.files import REMEDY, private
from engine.host.layout import WHOLE, Places, difference, numbers, places
from engine.host.privileges import missing_capabilities
from engine.settings.limits import MAX_SESSIONS
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION

SOURCE = private("souppp.bpf.c")
KERNEL_PATH_SOURCE = private("kernel_path.bpf.c")
HEADERS = private("bcc-headers")
LOADER = Path(__file__).with_name("xdp_loader.py")
LOAD_TIMEOUT = 300.0
"""Seconds for what takes half a second, and a minute or more on a busy emulated processor."""
MAX_QUEUES = 128
"""Entries of the programs' maps by queue."""
NETWORKS = 1 << 16
"""That are routed to the sessions of the in-kernel data path, all in all; each takes memory when it is there only."""
PROGRAMS, MAPS = ("souppp",), ("ethertypes", "xsks", "counters")
"""Descriptors go by these names, and those of the in-kernel data path."""
KERNEL_PATH_PROGRAMS = ("push",)
KERNEL_PATH_MAPS = ("numbers", "sessions", "networks", "traffic", "strays", "devices", "received", "sent")

ETHERTYPES = (ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION)
"""What is handed over: PPPoE Discovery and Session (RFC 2516 section 4)."""

# linux/bpf.h and linux/if_link.h
_BPF_XDP = 37
_XDP_FLAGS_SKB_MODE = 1 << 1
_XDP_FLAGS_DRV_MODE = 1 << 2
_XDP_ATTACHED_SKB = 2
_PROG_INFO = struct.Struct("=64x16s")
_LINK_INFO = struct.Struct("=III")
_ATTACHED_TO = struct.Struct("=16xI")
"""In what is told of a link: the index of its device, 0 once it was detached."""
_MAP_INFO = struct.Struct("=8xII")
_ANSWER = 1 << 16
"""Octets; some 2,000 are used."""


_COUNTS = ("redirected", "passed", "failed")
_MAPS: dict[str, tuple[Any, Any]] = {
    "ethertypes": (ctypes.c_uint16, ctypes.c_uint8),
    "xsks": (ctypes.c_uint32, ctypes.c_uint32),
    "counters": (ctypes.c_uint32, numbers(_COUNTS)),
}
"""Keys and values as in souppp.bpf.c."""


class XdpError(Trouble):
    """One line for the operator: what could not be done and what to do."""


class XdpCounters(Struct, frozen=True):
    """Frames that the program saw on one queue."""

    redirected: int
    """Handed to the engine."""
    passed: int
    """Not ours: left to the kernel."""
    failed: int
    """Ours, but no socket took them: left to the kernel."""


class _LinkOptions(ctypes.Structure):
    """`struct bpf_link_create_opts`, as far as XDP needs it."""

    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 52)]


class _QueryOptions(ctypes.Structure):
    """`struct bpf_xdp_query_opts`."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("program", ctypes.c_uint32),
        ("driver_program", ctypes.c_uint32),
        ("hardware_program", ctypes.c_uint32),
        ("skb_program", ctypes.c_uint32),
        ("mode", ctypes.c_uint8),
    ]


@cache
def _libbpf() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise XdpError("libbpf is missing: run `apt-get install libbpf1`") from None
    library.libbpf_set_print.argtypes = [ctypes.c_void_p]
    library.libbpf_set_print(None)  # errors are told by us; nothing else may write on the operator's screen
    library.bpf_map_update_elem.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64]
    library.bpf_map_delete_elem.argtypes = [ctypes.c_int, ctypes.c_char_p]
    library.bpf_map_lookup_elem.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    library.bpf_link_create.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(_LinkOptions)]
    library.bpf_xdp_query.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(_QueryOptions)]
    return library


class Loading:
    """The XDP programs on their way: compiled and loaded by a child process while the caller does something else."""

    def __init__(
        self, *, kernel_path: bool = False, shared: Mapping[str, int] | None = None, keep: Path | None = None
    ) -> None:
        """Start the child. Raises XdpError.

        With `kernel_path` the in-kernel data path comes with the program on the card; it takes 0.2 s longer. `shared`
        are maps of an earlier program to go on with. What is compiled is kept for the next start in the folder `keep`.
        """
        if not HEADERS.is_dir():
            raise XdpError(f"the header tree for bcc is missing ({HEADERS}): {REMEDY}")
        self._kernel_path = kernel_path
        self.refused = False
        """Whether there is no in-kernel data path, in the child's own words, and a program without may well be had."""
        order = _order(kernel_path, shared or {})
        if keep is not None:
            order["kept"] = str(keep / ("kernel-path.compiled" if kernel_path else "xdp.compiled"))
        self._names = (*order["programs"], *order["maps"])
        self.layouts: dict[str, tuple[Places, Places]] = {}
        """Of the keys and values of the maps, once `finish` has returned."""
        self._started = time.monotonic()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # No pipe: it would be full before the verifier has said all.
        self._complaints = os.fdopen(os.memfd_create("complaints"), "w+b")  # a service has no /tmp
        # The child keeps what is blocked here: a signal to the whole group is for its parent to heed, who ends it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-I", str(LOADER), str(theirs.fileno()), json.dumps(order)],
                pass_fds=[theirs.fileno(), *order["shared"].values()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
            )
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def pid(self) -> int:
        """The child."""
        return self._child.pid

    @property
    def done(self) -> bool:
        """Whether `finish` won't wait."""
        return self._patience() == 0 or bool(select([self._ours], [], [], 0)[0])

    def _patience(self) -> float:
        return max(self._started + LOAD_TIMEOUT - time.monotonic(), 0)

    def finish(self) -> dict[str, int]:
        """Descriptors of the loaded programs and their maps, by name. Raises XdpError."""
        self._ours.settimeout(self._patience() or 0.001)
        answer = b""
        descriptors: list[int] = []
        try:
            with suppress(ConnectionError):
                answer, descriptors, _, _ = socket.recv_fds(self._ours, _ANSWER, len(self._names))
                self.refused = self._kernel_path and bool(answer) and not descriptors
        except TimeoutError:
            answer = f"cannot load the XDP program: that took longer than {LOAD_TIMEOUT:.0f} s".encode()
        finally:
            died = self._died() if not answer else ""
            complaint = self.close() or died
        if answer.startswith(LOADED) and len(descriptors) == len(self._names):
            told = json.loads(answer.removeprefix(LOADED))
            self.layouts = {name: (_places(key), _places(value)) for name, (key, value) in told.items()}
            return dict(zip(self._names, descriptors, strict=True))
        for fd in descriptors:
            os.close(fd)
        raise XdpError(_load_failure(answer.decode(errors="replace"), complaint))

    def _died(self) -> str:
        """How the child ended without an answer, if it was killed."""
        with suppress(subprocess.TimeoutExpired):
            if self._child.wait(1.0) == -signal.SIGKILL:
                return "it was killed. bcc takes 150 MB for a moment: is there a limit (MemoryMax=, a cgroup's)?"
        return ""

    def give_up(self) -> None:
        """Let `finish` fail soon; any thread."""
        self._child.kill()

    def close(self) -> str:
        """End the child, if it hasn't ended; returns what it complained about."""
        if self._child.returncode is not None:
            return ""
        self._ours.close()
        self._child.kill()
        self._child.wait()
        with self._complaints as complaints:
            complaints.seek(0)
            return complaints.read().decode(errors="replace")


def _order(kernel_path: bool, shared: Mapping[str, int]) -> dict[str, Any]:
    """What `engine.card.xdp_loader` is to do."""
    order: dict[str, Any] = {
        "headers": str(HEADERS),
        "sources": [str(SOURCE)],
        "flags": [f"-DQUEUES={MAX_QUEUES}"],
        "programs": PROGRAMS,
        "maps": MAPS,
        "shared": dict(shared),
    }
    if kernel_path:
        order["sources"] += [str(KERNEL_PATH_SOURCE)]
        octets = ", ".join(map(str, DEVICE_MAC))
        sizes = (f"-DSESSIONS={MAX_SESSIONS}", f"-DNETWORKS={NETWORKS}")
        order["flags"] += ["-DKERNEL_PATH", *sizes, f"-DDEVICE_MAC={{{octets}}}"]
        order["flags"] += [f"-D{each.name}_OPEN={each.value}" for each in (Open.IPV4, Open.IPV6)]
        order["programs"] += KERNEL_PATH_PROGRAMS
        order["maps"] += KERNEL_PATH_MAPS
    return order


_FORBIDDEN = ("Operation not permitted", "Function not implemented")
"""How a system call fails that a container's rules refuse (seccomp)."""


def _load_failure(answer: str, complaint: str) -> str:
    """One line out of what the child says and what bcc, its compiler and the kernel write."""
    forbidden, missing = any(words in complaint for words in _FORBIDDEN), missing_capabilities()
    if missing and (forbidden or answer):
        return f"cannot load the XDP program: root rights are needed ({', '.join(missing)}): run it with sudo"
    if forbidden:
        return "cannot load the XDP program: the kernel allows none here (a container's rules, or lockdown)"
    what = answer or "cannot load the XDP program: its loader died"
    return ": ".join(filter(None, (what, verifier.reason(complaint))))


def _places(told: dict[str, list[int]]) -> Places:
    return {field: (offset, size) for field, (offset, size) in told.items()}


def check_map(name: str, map_fd: int, told: tuple[Places, Places], key: Any, value: Any) -> None:
    """See that a map has keys and values of these types of ctypes, by the compiler's word and the kernel's.

    Raises XdpError.
    """
    sizes = _object_info(map_fd, _MAP_INFO)
    for what, ours, theirs, size in zip(("key", "value"), map(places, (key, value)), told, sizes, strict=True):
        if text := difference(ours, theirs) or difference({WHOLE: ours[WHOLE]}, {WHOLE: (0, int(size))}):
            raise XdpError(f"the XDP program is not the one that belongs here ({what} of {name}: {text}): {REMEDY}")


def set_entry(map_fd: int, key: bytes, value: bytes) -> None:
    """Set one entry of a map. Raises XdpError."""
    if _libbpf().bpf_map_update_elem(map_fd, key, value, 0):
        raise XdpError(f"cannot fill the XDP program's map: {os.strerror(ctypes.get_errno())}")


def delete_entry(map_fd: int, key: bytes) -> None:
    """Take an entry out of a map, if it is there."""
    _libbpf().bpf_map_delete_elem(map_fd, key)


def entry_of(map_fd: int, key: bytes, size: int) -> bytes:
    """An entry of a map, of so many octets. Raises XdpError."""
    value = ctypes.create_string_buffer(size)
    if _libbpf().bpf_map_lookup_elem(map_fd, key, value):
        raise XdpError(f"cannot read the XDP program's map: {os.strerror(ctypes.get_errno())}")
    return value.raw


def sum_over_cpus(map_fd: int, index: int, many: int) -> tuple[int, ...]:
    """An entry of a per-CPU array whose values are so many numbers. Raises XdpError."""
    return tuple(map(sum, zip(*by_cpu(map_fd, index, many), strict=True)))


def by_cpu(map_fd: int, index: int, many: int) -> list[tuple[int, ...]]:
    """The same without adding up. Raises XdpError."""
    layout = struct.Struct(f"={many}Q")
    values = ctypes.create_string_buffer(layout.size * processors())
    if _libbpf().bpf_map_lookup_elem(map_fd, struct.pack("=I", index), values):
        raise XdpError(f"cannot read the XDP program's counters: {os.strerror(ctypes.get_errno())}")
    return list(layout.iter_unpack(values.raw))


def processors() -> int:
    """How many the kernel is ready for."""
    return int(_libbpf().libbpf_num_possible_cpus())


def _link(program: int, ifindex: int, flags: int) -> int:
    """Attaches and returns the link's descriptor, or -errno."""
    options = _LinkOptions(size=ctypes.sizeof(_LinkOptions), flags=flags)
    return int(_libbpf().bpf_link_create(program, ifindex, _BPF_XDP, ctypes.byref(options)))


def _object_info(fd: int, layout: struct.Struct) -> tuple[int | bytes, ...]:
    info = ctypes.create_string_buffer(256)
    length = ctypes.c_uint32(len(info))
    _libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(length))
    return layout.unpack_from(info)


def _last_look(fd: int, layout: struct.Struct) -> tuple[int | bytes, ...]:
    """The same, and close the descriptor."""
    try:
        return _object_info(fd, layout)
    finally:
        os.close(fd)


def _link_of(program_id: int) -> int | None:
    """The id of the link that holds a program, if one does."""
    libbpf, link_id = _libbpf(), ctypes.c_uint32(0)
    while libbpf.bpf_link_get_next_id(link_id, ctypes.byref(link_id)) == 0:
        fd = libbpf.bpf_link_get_fd_by_id(link_id)
        if fd >= 0 and _last_look(fd, _LINK_INFO)[2] == program_id:
            return link_id.value
    return None


def _holder(program_id: int) -> str | None:
    """`process 123 (name)` of one that has a link of this program; found without the right to ask for either."""
    for fdinfo in Path("/proc").glob("[0-9]*/fdinfo"):
        with suppress(OSError):
            for entry in fdinfo.iterdir():
                told = entry.read_text()
                if "link_id:" in told and f"prog_id:\t{program_id}\n" in told:
                    return f"process {fdinfo.parent.name} ({(fdinfo.parent / 'comm').read_text().strip()})"
    return None


def _occupied(ifname: str, ifindex: int) -> str:
    """Whose program is on the card, and what to do."""
    libbpf, query = _libbpf(), _QueryOptions(size=ctypes.sizeof(_QueryOptions))
    if libbpf.bpf_xdp_query(ifindex, 0, ctypes.byref(query)) or not query.program:
        return f"another XDP program is on {ifname}: stop what attached it"
    fd = libbpf.bpf_prog_get_fd_by_id(query.program)
    name = bytes(_last_look(fd, _PROG_INFO)[0]).rstrip(b"\0").decode() if fd >= 0 else ""
    what = f"another XDP program is on {ifname}: {name or 'without a name'}, id {query.program}"
    if holder := _holder(query.program):
        return f"{what}, held by {holder}; stop that first"
    if _link_of(query.program) is not None:
        return f"{what}, held by a process; stop that first"
    mode = "xdpgeneric" if query.mode == _XDP_ATTACHED_SKB else "xdpdrv"
    return f"{what}; if nobody needs it, run `ip link set dev {ifname} {mode} off`"


_MODES = {"native": _XDP_FLAGS_DRV_MODE, "generic": _XDP_FLAGS_SKB_MODE}


def _index_of(ifname: str) -> int:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        raise XdpError(f"there is no network card {ifname}: `ip link` lists them") from None


def _attach(program: int, ifname: str, ifindex: int, modes: Iterable[str]) -> tuple[int, str, str]:
    """In the first mode that can be: the link's descriptor, that mode, and what the driver says against a better one.

    Raises XdpError.
    """
    objection = ""
    for mode in modes:
        flags = _MODES[mode]
        link = _link(program, ifindex, flags)
        if link >= 0:
            return link, mode, objection
        if link in (-errno.EBUSY, -errno.EEXIST):
            raise XdpError(_occupied(ifname, ifindex))
        if link == -errno.EPERM:
            raise XdpError("cannot attach the XDP program: root rights are needed (CAP_NET_ADMIN): run it with sudo")
        from engine.card.objection import drivers_words  # with pyroute2, which the loader needn't wait for

        objection = drivers_words(program, ifindex, flags) or os.strerror(-link)
    raise XdpError(f"cannot attach the XDP program to {ifname}: {objection}")


class XdpProgram:
    """Our program on one card, from `attach` to `close` or the end of the process."""

    def __init__(
        self,
        descriptors: dict[str, int],
        layouts: Mapping[str, tuple[Places, Places]],
        queues: int,
        link: int,
        mode: str,
        objection: str,
    ) -> None:
        self.descriptors = descriptors
        """Of the programs and maps, by name."""
        self._layouts = layouts
        self.queues = queues
        """How many of them `counters` are for."""
        self._link = link
        self._more: Loading | None = None
        self.mode = mode
        """`native` or `generic`: where it runs."""
        self.objection = objection
        """Why it does not run in the driver, in the driver's words; empty if it does or wasn't to."""
        self.xsk_map_fd = descriptors["xsks"]
        """The map of AF_XDP sockets by queue."""

    @classmethod
    def attach(cls, ifname: str, queues: int, *, generic: bool = False, loading: Loading | None = None) -> XdpProgram:
        """Loads the program and attaches it for the queues 0 … queues-1, natively if that works and is not unwanted.

        `loading` is a program that is being loaded already. Frames are handed over as soon as a queue has a socket in
        `xsk_map_fd`. Raises XdpError.
        """
        loading = loading or Loading()
        if queues > MAX_QUEUES:
            loading.close()
            raise XdpError(f"{ifname} has {queues} queues, of which {MAX_QUEUES} can be used: `ethtool -L` sets fewer")
        try:
            ifindex = _index_of(ifname)
        except XdpError:
            loading.close()
            raise
        try:
            descriptors = loading.finish()
        except XdpError:
            if not loading.refused:
                raise
            loading = Loading()  # why there is no in-kernel path is told to who asks for it
            descriptors = loading.finish()
        try:
            for name, (key, value) in _MAPS.items():
                check_map(name, descriptors[name], loading.layouts[name], key, value)
            for ethertype in ETHERTYPES:
                set_entry(descriptors["ethertypes"], struct.pack("!H", ethertype), b"\1")
            modes = ("generic",) if generic else tuple(_MODES)
            link, mode, objection = _attach(descriptors["souppp"], ifname, ifindex, modes)
        except XdpError:
            for fd in descriptors.values():
                os.close(fd)
            raise
        return cls(descriptors, loading.layouts, queues, link, mode, objection)

    @property
    def has_kernel_path(self) -> bool:
        """Whether the in-kernel data path is loaded."""
        return not set(KERNEL_PATH_MAPS) - set(self.descriptors)

    @property
    def kernel_path_loading(self) -> bool:
        """Whether `load_kernel_path` was called, and `add_kernel_path` not yet."""
        return self._more is not None

    @property
    def kernel_path_done(self) -> bool:
        """Whether `add_kernel_path` won't wait for the in-kernel data path to be loaded, whatever comes of it."""
        return self.has_kernel_path or (self._more is not None and self._more.done)

    def load_kernel_path(self) -> None:
        """Begin to load the in-kernel data path, if that hasn't begun. Raises XdpError."""
        if not self.has_kernel_path and self._more is None:
            self._more = Loading(kernel_path=True, shared={name: self.descriptors[name] for name in MAPS})

    def add_kernel_path(self) -> None:
        """Put a program with the in-kernel data path in the place of that on the card; waits for it. Raises XdpError.

        No frame is lost by that.
        """
        self.load_kernel_path()
        more, self._more = self._more, None
        if more is None:
            return
        descriptors = more.finish()
        if error := _libbpf().bpf_link_update(self._link, descriptors["souppp"], None):
            for fd in descriptors.values():
                os.close(fd)
            raise XdpError(f"cannot put the in-kernel data path on the card: {os.strerror(-error)}")
        for name in MAPS:  # the same maps; other threads may be reading them by the descriptors that they know
            os.close(descriptors[name])
            descriptors[name] = self.descriptors[name]
        former, self.descriptors, self._layouts = self.descriptors, descriptors, more.layouts
        for name in PROGRAMS:
            os.close(former[name])

    @property
    def taken_off(self) -> bool:
        """Whether somebody has taken it off the card, or its card away; of which the kernel tells nobody."""
        return _object_info(self._link, _ATTACHED_TO) == (0,)

    def put_back(self, ifname: str) -> None:
        """On the card again, in the mode that it had. Raises XdpError."""
        index = _index_of(ifname)
        link, _, _ = _attach(self.descriptors["souppp"], ifname, index, (self.mode,))
        os.close(self._link)
        self._link = link

    def check_map(self, name: str, key: Any, value: Any) -> None:
        """See that a map has keys and values of these types of ctypes. Raises XdpError."""
        check_map(name, self.descriptors[name], self._layouts[name], key, value)

    def counters(self) -> list[XdpCounters]:
        """One per queue. Raises XdpError."""
        counters = self.descriptors["counters"]
        return [XdpCounters(*sum_over_cpus(counters, queue, len(_COUNTS))) for queue in range(self.queues)]

    def close(self) -> None:
        """Takes the program off the card. A second call does nothing."""
        if self._more is not None:
            self._more.close()
        for fd in (self._link, *self.descriptors.values()):
            if fd >= 0:
                os.close(fd)
        self._link, self.descriptors = -1, {}
