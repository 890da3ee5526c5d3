"""The host's default route through a session that asks for it; and nothing else of the host's routes, ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from engine.api.commands import HangUp
from engine.egress.addresses import PATIENCE, Devices
from engine.settings.values import DefaultRoute
from tests.conftest import run
from tests.program import until
from tests.provider import provider
from tests.system.engines import dialling, events, session, view, wait_up
from tests.system.given import give_ipv4, give_ipv6

pytestmark = pytest.mark.usefixtures("own_net")

A, PEER = IPv4Address("100.64.0.2"), IPv4Address("100.64.0.1")
OWN = "default via 192.0.2.254 dev lan metric 100"
OWN6 = "default via 2001:db8:99::fe dev lan metric 100"


def ip(words: str) -> str:
    return run("ip", *words.split())


def defaults(family: str = "-4") -> list[str]:
    """The host's default routes, best first."""
    return [line.split(" pref ")[0].strip() for line in ip(f"{family} route show default").splitlines()]


def way() -> str:
    """The device by which the host reaches the world."""
    return ip("-o route get 198.51.100.7").split(" dev ")[1].split()[0]


@pytest.fixture
def host(own_net: None) -> Iterator[None]:
    """With default routes of its own, which are there at the end as they were."""
    ip("link set lo up")
    ip("link add lan type veth peer name far")
    for device in ("lan", "far"):
        ip(f"link set {device} up")
    ip("addr add 192.0.2.1/24 dev lan")
    ip("-6 addr add 2001:db8:99::1/64 dev lan nodad")
    ip(f"route add {OWN}")
    ip(f"-6 route add {OWN6}")
    yield
    assert defaults() == [OWN]
    assert defaults("-6") == [OWN6]


def up(devices: Devices, key: int, metric: int | None) -> None:
    devices.create(key, f"soup{key}", metric=metric)
    give_ipv6(devices, key, IPv6Address("fe80::1234") + key, 1492)
    give_ipv4(devices, key, A + key, PEER, 1492)


@pytest.mark.usefixtures("host")
def test_it_follows_the_first_open_session_that_says_so() -> None:
    devices = Devices()
    up(devices, 1, None)
    assert defaults() == [OWN], "nobody asked"
    up(devices, 3, 50)
    through = "default dev soup{} proto 80 scope link metric {}"
    assert defaults() == [through.format(3, 50), OWN]
    assert (way(), defaults("-6")) == ("soup3", [OWN6]), "a link-local address leads nowhere"
    up(devices, 2, 60)
    assert defaults() == [through.format(2, 60), OWN]
    devices.clear_ipv4(2)
    assert defaults() == [through.format(3, 50), OWN]
    assert devices.news[-1] == "This host's default route for IPv4 goes through soup3, metric 50."

    devices.look()
    ip("route del default dev soup3")
    assert way() == "lan"
    assert devices.look().each == {3: "Someone deleted the host's default route through the session: put back."}
    assert way() == "soup3"
    ip("link set soup3 down")
    assert "the host's default route" in devices.look().each[3]
    assert way() == "soup3"
    ip("route replace default via 192.0.2.253 dev lan metric 100")
    ip(f"route replace {OWN}")
    assert devices.look().each == {}, "the host's own may change"

    ip("route add default via 192.0.2.253 dev lan metric 40")
    up(devices, 0, 40)
    assert devices.news[-1].startswith("This host has a default route for IPv4 of the metric 40 already")
    assert [line.split()[2] for line in defaults()] == ["192.0.2.253", "192.0.2.254"], "that of others is left alone"
    ip("route del default via 192.0.2.253 dev lan metric 40")
    devices.look()
    assert way() == "soup0", "it was waited for"
    devices.remove(0)
    assert way() == "soup3"
    lost = ""
    for _ in range(PATIENCE):
        ip("route del default dev soup3")
        lost = devices.look().lost.get(3, "")
    assert "again and again" in lost

    devices._instance.close()
    for key in (1, 2, 3):  # as when it is killed
        os.close(devices._devices.pop(key).fd)
    until(lambda: defaults() == [OWN], "the host's own route alone")


@pytest.mark.usefixtures("host")
def test_it_goes_with_the_session_that_is_hung_up() -> None:
    sessions = [
        session(name, default_route=DefaultRoute(metric)) for name, metric in (("a", 50), ("b", 50), ("c", None))
    ]
    with provider(), dialling(sessions) as engine:
        wait_up(engine)
        until(lambda: way() == view(engine, "a").device, "the first one")
        engine.submit(HangUp((0,))).result()
        until(lambda: way() == view(engine, "b").device, "the second one")
        engine.submit(HangUp((1,))).result()
        until(lambda: way() == "lan", "the host's own")
        texts = {event.text for event in events(engine, "default-route")}
        assert "This host's default route for IPv4 goes through no session any more." in texts
