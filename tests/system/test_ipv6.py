"""IPv6 in sessions, end to end on the lab: addresses by advertisement and by DHCPv6, a delegated network handed on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from tests.program import Program, running, until

pytestmark = pytest.mark.usefixtures("needs_root")

LAB = "3fff:64::1"
SESSIONS = """
defaults: {user: x, password: lab, autodial: true}
sessions:
  - {name: afxdp, dhcpv6: always, prefix: 56, delegate: {interface: lan0, subnet: 3}}
  - {name: kernel, datapath: kernel, dhcpv6: always, prefix: any}
"""
DEVICES = ("soup0", "soup1")


def inside(program: Program, *command: str) -> str:
    """What a command says in the program's namespace."""
    at = ("nsenter", "-t", str(program.pid), "-n")
    done = subprocess.run((*at, *command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def listed(program: Program, *words: str) -> Any:
    return json.loads(inside(program, "ip", "-6", "-j", *words) or "[]")


def addresses(program: Program, device: str) -> set[IPv6Interface]:
    found = {each["ifname"]: each["addr_info"] for each in listed(program, "addr", "show", "scope", "global") if each}
    return {IPv6Interface(f"{each['local']}/{each['prefixlen']}") for each in found.get(device, ()) if "local" in each}


@pytest.fixture(scope="module")
def program(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    file: Path = tmp_path_factory.mktemp("ipv6") / "sessions.yaml"
    file.write_text(SESSIONS)
    file.chmod(0o600)
    with running("--lab", "--headless", "--until-up", "--hold", "--config", file) as program:
        program.up(2)
        for device in DEVICES:
            until(lambda device=device: len(addresses(program, device)) == 2, f"two addresses on {device}")  # type: ignore[misc]
        yield program


def test_each_address_is_used_by_device_and_by_itself(program: Program) -> None:
    told = {}
    for device in DEVICES:
        for address in addresses(program, device):
            assert address.network.prefixlen == 128
            page = inside(
                program, "curl", "-gsS", "--max-time", "20", "--interface", str(address.ip), f"http://[{LAB}]/"
            )
            assert page == f"Your address is {address.ip}\n"
        page = inside(program, "curl", "-gsS", "--max-time", "20", "--interface", device, f"http://[{LAB}]/")
        told[device] = IPv6Address(page.split()[-1])
        assert told[device] in {each.ip for each in addresses(program, device)}
        assert "3 received" in inside(program, "ping", "-6", "-c3", "-i0.2", "-W5", "-I", device, LAB)
    assert len(set(told.values())) == len(DEVICES)


def test_what_is_bound_to_nothing_uses_none(program: Program) -> None:
    """This host has no way of its own: the kernel would choose a session's address, and so the session."""
    for command in (("ping", "-6", "-c1", "-W1", LAB), ("curl", "-gsS", "--max-time", "1", f"http://[{LAB}]/")):
        at = ("nsenter", "-t", str(program.pid), "-n")
        assert subprocess.run((*at, *command), capture_output=True, timeout=60).returncode != 0
    assert listed(program, "route", "get", LAB)[0]["dev"] == "lo"


def test_the_hosts_own_table_knows_nothing_of_it(program: Program) -> None:
    for route in listed(program, "route", "show", "table", "main"):
        assert route["dst"] == "fe80::/64" or route["dev"] == "lan0", route
    tables = listed(program, "route", "show", "table", "all")
    ways = {(each["dst"], each["dev"]) for each in tables if each.get("table") == str(0x5000FF02)}
    assert {("default", device) for device in DEVICES} <= ways


def test_what_is_delegated_is_confined_and_unreachable(program: Program) -> None:
    unreachable = {
        IPv6Network(route["dst"]): route["table"]
        for route in listed(program, "route", "show", "table", "all", "type", "unreachable")
        if route["dst"] not in ("default", "fe80::/64") and route.get("from") == route["dst"]
    }
    assert len(unreachable) == 2
    assert {each.prefixlen for each in unreachable} == {56}
    rules = {(each["src"], each.get("srclen"), each.get("table")) for each in listed(program, "rule")}
    for network, table in unreachable.items():
        assert (str(network[0]), 56, table) in rules
        assert any(each.ip in network.supernet(8) for device in DEVICES for each in addresses(program, device))


def test_sessions_have_no_tables_of_ipv6_of_their_own(program: Program) -> None:
    """The kernel reads all there are whenever a device comes or goes, also those that are empty, and frees none."""
    routes = listed(program, "route", "show", "table", "all")
    assert {int(each["table"]) & 0xFFFF for each in routes if each.get("table", "").isdigit()} <= {
        *range(0xFF00, 0xFF05)
    }


def test_a_64_of_it_is_handed_on_when_the_device_is_there(program: Program) -> None:
    assert not any(each["ifname"] == "lan0" for each in listed(program, "link"))
    inside(program, "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    inside(program, "ip", "link", "set", "lan0", "up")
    inside(program, "ip", "link", "set", "lan1", "up")
    until(lambda: addresses(program, "lan0"), "an address on lan0")
    (address,) = addresses(program, "lan0")
    assert address.network.prefixlen == 64
    assert int(address.ip) & 0xFFFF_FFFF_FFFF_FFFF == 1
    assert int(address.ip) >> 64 & 0xFF == 3
    until(
        lambda: (
            "1 received"
            in subprocess.run(
                ("nsenter", "-t", str(program.pid), "-n", "ping", "-6", "-c1", "-W1", "-I", str(address.ip), LAB),
                capture_output=True,
                text=True,
            ).stdout
        ),
        "an answer to the address on lan0",
    )
