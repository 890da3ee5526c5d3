"""Cards, link changes, promiscuous mode and privileges, each on real devices in a namespace of the test's own."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.api.values import ReceiveRules
from engine.card.changes import LinkChange, LinkWatch
from engine.card.facts import Card, Promiscuous, card_name, read_card
from engine.host import netns
from engine.host.errors import HostError
from engine.host.privileges import missing_capabilities
from tests.conftest import NetnsPair, run
from tests.program import PATIENCE

pytestmark = pytest.mark.usefixtures("own_net")


def ip(words: str) -> str:
    return run("ip", *words.split())


@pytest.fixture
def cable() -> None:
    """va with 4 receive and 2 transmit queues, vb with as many the other way round."""
    ip("link add va numrxqueues 4 numtxqueues 2 type veth peer name vb numrxqueues 2 numtxqueues 4")
    ip("link set va address 02:00:00:00:00:0a mtu 1600")


# --- cards ---


def test_card(cable: None) -> None:
    found = read_card("va")
    assert found == Card(
        name="va",
        index=found.index,
        mac=bytes.fromhex("02000000000a"),
        mtu=1600,
        up=False,
        carrier=False,
        rx_queues=4,
        tx_queues=2,
        driver="veth",
        strips_vlan_tags=found.strips_vlan_tags,
        receive_rules=ReceiveRules.NONE,
        carrier_changes=found.carrier_changes,
    )
    assert found.queues == 2
    assert f"{found.index}: va" in ip("-o link")
    ip("link set va up")
    assert (read_card("va").up, read_card("va").carrier) == (True, False)
    ip("link set vb up")
    assert read_card("va").carrier


def test_a_card_that_takes_vlan_tags_off_is_known(cable: None) -> None:
    for inner, outer, strips in (("on", "off", True), ("off", "on", True), ("off", "off", False)):
        run("ethtool", "-K", "va", "rxvlan", inner, "rx-vlan-stag-hw-parse", outer)
        assert read_card("va").strips_vlan_tags is strips


@pytest.mark.parametrize("other", ["enp3s0", "enx0200aabbccddeeff", "a-name-of-127-octets" + "-" * 107])
def test_a_card_may_be_called_by_any_of_its_names(cable: None, other: str) -> None:
    ip(f"link property add dev va altname {other}")
    assert card_name(other) == card_name("va") == "va"
    assert card_name("eth9") == "eth9"


def test_queues_in_use_can_be_fewer_than_the_driver_has_room_for(cable: None) -> None:
    run("ethtool", "-L", "va", "rx", "1")
    assert read_card("va").rx_queues == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("eth9", "There is no card eth9 here; there is va, vb."),
        ("va-with-a-long-name", "There is no card va-with-a-long-name here"),
        ("lo", "lo is no Ethernet card; there is va, vb."),
    ],
)
def test_no_such_card(cable: None, name: str, text: str) -> None:
    with pytest.raises(HostError) as caught:
        read_card(name)
    assert str(caught.value).replace("vb, va", "va, vb").startswith(text)


def test_no_card_at_all() -> None:
    with pytest.raises(HostError, match="there is none at all"):
        read_card("eth0")


# --- changes of links ---


def changes(watch: LinkWatch, name: str, number: int = 1) -> list[LinkChange]:
    """What the watch tells of a link, once there are that many: the kernel tells of a carrier in its own time."""
    found: list[LinkChange] = []
    while True:
        found += [event.change for event in watch.events() if event.name == name]
        if len(found) >= number or not select.select([watch], [], [], PATIENCE)[0]:
            return found


@pytest.fixture
def watch(cable: None) -> Iterator[LinkWatch]:
    watch = LinkWatch()
    yield watch
    watch.close()


def test_watch_tells_what_happens_to_a_card(watch: LinkWatch) -> None:
    assert watch.events() == []
    ip("link set va up")
    assert changes(watch, "va") == [LinkChange.UP]
    ip("link set vb up")
    assert changes(watch, "va") == [LinkChange.CARRIER_BACK]
    ip("link set vb down")
    assert changes(watch, "va") == [LinkChange.CARRIER_LOST]
    ip("link set va mtu 1508")
    ip("link set va down")
    assert changes(watch, "va", 2) == [LinkChange.MTU, LinkChange.DOWN]
    ip("link set va address 02:00:00:00:00:0b")
    assert changes(watch, "va") == [LinkChange.MAC]
    ip("link set va name vc")
    assert changes(watch, "va") == [LinkChange.RENAMED]
    ip("link del vc")
    assert changes(watch, "vc") == [LinkChange.GONE]
    ip("link add va type veth peer name vb")
    assert changes(watch, "va") == [LinkChange.APPEARED]


def test_watch_wakes_an_event_loop(watch: LinkWatch) -> None:
    assert select.select([watch], [], [], 0)[0] == []
    ip("link set va up")
    assert select.select([watch], [], [], PATIENCE)[0] == [watch]
    watch.events()
    assert select.select([watch], [], [], 0)[0] == []


def test_watch_of_one_card_leaves_others_alone(cable: None) -> None:
    """Thousands of sessions' devices come and go beside it: nobody is woken for them. It is known by either."""
    card: tuple[int | None, str] = socket.if_nametoindex("va"), "va"
    with closing(LinkWatch(lambda: card)) as watch:
        ip("link set vb mtu 1300")
        ip("link add va2 type veth peer name v")
        assert select.select([watch], [], [], 0)[0] == []
        ip("link set va name vc")
        ip("link set vc mtu 1400")
        told = [(event.name, event.change) for event in watch.events()]
        assert told == [("va", LinkChange.RENAMED), ("vc", LinkChange.MTU)]
        card = card[0], "vc"
        assert watch.events() == []
        ip("link set va2 name va")
        assert select.select([watch], [], [], 0)[0] == []
        ip("link del vc")
        assert [event.change for event in watch.events()] == [LinkChange.GONE]
        card = None, "va"  # as it is until the card is taken
        assert [event.change for event in watch.events()] == [LinkChange.APPEARED]
        ip("link set va mtu 1300")
        assert [event.change for event in watch.events()] == [LinkChange.MTU]
        card = socket.if_nametoindex("va"), "va"
        elsewhere = netns.new_net()
        ip(f"link set va netns /proc/{os.getpid()}/fd/{elsewhere}")
        assert [event.change for event in watch.events()] == [LinkChange.MOVED]
        os.close(elsewhere)


@pytest.mark.parametrize("name", ["c", "ca", "ca1", "eth0", "enp0s", "enp0s3", "enp0s31", "wlp0s20f3u1u2v3"])
def test_watch_knows_a_card_by_a_name_of_any_length(cable: None, name: str) -> None:
    with closing(LinkWatch(lambda: (None, name))) as watch:
        for other in (name[:-1] or "w", f"{name[:-1]}x"):
            ip(f"link add {other} type veth peer name peer")
            ip(f"link del {other}")
        assert select.select([watch], [], [], 0)[0] == []
        ip(f"link add {name} type veth peer name peer")
        assert [event.change for event in watch.events()] == [LinkChange.APPEARED]


def test_watch_compares_everything_after_lost_news(watch: LinkWatch) -> None:
    """More changes than the socket holds: what is different in the end must still be told."""
    ip("link set vb mtu 1300")
    with subprocess.Popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True) as batch:
        assert batch.stdin is not None
        batch.stdin.writelines(f"link set va mtu {1000 + n % 500}\n" for n in range(2000))
        batch.stdin.write("link set va up mtu 1500\n")
    found = {(event.name, event.change) for event in watch.events()}
    assert found == {("va", LinkChange.MTU), ("va", LinkChange.UP), ("vb", LinkChange.MTU)}
    assert watch.events() == []


# --- promiscuous mode ---


def promiscuity(name: str) -> str:
    return ip(f"-d link show {name}").split("promiscuity ")[1].split()[0]


def test_promiscuous_mode_ends_when_closed(cable: None) -> None:
    held = Promiscuous(read_card("va").index)
    assert promiscuity("va") == "1"
    held.close()
    assert promiscuity("va") == "0"


def test_promiscuous_mode_ends_when_the_process_is_killed(cable: None) -> None:
    program = "from engine.card.facts import *; held = Promiscuous(read_card('va').index); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert promiscuity("va") == "1"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert promiscuity("va") == "0"


def test_promiscuous_mode_of_a_card_that_is_gone() -> None:
    with pytest.raises(HostError, match="can't be made promiscuous: No such device"):
        Promiscuous(12345)


# --- privileges ---


def test_root_lacks_nothing() -> None:
    assert missing_capabilities(lab=True) == []


def test_missing_capabilities_are_named() -> None:
    """In a child that gave them up: capset(2) with the 64 bits of CAP_NET_RAW and CAP_BPF."""
    program = """
import ctypes, struct
from engine.host.privileges import missing_capabilities
keep = 1 << 13 | 1 << 39
low, high = keep & 0xFFFFFFFF, keep >> 32
header, data = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, 0, high, high, 0)
assert ctypes.CDLL(None).capset(header, data) == 0
print(missing_capabilities(), missing_capabilities(lab=True))
"""
    assert run(sys.executable, "-c", program) == (
        "['CAP_NET_ADMIN', 'CAP_PERFMON'] ['CAP_NET_ADMIN', 'CAP_PERFMON', 'CAP_SYS_ADMIN', 'CAP_NET_BIND_SERVICE']\n"
    )


# --- namespaces ---


def names() -> set[str]:
    return {line.split(":")[1].strip().split("@")[0] for line in ip("-o link").splitlines()}


def test_namespaces_by_process_and_path(cable: None, netns_pair: NetnsPair) -> None:
    assert names() == {"lo", "va", "vb"}
    for target in (f"/run/netns/{netns_pair.near}", Path("/run/netns") / netns_pair.near):
        with netns.inside(target):
            assert names() == {"lo", netns_pair.card}
        assert names() == {"lo", "va", "vb"}
    with subprocess.Popen(netns_pair.command("sleep", "60")) as sleeper:
        while os.readlink(f"/proc/{sleeper.pid}/ns/net") == os.readlink("/proc/thread-self/ns/net"):
            pass
        with netns.inside(sleeper.pid):
            assert netns_pair.card in names()
        sleeper.kill()
    with pytest.raises(FileNotFoundError):
        netns.enter("/run/netns/there-is-none")


def test_namespaces_belong_to_the_thread(cable: None) -> None:
    seen: list[set[str]] = []

    def look() -> None:
        netns.unshare_net()
        child = threading.Thread(target=lambda: seen.append(names()))
        child.start()
        child.join()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [{"lo"}]
    assert names() == {"lo", "va", "vb"}


def test_new_namespace_leaves_the_thread_where_it_is(cable: None) -> None:
    other = netns.new_net()
    assert names() == {"lo", "va", "vb"}
    ip(f"link set vb netns /proc/{os.getpid()}/fd/{other}")
    assert names() == {"lo", "va"}
    os.close(other)
    # The last thing that held the namespace is gone, and with it the card in it and this end of the cable.
    watch = LinkWatch()
    while "va" in names():
        select.select([watch], [], [], PATIENCE)
        watch.events()
    watch.close()


def test_errors_of_the_kernel_are_raised() -> None:
    with open("/dev/null") as no_namespace, pytest.raises(OSError, match="Invalid argument"):
        netns.set_net(no_namespace.fileno())
    assert ctypes.get_errno() == 22
