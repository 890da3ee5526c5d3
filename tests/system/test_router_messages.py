"""What a router says on a session's line changes nothing on this host: no route, no address, no neighbour.

The one who says it is a rogue at the far end of the cable, who knows the session's number and addresses.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from engine.host import netns
from engine.lab import rogue
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice
from tests.conftest import run
from tests.program import running, until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system.engines import dialling, events, pings, session, story, view, wait_up
from tests.system.rig import pppoe

pytestmark = pytest.mark.usefixtures("own_net")

OWN, GATEWAY, NEIGHBOUR = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9")
OWN6, GATEWAY6 = IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:1::1")
ELSEWHERE, ELSEWHERE6 = IPv4Address("198.51.100.7"), IPv6Address("2001:db8:7::7")
PORTS = 4000, 5000
ROGUES = "2001:db8:bad"
ATTACKS = 3
"""Each message goes out so many times: the first ones may only make the kernel look for a neighbour."""
over_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])


@pytest.fixture(autouse=True)
def host(own_net: None) -> None:
    """A host with a network, and a gateway for all else; each setting as the kernel has it at first."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "lan", "arp", "off", "type", "veth", "peer", "name", "switch")
    for device in ("lan", "switch"):
        run("ip", "link", "set", device, "addrgenmode", "none", "up")
    run("ip", "addr", "add", f"{OWN}/24", "dev", "lan")
    run("ip", "addr", "add", f"{OWN6}/64", "dev", "lan", "nodad")
    run("ip", "route", "add", "default", "via", str(GATEWAY))
    run("ip", "route", "add", "default", "via", str(GATEWAY6))
    assert Path("/proc/sys/net/ipv6/conf/default/accept_ra").read_text() == "1\n"


@contextmanager
def talking() -> Iterator[None]:
    """The host's own traffic by its gateway: a redirect must tell of such to be believed."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as talker6,
    ):
        talker.bind((str(OWN), PORTS[0]))
        talker.connect((str(ELSEWHERE), PORTS[1]))
        talker6.bind((str(OWN6), PORTS[0]))
        talker6.connect((str(ELSEWHERE6), PORTS[1]))
        talker.send(b"x")
        talker6.send(b"x")
        yield


def state_of_the_host() -> dict[str, str]:
    """All that a router may change. The card's own link-local address comes by and by."""
    queries = {
        "IPv4 routes": "-4 route show table all",
        "IPv6 routes": "-6 route show table all",
        "IPv4 way": f"-4 route get {ELSEWHERE}",
        "IPv6 way": f"-6 route get {ELSEWHERE6}",
        "addresses": "-o addr show",
        "IPv6 neighbours": "-6 neigh show",
    }
    return {name: _without_lifetimes(run("ip", *query.split())) for name, query in queries.items()}


def changes(before: dict[str, str], device: str) -> dict[str, set[str]]:
    """What is otherwise now, but for the session's own address that is made of what the rogue tells, and what keeps
    its packets in."""
    found = {}
    for name, lines in state_of_the_host().items():
        different = set(lines.splitlines()) ^ set(before[name].splitlines())
        from_own = re.compile(rf"(unreachable )?default from {ROGUES}:\S+ dev (lo|{device}) table \d+ proto 80 ")
        kept_in = {line for line in different if from_own.match(line)}
        own = {line for line in different - kept_in if ROGUES in line and device in line and "default" not in line}
        assert name in ("IPv6 routes", "addresses") or not own
        assert all("/128 scope global" in line or line.startswith("local ") for line in own)
        if different - own - kept_in:
            found[name] = different - own - kept_in
    return found


def _without_lifetimes(shown: str) -> str:
    lines = [line.partition(" expires ")[0] for line in shown.splitlines() if CARD not in line.split()]
    return "\n".join(sorted(lines))


def messages(local: str | None) -> list[bytes]:
    """All that a rogue may say to a session with this link-local address."""
    udp = struct.pack("!HHHH", *PORTS, 9, 0) + b"x"
    about = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 29, 1, 0, 64, 17, 0, OWN.packed, ELSEWHERE.packed) + udp
    return [
        rogue.router_advertisement(),
        rogue.hidden_router_advertisement(),
        rogue.redirect(rogue.ROGUE, ELSEWHERE6, IPv6Address(local or "ff02::1")),
        rogue.redirect(rogue.ROGUE, ELSEWHERE6, OWN6, source=GATEWAY6),
        rogue.icmp_redirect(NEIGHBOUR, about, GATEWAY, OWN),
    ]


def say(far: Provider, session_id: int, own_mac: str, packets: list[bytes]) -> None:
    """Put IP packets on the line in the concentrator's name."""
    with netns.inside(far.pid), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((FAR_CARD, 0))
        source = line.getsockname()[4]
        for packet in packets:
            payload = (b"\0\x21" if packet[0] >> 4 == 4 else b"\0\x57") + packet
            line.send(pppoe(payload, dst=bytes.fromhex(own_mac.replace(":", "")), src=source, session_id=session_id))


def dropped(engine: Engine) -> Counter[str]:
    """What was not let in, by reason."""
    lost: Counter[str] = Counter()
    for queue in engine.snapshot().queues:
        lost.update({reason: count for reason, count in queue.drops if reason in ("closed_in", "router_message")})
    return lost


@over_paths
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4 only", "dual stack"])
def test_a_router_changes_nothing(path: DatapathChoice, ipv6: bool) -> None:
    with provider() as far, dialling([session("one", ipv6=ipv6, datapath=path)]) as engine, talking():
        wait_up(engine)
        until(lambda: view(engine, "one").ipv6_addresses or not ipv6, "IPv6")
        found = view(engine, "one")
        assert None not in (found.device, found.session_id, found.local_mac)
        assert found.datapath == path.value
        before = state_of_the_host()
        packets = messages(found.ipv6) * ATTACKS
        say(far, found.session_id, found.local_mac, packets)
        six, heard = sum(packet[0] >> 4 == 6 for packet in packets), ATTACKS
        lost = len(packets) - heard  # advertisements are the engine's, whatever they say
        closed = {"router_message": lost} if ipv6 else {"router_message": len(packets) - six, "closed_in": six - heard}
        until(lambda: dropped(engine) == closed, f"{closed} in {story(engine)}")
        if ipv6:
            until(lambda: len(view(engine, "one").ipv6_addresses) == 2, "an address of the session's own in its prefix")
        assert changes(before, found.device) == {}
        assert ROGUES not in str(before)
        quiet = {"accept_ra": "0\n"} | ({"accept_redirects": "0\n"} if ipv6 else {"disable_ipv6": "1\n"})
        conf = Path("/proc/sys/net/ipv6/conf", found.device)
        assert {setting: (conf / setting).read_text() for setting in quiet} == quiet
        assert pings(found.device), "and the session carries what it should"


@over_paths
def test_a_router_changes_nothing_where_settings_are_read_only(path: DatapathChoice, tmp_path: Path) -> None:
    """As in a container. IPv6 comes up all the same: what a router may say is dropped before the kernel hears it."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"sessions: [{{name: one, user: u, password: lab, autodial: true, ipv6: true, datapath: {path.value}}}]\n"
    )
    closed = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"'
    within = ("unshare", "--mount", "bash", "-c", closed, "bash")
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    with provider() as far, running(*arguments, within=within) as program, talking():
        program.event("ipv6-up")
        (found,) = program.up(1).values()
        device = found["device"]
        until(lambda: "inet6 fe80" in run("ip", "addr", "show", device), "the link-local address")
        assert Path(f"/proc/sys/net/ipv6/conf/{device}/accept_ra").read_text() == "1\n"
        until(lambda: "inet6 3fff:" in run("ip", "addr", "show", device), "the global address")
        before = state_of_the_host()
        assert before["addresses"].count(f": {device} ") == 3, "one of each kind, none of the kernel's own making"
        say(far, found["session_id"], found["local_mac"], messages(found.get("ipv6")) * ATTACKS)
        assert pings(device), "all that was sent before has come in by now"
        until(lambda: f"inet6 {ROGUES}" in run("ip", "addr", "show", device), "the session's address in the prefix")
        assert changes(before, device) == {}
        assert not [said for said in program.said if said.get("event") in ("device", "session-down", "internal-error")]
        assert program.end() == 0


@over_paths
def test_a_network_protocol_that_comes_and_goes(path: DatapathChoice) -> None:
    """IPCP is taken down by a forged Terminate-Request, and opened again by the concentrator.

    Meanwhile the concentrator sends packets whenever IPCP is open at its end, which is a moment before it is at ours.
    """
    with provider() as far, pinging(far), dialling([session("one", ipv6=True, datapath=path)]) as engine:
        wait_up(engine)
        found = view(engine, "one")
        assert None not in (found.device, found.session_id, found.local_mac)
        assert pings(found.device)
        for times in range(2, 5):
            _terminate_ipcp(far, found.session_id, found.local_mac)
            until(partial(_came_up, engine, times), f"IPv4 for the {times}th time")
            wait_up(engine)
            assert pings(found.device), story(engine)
        assert view(engine, "one").device == found.device
        assert not events(engine, "session-down")


@contextmanager
def pinging(far: Provider) -> Iterator[None]:
    """The provider pings its first client a hundred times a second."""
    ping = subprocess.Popen(far.command("ping", "-q", "-i", "0.01", "100.64.0.2"), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        ping.kill()
        ping.wait()


def _came_up(engine: Engine, times: int) -> bool:
    return len(events(engine, "ipv4-up")) >= times


def _terminate_ipcp(far: Provider, session_id: int, own_mac: str) -> None:
    with netns.inside(far.pid), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((FAR_CARD, 0))
        request = b"\x80\x21\x05\x77\0\x04"
        destination = bytes.fromhex(own_mac.replace(":", ""))
        line.send(pppoe(request, dst=destination, src=line.getsockname()[4], session_id=session_id))
