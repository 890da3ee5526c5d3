"""The card while we have it: the XDP program on it, and the AF_XDP sockets behind that."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec.structs import replace

from engine.card import ethtool
from engine.card.facts import Card, Promiscuous, queues_in_use
from engine.card.objection import joining, remedy
from engine.card.xdp import Loading, XdpError, XdpProgram
from engine.datapath import Datapath
from engine.settings.values import XdpMode

MASTERS = ("bonding", "team")
"""Drivers of cards that are made of others. They take a native program, and nothing arrives: a frame comes with the
queue of the card beneath, and an AF_XDP socket takes only frames of the queue it is bound to."""
MASTERS_OBJECTION = "it is made of other cards, whose queues frames come by"


class Port:
    """Owns the XDP program and the queues of one card, from construction to `close`."""

    def __init__(
        self,
        card: Card,
        *,
        xdp: XdpMode = XdpMode.AUTO,
        busy_poll: bool = False,
        loading: Loading | None = None,
    ) -> None:
        """Take the card; `loading` are the XDP programs being loaded already. Raises XdpError or DatapathError."""
        self.card = card
        """As it is with the program on it, which may have more queues than before: virtio_net adds some for it."""
        self._promiscuous: Promiscuous | None = None
        with ExitStack() as undo:
            beneath = card.driver in MASTERS and xdp is not XdpMode.GENERIC
            generic = beneath or xdp is XdpMode.GENERIC
            self.program = XdpProgram.attach(card.name, card.queues, generic=generic, loading=loading)
            undo.callback(self.program.close)
            if xdp is XdpMode.ZERO_COPY and self.program.mode == "generic":
                reason = self.program.objection or MASTERS_OBJECTION
                why = f"XDP does not run in its driver ({reason}); use `xdp: auto`"
                raise XdpError(f"{card.name} can't do zero-copy: {why}")
            self.card = _with_queues(card)
            self.program.queues = self.card.queues
            self.datapath = Datapath(
                card.name,
                self.card.queues,
                self.program.xsk_map_fd,
                busy_poll=busy_poll,
                zero_copy=_zero_copy(xdp, self.program.mode),
            )
            undo.pop_all()
        self.mode = self.program.mode
        self.objection = self.program.objection or (MASTERS_OBJECTION if beneath else "")
        """Why XDP does not run in the driver, in its words; empty if it does or wasn't to."""
        self.notice = _slower(card, self.objection)

    def hear_all(self) -> bool:
        """Make the card take frames for any MAC address and VLAN; whether that is new. Raises HostError."""
        if self._promiscuous is not None:
            return False
        self._promiscuous = Promiscuous(self.card.index)
        return True

    def grow(self, now: Card) -> None:
        """Serve the queues that the card has been given meanwhile as well. Raises DatapathError."""
        self.datapath.add_queues(now.name, now.queues)
        self.card = now
        self.program.queues = now.queues

    def rename(self, name: str) -> None:
        """The card has another name now."""
        self.card = replace(self.card, name=name)

    def close(self) -> None:
        """Give the card back as it was. What was handed to the data path for sending still goes out."""
        with ExitStack() as steps:  # each of them whatever becomes of the others, the last one here first
            if self._promiscuous is not None:
                steps.callback(self._promiscuous.close)
            steps.callback(self.program.close)
            steps.callback(self.datapath.close)


def _with_queues(card: Card) -> Card:
    rx, tx = queues_in_use(card.name) or (card.rx_queues, card.tx_queues)
    return replace(card, rx_queues=rx, tx_queues=tx)


def _zero_copy(xdp: XdpMode, mode: str) -> bool | None:
    """What to ask the driver for: zero copy, no zero copy, or what it can (None)."""
    if mode == "generic" or xdp is XdpMode.COPY:
        return False
    return True if xdp is XdpMode.ZERO_COPY else None


def _slower(card: Card, objection: str) -> str:
    """The notice of a card that runs XDP in generic mode because of this; empty if it doesn't."""
    if not objection:
        return ""
    what = remedy(objection, card, joining(objection, card.name), ethtool.channels(card.name))
    text = f"{card.name} cannot run XDP in its driver ({objection}): generic mode is used, which is slower"
    return f"{text}. Remedy: {what}." if what else f"{text}."
