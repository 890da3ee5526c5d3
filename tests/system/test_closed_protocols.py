"""A packet of a network protocol that isn't open reaches the engine, on either data path, and no device.

The engine rejects what the session has no use for (RFC 1661 section 5.7), and discards what may yet open (section 3.5).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from engine.api.commands import Watch
from engine.api.values import Details
from engine.host import netns
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice
from tests.program import until
from tests.provider import FAR_CARD, Provider, provider
from tests.system.engines import dialling, events, session, story, view, wait_up
from tests.system.rig import ipv4, ipv6, ppp, pppoe

pytestmark = pytest.mark.usefixtures("own_net")

over_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])


class Line:
    """The concentrator's end of the cable, for who speaks in its name to the session `one`."""

    def __init__(self, far: Provider, engine: Engine) -> None:
        found = view(engine, "one")
        assert found.session_id is not None
        with netns.inside(far.pid):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.socket.bind((FAR_CARD, 0))
        to = bytes.fromhex((found.local_mac or "").replace(":", ""))
        self._frame = partial(pppoe, dst=to, src=self.socket.getsockname()[4], session_id=found.session_id)

    def say(self, payload: bytes) -> None:
        """A PPP frame, in the session."""
        self.socket.send(self._frame(payload))

    def say_until(self, payload: bytes, heard: Callable[[], bool], what: str) -> None:
        """Again and again, until that is so."""

        def once_more() -> bool:
            self.say(payload)
            return heard()

        until(once_more, what)


@contextmanager
def one_session(path: DatapathChoice, *, ipv6: bool) -> Iterator[tuple[Line, Engine]]:
    with provider() as far, dialling([session("one", datapath=path, ipv6=ipv6)]) as engine:
        wait_up(engine)
        line = Line(far, engine)
        try:
            yield line, engine
        finally:
            line.socket.close()


def details(engine: Engine) -> Details:
    engine.submit(Watch(0)).result(10)
    found = engine.details(0)
    assert found is not None
    return found


def discarded(engine: Engine) -> int:
    """IP packets that the session's link saw and had to discard."""
    return dict(details(engine).counters).get("discarded: IP packet while its protocol is not open", 0)


def has_rejected(engine: Engine, number: str) -> bool:
    """Whether the session has sent a Protocol-Reject of this protocol lately."""
    said = [entry.summary for entry in details(engine).ladder if entry.sent]
    return any(summary.startswith("LCP Protocol-Reject") and summary.endswith(f"({number})") for summary in said)


@over_paths
def test_ipv6_packets_are_rejected_by_a_session_without_ipv6(path: DatapathChoice) -> None:
    with one_session(path, ipv6=False) as (line, engine):
        assert view(engine, "one").datapath is path
        line.say_until(ppp(ipv6()), lambda: has_rejected(engine, "0x0057"), "a Protocol-Reject")
        assert len(events(engine, "ipv4-up")) == 1, story(engine)


@over_paths
@pytest.mark.parametrize(
    ("packet", "ncp", "family"), [(ipv4(), b"\x80\x21", "ipv4"), (ipv6(), b"\x80\x57", "ipv6")], ids=["IPv4", "IPv6"]
)
def test_packets_are_discarded_by_the_engine_once_the_peer_wants_none(
    path: DatapathChoice, packet: bytes, ncp: bytes, family: str
) -> None:
    with one_session(path, ipv6=True) as (line, engine):
        until(lambda: view(engine, "one").ipv4 and view(engine, "one").ipv6, "both protocols")
        line.say(b"\xc0\x21\x08\xe7\x00\x0a" + ncp + b"\x05\x01\x00\x04")
        until(lambda: getattr(view(engine, "one"), family) is None, "that one close")
        before = discarded(engine)
        line.say_until(ppp(packet), lambda: discarded(engine) > before, "one of its packets with the engine")
        assert not has_rejected(engine, f"0x00{ncp[1]:02x}"), "it may yet open"
