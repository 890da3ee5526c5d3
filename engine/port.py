"""The card as the engine uses it: the XDP program on it, and the queues behind that."""

from __future__ import annotations

from array import array
from contextlib import ExitStack

from engine.api import QueueView
from engine.datapath import Datapath
from engine.host import Card, Promiscuous
from engine.wire.keys import FourKeys
from engine.xdp import Loading, XdpProgram


class Port:
    """Owns the XDP program and the data path of one card, from construction to `close`."""

    def __init__(
        self, card: Card, *, generic: bool = False, busy_poll: bool = False, loading: Loading | None = None
    ) -> None:
        """Take the card; `loading` is an XDP program being loaded already. Raises XdpError or DatapathError."""
        self.card = card
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
        self.notice = self._program.notice

    def plug(self, number: int, keys: FourKeys, fd: int, mtu: int) -> None:
        """Let a session's packets flow to and from `fd`; with -1 only make it known. Replaces what was there."""
        self.unplug(number)
        self.datapath.add_session(number, keys, fd, mtu)
        self._plugged.add(number)

    def unplug(self, number: int) -> None:
        """After this nothing touches the session's descriptor any more."""
        if number in self._plugged:
            self._plugged.discard(number)
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
        return self.datapath.traffic(sessions)

    def queues(self) -> tuple[QueueView, ...]:
        """Every queue as it stands."""
        counts = zip(self.datapath.queue_counters(), self._program.counters(), strict=True)
        return tuple(
            QueueView(
                index=index,
                rx_packets=queue.rx_packets,
                rx_bytes=queue.rx_bytes,
                tx_packets=queue.tx_packets,
                tx_bytes=queue.tx_bytes,
                drops=tuple((reason, n) for reason, n in queue.drops.items() if n),
                redirected=xdp.redirected,
                passed=xdp.passed,
                failed=xdp.failed,
                rx_ring_fill=queue.rx_ring_fill,
                tx_ring_fill=queue.tx_ring_fill,
                cpu=queue.cpu,
            )
            for index, (queue, xdp) in enumerate(counts)
        )

    def close(self) -> None:
        """Give the card back as it was. What was handed to the data path for sending still goes out."""
        self.datapath.close()
        self._program.close()
        if self._promiscuous is not None:
            self._promiscuous.close()
