"""A session's IPv6 host against radvd and Kea, at the other end of a TUN device: what others make of the same RFCs."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from engine.egress.tun import open_tun
from engine.ipv6.host import Ipv6Host
from engine.settings.values import Dhcpv6
from engine.wire import dhcpv6, ipv6
from engine.wire.dhcpv6 import Message, MessageType, Status
from engine.wire.errors import WireError
from tests.conftest import run
from tests.program import PATIENCE, until
from tests.unit.ipv6.line import IDENTITY, OURS, Ledger

pytestmark = pytest.mark.usefixtures("own_net")

LINK, POOL, DNS = IPv6Network("3fff:a::/64"), IPv6Network("3fff:b::/48"), IPv6Address("3fff:a::53")
RADVD = """
interface up0 {{
    AdvSendAdvert on; UnicastOnly on; AdvLinkMTU 1400;
    MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
    prefix {link} {{ AdvOnLink off; AdvAutonomous on; AdvValidLifetime 600; AdvPreferredLifetime 300; }};
    RDNSS {dns} {{ AdvRDNSSLifetime 100; }};
}};
"""


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, Debian packages that `make test` installs where they are to be had")


class Wire:
    """The host and the clock; the kernel's end of the device is the servers'."""

    def __init__(self) -> None:
        self.tun = open_tun("up0", offload=False)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "set", "up0", "addrgenmode", "none", "mtu", "1492", "up")
        run("ip", "addr", "add", "fe80::1/64", "dev", "up0", "nodad")
        run("ip", "addr", "add", f"{LINK[1]}/64", "dev", "up0", "nodad")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        self.heard: list[str] = []
        """The DHCPv6 messages, both ways."""
        self.discarded: list[str] = []

    def host(self, dhcp: Dhcpv6, prefix: int | None = None) -> Ipv6Host:
        return Ipv6Host(OURS, IDENTITY, os.urandom, Ledger(), time.monotonic(), dhcp=dhcp, prefix=prefix)

    def until(self, host: Ipv6Host, there: Callable[[], object], what: str) -> None:
        """Run the host until something is so."""
        end = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < end, f"never saw {what}; DHCPv6: {self.heard}, discarded {self.discarded}"
            host.handle_timer(time.monotonic())
            for packet in host.packets_to_send():
                self._note(packet)
                os.write(self.tun, packet)
            select.select([self.tun], [], [], 0.05)
            with suppress(BlockingIOError):
                while True:
                    self._hear(host, os.read(self.tun, 2000))

    def _hear(self, host: Ipv6Host, packet: bytes) -> None:
        try:
            host.receive(packet, time.monotonic())
            self._note(packet)
        except WireError as error:  # what the kernel says by itself, as of listeners
            self.discarded.append(str(error))

    def message(self) -> Message | None:
        """The next DHCPv6 message that comes."""
        while select.select([self.tun], [], [], 0.05)[0]:
            packet = ipv6.decode(os.read(self.tun, 2000))
            if packet.next_header == ipv6.UDP:
                return dhcpv6.decode(ipv6.decode_udp(packet).payload)
        return None

    def _note(self, packet: bytes) -> None:
        decoded = ipv6.decode(packet)
        if decoded.next_header == ipv6.UDP:
            message = dhcpv6.decode(ipv6.decode_udp(decoded).payload)
            self.heard.append(MessageType(message.type).name)


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    try:
        yield wire
    finally:
        os.close(wire.tun)


@contextmanager
def serving(*command: str | Path, **environment: str) -> Iterator[None]:
    server = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield
        assert server.poll() is None, server.communicate()[0]
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)


def radvd(folder: Path) -> tuple[str | Path, ...]:
    config = folder / "radvd.conf"
    config.write_text(RADVD.format(link=LINK, dns=DNS))
    return (
        "/usr/sbin/radvd",
        "--nodaemon",
        "--config",
        config,
        "--pidfile",
        folder / "radvd.pid",
        "--logmethod",
        "stderr",
    )


def kea(folder: Path, rapid: bool) -> tuple[str | Path, ...]:
    subnet = {
        "id": 1,
        "subnet": str(LINK),
        "interface": "up0",
        "rapid-commit": rapid,
        "pools": [{"pool": f"{LINK[16]}-{LINK[31]}"}],
        "pd-pools": [{"prefix": str(POOL[0]), "prefix-len": 48, "delegated-len": 56}],
    }
    config = {
        "Dhcp6": {
            "interfaces-config": {"interfaces": ["up0"]},
            "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "0102030405", "persist": False},
            "lease-database": {"type": "memfile", "persist": False},
            "renew-timer": 5,
            "rebind-timer": 8,
            "preferred-lifetime": 10,
            "valid-lifetime": 14,
            "option-data": [{"name": "dns-servers", "data": str(DNS)}],
            "subnet6": [subnet],
        }
    }
    (folder / "kea.json").write_text(json.dumps(config))
    return "/usr/sbin/kea-dhcp6", "-c", folder / "kea.json"


def test_addresses_mtu_and_name_servers_of_radvd(wire: Wire, tmp_path: Path) -> None:
    need("radvd")
    host = wire.host(Dhcpv6.AUTO)
    with serving(*radvd(tmp_path)):
        wire.until(host, lambda: host.config.addresses, "an address")
    assert host.config.addresses == (IDENTITY.address(LINK),)
    assert (host.config.mtu, host.config.dns) == (1400, (DNS,))
    assert wire.heard == []
    # radvd takes itself back as it ends (RFC 4861 section 6.2.5); the address lives on.
    wire.until(host, lambda: not select.select([wire.tun], [], [], 0.2)[0], "the end")
    assert host.config.addresses == (IDENTITY.address(LINK),)


@pytest.mark.parametrize("rapid", [True, False], ids=["rapid commit", "four messages"])
def test_leases_of_kea_are_had_renewed_and_given_back(wire: Wire, tmp_path: Path, rapid: bool) -> None:
    need("kea-dhcp6")
    folders = {name: str(tmp_path) for name in ("KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR")}
    host = wire.host(Dhcpv6.ALWAYS, 56)
    with serving(*kea(tmp_path, rapid), **folders):
        wire.until(host, lambda: host.config.prefixes and host.config.addresses, "leases")
        assert host.config.prefixes[0] in POOL.subnets(new_prefix=56)
        assert host.config.addresses[0] in LINK
        assert host.config.dns == (DNS,)
        assert wire.heard[-2:] == (["SOLICIT", "REPLY"] if rapid else ["REQUEST", "REPLY"])
        leased = host.config
        if rapid:
            wire.until(host, lambda: wire.heard[-2:] == ["RENEW", "REPLY"], "a renewal")
            assert host.config == leased
        host.release(time.monotonic())
        (release,) = host.packets_to_send()
        os.write(wire.tun, release)
        answer = until(wire.message, "the answer to a Release")
        assert (answer.type, dhcpv6.status_of(answer.options)) == (MessageType.REPLY, Status.SUCCESS)
        assert not any(each.status for each in dhcpv6.associations(answer)), "these were our leases"
