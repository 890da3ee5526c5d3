"""Why a driver takes no XDP program, in its own words, and what an operator can do about it.

A `bpf_link` gives a number; netlink gives the driver's words besides, in its extended acknowledgement. So where the
link has failed the program is attached once more by netlink, which must fail as well, or else is undone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pyroute2.netlink.rtnl import RTM_SETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from engine.card import ethtool, offloads
from engine.card.facts import Card
from engine.host.rtnl import Rtnl, RtnlError, request

_UPDATE_IF_NOEXIST = 1 << 0
ENOUGH_MTU = 1508
"""What a card needs for packets of 1,500 octets (RFC 4638)."""


def drivers_words(program: int, index: int, mode: int) -> str:
    """What a driver says against a program in a mode (XDP_FLAGS_… of linux/if_link.h), empty if it says nothing."""
    rtnl = Rtnl()
    try:
        rtnl.do([_attach(program, index, mode | _UPDATE_IF_NOEXIST)])
        rtnl.do([_attach(-1, index, mode)])
    except RtnlError as error:
        return "" if error.strerror == os.strerror(error.errno or 0) else str(error.strerror).rstrip(".")
    finally:
        rtnl.close()
    return ""


def _attach(program: int, index: int, flags: int) -> bytes:
    wanted = {"attrs": [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", flags)]}
    return request(ifinfmsg, RTM_SETLINK, 0, [("IFLA_XDP", wanted)], index=index)


# How drivers speak of what joins packets.
_JOINING = {
    "rx-lro": re.compile(r"\bLRO\b|large receive", re.I),
    "rx-gro-hw": re.compile(r"\bGRO[-_ ]?HW\b|\bHW[-_ ]?GRO\b", re.I),
}
_TOO_LARGE = re.compile(r"\bMTU\b|buffer size|frame size|too (large|small|big)|\bfrags\b|multi-?buf|single page", re.I)
_QUEUES = re.compile(r"queue|channel|\brings?\b", re.I)
_GUEST_OFFLOADS = "guest_tso4, guest_tso6, guest_ecn, guest_ufo and guest_csum"


def joining(words: str, name: str) -> list[str]:
    """The offloads that these words are about, that are on and can be switched off."""
    return offloads.active(name, _meant(words), changeable=True)


def _meant(words: str) -> list[str]:
    return [feature for feature, pattern in _JOINING.items() if pattern.search(words)]


def remedy(words: str, card: Card, switchable: Sequence[str], queues: ethtool.Channels | None) -> str:
    """What an operator can do against these words of the driver, in a line; empty if nothing is known.

    `switchable` are the offloads that they are about and that can be switched off; `queues` are the card's.
    """
    name = card.name
    if switchable:
        return f"{offloads.command(name, switchable)}, or start with --fix-card"
    if "rx-gro-hw" in _meant(words):
        return f"switch {_GUEST_OFFLOADS} off for {name} in the hypervisor"
    if _TOO_LARGE.search(words) and card.mtu > ENOUGH_MTU:
        return f"a smaller MTU, as in `ip link set {name} mtu {ENOUGH_MTU}`"
    if _QUEUES.search(words) and queues is not None and queues.combined > 1:
        return f"fewer queues, as in `ethtool -L {name} combined {queues.combined // 2}`"
    return ""


def locked_queues(card: Card, queues: ethtool.Channels | None, processors: int) -> str:
    """Why a virtio card sends redirected frames slowly, in a line; empty if it doesn't.

    Its driver wants a queue for each processor beside those in use; where there are fewer it shares them, behind a
    lock, and says so in the kernel's log alone.
    """
    if card.driver != "virtio_net" or queues is None or queues.combined + processors <= queues.max_combined:
        return ""
    spare = queues.max_combined - processors
    if spare >= 1:
        what = f"`ethtool -L {card.name} combined {spare}` before the start"
    else:
        what = f"give it {queues.combined + processors} queues or more in the hypervisor"
    return (
        f"{card.name} has no spare queue for each of {processors} processors ({queues.combined} in use, of "
        f"{queues.max_combined}): sessions in the kernel share one behind a lock, which is slower; {what}."
    )
