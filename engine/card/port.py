"""The card as the engine uses it: the XDP program on it, and the queues behind that."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import repeat

from engine.api.values import QueueView
from engine.card import ethtool
from engine.card.facts import Card, Promiscuous
from engine.card.objection import joining, locked_queues, remedy
from engine.card.xdp import Loading, XdpError, XdpProgram, processors
from engine.datapath import Datapath, DatapathError, Open
from engine.egress.tun import open_tun
from engine.egress.veth import HiddenNet, KernelPath, PathCounters, obstacle
from engine.settings.values import DatapathChoice
from engine.wire.keys import FourKeys

MANY_SESSIONS = 4
"""From so many on, the in-kernel data path is the better one."""


class Port:
    """Owns the XDP program and the data path of one card, from construction to `close`."""

    def __init__(
        self,
        card: Card,
        hidden: HiddenNet,
        *,
        generic: bool = False,
        busy_poll: bool = False,
        loading: Loading | None = None,
    ) -> None:
        """Take the card; `loading` are the XDP programs being loaded already. Raises XdpError or DatapathError."""
        self.card = card
        self._hidden = hidden
        self._kernel: KernelPath | None = None
        self.kernel_notice = ""
        """What is slower on the in-kernel path than it could be, in a line, once it is loaded; mostly empty."""
        self._no_kernel = ""
        """Why it can't be loaded, if that was tried in vain."""
        self._plugged: set[int] = set()
        self._promiscuous: Promiscuous | None = None
        with ExitStack() as undo:
            self._program = XdpProgram.attach(card.name, card.queues, generic=generic, loading=loading)
            undo.callback(self._program.close)
            self.datapath = Datapath(
                card.name,
                card.queues,
                self._program.xsk_map_fd,
                busy_poll=busy_poll,
                copy=self._program.mode == "generic",
            )
            undo.pop_all()
        self.mode = self._program.mode
        self.objection = self._program.objection
        """Why XDP does not run in the driver, in its words; empty if it does or wasn't to."""
        self.notice = _slower(card, self.objection)

    def choose(self, wanted: DatapathChoice, sessions: int) -> DatapathChoice:
        """What `auto` means on this card with so many sessions: as measured, see ARCHITECTURE.md."""
        if wanted is not DatapathChoice.AUTO:
            return wanted
        if sessions >= MANY_SESSIONS and not self.kernel_obstacle():
            return DatapathChoice.KERNEL
        return DatapathChoice.AFXDP

    def expect(self, wanted: DatapathChoice) -> None:
        """Begin to load what a session with this data path needs."""
        if wanted is not DatapathChoice.AFXDP and self.mode == "native":
            with suppress(XdpError):
                self._program.load_kernel_path()

    def open_device(self, number: int, path: DatapathChoice, name: str) -> int:
        """Make a session's device for a data path; returns its descriptor. Raises DatapathError."""
        return open_tun(name) if path is DatapathChoice.AFXDP else self._need_kernel().open_device(number, name)

    def kernel_known(self) -> bool:
        """Whether `kernel_obstacle` won't wait; begins to load the in-kernel path where it must be known."""
        if self._kernel is None and not self._no_kernel and not obstacle(self.card, self.mode):
            with suppress(XdpError):
                self._program.load_kernel_path()
                return self._program.kernel_path_done
        return True

    def kernel_obstacle(self) -> str:
        """Why this card can't carry the in-kernel path, in one line; empty if it can. Waits until it is loaded."""
        reason = self._no_kernel or obstacle(self.card, self.mode)
        if self._kernel is None and not reason:
            try:
                self._program.add_kernel_path()
                self._kernel = KernelPath(self.card, self._program, self._hidden)
                self.kernel_notice = locked_queues(self.card, ethtool.channels(self.card.name), processors())
            except XdpError as error:
                reason = self._no_kernel = str(error)
        return reason if self._kernel is None else ""

    def _need_kernel(self) -> KernelPath:
        """The in-kernel path. Raises DatapathError."""
        reason = self.kernel_obstacle()
        if self._kernel is None:
            raise DatapathError(reason)
        return self._kernel

    def closer(self, path: DatapathChoice) -> Callable[[int], None]:
        """What closes such a device's descriptor, also after this port is closed."""
        return os.close if path is DatapathChoice.AFXDP else self._hidden.remove

    def make_known(self, number: int, keys: FourKeys, mru: int) -> None:
        """Let a session's control frames come before strangers'."""
        self._plug(number, keys, -1, mru, Open.NONE)

    def plug(self, number: int, path: DatapathChoice, keys: FourKeys, fd: int, mtu: int, opened: Open) -> None:
        """Let a session's packets flow to and from its device. Replaces what was there."""
        if path is DatapathChoice.AFXDP:
            self._plug(number, keys, fd, mtu, opened)
        elif self._kernel is not None:
            self._plug(number, keys, -1, mtu, Open.NONE)
            self._kernel.add_session(number, keys, mtu, opened)

    def _plug(self, number: int, keys: FourKeys, fd: int, mtu: int, opened: Open) -> None:
        self.unplug(number)
        self.datapath.add_session(number, keys, fd, mtu, opened)
        self._plugged.add(number)

    def set_open(self, number: int, opened: Open) -> None:
        """Change which packets of a session flow; those of one that isn't plugged in don't."""
        if number in self._plugged:
            self.datapath.set_open(number, opened)
            if self._kernel is not None:
                self._kernel.set_open(number, opened)

    def unplug(self, number: int) -> None:
        """After this nothing touches the session's descriptor any more."""
        if number in self._plugged:
            self._plugged.discard(number)
            if self._kernel is not None:
                self._kernel.remove_session(number)
            self.datapath.remove_session(number)

    def hear_other_macs(self) -> bool:
        """Make the card take frames for MAC addresses that are not its own; whether that is new. Raises HostError."""
        if self._promiscuous is not None:
            return False
        self._promiscuous = Promiscuous(self.card.index)
        because = f"{self.card.name} is in promiscuous mode: sessions have MAC addresses of their own."
        self.notice = self.notice or because
        return True

    def traffic(self, sessions: int) -> array[int]:
        """See `Datapath.traffic`."""
        if self._kernel is None:
            return self.datapath.traffic(sessions)
        traffic = self._kernel.traffic(sessions)
        self.datapath.add_traffic(traffic)
        return traffic

    def queues(self) -> tuple[QueueView, ...]:
        """Every queue as it stands."""
        counts = zip(
            self.datapath.queue_counters(),
            self._kernel.queue_counters(self.card.queues) if self._kernel else repeat(PathCounters(), self.card.queues),
            self._program.counters(),
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
        """Give the card back as it was. What was handed to the data path for sending still goes out."""
        self.datapath.close()
        if self._kernel is not None:
            self._kernel.close()
        self._program.close()
        if self._promiscuous is not None:
            self._promiscuous.close()


def _slower(card: Card, objection: str) -> str:
    """The notice of a card that runs XDP in generic mode because of this; empty if it doesn't."""
    if not objection:
        return ""
    what = remedy(objection, card, joining(objection, card.name), ethtool.channels(card.name))
    text = f"{card.name} cannot run XDP in its driver ({objection}): generic mode is used, which is slower"
    return f"{text}. Remedy: {what}." if what else f"{text}."
