"""A concentrator that hands out what the host has or uses: refused, and the host's own traffic doesn't notice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from engine.api.values import SessionState
from engine.egress.addresses import Devices
from engine.host import netns
from engine.run.thread import Engine
from engine.sessions.policy import Way, Whose, objection
from engine.settings.values import DatapathChoice
from tests.conftest import run
from tests.program import until
from tests.provider import provider
from tests.system.engines import dialling, events, session, story, view, wait_up
from tests.system.given import give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

LAN = "192.0.2.0/24"
PINGS = 20


@contextmanager
def lan(own: str, gateway: str) -> Iterator[None]:
    """A network of the host's, with its gateway in a namespace of its own."""
    far = netns.new_net()
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "gw", "netns", f"/proc/{os.getpid()}/fd/{far}")
    run("ip", "addr", "add", f"{own}/24", "dev", "lan")
    run("ip", "link", "set", "lan", "up")
    with netns.visiting(far):
        run("ip", "addr", "add", f"{gateway}/24", "dev", "gw")
        run("ip", "link", "set", "gw", "up")
    run("ip", "route", "add", "default", "via", gateway)
    try:
        yield
    finally:
        os.close(far)


def answers(target: str) -> int:
    """How many of PINGS pings to an address of the host's network are answered."""
    ping = ["ping", "-q", "-c", str(PINGS), "-i", "0.02", "-W", "2", target]
    said = subprocess.run(ping, capture_output=True, text=True, timeout=60, check=False).stdout
    return int(said.partition(" received")[0].split()[-1])


def gave_up(engine: Engine, name: str = "one") -> str:
    """Why a session failed, once it did."""
    until(lambda: events(engine, "dial-failed", name), f"the end of {name}")
    return events(engine, "dial-failed", name)[0].text


@pytest.mark.parametrize(
    ("own", "gateway", "why", "path"),
    [
        ("192.0.2.2", "192.0.2.254", "it is this host's own, on lan.", DatapathChoice.KERNEL),
        ("192.0.2.254", "192.0.2.2", f"it is in {LAN}, a network of this host on lan.", DatapathChoice.AFXDP),
        ("192.0.2.254", "192.0.2.253", f"it is in {LAN}, a network of this host on lan.", DatapathChoice.AFXDP),
    ],
    ids=["own", "gateway's", "neighbour's"],
)
def test_an_address_of_the_hosts(own: str, gateway: str, why: str, path: DatapathChoice) -> None:
    """The lab gives the second address of its network first, and has the first one itself."""
    with lan(own, gateway), provider(network=LAN):
        assert answers(gateway) == PINGS
        before = run("ip", "-4", "route", "show", "table", "all"), run("ip", "-4", "addr", "show", "lan")
        with dialling([session("one", ipv6=False, datapath=path)]) as engine:
            text = gave_up(engine)
            assert text.startswith(f"Given no other address than 192.0.2.2, which is refused: {why} Trying again in")
            assert answers(gateway) == PINGS
            notices = [event.text for event in events(engine, "notice")]
            assert f"The address 192.0.2.2 is refused: {why} Asking for another." in notices
            assert any("concentrator may not have the address 192.0.2.1: it is in" in text for text in notices)
            assert not events(engine, "ipv4-up")
            assert view(engine, "one").device is None
            assert (run("ip", "-4", "route", "show", "table", "all"), run("ip", "-4", "addr", "show", "lan")) == before


@pytest.mark.parametrize("network", ["0.0.0.0/24", "240.0.0.0/24", "169.254.1.0/24"])
def test_an_address_for_no_host(network: str) -> None:
    with provider(network=network), dialling([session("one", ipv6=False)]) as engine:
        assert f"Given no other address than {IPv4Network(network)[2]}, which is refused" in gave_up(engine)
        until(lambda: view(engine, "one").state is SessionState.FAILED, "the end of hanging up")
        assert view(engine, "one").reason == "address refused"


def test_the_gateways_address_as_the_concentrators_own() -> None:
    """It does without, and the session comes up: the lab tells the address of its own and takes a no."""
    with lan("192.0.2.254", "192.0.2.1"), provider(network="192.0.0.0/16"):
        run("ip", "addr", "add", "192.0.0.1/32", "dev", "lan")
        with dialling([session("one", ipv6=False)]) as engine:
            wait_up(engine)
            (notice,) = events(engine, "notice")
            assert notice.text == "The concentrator may not have the address 192.0.0.1: it is this host's own, on lan."
            assert view(engine, "one").ipv4_peer is None
            assert answers("192.0.2.1") == PINGS


def test_a_pause_that_grows() -> None:
    """No storm: each pause is twice the one before, whatever the settings call the longest."""
    with lan("192.0.2.2", "192.0.2.254"), provider(network=LAN), dialling([session("one", ipv6=False)]) as engine:
        until(lambda: len(events(engine, "dial-failed")) >= 3, "three tries")
        first, second, third = (int(event.text.split()[-2]) for event in events(engine, "dial-failed")[:3])
        assert 1 <= first <= second <= third
        assert first < third, story(engine)


# What the host says


@pytest.fixture
def devices() -> Iterator[Devices]:
    run("ip", "link", "set", "lo", "up")
    devices = Devices()
    yield devices
    devices.close()


def test_ways_of_the_host(devices: Devices) -> None:
    def way(address: str) -> Way | None:
        return devices.way_to(IPv4Address(address))

    def network(text: str) -> IPv4Network:
        return IPv4Network(text)

    assert way("198.51.100.7") is None
    with lan("192.0.2.2", "192.0.2.1"):
        assert way("192.0.2.2") == Way("lan", network("192.0.2.2/32"), local=True)
        assert way("192.0.2.255") == Way("lan", network("192.0.2.255/32"), local=True)
        assert way("192.0.2.1") == Way("lan", network(LAN))
        assert way("198.51.100.7") == Way("lan", network("0.0.0.0/0"), gateway=IPv4Address("192.0.2.1"))
        run("ip", "route", "add", "unreachable", "198.51.100.0/24")
        assert way("198.51.100.7") is None
        run("ip", "route", "add", "203.0.113.0/24", "nexthop", "via", "192.0.2.8", "nexthop", "via", "192.0.2.9")
        found = way("203.0.113.7")
        assert found is not None
        assert found.gateway in (IPv4Address("192.0.2.8"), IPv4Address("192.0.2.9"))
        run("ip", "route", "replace", "default", "via", "198.18.0.1", "dev", "lan", "onlink")
        assert way("198.18.0.1") == Way("lan", network("0.0.0.0/0"), gateway=IPv4Address("198.18.0.1"))


def test_ipv6_addresses_of_the_host(devices: Devices) -> None:
    """What a session had would be a session's alone: the host's own link-local address is refused."""
    own = IPv6Address("fe80::7")
    devices.create(1, "soup1")
    give_ipv6(devices, 1, IPv6Address("fe80::8"), 1492)
    with lan("192.0.2.2", "192.0.2.1"):
        assert devices.way_to(own) is None
        run("ip", "addr", "add", "fe80::7/64", "dev", "lan", "nodad")
        # The kernel makes an IPv6 address its own in its own time.
        way = until(lambda: devices.way_to(own), "the host's own address")
        assert way == Way("lan", IPv6Network("fe80::7/128"), local=True)
        assert devices.way_to(IPv6Address("fe80::8")) is None
        assert devices.way_to(IPv6Address("fe80::9")) is None
        run("ip", "addr", "add", "3fff:5::1/64", "dev", "lan", "nodad")
        until(lambda: (way := devices.way_to(IPv6Address("3fff:5::1"))) and way.local, "the address its own")
        other = until(partial(devices.way_to, IPv6Address("3fff:5::9")), "a way")
        assert other == Way("lan", IPv6Network("3fff:5::/64"))
        assert objection(IPv6Address("3fff:5::9"), Whose.OURS, other)
        elsewhere = devices.way_to(IPv6Address("3fff:6::9"))
        assert not objection(IPv6Address("3fff:6::9"), Whose.OURS, elsewhere), elsewhere
        assert "this host's own address on lan" in devices.claim(IPv6Network("3fff:5::/56"), whole=True)
        assert "a network of this host on lan" in devices.claim(IPv6Network("3fff:5:0:0:100::/72"), whole=True)
        assert devices.claim(IPv6Network("3fff:6::/56"), whole=True) == ""
        run("ip", "route", "add", "default", "via", "3fff:5::2")
        assert objection(IPv6Address("3fff:5::2"), Whose.OURS, devices.way_to(IPv6Address("3fff:5::2")))
        assert not objection(IPv6Address("3fff:6::9"), Whose.OURS, devices.way_to(IPv6Address("3fff:6::9")))
        assert devices.claim(IPv6Network("3fff:6::/56"), whole=True) == ""


def test_ways_by_a_point_to_point_device(devices: Devices) -> None:
    run("ip", "tuntap", "add", "ptp", "mode", "tun")
    run("ip", "addr", "add", "192.0.2.2", "peer", "192.0.2.3", "dev", "ptp")
    run("ip", "link", "set", "ptp", "up")
    found = devices.way_to(IPv4Address("192.0.2.3"))
    assert found == Way("ptp", IPv4Network("192.0.2.3/32"), point_to_point=True)


def test_sessions_are_no_ways_of_the_hosts(devices: Devices) -> None:
    """Neither while they are up, nor while their device waits to be deleted; another program's are."""
    address = IPv4Address("100.64.0.2")
    devices.create(1, "soup1")
    give_ipv4(devices, 1, address, IPv4Address("100.64.0.1"), 1492)
    assert f"local {address} dev soup1" in run("ip", "route", "show", "table", "local")
    assert devices.way_to(address) is None
    assert devices.way_to(IPv4Address("100.64.0.1")) is None
    others = Devices()
    found = others.way_to(address)
    others.close()
    assert found is not None
    assert (found.device, found.local) == ("soup1", True)
    for number in range(2, 10):
        devices.create(number, f"soup{number}")
        give_ipv4(devices, number, address + number, None, 1492)
        devices.remove(number)
        assert devices.way_to(address + number) is None


def test_an_address_of_another_programs_session(devices: Devices) -> None:
    """Both are on one host; the one that comes later is refused."""
    devices.create(77, "soup77")
    give_ipv4(devices, 77, IPv4Address("100.64.0.2"), None, 1492)
    with provider(), dialling([session("one", ipv6=False)]) as engine:
        assert "100.64.0.2, which is refused: it is this host's own, on soup77." in gave_up(engine)
