"""The line reaches a session's own addresses and nothing else of the host; and only what is from these leaves by it.

A rogue at the far end of the cable knows the sessions' numbers and addresses, and the host's; root on the host sends
through the sessions' devices from addresses that aren't theirs. The host forwards between all its devices.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from engine.api.commands import Watch
from engine.datapath.own import Own
from engine.egress import device
from engine.egress.protocol import Addresses
from engine.host import netns
from engine.lab import rogue
from engine.lab.server import DEVICE as SUBSCRIBERS
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice
from engine.supervisor.views import STRAYS
from tests.conftest import run
from tests.program import until
from tests.provider import Provider, provider
from tests.system.engines import dialling, pings, session, story, view, wait_up
from tests.system.test_promises import Capture
from tests.system.test_router_messages import say

pytestmark = pytest.mark.usefixtures("own_net")

OWN, OWN6 = IPv4Address("192.0.2.2"), IPv6Address("2001:db8:1::2")
BEHIND, BEHIND6 = IPv4Address("192.0.2.9"), IPv6Address("2001:db8:1::9")
OUTSIDE, OUTSIDE6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:77::7")
PORT = 7009
over_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])


@pytest.fixture
def lan(own_net: None) -> Iterator[Capture]:
    """A host that forwards, with a network on `lan`; what comes out of that network's cable."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "switch")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
    for each in ("lan", "switch"):
        run("ip", "link", "set", each, "addrgenmode", "none", "up")
    for address, behind in ((f"{OWN}/24", BEHIND), (f"{OWN6}/64", BEHIND6)):
        run("ip", "addr", "add", address, "dev", "lan", *(("nodad",) if ":" in address else ()))
        run("ip", "neigh", "add", str(behind), "lladdr", "02:00:00:00:00:09", "dev", "lan")
    run("ip", "route", "add", "default", "via", str(BEHIND))
    run("ip", "route", "add", "default", "via", str(BEHIND6))
    capture = Capture("switch")
    yield capture
    capture.close()


class Listener:
    """Datagrams to PORT, whatever address of the host's they are to; each says what it is."""

    def __init__(self, stack: ExitStack) -> None:
        self._sockets = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for family in FAMILIES]
        for each in self._sockets:
            if each.family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(("", PORT))
            each.setblocking(False)
        self.heard: list[str] = []

    def has_heard(self, what: str) -> bool:
        for each in self._sockets:
            try:
                while True:
                    self.heard.append(each.recv(2048).decode())
            except BlockingIOError:
                pass
        return what in self.heard


FAMILIES = (socket.AF_INET, socket.AF_INET6)


def dropped(engine: Engine) -> Counter[str]:
    """Packets that sessions' addresses had nothing to do with, by reason, of all queues."""
    lost: Counter[str] = Counter()
    for queue in engine.snapshot().queues:
        lost.update({reason: count for reason, count in queue.drops if reason in STRAYS})
    return +lost


def details(engine: Engine, key: int) -> Counter[str]:
    """The same as a session's details have it, in words."""
    engine.submit(Watch(key)).result(10)
    found = engine.details(key)
    return Counter(dict(found.counters)) if found is not None else Counter()


def strays_for(engine: Engine, name: str) -> dict[str, bytes]:
    """All that a rogue may send to a session."""
    mine, other = view(engine, name), view(engine, "other")
    own = [IPv4Address(mine.ipv4 or ""), IPv6Address(mine.ipv6 or "")]
    others = [OWN, OWN6, BEHIND, BEHIND6, IPv4Address(other.ipv4 or ""), IPv6Address(other.ipv6 or "")]
    return rogue.strays(own, others, PORT)


def attack(far: Provider, engine: Engine, packets: dict[str, bytes]) -> None:
    """Three times each: the first ones may only make the kernel look for a neighbour."""
    found = view(engine, "one")
    assert found.session_id is not None
    say(far, found.session_id, found.local_mac or "", [*packets.values()] * 3)


@contextmanager
def two_sessions(path: DatapathChoice) -> Iterator[tuple[Provider, Engine]]:
    with provider() as far, dialling([session(name, datapath=path) for name in ("one", "other")]) as engine:
        wait_up(engine)
        until(lambda: all(view(engine, name).ipv6 for name in ("one", "other")), "IPv6")
        yield far, engine


@over_paths
def test_the_line_reaches_nothing_but_the_sessions_own_addresses(path: DatapathChoice, lan: Capture) -> None:
    with two_sessions(path) as (far, engine), ExitStack() as stack:
        listener = Listener(stack)
        one = view(engine, "one")
        packets = strays_for(engine, "one")
        attack(far, engine, packets)
        forged = sum(packet.endswith(b" > " + own.encode()) for packet in packets.values() for own in own_of(engine))
        lost = Counter(forged=3 * forged, not_for_us=3 * (len(packets) - forged))
        assert forged == 4
        until(lambda: dropped(engine) == lost, f"{lost} in {story(engine)}: {dropped(engine)}")
        welcome = rogue.datagram(OUTSIDE, IPv4Address(one.ipv4 or ""), PORT, b"welcome")
        attack(far, engine, {"welcome": welcome})
        until(lambda: listener.has_heard("welcome"), "what is for the session")
        assert set(listener.heard) == {"welcome"}
        assert not {str(OUTSIDE), str(OUTSIDE6), *own_of(engine)} & lan.seen.keys()
        words = {STRAYS[reason]: count for reason, count in lost.items()}
        assert details(engine, one.id) & Counter(words) == Counter(words)
        assert not details(engine, view(engine, "other").id).keys() & words.keys()
        assert pings(one.device or "")


def own_of(engine: Engine) -> list[str]:
    """The addresses of the session `one`."""
    return [address for address in (view(engine, "one").ipv4, view(engine, "one").ipv6) if address]


def test_without_the_filter_the_line_reaches_all_that(lan: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what is tried above is no idle threat."""

    def anybody(addresses: Addresses, *_: object) -> Own:
        return Own(addresses.ipv4, addresses.ipv6, (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))

    monkeypatch.setattr(device, "own_of", anybody)
    with two_sessions(DatapathChoice.AFXDP) as (far, engine), ExitStack() as stack:
        listener = Listener(stack)
        attack(far, engine, strays_for(engine, "one"))
        for reached in (OWN, OWN6, view(engine, "other").ipv4):
            source = OUTSIDE6 if ":" in str(reached) else OUTSIDE
            until(partial(listener.has_heard, f"{source} > {reached}"), f"a datagram to {reached}")
        until(lambda: {str(OUTSIDE), str(OUTSIDE6)} <= lan.seen.keys(), "packets to the hosts behind")


@over_paths
def test_what_is_not_from_a_session_does_not_leave_by_it(path: DatapathChoice, lan: Capture) -> None:
    with two_sessions(path) as (far, engine), ExitStack() as stack:
        one, other = view(engine, "one"), view(engine, "other")
        with netns.inside(far.pid):
            seen = Capture(SUBSCRIBERS)
        stack.callback(seen.close)
        foreign = [OWN, OWN6, BEHIND, BEHIND6, OUTSIDE, OUTSIDE6, *rogue.LOOPBACK]
        foreign += [IPv4Address(other.ipv4 or ""), IPv6Address(other.ipv6 or "")]
        line = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
        for source in foreign:
            _send_through(line, one.device or "", source)
        until(lambda: dropped(engine) == {"not_from_us": len(foreign)}, f"{story(engine)}: {dropped(engine)}")
        own = IPv4Address(one.ipv4 or "")
        _send_through(line, one.device or "", own)
        until(lambda: seen.seen[str(own)], "what is from the session")
        quiet = [source for source in foreign if str(source) != other.ipv6]  # that one speaks MLD by its own session
        assert not {*map(str, quiet)} & seen.seen.keys()
        assert details(engine, one.id)[STRAYS["not_from_us"]] == len(foreign)


def _send_through(line: socket.socket, name: str, source: IPv4Address | IPv6Address) -> None:
    to = IPv4Address("100.64.0.1") if source.version == 4 else IPv6Address("2001:db8:99::1")
    line.sendto(rogue.datagram(source, to, PORT), (name, 0x0800 if source.version == 4 else 0x86DD, 0, 0, bytes(6)))
