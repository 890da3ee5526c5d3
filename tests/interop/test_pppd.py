"""The other way round: Debian's pppd, an independent client, against our own concentrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.host import netns
from tests.conftest import joined_namespaces
from tests.interop.kit import Aclab, concentrators
from tests.program import until
from tests.provider import CARD, Provider

SERVER = "100.64.0.1"


@pytest.fixture
def dialled(needs_root: None, tmp_path: Path) -> Iterator[Callable[..., tuple[Provider, Aclab]]]:
    """Starts our concentrator, and pppd in a guest at the other end of the cable."""
    providers: list[Provider] = []
    with joined_namespaces() as line:

        def start(options: str = "", **order: object) -> tuple[Provider, Aclab]:
            with netns.inside(f"/run/netns/{line.far}"):
                providers.append(Provider(**order))
            return providers[-1], start_guest(KIND="none", PAYLOAD=pppd(options))

        try:
            with concentrators(replace(line, far_card=CARD), tmp_path) as start_guest:
                yield start
        finally:
            for provider in providers:
                provider.kill()


def pppd(options: str) -> str:
    common = "nodetach debug noauth usepeerdns +ipv6 noipdefault lcp-echo-interval 1 lcp-echo-failure 10"
    return f"exec pppd plugin pppoe.so nic-vec0 user alice {common} {options}"


def address(client: Aclab) -> str | None:
    """The address of the client's ppp0."""
    words = client.exec("ip -br -4 address show dev ppp0 2>/dev/null || true").split()
    return next((word.split("/")[0] for word in words if word.startswith("100.64.")), None)


@pytest.mark.parametrize("method", ["chap", "pap", "mschapv2"])
def test_pppd_comes_up_and_carries_traffic(dialled: Callable[..., tuple[Provider, Aclab]], method: str) -> None:
    provider, client = dialled(auth=(method,), password="wonderland")
    mine = until(lambda: address(client), "pppd's address")
    assert "mtu 1492" in client.exec("ip link show dev ppp0")
    client.exec(f"ping -q -c 3 -i 0.2 -W 5 -I ppp0 {SERVER}")
    client.exec(f"ping -q -c 3 -i 0.2 -W 5 -M do -s 1464 -I ppp0 {SERVER}")
    assert client.exec(f"busybox wget -qO- http://{SERVER}/").strip() == f"Your address is {mine}"
    assert "100.64.0.53" in client.exec("cat /etc/ppp/resolv.conf")
    until(lambda: "fe80::" in client.exec("ip -6 address show dev ppp0"), "pppd's IPv6 address")
    provider.close()
    until(lambda: not client.exec("pidof pppd || true").strip(), "pppd's end after the Terminate-Request")
    assert "LCP terminated by peer" in client.exec("cat /run/messages")


def test_pppd_with_a_wrong_password_is_refused(dialled: Callable[..., tuple[Provider, Aclab]]) -> None:
    _, client = dialled(auth=("chap",), password="something-else")
    until(lambda: not client.exec("pidof pppd || true").strip(), "pppd's end")
    assert "CHAP authentication failed" in client.exec("cat /run/messages")
    assert address(client) is None


def test_pppd_asks_for_another_method(dialled: Callable[..., tuple[Provider, Aclab]]) -> None:
    """Ours asks for CHAP first, pppd refuses it, and both settle for PAP."""
    _, client = dialled("refuse-chap refuse-mschap-v2", auth=("chap", "mschapv2", "pap"), password="wonderland")
    until(lambda: address(client), "pppd's address")
    assert "PAP authentication succeeded" in client.exec("cat /run/messages")
