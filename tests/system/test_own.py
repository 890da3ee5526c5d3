"""What comes in is for the session's own addresses, and what goes out is from them: every pair, on both data paths.

The oracle below is the table of `engine/datapath/own.h` in another language.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import product

import pytest

from engine.datapath.own import CLOSED, Own
from engine.lab import rogue
from engine.wire.place import Place

from .line import Wire, until
from .rig import MTU, OWN, PEER, open_rig, ppp, pppoe
from .test_kernel_path import rig as open_kernel_rig

pytestmark = pytest.mark.usefixtures("needs_root")

OURS = Own(
    IPv4Address("192.0.2.1"), IPv6Address("fe80::1"), (IPv4Network("203.0.113.8/29"), IPv6Network("2001:db8:5::/48"))
)
FOUR = (
    *("192.0.2.1", "192.0.2.2", "203.0.113.8", "203.0.113.15", "203.0.113.7", "203.0.113.16", "198.51.100.7"),
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
)
SIX = (
    *("fe80::1", "fe80::2", "2001:db8:5::", "2001:db8:5:ffff:ffff:ffff:ffff:ffff", "2001:db8:6::1"),
    *("2001:db8:4:ffff::1", "::", "::1", "::ffff:192.0.2.1", "64:ff9b::c000:201", "ff02::1", "ff02::1:ff00:1"),
    *("ff02::1:fe00:1", "ff02::1:ff", "ff02::1:2", "ff02::16", "ff12::1", "ff05::2", "ff0e::1"),
)
QUERY, ECHO, SOLICIT_ROUTER, SOLICITATION, ADVERTISEMENT, REPORT = 130, 128, 133, 135, 136, 143
_OPTIONS = bytes.fromhex("05020000 0100")
ICMPV6, UNASSIGNED = 58, 253


@dataclass(frozen=True)
class Kind:
    """What an IPv6 packet carries: the next header's number, what stands there, and the type if it is of ICMPv6."""

    next: int
    body: bytes
    type: int = 0


SIX_KINDS = (
    Kind(UNASSIGNED, b""),
    *(Kind(ICMPV6, bytes((each, 0, 0, 0)), each) for each in (ECHO, SOLICIT_ROUTER, SOLICITATION, ADVERTISEMENT)),
    *(Kind(0, bytes((ICMPV6, 0)) + _OPTIONS + bytes((each, 0, 0, 0)), each) for each in (QUERY, REPORT, SOLICITATION)),
    Kind(0, bytes((UNASSIGNED, 0)) + _OPTIONS + bytes((QUERY, 0, 0, 0))),
    Kind(0, bytes((ICMPV6, 1)) + _OPTIONS + bytes((QUERY, 0, 0, 0))),
)


@dataclass(frozen=True)
class Case:
    """A packet, and what it has in it."""

    packet: bytes
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    type: int = 0


def cases() -> list[Case]:
    """Every pair of addresses; each packet tells its number at its end."""
    found: list[Case] = []
    for source4, destination4 in product(map(IPv4Address, FOUR), repeat=2):
        body = len(found).to_bytes(4, "big")
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, UNASSIGNED, 0)
        packet = header + source4.packed + destination4.packed + body
        found.append(Case(packet, source4, destination4))
    for source6, destination6, kind in product(map(IPv6Address, SIX), map(IPv6Address, SIX), SIX_KINDS):
        body = kind.body + bytes(16) + len(found).to_bytes(4, "big")
        packet = struct.pack("!IHBB", 6 << 28, len(body), kind.next, 64) + source6.packed + destination6.packed + body
        found.append(Case(packet, source6, destination6, kind.type))
    return found


def is_ours(address: IPv4Address | IPv6Address) -> bool:
    return address in (OURS.ipv4, OURS.ipv6) or any(address in network for network in OURS.networks)


def refusal_in(case: Case) -> str:
    """Why a packet doesn't come in; empty if it does."""
    group = case.destination == IPv6Address("ff02::1") or case.destination in IPv6Network("ff02::1:ff00:0/104")
    neighbourly = group and case.type in (QUERY, SOLICITATION, ADVERTISEMENT)
    if not is_ours(case.destination) and not neighbourly:
        return "not_for_us"
    if is_ours(case.source):
        return "forged"
    if isinstance(case.source, IPv4Address):
        nobody = any(case.source in IPv4Network(network) for network in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"))
        return "forged" if nobody else ""
    if int(case.source) == 0:
        return "" if case.type == SOLICITATION else "forged"
    return "forged" if case.source.is_multicast or case.source in IPv6Network("::/64") else ""


def refusal_out(case: Case) -> str:
    """Why a packet doesn't go out; empty if it does."""
    to_the_link = case.destination.packed[0] == 0xFF and case.destination.packed[1] & 15 == 2
    looking = case.source == IPv6Address("::") and to_the_link and case.type != 0
    return "" if is_ours(case.source) or looking else "not_from_us"


class Path:
    """One session, number 5, with the addresses OURS; the same of both data paths."""

    NUMBER = 5
    wire: Wire
    """The provider's end of the line."""
    device: Wire
    """The host's side of the session's device."""

    def set_own(self, own: Own) -> None:
        """Other addresses."""

    def drops(self) -> dict[str, int]:
        """By reason; only those that occurred."""
        return {}

    def strays(self) -> Counter[str]:
        """The session's."""
        return Counter()

    def bare(self, seen: bytes) -> bytes:
        """The packet in what was seen on the device."""
        return seen

    def framed(self, packet: bytes) -> bytes:
        """What to send on the device for a packet."""
        return packet


class AfXdp(Path):
    def __init__(self) -> None:
        self._context = open_rig()
        self.rig = self._context.__enter__()
        fd, self.device = self.rig.tun("soup5")
        self.wire = self.rig.wire
        self.rig.datapath.add_session(self.NUMBER, Place(OWN, PEER, 1), fd, MTU, OURS)

    def set_own(self, own: Own) -> None:
        self.rig.datapath.set_own(self.NUMBER, own)

    def drops(self) -> dict[str, int]:
        return {reason: lost for reason, lost in self.rig.counters().drops.items() if lost}

    def strays(self) -> Counter[str]:
        return self.rig.datapath.strays(self.NUMBER)

    def close(self) -> None:
        self._context.__exit__(None, None, None)


class InKernel(Path):
    def __init__(self) -> None:
        self._context = open_kernel_rig(name="own")
        self.rig = self._context.__enter__()
        self.wire, self.device = self.rig.wire, self.rig.device
        self.set_own(OURS)

    def set_own(self, own: Own) -> None:
        self.rig.path.set_own(self.NUMBER, own)

    def drops(self) -> dict[str, int]:
        return self.rig.drops()

    def strays(self) -> Counter[str]:
        return self.rig.path.strays(self.NUMBER)

    def bare(self, seen: bytes) -> bytes:
        return seen[14:]

    def framed(self, packet: bytes) -> bytes:
        return bytes(12) + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet

    def close(self) -> None:
        self._context.__exit__(None, None, None)


@contextmanager
def opened(kind: type[AfXdp | InKernel]) -> Iterator[AfXdp | InKernel]:
    path = kind()
    try:
        yield path
    finally:
        path.close()


over_paths = pytest.mark.parametrize("kind", [AfXdp, InKernel], ids=["afxdp", "kernel"])
AT_ONCE = 100
"""So many wait on a device without being lost."""


def collect(wire: Wire, wanted: int) -> list[bytes]:
    """So many frames, and those that come though nobody wanted them."""
    found: list[bytes] = []

    def look() -> bool:
        while (frame := wire.receive()) is not None:
            found.append(frame)
        return len(found) >= wanted

    until(look)
    return found


@over_paths
def test_every_pair_of_addresses(kind: type[AfXdp | InKernel]) -> None:
    everything = cases()
    refused_in, refused_out = map(refusal_in, everything), map(refusal_out, everything)
    lost = Counter(filter(None, [*refused_in, *refused_out]))
    assert min(lost[reason] for reason in ("not_for_us", "forged", "not_from_us")) > 100
    with opened(kind) as path:
        came: list[bytes] = []
        left: list[bytes] = []
        for start in range(0, len(everything), AT_ONCE):
            some = everything[start : start + AT_ONCE]
            for case in some:
                path.wire.send(pppoe(ppp(case.packet)))
                path.device.send(path.framed(case.packet))
            came += collect(path.device, sum(not refusal_in(case) for case in some))
            left += collect(path.wire, sum(not refusal_out(case) for case in some))
        assert until(lambda: path.drops() == lost), (path.drops(), lost)
        came += collect(path.device, 0)
        left += collect(path.wire, 0)
        assert sorted(map(path.bare, came)) == sorted(c.packet for c in everything if not refusal_in(c))
        outgoing = (pppoe(ppp(c.packet), dst=PEER, src=OWN) for c in everything if not refusal_out(c))
        assert sorted(left) == sorted(frame.ljust(60, b"\0") for frame in outgoing)
        assert path.strays() == lost


@over_paths
def test_other_addresses_count_from_the_moment_on_that_they_are_set(kind: type[AfXdp | InKernel]) -> None:
    """Also what was routed to the session before, and is not now: nothing of it stays in a map."""
    more = IPv4Network("198.51.100.0/24")
    steps: list[tuple[Own, str, str]] = [
        (OURS, "192.0.2.1", ""),
        (OURS, "203.0.113.9", ""),
        (OURS, "198.51.100.7", "not_for_us"),
        (Own(IPv4Address("192.0.2.9"), OURS.ipv6, (more,)), "192.0.2.1", "not_for_us"),
        (Own(IPv4Address("192.0.2.9"), OURS.ipv6, (more,)), "192.0.2.9", ""),
        (Own(IPv4Address("192.0.2.9"), OURS.ipv6, (more,)), "198.51.100.7", ""),
        (Own(IPv4Address("192.0.2.9"), OURS.ipv6, (more,)), "203.0.113.9", "not_for_us"),
        (Own(IPv4Address("192.0.2.9"), OURS.ipv6), "198.51.100.7", "not_for_us"),
        (Own(None, OURS.ipv6, (more,)), "198.51.100.7", "closed_in"),
        (CLOSED, "0.0.0.0", "closed_in"),
        (OURS, "203.0.113.9", ""),
    ]
    lost: Counter[str] = Counter()
    with opened(kind) as path:
        for own, to, reason in steps:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20, 1, 0, 64, UNASSIGNED, 0)
            packet = header + IPv4Address("198.18.0.1").packed + IPv4Address(to).packed
            path.set_own(own)
            path.wire.send(pppoe(ppp(packet)))
            if reason:
                lost[reason] += 1
            else:
                assert [path.bare(frame) for frame in collect(path.device, 1)] == [packet], (own, to)
            assert until(lambda: path.drops() == lost), (own, to, path.drops())
        assert collect(path.device, 0) == []


@over_paths
def test_a_routers_message_is_counted_as_such(kind: type[AfXdp | InKernel]) -> None:
    """Though the group it goes to is one that neighbours are looked for in."""
    with opened(kind) as path:
        path.wire.send(pppoe(ppp(rogue.redirect(rogue.ROGUE, rogue.ROGUE, IPv6Address("ff02::1")))))
        assert until(lambda: path.drops() == {"router_message": 1}), path.drops()
        assert path.strays().total() == 0


def test_the_cases_are_what_they_say() -> None:
    for case in cases():
        at = (12, 16, 4) if case.packet[0] >> 4 == 4 else (8, 24, 16)
        assert ip_address(case.packet[at[0] : at[0] + at[2]]) == case.source
        assert ip_address(case.packet[at[1] : at[1] + at[2]]) == case.destination
