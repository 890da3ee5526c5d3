"""Names and connections through a session: with real sockets, routes and a DNS server of our own.

The session's device is one end of a cable, with the rules and routes that the engine gives it; the host has another
card with its default route. Nothing may ever leave there.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from engine.host import netns
from engine.proxy.dialling import DialError, DialKind, Dialler
from engine.proxy.exits import Exit
from engine.proxy.names import Failure, Names, Result
from engine.proxy.own import OwnAddresses
from engine.proxy.questions import Kind
from tests.conftest import run
from tests.nameserver import NameServer, records, silence

OWN, OWN6 = IPv4Address("198.51.100.7"), IPv6Address("2001:db8:7::7")
NEAR_SERVER, FAR_SERVER, SERVER6 = IPv4Address("192.0.2.53"), IPv4Address("192.0.2.54"), IPv6Address("2001:db8:2::53")
WEB, WEB6, DEAF = IPv4Address("203.0.113.80"), IPv6Address("2001:db8:80::80"), IPv4Address("203.0.113.99")
DEADLINE = 30.0


def ip(*words: object) -> None:
    run("ip", *map(str, words))


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    before = netns.open_net()
    netns.enter(f"/run/netns/{namespace}")
    try:
        yield
    finally:
        netns.set_net(before)
        os.close(before)


def device_up() -> None:
    """The session's device, its far end in the other namespace, and what keeps its packets to it."""
    ip("link", "add", "soup0", "type", "veth", "peer", "name", "line", "netns", f"/run/netns/{FAR}")
    Path("/proc/sys/net/ipv6/conf/soup0/accept_dad").write_text("0")
    ip("link", "set", "soup0", "up")
    with inside(FAR):
        Path("/proc/sys/net/ipv6/conf/line/accept_dad").write_text("0")
        ip("link", "set", "line", "up")
        ip("route", "add", OWN, "dev", "line")
        ip("-6", "route", "add", OWN6, "dev", "line")
        for address in (NEAR_SERVER, FAR_SERVER, WEB, DEAF):
            with suppress(Exception):
                ip("address", "add", f"{address}/32", "dev", "lo")
        for address6 in (SERVER6, WEB6):
            ip("address", "add", f"{address6}/128", "dev", "line", "nodad")
    ip("address", "add", f"{OWN}/32", "dev", "soup0")
    ip("address", "add", f"{OWN6}/128", "dev", "soup0", "nodad")
    for family in ("-4", "-6"):
        ip(family, "route", "replace", "default", "dev", "soup0", "table", 1001)
        ip(family, "route", "replace", "unreachable", "default", "metric", 4278198272, "table", 1001)


def rules(what: str) -> None:
    for family, own in (("-4", OWN), ("-6", OWN6)):
        ip(family, "rule", what, "from", own, "lookup", 1001)


FAR = f"soup-dial-far-{os.getpid()}"


@pytest.fixture(scope="module")
def host() -> Iterator[None]:
    """A namespace with a session and a card, which this thread is in, and one with what is beyond the line."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = netns.open_net()
    run("ip", "netns", "add", FAR)
    netns.unshare_net()
    try:
        rules("add")
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "street", "netns", f"/run/netns/{FAR}")
        Path("/proc/sys/net/ipv6/conf/eth0/addr_gen_mode").write_text("1")
        ip("link", "set", "eth0", "up")
        ip("address", "add", "198.51.100.200/24", "dev", "eth0")
        ip("address", "add", "2001:db8:200::2/64", "dev", "eth0", "nodad")
        ip("neigh", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
        ip("neigh", "add", "2001:db8:200::1", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
        ip("route", "add", "default", "via", "198.51.100.1")
        ip("-6", "route", "add", "default", "via", "2001:db8:200::1")
        with inside(FAR):
            ip("link", "set", "lo", "up")
            ip("link", "set", "street", "up")
        device_up()
        yield
    finally:
        netns.set_net(before)
        os.close(before)
        run("ip", "netns", "del", FAR)


class Card:
    """What leaves by the host's own card."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(3))
        self._socket.bind(("eth0", 3))

    def sent(self) -> list[bytes]:
        """Packets since the last time, without what IPv6 says of itself on any link: MLD, router solicitations."""
        found = []
        with suppress(BlockingIOError):
            while True:
                packet, (_, protocol, direction, *_) = self._socket.recvfrom(2048)
                of_the_link = protocol == 0x86DD and (packet[6] == 0 or (packet[6] == 58 and packet[40] >= 130))
                if direction == socket.PACKET_OUTGOING and not of_the_link:
                    found.append(packet)
        return found

    def close(self) -> None:
        self._socket.close()


def listening(address: object, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket beyond the line."""
    with inside(FAR):
        made = socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(address), port))
    return made


def exit_now(*, both: bool = True, dns: tuple[IPv4Address | IPv6Address, ...] = (NEAR_SERVER,)) -> Exit:
    return Exit(1, "home-01", "soup0", socket.if_nametoindex("soup0"), OWN, OWN6 if both else None, dns)


@dataclass
class World:
    """What a test uses."""

    names: Names
    dialler: Dialler
    near: NameServer
    far: NameServer
    web: list[socket.socket]
    card: Card
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def lookup(self, exit_: Exit, name: str, kind: Kind = Kind.A) -> Result:
        told: asyncio.Future[Result] = self.loop.create_future()
        self.names.lookup(exit_, name, kind, told.set_result)
        return await asyncio.wait_for(told, DEADLINE)

    async def resolve(self, exit_: Exit, name: str) -> Result:
        told: asyncio.Future[Result] = self.loop.create_future()
        self.names.resolve(exit_, name, told.set_result)
        return await asyncio.wait_for(told, DEADLINE)

    def start(
        self, exit_: Exit, host: object, port: int = 80, wait: float = DEADLINE
    ) -> tuple[asyncio.Future[socket.socket | DialError], Callable[[], None]]:
        told: asyncio.Future[socket.socket | DialError] = self.loop.create_future()
        where = host if isinstance(host, str | IPv4Address | IPv6Address) else str(host)
        return told, self.dialler.connect(exit_, where, port, self.loop.time() + wait, told.set_result)

    async def dial(self, exit_: Exit, host: object, port: int = 80, wait: float = DEADLINE) -> socket.socket:
        """The socket; raises DialError."""
        told = await asyncio.wait_for(self.start(exit_, host, port, wait)[0], DEADLINE)
        if isinstance(told, DialError):
            raise told
        return told

    async def refused(self, exit_: Exit, host: object, port: int = 80, wait: float = DEADLINE) -> DialKind:
        """Why there is no connection."""
        with pytest.raises(DialError) as caught:
            (await self.dial(exit_, host, port, wait)).close()
        return caught.value.kind


@pytest_asyncio.fixture
async def world(host: None) -> AsyncIterator[World]:
    loop = asyncio.get_running_loop()
    near, far = (
        NameServer(loop, listening(address, 53, socket.SOCK_DGRAM), listening(address, 53))
        for address in (NEAR_SERVER, FAR_SERVER)
    )
    web = [listening(address, 80) for address in (WEB, WEB6)]
    for each in web:
        each.listen()
    names = Names(loop)
    card = Card()
    dialler = Dialler(names, loop)
    try:
        yield World(names, dialler, near, far, web, card)
        assert card.sent() == []
    finally:
        dialler.close()
        names.close()
        for each in (near, far, card, *web):
            each.close()


def a(name: str, *addresses: object, ttl: int = 300) -> str:
    assert addresses
    return "\n".join(f"{name}. {ttl} IN {'AAAA' if ':' in str(it) else 'A'} {it}" for it in addresses)


def answer(name: str, *addresses: object, ttl: int = 300) -> Callable[[bytes, bool], list[bytes]]:
    return records(*(a(name, address, ttl=ttl) for address in addresses))


async def test_the_hosts_own_card_counts_what_leaves_there(host: None) -> None:
    """Or nothing here would prove anything."""
    with closing(Card()) as card:
        for family, address in ((socket.AF_INET, WEB), (socket.AF_INET6, WEB6)):
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as sender:
                sender.sendto(b"x", (str(address), 9))
        assert len(card.sent()) == 2


async def test_the_hosts_own_addresses_are_told_apart_also_once_they_change(host: None) -> None:
    own = OwnAddresses()
    late = IPv4Address("198.51.100.201")
    for _ in range(2):
        told = [address in own for address in (IPv4Address("198.51.100.200"), OWN, OWN6, WEB, WEB6, late)]
        assert told == [True, True, True, False, False, False]
    ip("address", "add", f"{late}/32", "dev", "eth0")
    assert late in own
    ip("address", "del", f"{late}/32", "dev", "eth0")
    assert late not in own
    own.close()


async def test_names_are_resolved_through_the_session_and_kept_for_their_ttl(world: World) -> None:
    world.near.table = {
        "www.example": answer("www.example", WEB, WEB6),
        "now.example": answer("now.example", WEB, ttl=0),
        "alias.example": records("alias.example. 9 IN CNAME www.example.", a("www.example", WEB)),
        "brief.example": answer("brief.example", WEB, ttl=1),
    }
    both = exit_now()
    assert await world.resolve(both, "www.example") == (WEB6, WEB)
    assert await world.lookup(both, "WWW.EXAMPLE.") == (WEB,)
    assert await world.lookup(both, "alias.example") == (WEB,)
    assert await world.lookup(both, "alias.example", Kind.AAAA) is Failure.NO_ADDRESS
    assert await world.resolve(both, "nowhere.example") is Failure.NO_SUCH_NAME
    assert await world.resolve(both, "localhost") is Failure.NO_SUCH_NAME
    for _ in range(2):
        assert await world.lookup(both, "now.example") == (WEB,)
    assert world.near.asked["www.example", "A", "udp"] == 1
    assert world.near.asked["now.example", "A", "udp"] == 2
    assert await world.lookup(both, "brief.example") == (WEB,)
    await asyncio.sleep(1.1)
    assert await world.lookup(both, "brief.example") == (WEB,)
    assert world.near.asked["brief.example", "A", "udp"] == 2
    other = replace(both, key=2, name="home-02")
    assert await world.lookup(other, "www.example") == (WEB,)
    assert world.near.asked["www.example", "A", "udp"] == 2
    at_once = await asyncio.gather(*(world.lookup(replace(both, key=3), "www.example") for _ in range(20)))
    assert at_once == [(WEB,)] * 20
    assert world.near.asked["www.example", "A", "udp"] == 3
    assert {host for host, _ in world.near.senders} == {str(OWN)}
    assert len({port for _, port in world.near.senders}) > 4


async def test_what_is_too_long_comes_by_tcp(world: World) -> None:
    many = [IPv4Address("203.0.113.0") + n for n in range(200)]
    world.near.table = {"many.example": records(*(a("many.example", address) for address in many))}
    found = await world.lookup(exit_now(), "many.example")
    assert found == tuple(many[:32])
    assert world.near.asked["many.example", "A", "tcp"] == 1


async def test_servers_that_fail_are_passed_over(world: World) -> None:
    for name in ("one.example", "two.example", "three.example"):
        world.far.table[name] = answer(name, WEB)
    world.near.table = {
        "one.example": records(rcode="SERVFAIL"),
        "two.example": silence,
        "three.example": silence,
        "no.example": silence,
    }
    world.far.table["no.example"] = lambda octets, by_tcp: [octets[:2] + b"\x81\x80" + b"\xff" * 30]
    exit_ = exit_now(dns=(DEAF, NEAR_SERVER, FAR_SERVER))
    assert await world.lookup(exit_, "one.example") == (WEB,)
    assert world.near.asked["one.example", "A", "udp"] == 1
    assert await world.lookup(exit_, "two.example") == (WEB,)
    assert await world.lookup(exit_, "three.example") == (WEB,)
    assert world.near.asked["three.example", "A", "udp"] == 0
    assert await world.lookup(exit_now(dns=()), "one.example") is Failure.NO_SERVER
    assert await world.lookup(exit_now(dns=(IPv4Address("127.0.0.53"),)), "one.example") is Failure.NO_SERVER
    assert await world.lookup(exit_now(dns=(DEAF,)), "one.example") is Failure.NO_ANSWER


async def test_forged_answers_are_not_taken(world: World) -> None:
    liar = listening("203.0.113.99", 53, socket.SOCK_DGRAM)
    honest = answer("www.example", WEB)
    lie = answer("www.example", "203.0.113.66")

    def forged(octets: bytes, by_tcp: bool) -> list[bytes]:
        """From another host; with another identifier, spelling, question; and then the truth."""
        (wrong,) = lie(octets, by_tcp)
        liar.sendto(wrong, world.near.senders[-1])
        other_id = bytes([wrong[0] ^ 1]) + wrong[1:]
        other_name = wrong[:13] + b"vwv" + wrong[16:]
        return [other_id, other_name, *honest(octets, by_tcp)]

    def guessing(octets: bytes, by_tcp: bool) -> list[bytes]:
        if by_tcp:
            return honest(octets, by_tcp)
        (wrong,) = lie(octets, by_tcp)
        return [bytes([wrong[0] ^ n]) + wrong[1:] for n in range(1, 40)]

    def shouting(octets: bytes, by_tcp: bool) -> list[bytes]:
        (right,) = honest(octets, by_tcp)
        return [right[:12] + octets[12:25].upper() + right[25:]]

    with closing(liar):
        for number, table in enumerate((forged, guessing, shouting)):
            world.near.table = {"www.example": table}
            assert await world.lookup(replace(exit_now(), key=number), "www.example") == (WEB,)
    assert world.near.asked["www.example", "A", "tcp"] >= 1


async def test_a_name_leads_to_a_connection_from_the_session(world: World) -> None:
    world.near.table = {"www.example": answer("www.example", WEB, WEB6), "old.example": answer("old.example", WEB)}
    both = exit_now()
    for host, exit_, own in (
        ("www.example", both, OWN6),
        ("www.example", replace(both, ipv6=None), OWN),
        ("old.example", both, OWN),
        (WEB, both, OWN),
        (str(WEB6), both, OWN6),
        (IPv6Address(f"::ffff:{WEB}"), both, OWN),
    ):
        with await world.dial(exit_, host) as connected:
            assert ip_address(connected.getsockname()[0]) == own
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"soup0"


async def test_what_is_told_when_there_is_no_connection(world: World) -> None:
    world.near.table = {
        "private.example": answer("private.example", "192.168.1.1", "fd00::1"),
        "mixed.example": answer("mixed.example", "127.0.0.1", WEB),
        "six.example": answer("six.example", WEB6),
        "rebound.example": answer("rebound.example", "64:ff9b::7f00:1"),
    }
    both = exit_now()
    assert await world.refused(both, WEB, 81) is DialKind.REFUSED
    assert await world.refused(both, "203.0.113.81") is DialKind.UNREACHABLE
    assert await world.refused(both, "nowhere.example") is DialKind.NO_SUCH_NAME
    assert await world.refused(both, "private.example") is DialKind.FORBIDDEN
    assert await world.refused(both, "rebound.example") is DialKind.FORBIDDEN
    assert await world.refused(both, "127.0.0.1") is DialKind.FORBIDDEN
    assert await world.refused(both, "::ffff:10.0.0.1") is DialKind.FORBIDDEN
    assert await world.refused(replace(both, ipv6=None), WEB6) is DialKind.NO_ADDRESS
    assert await world.refused(replace(both, ipv6=None), "six.example") is DialKind.NO_ADDRESS
    assert await world.refused(exit_now(dns=()), "other.example") is DialKind.NAME_FAILED
    assert await world.refused(replace(both, ipv4=None, ipv6=None), "six.example") is DialKind.SESSION_GONE
    (await world.dial(both, "mixed.example")).close()
    with inside(FAR):
        run("nft", "add table inet deaf")
        run("nft", "add chain inet deaf in { type filter hook input priority 0; }")
        run("nft", f"add rule inet deaf in ip daddr {DEAF} drop")
        run("nft", f"add rule inet deaf in ip6 daddr {WEB6} tcp dport 80 drop")
    try:
        assert await world.refused(both, DEAF, wait=0.3) is DialKind.TIMED_OUT
        world.near.table["www.example"] = answer("www.example", WEB, WEB6)
        with await world.dial(replace(both, key=9), "www.example") as connected:
            assert ip_address(connected.getpeername()[0]) == WEB
    finally:
        with inside(FAR):
            run("nft", "delete table inet deaf")


async def test_nothing_leaves_elsewhere_whatever_goes_first(world: World) -> None:
    """Device, address, rules or session go, in the middle of a look-up and of a connection, and before one begins."""
    world.near.table = {"www.example": answer("www.example", WEB, WEB6)}
    for loss in ("device", "address", "rules", "device before", "address before", "rules before", "session"):
        exit_ = exit_now(dns=(DEAF, NEAR_SERVER, SERVER6))
        if loss.endswith("before"):
            lose(loss)
        results = [world.start(exit_, host)[0] for host in (DEAF, "203.0.113.81", "www.example", WEB6)]
        await asyncio.sleep(0.02)
        if loss == "session":
            world.dialler.drop(exit_.key)
        elif not loss.endswith("before"):
            lose(loss)
        await asyncio.sleep(
            1.2 if loss in ("device", "address", "rules") else 0.1
        )  # a SYN is sent again after a second
        world.dialler.drop(exit_.key)
        for result in await asyncio.gather(*results):
            if isinstance(result, socket.socket):
                with suppress(OSError):
                    result.send(b"x" * 1000)
                result.close()
        if loss.startswith("device"):
            device_up()
        elif loss.startswith("rules"):
            rules("add")
        else:
            with suppress(Exception):
                lose("device")
            device_up()
        assert world.card.sent() == [], loss


def lose(what: str) -> None:
    if what.startswith("device"):
        ip("link", "del", "soup0")
    elif what.startswith("rules"):
        rules("del")
    else:
        ip("address", "del", f"{OWN}/32", "dev", "soup0")
        ip("address", "del", f"{OWN6}/128", "dev", "soup0")


async def test_many_names_at_once(world: World) -> None:
    many = [f"n{n}.example" for n in range(200)]
    world.near.table = {name: answer(name, WEB) for name in many}
    exit_ = exit_now(both=False)
    assert await asyncio.gather(*(world.lookup(exit_, name) for name in many)) == [(WEB,)] * 200
