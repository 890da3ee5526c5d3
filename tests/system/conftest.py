"""What system tests share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import run
from tests.terminal import Terminal

ETH_P_ALL = 3


@pytest.fixture(scope="session")
def flood(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that sends frames at a rate; see flood.c."""
    program = tmp_path_factory.mktemp("flood") / "flood"
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, Path(__file__).with_name("flood.c"))
    return program


@pytest.fixture
def lan(own_net: None) -> Iterator[socket.socket]:
    """The host's other card, lan0, with its default routes; what leaves by it comes to this socket."""
    run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for device in ("lo", "lan0", "lan1"):
        run("ip", "link", "set", device, "up")
    for own, gateway in (("192.0.2.1/24", "192.0.2.254"), ("2001:db8:99::1/64", "2001:db8:99::fe")):
        run("ip", "addr", "add", own, "dev", "lan0", *(("nodad",) if ":" in own else ()))
        run("ip", "neigh", "add", gateway, "lladdr", "02:00:00:00:00:09", "dev", "lan0")
        run("ip", "route", "add", "default", "via", gateway, "dev", "lan0")
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as heard:
        heard.bind(("lan1", ETH_P_ALL))
        yield heard


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """One that ends with the test."""
    with closing(Terminal(tmp_path)) as terminal:
        yield terminal
