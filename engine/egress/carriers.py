"""What moves the sessions' frames on a card that is ours: AF_XDP sockets, or XDP programs inside the kernel."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat

from msgspec import Struct

from engine.api.values import QueueView
from engine.card import ethtool
from engine.card.objection import locked_queues
from engine.card.port import Port
from engine.card.xdp import XdpError, processors
from engine.datapath import DatapathError
from engine.datapath.own import CLOSED, Own
from engine.egress import tun
from engine.egress.kept import KeptDevice
from engine.egress.making import Making
from engine.egress.tun import close_tun, open_tun
from engine.egress.veth import HiddenNet, KernelPath, PathCounters, obstacle, queue_before
from engine.host.rtnl import Template
from engine.host.surroundings import has_tun
from engine.settings.values import MANY_SESSIONS, DatapathChoice
from engine.wire.place import Place


class _Plugged(Struct, frozen=True):
    """A session as the helper knows it, but for its own addresses."""

    place: Place
    fd: int
    mtu: int
    """0 where the helper carries none of its packets."""
    ducted: bool


class Carriers:
    """Both carriers of one card. Made when the card is taken, closed before it is given back."""

    def __init__(self, port: Port, hidden: HiddenNet) -> None:
        self._port = port
        self._hidden = hidden
        self._kernel: KernelPath | None = None
        self._no_kernel = ""
        """Why it can't be loaded, if that was tried in vain."""
        self.kernel_notice = ""
        """What is slower on the in-kernel path than it could be, in a line, once it is loaded; mostly empty."""
        self._plugged: dict[int, _Plugged] = {}
        """What the helper knows of sessions, by key."""
        self._owns: dict[int, Own] = {}
        """Their own addresses."""

    def choose(self, wanted: DatapathChoice, sessions: int) -> DatapathChoice:
        """What `auto` means on this card with so many sessions: as measured, see docs/PERFORMANCE.md."""
        if wanted is not DatapathChoice.AUTO:
            return wanted
        if (sessions >= MANY_SESSIONS or not has_tun()) and not self.kernel_obstacle():
            return DatapathChoice.KERNEL
        return DatapathChoice.AFXDP

    def expect(self, wanted: DatapathChoice) -> None:
        """Begin to load what a session with this data path needs."""
        if wanted is not DatapathChoice.AFXDP and self._port.mode == "native":
            with suppress(XdpError):
                self._port.program.load_kernel_path()

    def open_device(self, key: int, path: DatapathChoice, mtu: int, name: str) -> int:
        """Make a session's device for a data path here and now; returns its descriptor. Raises DatapathError.

        It has the MTU already where the kernel makes it with one.
        """
        return open_tun(name) if path is DatapathChoice.AFXDP else self._need_kernel().open_device(key, name, mtu)

    def making(self, key: int, path: DatapathChoice, mtu: int, name: str) -> Making:
        """What another thread makes the same by; `connect` is to follow. Raises DatapathError or HostError."""
        return tun.making(name) if path is DatapathChoice.AFXDP else self._need_kernel().making(key, name, mtu)

    def connect(self, key: int, path: DatapathChoice, fd: int) -> None:
        """A device has been made, and packets are to flow to its descriptor."""
        if path is not DatapathChoice.AFXDP:
            self._need_kernel().connect(key, fd)

    def adopt_device(self, key: int, kept: KeptDevice, fd: int, name: str) -> int:
        """Take over a device that an earlier process has left, a TUN device by its descriptor; as `open_device`."""
        return fd if kept.path is DatapathChoice.AFXDP else self._need_kernel().adopt_device(key, name, kept.end)

    def kernel_known(self) -> bool:
        """Whether `kernel_obstacle` won't wait; begins to load the in-kernel path where it must be known.

        The card is asked until it is being loaded, and not for each session that waits for that.
        """
        program = self._port.program
        if self._kernel is not None or self._no_kernel:
            return True
        if program.kernel_path_loading or not obstacle(self._port.card, self._port.mode):
            with suppress(XdpError):
                program.load_kernel_path()
                return program.kernel_path_done
        return True

    def kernel_obstacle(self) -> str:
        """Why this card can't carry the in-kernel path, in one line; empty if it can. Waits until it is loaded."""
        if self._kernel is not None:
            return ""
        card, program = self._port.card, self._port.program
        reason = self._no_kernel or obstacle(card, self._port.mode)
        if not reason:
            try:
                self._hidden.check()
                program.add_kernel_path()
                self._kernel = KernelPath(card, program, self._hidden)
                self.kernel_notice = locked_queues(card, ethtool.channels(card.name), processors())
            except (XdpError, DatapathError) as error:
                reason = self._no_kernel = str(error)
        return reason

    def _need_kernel(self) -> KernelPath:
        """The in-kernel path. Raises DatapathError."""
        reason = self.kernel_obstacle()
        if self._kernel is None:
            raise DatapathError(reason)
        return self._kernel

    @staticmethod
    def finish(path: DatapathChoice) -> Sequence[Template]:
        """What a new device needs besides, by its index; that the kernel knows of no such thing is no matter."""
        return (queue_before,) if path is DatapathChoice.KERNEL else ()

    def closer(self, path: DatapathChoice) -> Callable[[int, bool], None]:
        """What closes such a device's descriptor, also after this port is closed."""
        return close_tun if path is DatapathChoice.AFXDP else self._hidden.remove

    def make_known(self, key: int, place: Place, mru: int) -> None:
        """Let a session's control frames come before strangers'."""
        self._plug(key, place, -1, mru, CLOSED)

    def plug(self, key: int, path: DatapathChoice, place: Place, fd: int, mtu: int, own: Own) -> None:
        """Let a session's packets flow between its device and its own addresses. Replaces what was there."""
        if path is DatapathChoice.AFXDP:
            self._plug(key, place, fd, mtu, own)
        elif self._kernel is not None:
            self._plug(key, place, -1, mtu, own)
            self._kernel.add_session(key, place, mtu, own)

    def plug_bare(self, key: int, place: Place, mtu: int, own: Own, *, ducted: bool) -> None:
        """The same for a session without a device: by the ducts, or nowhere."""
        self._plug(key, place, -1, mtu, own, ducted=ducted)

    @property
    def workers(self) -> int:
        """How many there are, one of each queue."""
        return self._port.card.queues

    def open_duct(self, worker: int, size: int) -> tuple[int, ...]:
        """See `Datapath.open_duct`."""
        return self._port.datapath.open_duct(worker, size)

    def duct_broken(self) -> bool:
        """See `Datapath.duct_broken`."""
        return self._port.datapath.duct_broken()

    def _plug(self, key: int, place: Place, fd: int, mtu: int, own: Own, *, ducted: bool = False) -> None:
        plugged = _Plugged(place, fd, mtu if ducted or fd >= 0 else 0, ducted)
        if self._plugged.get(key) != plugged:
            self.unplug(key)
            self._port.datapath.add_session(key, place, fd, mtu, own, ducted=ducted)
            self._plugged[key], self._owns[key] = plugged, own
        elif self._owns[key] != own:  # of each change all workers have to take note
            self.set_own(key, own)

    def set_own(self, key: int, own: Own) -> None:
        """Change a session's own addresses; the packets of one that isn't plugged in don't flow."""
        if key in self._plugged:
            self._port.datapath.set_own(key, own)
            self._owns[key] = own
            if self._kernel is not None:
                self._kernel.set_own(key, own)

    def strays(self, key: int) -> Counter[str]:
        """See `Datapath.strays`."""
        strays = self._port.datapath.strays(key)
        return strays + self._kernel.strays(key) if self._kernel is not None else +strays

    def unplug(self, key: int) -> None:
        """After this nothing touches the session's descriptor any more."""
        if key in self._plugged:
            del self._plugged[key], self._owns[key]
            try:
                if self._kernel is not None:
                    self._kernel.remove_session(key)
            finally:
                self._port.datapath.remove_session(key)

    def part(self) -> None:
        """All sessions are about to end, and `close` follows."""
        if self._kernel is not None:
            self._kernel.part()

    def traffic(self, sessions: int) -> array[int]:
        """See `Datapath.traffic`."""
        if self._kernel is None:
            return self._port.datapath.traffic(sessions)
        traffic = self._kernel.traffic(sessions)
        self._port.datapath.add_traffic(traffic)
        return traffic

    def queues(self) -> tuple[QueueView, ...]:
        """Every queue as it stands."""
        count = self._port.card.queues
        counts = zip(
            self._port.datapath.queue_counters(),
            self._kernel.queue_counters(count) if self._kernel else repeat(PathCounters(), count),
            self._port.program.counters(),
            strict=True,
        )
        return tuple(
            QueueView(
                index=index,
                rx_packets=queue.rx_packets + kernel.rx_packets,
                rx_bytes=queue.rx_bytes + kernel.rx_bytes,
                tx_packets=queue.tx_packets + kernel.tx_packets,
                tx_bytes=queue.tx_bytes + kernel.tx_bytes,
                drops=tuple((kernel.drops + Counter(queue.drops)).items()),
                redirected=xdp.redirected,
                passed=xdp.passed,
                failed=xdp.failed,
                rx_ring_fill=queue.rx_ring_fill,
                tx_ring_fill=queue.tx_ring_fill,
                cpu=queue.cpu,
            )
            for index, (queue, kernel, xdp) in enumerate(counts)
        )

    def close(self) -> None:
        """Carry nothing more."""
        if self._kernel is not None:
            self._kernel.close()
