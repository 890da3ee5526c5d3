"""Networks that a provider routes to a session: let in and out, confined to it as its address is, and nobody else's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from engine.api.commands import Dial, Remove
from engine.api.values import SessionState
from engine.egress import confinement
from engine.egress.addresses import Devices
from engine.egress.confinement import GRACE
from engine.egress.tun import VNET_HEADER
from engine.host import netns
from engine.host.nft import Nft
from engine.lab import rogue
from engine.lab.server import DEVICE as SUBSCRIBERS
from engine.settings.values import AcFilter, DatapathChoice
from tests.conftest import ROOT, run
from tests.program import PATIENCE, until
from tests.provider import provider
from tests.system.engines import dialling, events, session, story, view, wait_state, wait_up
from tests.system.given import give_ipv4, give_ipv6
from tests.system.test_promises import Capture
from tests.system.test_router_messages import say

pytestmark = pytest.mark.usefixtures("own_net")

ROUTED, ROUTED6 = IPv4Network("203.0.113.8/29"), IPv6Network("2001:db8:5::/48")
HERE, HERE6 = IPv4Address("203.0.113.9"), IPv6Address("2001:db8:5::9")
BEHIND, BEHIND6 = IPv4Address("203.0.113.10"), IPv6Address("2001:db8:5::a")
WORLD, WORLD6 = IPv4Address("198.51.100.7"), IPv6Address("2001:db8:7::7")
NETS = (ROUTED, ROUTED6)
FAMILIES = ((HERE, BEHIND, WORLD), (HERE6, BEHIND6, WORLD6))
A, PEER, LL = IPv4Address("100.64.0.2"), IPv4Address("100.64.0.1"), IPv6Address("fe80::5")
PORT, IP_TRANSPARENT, IPV6_TRANSPARENT = 7009, 19, 75
over_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])


def ip(words: str) -> str:
    return run("ip", *words.split())


@contextmanager
def host() -> Iterator[tuple[Capture, int]]:
    """A host with its own way to the world, and the routed networks behind it with one host in them.

    What comes out of the cable to the world, and the namespace of the host behind.
    """
    behind = netns.new_net()
    ip("link set lo up")
    ip("link add wan type veth peer name world")
    ip(f"link add lan type veth peer name eth0 netns /proc/{os.getpid()}/fd/{behind}")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
    for each in ("wan", "world", "lan"):
        ip(f"link set {each} addrgenmode none up")
    ip("addr add 192.0.2.2/24 dev wan")
    ip("addr add 2001:db8:1::2/64 dev wan nodad")
    ip(f"addr add {HERE}/29 dev lan")
    ip(f"addr add {HERE6}/48 dev lan nodad")
    ip("addr add fe80::9/64 dev lan nodad")
    for gateway in ("192.0.2.1", "2001:db8:1::1"):
        ip(f"neigh add {gateway} lladdr 02:00:00:00:00:09 dev wan")
        ip(f"route add default via {gateway}")
    with netns.visiting(behind):
        ip("link set eth0 addrgenmode none up")
        ip(f"addr add {BEHIND}/29 dev eth0")
        ip(f"addr add {BEHIND6}/48 dev eth0 nodad")
        ip("addr add fe80::a/64 dev eth0 nodad")
        ip(f"route add default via {HERE}")
        ip(f"-6 route add default via {HERE6}")
    capture = Capture("world")
    try:
        yield capture, behind
    finally:
        capture.close()
        os.close(behind)


def answers(source: str, target: str) -> bool:
    command = ["ping", "-q", "-c", "2", "-i", "0.05", "-W", "10", "-I", source, target]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def send(source: IPv4Address | IPv6Address, to: IPv4Address | IPv6Address) -> bool:
    """A datagram by a transparent socket, which may have any source; whether the kernel took it."""
    four = source.version == 4
    with socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        level, option = (socket.IPPROTO_IP, IP_TRANSPARENT) if four else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
        sender.setsockopt(level, option, 1)
        sender.bind((str(source), 0))
        try:
            sender.sendto(b"x", (str(to), PORT))
        except OSError:
            return False
    return True


@over_paths
def test_a_network_behind_the_host_lives_on_its_session(path: DatapathChoice) -> None:
    networks = (str(ROUTED), str(ROUTED6))
    one = session("one", datapath=path, networks=networks)
    with host() as (wan, behind), provider() as far, dialling([one]) as engine, ExitStack() as stack:
        wait_up(engine)
        until(lambda: view(engine, "one").ipv6, "IPv6")
        found = view(engine, "one")
        with netns.inside(far.pid):
            line = Capture(SUBSCRIBERS)
        stack.callback(line.close)
        with netns.visiting(behind):
            lan = Capture("eth0")
        stack.callback(lan.close)
        for here, there, world in FAMILIES:
            assert found.session_id is not None
            say(far, found.session_id, found.local_mac or "", [rogue.datagram(world, there, PORT)] * 3)
            until(lambda world=world: lan.seen[str(world)], f"what {world} sends to the host behind: {story(engine)}")
            assert answers(str(here), str(there)), "the network itself is reached as ever"
            with netns.visiting(behind):
                assert send(there, world)
            assert send(here, world)
            until(lambda own=(here, there): all(line.seen[str(each)] for each in own), "both go out by the session")
        for here, there, _ in FAMILIES:
            assert not {str(here), str(there)} & wan.seen.keys()
        assert answers("192.0.2.2", str(HERE)), "the host's own traffic is none of its business"


def test_nothing_from_a_network_leaves_elsewhere() -> None:
    """Whatever becomes of the session's device and the host's rules: the layers each by itself are below."""
    with host() as (wan, behind):
        devices = Devices()
        devices.create(1, "soup1", networks=(ROUTED, ROUTED6))
        give_ipv4(devices, 1, A, PEER, 1492)
        give_ipv6(devices, 1, LL, 1492)
        down, gone = partial(ip, "link set soup1 down"), partial(devices.remove, 1)
        for strike in (lambda: None, down, flush_rules, devices.look, gone):
            strike()
            _try_all(behind)
        assert send(IPv4Address("192.0.2.2"), WORLD)
        until(lambda: wan.seen["192.0.2.2"], "the host's own")
        assert not {str(each) for each in (HERE, HERE6, BEHIND, BEHIND6)} & wan.seen.keys(), wan.seen
        devices.tidy(time.monotonic() + GRACE + 1)
        _try_all(behind)
        until(lambda: wan.seen[str(BEHIND)] and wan.seen[str(BEHIND6)], "it is nobody's any more")
        devices.close()


def test_what_comes_in_for_a_part_that_is_nowhere_is_not_sent_on() -> None:
    """This host forwards, and has a way to the world by another card: that is none for what comes in by the session."""
    delegated, handed_on = IPv6Network("3fff:2::/56"), IPv6Address("3fff:2:0:1::1")
    with host() as (wan, _), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here:
        devices = Devices()
        devices.create(1, "soup1")
        give_ipv6(devices, 1, LL, 1492)
        devices.set_prefixes6(1, (delegated,))
        ip(f"-6 addr add {handed_on}/64 dev lan nodad")
        # The kernel has a way to a new address a moment later, even without duplicate address detection.
        until(lambda: str(handed_on) in ip("-6 route show table local"), "the way to it")
        here.bind((str(handed_on), PORT))
        here.settimeout(PATIENCE)
        for to in (delegated[0x77], handed_on):
            os.write(devices.fd(1), bytes(VNET_HEADER) + rogue.datagram(WORLD6, to, PORT))
        assert here.recvfrom(100)[1][0] == str(WORLD6)
        assert str(WORLD6) not in wan.seen
        flush_rules()
        os.write(devices.fd(1), bytes(VNET_HEADER) + rogue.datagram(WORLD6, delegated[0x77], PORT))
        until(lambda: wan.seen[str(WORLD6)], "that it would be without our rules")
        devices.close()


def flush_rules() -> None:
    for family in ("-4", "-6"):
        ip(f"{family} rule flush")
        ip(f"{family} rule add pref 32766 lookup main")


def _try_all(behind: int) -> None:
    """From this host and from the one behind it."""
    for here, there, world in FAMILIES:
        send(here, world)
        with netns.visiting(behind):
            send(there, world)
            assert answers(str(there), str(here)), "the one behind is here"


def no_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Nft, groups: int = 0) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(Nft, "__init__", none)


def test_without_nftables_the_rules_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    no_nftables(monkeypatch)
    with host() as (wan, behind):
        devices = Devices()
        devices.create(1, "soup1", networks=(ROUTED, ROUTED6))
        give_ipv4(devices, 1, A, PEER, 1492)
        give_ipv6(devices, 1, LL, 1492)
        for strike in (lambda: None, partial(ip, "link set soup1 down"), partial(devices.remove, 1)):
            strike()
            _try_all(behind)
        assert send(IPv4Address("192.0.2.2"), WORLD)
        until(lambda: wan.seen["192.0.2.2"], "the host's own")
        assert not {str(each) for each in (HERE, HERE6, BEHIND, BEHIND6)} & wan.seen.keys(), wan.seen
        devices.close()


def test_an_address_of_a_network_that_is_nowhere_leaves_by_the_session_too() -> None:
    """Though packets within a network go where the host's own table says: not by a default route of it."""
    ip("link set lo up")
    ip("link add wan type veth peer name world")
    for each in ("wan", "world"):
        ip(f"link set {each} addrgenmode none up")
    ip("addr add 192.0.2.2/24 dev wan")
    ip("neigh add 192.0.2.1 lladdr 02:00:00:00:00:09 dev wan")
    ip("route add default via 192.0.2.1")
    ip(f"addr add {HERE}/32 dev lo")
    devices = Devices()
    devices.create(1, "soup1", networks=(ROUTED,))
    give_ipv4(devices, 1, A, PEER, 1492)
    assert "dev soup1" in ip(f"route get {BEHIND} from {HERE}")
    assert "dev soup1" in ip(f"route get {WORLD} from {HERE}")
    assert "dev wan" in ip(f"route get {BEHIND} from 192.0.2.2")
    devices.close()


OTHER_INSTANCE = f"""
from ipaddress import *
from engine.egress import confinement
from engine.egress.addresses import Devices
from tests.system.given import give_ipv4, give_ipv6
devices = Devices()
devices.create(3, "soup3", networks=(IPv4Network("{ROUTED}"), IPv6Network("{ROUTED6}")))
give_ipv4(devices, 3, IPv4Address("{A}"), None, 1492)
give_ipv6(devices, 3, IPv6Address("{LL}"), 1492)
print(flush=True)
input()
"""


@pytest.mark.parametrize("flush", [False, True], ids=["rules and table", "the table alone"])
def test_networks_of_a_killed_instance_stay_confined(flush: bool) -> None:
    with host() as (wan, behind):
        child = subprocess.Popen(
            [sys.executable, "-c", OTHER_INSTANCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if flush:
            flush_rules()
        _try_all(behind)
        devices = Devices()
        assert all(f"from {network} lookup {0x5000FF00}" in ip("-4 rule") + ip("-6 rule") for network in NETS)
        _try_all(behind)
        flush_rules()
        _try_all(behind)
        assert not {str(each) for each in (HERE, HERE6, BEHIND, BEHIND6)} & wan.seen.keys(), wan.seen
        devices.close()
        assert "proto 80" not in ip("-4 rule") + ip("-6 rule")
        _try_all(behind)
        until(lambda: wan.seen[str(BEHIND)] and wan.seen[str(BEHIND6)], "nothing is left")


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("192.0.2.0/24", "it has 192.0.2.1 in it, this host's gateway on wan."),
        ("192.0.0.0/16", "it has 192.0.2.1 in it, this host's gateway on wan."),
        ("192.0.2.64/26", "it is in 192.0.2.0/24, a network of this host on wan."),
        ("2001:db8:1::/64", "it has 2001:db8:1::1 in it, this host's gateway on wan."),
        ("2001:db8:1::8000/120", "it is in 2001:db8:1::/64, a network of this host on wan."),
        ("203.0.113.12/30", "it is in 203.0.113.8/29, a network of this host on lan."),
    ],
)
def test_a_network_that_the_host_needs_is_refused(network: str, why: str) -> None:
    with host(), provider(), dialling([session("one", networks=(network,))]) as engine:
        until(lambda: events(engine, "dial-failed"), "the refusal")
        (event,) = events(engine, "dial-failed")
        assert event.text == f"The network {network} can't be this session's: {why} Change `networks:`."
        wait_state(engine, SessionState.FAILED)
        assert not events(engine, "dialling"), "found out before anything is on the line"


@pytest.mark.parametrize(
    ("theirs", "mine", "why"),
    [
        ((str(ROUTED),), (str(ROUTED),), "it belongs to session one."),
        ((str(ROUTED),), ("203.0.113.0/24",), f"{ROUTED} belongs to session one."),
        ((), ("100.64.0.0/24",), "100.64.0.2 belongs to session one."),
    ],
)
def test_a_network_of_another_session_is_refused(theirs: tuple[str, ...], mine: tuple[str, ...], why: str) -> None:
    sessions = [session("one", networks=theirs), session("two", networks=mine, autodial=False)]
    with provider(), dialling(sessions) as engine:
        wait_up(engine, "one")
        engine.submit(Dial((view(engine, "two").id,)))
        until(lambda: events(engine, "dial-failed", "two"), "the refusal")
        text = f"The network {ip_network(mine[0])} can't be this session's: {why} Change `networks:`."
        assert events(engine, "dial-failed", "two")[0].text == text


def test_an_address_in_another_sessions_network_is_refused() -> None:
    sessions = [session("one", networks=("100.64.0.3/32",), ipv6=False), session("two", autodial=False, ipv6=False)]
    with provider(), dialling(sessions) as engine:
        wait_up(engine, "one")
        engine.submit(Dial((view(engine, "two").id,)))
        until(lambda: events(engine, "dial-failed", "two"), "the refusal")
        assert "100.64.0.3, which is refused: it belongs to session one" in events(engine, "dial-failed", "two")[0].text


def test_a_network_is_held_while_its_session_is_there_up_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the first dial on, also while nobody answers: hosts behind never stop sending."""
    monkeypatch.setattr(confinement, "GRACE", 0.5)
    dead_end = f"from {ROUTED} lookup {0x5000FF00} proto 80"

    def tidied() -> None:
        """Two looks of the loop's later."""
        start = time.monotonic()
        until(lambda: time.monotonic() - start > 4.5, "two ticks")

    with host() as (wan, behind), provider() as far, dialling([session("one", networks=(str(ROUTED),))]) as engine:
        wait_up(engine)
        assert dead_end not in ip("rule")
        far.kill()
        until(lambda: view(engine, "one").state is not SessionState.UP, "the end of the session")
        until(lambda: dead_end in ip("rule"), "the dead end")
        tidied()
        assert dead_end in ip("rule"), "its grace is over, the session isn't"
        _try_all(behind)
        assert not {str(HERE), str(BEHIND)} & wan.seen.keys()
        engine.submit(Remove((view(engine, "one").id,)))
        until(lambda: dead_end not in ip("rule"), "the network is the host's")
        _try_all(behind)
        until(lambda: wan.seen[str(BEHIND)], "what comes from there")


def test_a_network_is_held_before_its_session_is_up_for_the_first_time() -> None:
    with host() as (wan, behind), provider():
        one = session("one", networks=(str(ROUTED),), ac=AcFilter(name="nobody"))
        with dialling([one]) as engine:
            until(lambda: events(engine, "dialling"), "a dial")
            _try_all(behind)
            assert send(IPv4Address("192.0.2.2"), WORLD)
            until(lambda: wan.seen["192.0.2.2"], "the host's own")
            assert not {str(HERE), str(BEHIND)} & wan.seen.keys()
        assert "proto 80" not in ip("rule")
