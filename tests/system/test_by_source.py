"""IPv6 of many sessions in one routing table: each source leaves by its own device or not at all, each layer alone."""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from ipaddress import IPv6Address, IPv6Network

import pytest

from engine.egress.addresses import Devices
from engine.egress.requests import put_into_group, uint32
from engine.egress.together import Earlier, delete_together
from engine.egress.tun import VNET_HEADER
from engine.host.links import index_of
from engine.host.nft import Message, Nft, field, message
from engine.host.rtnl import Rtnl
from tests.conftest import run
from tests.system.given import give_global6, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

LL, GLOBAL, NETWORK = IPv6Address("fe80::1234"), IPv6Address("2001:db8:5::2"), IPv6Network("3fff:5::/56")
ELSEWHERE, LAN, OWN = ("2001:db8:ff::7", 9), "lan0", "2001:db8:99::1"
IPV6_FREEBIND = 78
BY_SOURCE, BY_NETWORK, NO_SOURCE, TABLE = 0x5000FF02, 0x5000FF03, 0x5000FF04, 0x50000000
MANY, GROUP = 24, 77


def ip(words: str) -> str:
    return run("ip", "-6", *words.split())


@pytest.fixture
def devices(lan: socket.socket) -> Iterator[Devices]:
    devices = Devices()
    for key in range(3):
        up(devices, key)
    devices.look()
    yield devices
    devices.close()
    assert "proto 80" not in ip("rule") + ip("route show table all")


def up(devices: Devices, key: int) -> None:
    devices.create(key, f"soup{key}")
    give_ipv6(devices, key, LL + key, 1492)
    give_global6(devices, key, (GLOBAL + key,))


def sender(source: IPv6Address | None = None, device: str = "") -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    if source is not None:
        made.bind((str(source), 0))
    return made


def send(made: socket.socket) -> None:
    with made, suppress(OSError):
        made.sendto(b"by source", ELSEWHERE)


def sources(heard: int, header: int = VNET_HEADER) -> list[IPv6Address]:
    """Of our packets that wait at a device."""
    found = []
    while select.select([heard], [], [], 0.05)[0]:
        packet = os.read(heard, 2000)[header:]
        if b"by source" in packet:
            found.append(IPv6Address(packet[8:24]))
    return found


def fence_gone() -> None:
    nft = Nft()
    nft.commit([message(Message.DELTABLE, field(1, "souppp"))])
    nft.close()


def no_nftables(*_: object) -> Nft:
    raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))


def rules_gone() -> None:
    ip("rule flush")
    ip("rule add pref 32766 lookup main")


def table_flushed() -> None:
    ip(f"route flush table {BY_SOURCE}")


def tables() -> set[str]:
    """All that the kernel has, also those that are empty."""
    return {*re.findall(r" table (\S+)", ip("route show table all"))}


def test_the_kernel_has_no_more_tables_with_more_sessions(devices: Devices) -> None:
    before, rules = tables(), ip("rule")
    for key in range(3, MANY):
        up(devices, key)
    assert tables() == before
    assert ip("rule") == rules, "nor more rules"


@pytest.mark.parametrize("strike", [None, fence_gone, rules_gone, table_flushed])
def test_each_source_leaves_by_its_own_device_alone(
    devices: Devices, lan: socket.socket, strike: Callable[[], None] | None
) -> None:
    if strike is not None:
        strike()
    for key in range(3):
        send(sender(GLOBAL + key))
    send(sender())
    seen = [sources(devices.fd(key)) for key in range(3)]
    assert sources(lan.fileno(), 0) == [IPv6Address(OWN)], "the host's own, and nothing else"
    if strike in (None, fence_gone):
        assert seen == [[GLOBAL + key] for key in range(3)]
    devices.look()
    for key in range(3):
        send(sender(GLOBAL + key))
    assert [sources(devices.fd(key)) for key in range(3)] == [[GLOBAL + key] for key in range(3)]
    assert devices.look().for_all == [], "what we put back is no news"


@pytest.mark.parametrize("strike", [None, fence_gone, rules_gone])
def test_a_socket_outlives_its_session(devices: Devices, lan: socket.socket, strike: Callable[[], None] | None) -> None:
    with sender(GLOBAL + 1) as bound, sender(LL + 1, "soup1") as to_device, sender(GLOBAL + 1) as connected:
        connected.connect(ELSEWHERE)
        connected.send(b"by source")
        assert sources(devices.fd(1)) == [GLOBAL + 1]
        devices.remove(1)
        if strike is not None:
            strike()
        for _ in range(3):
            for each in (bound, to_device):
                with suppress(OSError):
                    each.sendto(b"by source", ELSEWHERE)
            with suppress(OSError):
                connected.send(b"by source")
    assert sources(lan.fileno(), 0) == []
    assert [*sources(devices.fd(0)), *sources(devices.fd(2))] == []


def test_what_is_bound_to_a_device_has_its_address(devices: Devices, lan: socket.socket) -> None:
    for key in range(3):
        send(sender(device=f"soup{key}"))
    assert [sources(devices.fd(key)) for key in range(3)] == [[GLOBAL + key] for key in range(3)]
    send(sender(GLOBAL + 1, "soup2"))
    send(sender(GLOBAL + 1, LAN))
    assert [sources(devices.fd(key)) for key in range(3)] == [[], [], []], "not by another one's device"
    assert sources(lan.fileno(), 0) == []


def test_the_hosts_own_never_leaves_by_a_session(devices: Devices, lan: socket.socket) -> None:
    ip("route del default")
    send(sender())
    ip(f"addr del {OWN}/64 dev {LAN}")
    send(sender())
    assert [sources(devices.fd(key)) for key in range(3)] == [[], [], []]
    assert sources(lan.fileno(), 0) == []


def test_what_is_not_found_in_the_first_table_leaves_nowhere(devices: Devices, lan: socket.socket) -> None:
    """As for a moment while another source is added, or until it is put back; by the first layer alone."""
    devices.set_prefixes6(1, (NETWORK,))
    fence_gone()
    for source, table in ((GLOBAL + 1, BY_SOURCE), (NETWORK, BY_NETWORK)):
        ip(f"route del default from {source} dev soup1 table {table}")
        ip(f"route del unreachable default from {source} table {table} metric {2**32 - 1}")
    for source in (GLOBAL + 1, NETWORK[77]):
        send(sender(source))
    assert sources(lan.fileno(), 0) == []
    assert "its default route" in devices.look().each[1]
    for source in (GLOBAL + 1, NETWORK):
        ip(f"route del unreachable default from {source} table {NO_SOURCE} metric {2**32 - 1}")
    for source in (GLOBAL + 1, NETWORK[77]):
        send(sender(source))
    assert sources(devices.fd(1)) == [GLOBAL + 1, NETWORK[77]]
    devices.look()
    shown = ip(f"route show table {NO_SOURCE}")
    assert all(f"unreachable default from {each} " in shown for each in (GLOBAL + 1, NETWORK)), shown


@pytest.mark.parametrize("strike", [None, fence_gone])
def test_what_is_delegated_leaves_by_its_session(
    devices: Devices, lan: socket.socket, strike: Callable[[], None] | None
) -> None:
    devices.set_prefixes6(1, (NETWORK,))
    if strike is not None:
        strike()
    send(sender(NETWORK[77]))
    assert [sources(devices.fd(key)) for key in range(3)] == [[], [NETWORK[77]], []]
    ip(f"route flush table {BY_NETWORK}")
    assert "its default route" in devices.look().each[1]
    send(sender(NETWORK[78]))
    assert sources(devices.fd(1)) == [NETWORK[78]]
    devices.set_prefixes6(1, ())
    if strike is not None:
        strike()
    send(sender(NETWORK[79]))
    devices.remove(1)
    send(sender(NETWORK[80]))
    assert sources(lan.fileno(), 0) == []


def another_is_gone() -> None:
    ip("link delete soup2")


@pytest.mark.parametrize(
    ("layers", "strike"),
    [
        *((1, strike) for strike in (None, another_is_gone)),
        *((2, strike) for strike in (None, another_is_gone, fence_gone, rules_gone, table_flushed)),
    ],
)
def test_at_an_orderly_end_nothing_leaves_before_all_is_taken_away(
    lan: socket.socket, layers: int, strike: Callable[[], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layers == 1:
        monkeypatch.setattr("engine.egress.fence.Nft", no_nftables)
    devices = Devices()
    for key in range(3):
        up(devices, key)
    with sender(GLOBAL + 1) as bound:
        devices.part()
        for key in range(3):
            devices.remove(key)
            with suppress(OSError):
                bound.sendto(b"by source", ELSEWHERE)
        if strike is not None:
            strike()
        devices.bury()
        devices.look()
        while not devices.parted:
            with suppress(OSError):
                bound.sendto(b"by source", ELSEWHERE)
        assert sources(lan.fileno(), 0) == []
        assert "soup" not in ip("-o link")
    devices.close()
    assert "proto 80" not in ip("rule") + ip("route show table all")


def begun(script: str) -> subprocess.Popen[bytes]:
    """A process that runs a script, and has come to where it says so."""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child


@pytest.mark.parametrize("strike", [None, rules_gone])
def test_killed_when_all_has_been_taken_away_but_the_devices(
    lan: socket.socket, strike: Callable[[], None] | None
) -> None:
    """And the next start has both layers again."""
    child = begun(BURYING)
    assert "proto 80" not in ip("rule") + ip("route show table all"), "that is the moment"
    send(sender(GLOBAL))
    child.kill()
    child.communicate()
    send(sender(GLOBAL))
    heir = Devices()
    if strike is not None:
        strike()
    send(sender(GLOBAL))
    fence_gone()
    if strike is None:
        send(sender(GLOBAL))
    assert sources(lan.fileno(), 0) == []
    heir.close()
    assert "proto 80" not in ip("rule") + ip("route show table all")


@pytest.mark.parametrize("strike", [None, fence_gone])
def test_who_outlives_a_killed_engine_leaves_what_leads_nowhere(
    lan: socket.socket, strike: Callable[[], None] | None
) -> None:
    """Where the second layer stands it goes for a moment, as the kernel reads it for each device."""
    child = begun(SURVIVED)
    walls = {each for each in ip("route show table all").splitlines() if each.startswith("unreachable")}
    assert len(walls) > 4
    if strike is not None:
        strike()
    with closing(Earlier(GROUP)) as earlier:
        assert not earlier.at_work, "it waits"
    child.kill()
    child.communicate()
    with closing(Earlier(GROUP)) as earlier, sender(GLOBAL) as bound:
        while not over(earlier):
            with suppress(OSError):
                bound.sendto(b"by source", ELSEWHERE)
        assert "soup" not in ip("-o link")
        assert walls <= {*ip("route show table all").splitlines()}
        with suppress(OSError):
            bound.sendto(b"by source", ELSEWHERE)
    assert sources(lan.fileno(), 0) == []
    Devices().close()


def over(earlier: Earlier) -> bool:
    earlier.wait(0.001)
    return not earlier.at_work


DYING = """
import sys
from ipaddress import IPv6Address, IPv6Network
from engine.egress.addresses import Devices
from tests.system.given import give_global6, give_ipv6
devices = Devices()
devices.create(0, "soup0")
give_ipv6(devices, 0, IPv6Address("fe80::1234"), 1492)
give_global6(devices, 0, (IPv6Address("2001:db8:5::2"),))
devices.set_prefixes6(0, (IPv6Network("3fff:5::/56"),))
print(flush=True)
input()
"""


SURVIVED = f"""
from engine.egress.instances import Instance
from engine.egress.together import Survivor
instance = Instance()
survivor = Survivor({GROUP}, instance)
{DYING.replace("Devices()", f"Devices(instance, {GROUP})")}"""
BURYING = f"""{DYING.rpartition("print")[0]}
from engine.egress.undertaker import Undertaker
Undertaker._bury = lambda *_: (print(flush=True), input())
devices.part()
devices.remove(0)
devices.bury()
while devices.undertaker.busy:
    pass
"""


@pytest.mark.parametrize("strike", [None, fence_gone])
def test_what_a_dead_instance_had_leads_nowhere(lan: socket.socket, strike: Callable[[], None] | None) -> None:
    child = begun(DYING)
    child.kill()
    child.communicate()
    if strike is not None:
        strike()
    send(sender(GLOBAL))
    heir = Devices()
    for source in (GLOBAL, NETWORK[7]):
        send(sender(source))
    assert sources(lan.fileno(), 0) == []
    assert "3fff:5::" not in ip("route show table all"), "a rule leads what comes from there nowhere"
    up(heir, 0)
    send(sender(GLOBAL))
    assert sources(heir.fd(0)) == [GLOBAL]
    heir.close()
    assert "proto 80" not in ip("rule") + ip("route show table all")


def test_tables_and_rules_of_a_version_before_are_cleared_up(lan: socket.socket) -> None:
    """Each session had a table of its own, and each address a rule."""
    for key in range(3):
        ip(f"route add unreachable default table {TABLE + key} proto 80 metric {0xFFFFFFFF - key}")
        ip(f"rule add from {GLOBAL + key} lookup {TABLE + key} pref 10000 proto 80")
    ip(f"route add unreachable {NETWORK} table {TABLE} proto 80")
    ip(f"rule add from {NETWORK} lookup {TABLE} pref 13071 proto 80")
    heir = Devices()
    assert not {str(TABLE + key) for key in range(3)} & tables()
    assert not [line for line in ip("rule").splitlines() if str(GLOBAL)[:-1] in line]
    assert f"from all lookup {BY_SOURCE} proto 80" in ip("rule")
    assert f"from {NETWORK} lookup {0x5000FF00} proto 80" in ip("rule")
    for source in (GLOBAL, GLOBAL + 1, GLOBAL + 2, NETWORK[7]):
        send(sender(source))
    assert sources(lan.fileno(), 0) == []
    heir.close()
    assert "proto 80" not in ip("rule") + ip("route show table all")


def test_a_group_goes_with_its_routes_and_its_sources_lead_nowhere(devices: Devices, lan: socket.socket) -> None:
    rtnl = Rtnl()
    rtnl.do([put_into_group(uint32(index_of(rtnl, f"soup{key}")), uint32(77)) for key in (0, 1)])
    rtnl.close()
    with sender(GLOBAL) as bound:
        delete_together(77)
        with suppress(OSError):
            bound.sendto(b"by source", ELSEWHERE)
    links = ip("-o link")
    assert ("soup0" in links, "soup1" in links, "soup2" in links) == (False, False, True)
    send(sender(GLOBAL + 2))
    assert sources(devices.fd(2)) == [GLOBAL + 2]
    assert sources(lan.fileno(), 0) == []
    assert sorted(devices.look().gone) == [0, 1]
