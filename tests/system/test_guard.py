"""What others do to sessions' devices, addresses, routes and rules is undone at once, and told."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from engine.api.values import SessionState
from engine.egress.addresses import PATIENCE, Devices, Mended
from engine.egress.fence import Fence
from engine.egress.instances import Instance
from engine.host import rtnl
from engine.host.nft import Message, Nft, field, message
from engine.settings import limits
from engine.settings.values import DatapathChoice
from tests.conftest import run
from tests.program import until
from tests.provider import CARD, provider
from tests.system.engines import dialling, events, fetch, session, view, wait_up
from tests.system.given import give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

A, LL = IPv4Address("100.64.0.2"), IPv6Address("fe80::1234")
TABLE = 0x50000001
DEAD_END, BY_DEVICE, BY_SOURCE = 0x5000FF00, 0x5000FF01, 0x5000FF02


def ip(words: str) -> str:
    return run("ip", *words.split())


@pytest.fixture
def devices() -> Iterator[Devices]:
    ip("link set lo up")
    devices = Devices()
    devices.create(1, "soup1")
    give_ipv4(devices, 1, A, IPv4Address("100.64.0.1"), 1492)
    give_ipv6(devices, 1, LL, 1492)
    yield devices
    devices.close()


def state() -> tuple[str, ...]:
    """All that can be touched."""
    return tuple(
        ip(words)
        for words in (
            "-o addr show soup1",
            "-o link show soup1",
            "-4 rule",
            "-6 rule",
            f"-4 route show table {TABLE}",
            f"-6 route show table {DEAD_END}",
            f"-6 route show table {BY_DEVICE}",
            f"-6 route show table {BY_SOURCE}",
        )
    )


def flush_rules() -> None:
    """As an operator would who has rules of his own to lay anew."""
    for family in ("-4", "-6"):
        ip(f"{family} rule flush")
        ip(f"{family} rule add pref 32766 lookup main protocol kernel")
    ip("-4 rule add pref 32767 lookup default protocol kernel")


def rename() -> None:
    ip("link set soup1 down")
    ip("link set soup1 name mine")
    ip("link set mine up")


WAYS: dict[str, tuple[Callable[[], object], str]] = {
    "set down": (lambda: ip("link set soup1 down"), "it is up, its address fe80::1234, its default route"),
    "MTU": (lambda: ip("link set soup1 mtu 1300"), "Someone changed the device soup1: put back its MTU."),
    "address": (lambda: ip("addr flush dev soup1"), "put back its address 100.64.0.2, its address fe80::1234"),
    "routes": (lambda: ip(f"-4 route flush table {TABLE}"), "its unreachable default route, its default route."),
    "default route": (lambda: ip(f"route replace default dev lo table {TABLE} proto 80"), "its default route."),
    "routes of IPv6": (lambda: ip(f"-6 route flush table {BY_SOURCE}"), "its default route."),
    "default route of IPv6": (
        lambda: ip(f"-6 route replace default from {LL} dev lo table {BY_SOURCE} proto 80"),
        "its default route.",
    ),
    "routes for what is bound": (lambda: ip(f"-6 route flush table {BY_DEVICE}"), "its way for what is bound to it."),
    "name": (rename, "put back its name, it is up"),
    "ARP": (lambda: ip("link set soup1 arp on"), "put back that it asks for no MAC addresses."),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_changed_is_put_back_and_told_once(devices: Devices, way: str) -> None:
    strike, told = WAYS[way]
    devices.look()
    before = state()
    strike()
    mended = devices.look()
    assert state() == before
    assert told in mended.each[1]
    assert (mended.gone, mended.lost) == ([], {})
    assert devices.look() == Mended(), "what we put back ourselves is no news"


def test_devices_whose_names_were_exchanged_have_their_own_again(devices: Devices) -> None:
    """What is bound to the one's name by then must not be the other session's for longer than that."""
    devices.create(2, "soup2")
    give_ipv4(devices, 2, A + 1, None, 1492)
    devices.look()
    before = state(), ip("-o addr show soup2")
    for words in ("soup1 down", "soup2 down", "soup1 name x", "soup2 name soup1", "x name soup2"):
        ip(f"link set {words}")
    mended = devices.look()
    assert (mended.lost, mended.gone, {*mended.each}) == ({}, [], {1, 2})
    assert (state(), ip("-o addr show soup2")) == before
    assert devices.look() == Mended()


@pytest.mark.parametrize("which", ["all", "soup1"])
def test_what_was_lost_while_ipv6_was_switched_off_is_put_back(devices: Devices, which: str) -> None:
    """Its addresses were gone for as long as the session lived, and nobody was told."""
    devices.look()
    before = state()
    switch = Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6")
    switch.write_text("1")
    assert devices.look().each[1] == (
        "Someone has switched IPv6 off on soup1 (`sysctl net.ipv6.conf.soup1.disable_ipv6`): "
        "the session has none until it is on again."
    )
    assert devices.look() == Mended()
    switch.write_text("0")
    assert "put back its address fe80::1234" in devices.look().each[1]
    assert state() == before
    assert devices.look() == Mended()


def test_what_was_down_for_a_moment_has_its_routes_back(devices: Devices) -> None:
    devices.look()
    before = state()
    for words in ("down", "up"):
        ip(f"link set soup1 {words}")
    assert "its default route" in devices.look().each[1]
    assert state() == before


@pytest.mark.parametrize("mtus", [(1000,), (1000, 1492), (1000, 1300)])
def test_a_device_that_was_too_narrow_for_ipv6_is_quiet_again(devices: Devices, mtus: tuple[int, ...]) -> None:
    """The kernel begins with IPv6 anew then: it would make up an address, and heed a router."""
    devices.look()
    before = state()
    for mtu in mtus:
        ip(f"link set soup1 mtu {mtu}")
    assert "its MTU, its address fe80::1234" in devices.look().each[1]
    assert state() == before
    assert [line.split()[3] for line in ip("-6 -o addr show soup1").splitlines()] == [f"{LL}/64"]
    quiet = Path("/proc/sys/net/ipv6/conf/soup1")
    assert {(quiet / each).read_text() for each in ("accept_ra", "accept_redirects")} == {"0\n"}
    assert devices.look() == Mended()


def test_of_what_we_do_ourselves_the_kernel_tells_nothing(devices: Devices) -> None:
    """With thousands of sessions there would be no end of it, and what others do would be lost in it."""
    devices.look()
    _, fence = devices.filenos()
    for key in range(2, 50):
        devices.create(key, f"soup{key}")
        give_ipv4(devices, key, A + key, None, 1492)
    assert select.select([fence], [], [], 0)[0] == []
    with select.epoll() as waiting:
        waiting.register(fence)
        run("nft", "delete", "table", "inet", "souppp")
        assert waiting.poll(10.0)
    assert devices.look().for_all == ["Someone changed the nftables table that keeps sessions' packets in: put back."]


def test_rules_are_put_back(devices: Devices) -> None:
    devices.look()
    before = state()
    flush_rules()
    assert state() != before
    assert devices.look().for_all == ["Someone deleted 5 of the sessions' routing rules: put back."]
    assert state() == before
    assert devices.look() == Mended()


def test_the_table_of_the_firewall_is_put_back(devices: Devices) -> None:
    """`nft flush ruleset` is what a firewall begins with."""
    devices.look()
    nft = Nft()
    nft.commit([message(Message.DELTABLE, field(1, "souppp"))])
    assert nft.elements("souppp", "sources4") == []
    text = "Someone changed the nftables table that keeps sessions' packets in: put back."
    assert devices.look().for_all == [text]
    assert nft.elements("souppp", "sources4") == [A.packed]
    assert devices.look() == Mended()
    nft.close()


@pytest.mark.parametrize(
    "how",
    [
        "insert rule inet souppp before accept",
        "add element inet souppp ways4 { 100.64.0.2 . 1 }",
        "add table inet souppp { flags dormant; }",
        "delete table inet souppp; add table inet souppp",
        "flush chain inet souppp after",
        "add chain inet souppp before { policy drop; }",
    ],
)
def test_what_others_add_to_the_table_is_taken_away(devices: Devices, how: str) -> None:
    """It may open the fence as well as what they take away: one that accepts all has the same name."""
    devices.look()
    before = run("nft", "list", "table", "inet", "souppp")
    run("nft", how)
    assert run("nft", "list", "table", "inet", "souppp") != before
    assert devices.look().for_all == ["Someone changed the nftables table that keeps sessions' packets in: put back."]
    assert run("nft", "list", "table", "inet", "souppp") == before
    assert devices.look() == Mended()


def test_the_table_of_the_largest_fleet_is_put_back_and_taken_over() -> None:
    """Some 2 MB in one step, which a socket doesn't take by itself."""
    sources = [each + number for number in range(limits.MAX_SESSIONS) for each in (A, LL)]
    instance, nft = Instance(), Nft()
    fence = Fence(instance)
    for source in sources:
        fence.open([source], 1)
    nft.commit([message(Message.DELTABLE, field(1, "souppp"))])
    assert fence.look()
    assert fence.obstacle == ""
    instance.close()  # as when it is killed
    after = Instance()
    heir = Fence(after)
    assert heir.obstacle == ""
    assert set(heir.inherited) == set(sources)
    for name, version in (("sources4", 4), ("sources6", 6)):
        assert set(nft.elements("souppp", name)) == {each.packed for each in sources if each.version == version}
    for each in (fence, heir, nft, after):
        each.close()


def test_our_own_haste_is_nobody_elses_doing(devices: Devices) -> None:
    """A thousand sessions that come up at once change more than the news have room for."""
    devices.look()
    news = devices._confinement._fence.news
    assert news is not None
    news._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    def overflow() -> None:
        for number in range(100):
            devices._confinement._fence.hold(IPv4Address(f"100.64.1.{number}"))
            devices._confinement._fence.forget([IPv4Address(f"100.64.1.{number}")])

    overflow()
    assert devices.look().for_all == []
    overflow()
    nft = Nft()
    nft.commit([message(Message.DELTABLE, field(1, "souppp"))])
    text = "Someone changed the nftables table that keeps sessions' packets in: put back."
    assert devices.look().for_all == [text]
    assert nft.elements("souppp", "sources4") == [A.packed]
    nft.close()


def test_what_happened_while_nobody_listened_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has room for a few notifications only, and says that some are lost."""
    ip("link set lo up")
    monkeypatch.setattr(rtnl, "NEWS_ROOM", 1)
    devices = Devices()
    for number in (1, 2):
        devices.create(number, f"soup{number}")
        give_ipv4(devices, number, A + number, None, 1492)
        give_ipv6(devices, number, LL + number, 1492)
    devices.look()
    before = state()
    ip("addr flush dev soup1")
    for number in range(50):
        ip(f"route add 203.0.113.{number} dev lo")
    flush_rules()
    ip("link set soup1 down")
    mended = devices.look()
    assert state() == before
    assert [*mended.each] == [1]
    devices.close()


def test_a_device_that_is_gone(devices: Devices) -> None:
    devices.look()
    ip("link del soup1")
    assert devices.look() == Mended(gone=[1])


def test_a_device_in_another_namespace_is_left_to_its_new_owner(devices: Devices) -> None:
    devices.look()
    ip("netns add guard-test")
    try:
        ip("link set soup1 netns guard-test")
        assert devices.look().each == {1: "soup1 is in another namespace now: what it has there is up to you."}
        assert devices.look() == Mended()
    finally:
        ip("netns del guard-test")


def test_an_address_that_the_host_gets_is_the_hosts(devices: Devices) -> None:
    """Of a session that has ended at once, of one that is up when it has ended."""
    ip("link add lan type veth peer name far")
    devices.clear_ipv6(1)
    devices.look()
    assert f"unreachable default from {LL} " in ip(f"-6 route show table {BY_SOURCE}")
    ip("addr add fe80::1234/64 dev lan nodad")
    ip("addr add 100.64.0.2/24 dev lan")
    mended = devices.look()
    assert mended.lost == {1: "This host has the session's address 100.64.0.2 itself now, on lan."}
    assert f"from {LL} " not in ip("-6 route show table all")
    assert "proto 80" not in ip("-6 rule")
    devices.remove(1)
    assert "100.64.0.2" not in ip("-4 rule")
    nft = Nft()
    assert nft.elements("souppp", "sources4") == nft.elements("souppp", "sources6") == []
    nft.close()


def test_a_quarrel_ends(devices: Devices) -> None:
    devices.look()
    for _ in range(PATIENCE):
        ip("link set soup1 mtu 1300")
        assert devices.look().lost == {}
    ip("link set soup1 mtu 1300")
    assert devices.look().lost[1] == "Someone changes the device soup1 again and again: its MTU."
    devices.tidy(time.monotonic() + 100)
    ip("link set soup1 mtu 1300")
    assert devices.look().lost == {}


@pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_a_deleted_device_is_made_anew_and_the_session_stays_up(path: DatapathChoice) -> None:
    with provider(), dialling([session("one", datapath=path)]) as engine:
        wait_up(engine)
        before = view(engine, "one")
        device, address = before.device, before.ipv4
        assert device is not None
        assert address is not None
        for number in (1, 2):
            ip(f"link del {device}")
            until(lambda number=number: len(events(engine, "guard")) == number, "word of it")  # type: ignore[misc]
            assert "made anew" in events(engine, "guard")[-1].text
            assert fetch(device) == fetch(address) == address
        now = view(engine, "one")
        assert (now.state, now.session_id, now.flaps) == (SessionState.UP, before.session_id, before.flaps)
        ip(f"link set {device} down")
        until(lambda: len(events(engine, "guard")) == 3, "word of that")
        assert fetch(device) == address


def test_a_device_that_was_put_into_a_bridge_is_taken_out_of_it() -> None:
    """What comes from the line would be for whoever is in the bridge, and the session as good as dead."""
    ip("link add bridge type bridge")
    ip("link set bridge up")
    with provider(), dialling([session("one", datapath=DatapathChoice.KERNEL)]) as engine:
        wait_up(engine)
        device = view(engine, "one").device
        assert device is not None
        ip(f"link set {device} master bridge")
        until(lambda: events(engine, "guard"), "word of it")
        (event,) = events(engine, "guard")
        assert event.text.startswith(
            f"Someone changed the device {device}: put back that it belongs to no other device"
        )
        assert "master" not in ip(f"link show {device}")
        assert fetch(device) == view(engine, "one").ipv4


def test_a_device_that_was_given_another_mac_address_has_its_own_again() -> None:
    """What comes from the line bears that one: the session would be up, and hear nothing."""
    with provider(), dialling([session("one", datapath=DatapathChoice.KERNEL)]) as engine:
        wait_up(engine)
        device = view(engine, "one").device
        assert device is not None
        ip(f"link set {device} address 02:00:00:00:00:99")
        until(lambda: events(engine, "guard"), "word of it")
        (event,) = events(engine, "guard")
        assert event.text.startswith(f"Someone changed the device {device}: put back its MAC address")
        assert fetch(device) == view(engine, "one").ipv4


def test_what_cant_be_put_back_ends_the_session() -> None:
    with provider(), dialling([session("one", device="wan", datapath=DatapathChoice.AFXDP)]) as engine:
        wait_up(engine)
        for number in range(1, PATIENCE + 1):
            ip("link set wan mtu 1300")
            until(lambda number=number: len(events(engine, "guard")) == number, "word of it")  # type: ignore[misc]
        ip("link set wan mtu 1300")
        until(lambda: events(engine, "session-down", "one"), "the end")
        assert "again and again" in events(engine, "session-down", "one")[0].text
        assert CARD in ip("-br link")
