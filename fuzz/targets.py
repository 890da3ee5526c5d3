"""What the fuzzers feed: each target takes any octets and may raise nothing.

A failure is an exception that gets out, or an assertion about what no frame may do. An input is a list of frames, each
with a length of two octets in front; a length of 0xffff stands for a second that goes by.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

from engine.lab.concentrator import Concentrator, LabSettings
from engine.lab.line import Segment
from engine.ppp import mschapv2
from engine.proxy.asked import How, Refused, Wanted
from engine.proxy.http import Http
from engine.proxy.socks import Socks4, Socks5
from engine.sessions.fleet import Fleet
from engine.sessions.session import Session
from engine.settings.values import AuthMethod, Dhcpv6, DialSettings, SessionSettings
from engine.wire import auth, control, dhcpv6, ethernet, ipv6, ndp, ppp, pppoe
from engine.wire.errors import WireError
from engine.wire.text import printable

AC = bytes.fromhex("02acacac0001")
OWN = bytes.fromhex("020000000001")
MAX_FRAMES = 200
PAUSE = 0xFFFF
METHODS = [method for method in AuthMethod if method is not AuthMethod.NONE]

DECODERS: tuple[Callable[[bytes], object], ...] = (
    ethernet.decode,
    pppoe.decode,
    pppoe.decode_tags,
    ppp.decode,
    control.decode,
    control.decode_options,
    auth.decode_pap_request,
    auth.decode_pap_message,
    auth.decode_chap_value,
    mschapv2.parse_failure,
    printable,
    lambda data: ipv6.decode_udp(ipv6.decode(data)),
    lambda data: ndp.decode_advertisement(ipv6.decode(data)),
    lambda data: dhcpv6.associations(dhcpv6.decode(data)),
)


def segment(method: AuthMethod) -> Segment:
    """A session, a concentrator and the line between them, always with the same numbers by chance."""
    chance = random.Random(5)
    fleet = Fleet(DialSettings(), chance.random)
    settings = SessionSettings("s", "alice", "wonderland", auth=(method,), dhcpv6=Dhcpv6.ALWAYS, prefix=56)
    fleet.add(0, Session(settings, OWN, chance.randbytes), 0.0)
    lab = LabSettings(accounts=(("alice", "wonderland"),), auth=(method,))
    return Segment(fleet, [Concentrator(lab, AC, chance.randbytes)], chance)


def join(frames: list[bytes]) -> bytes:
    """An input that holds these frames."""
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


def split(data: bytes) -> Iterator[bytes | None]:
    """The frames of an input, None for a second that goes by."""
    at = 0
    for _ in range(MAX_FRAMES):
        if at + 2 > len(data):
            return
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if length == PAUSE:
            yield None
        else:
            yield data[at : at + length]
            at += length


def codecs(data: bytes) -> None:
    """Every decoder on the same octets."""
    for decode in DECODERS:
        with contextlib.suppress(WireError):
            decode(data)


def session(data: bytes) -> None:
    """A session that dials, and hears nothing but the input."""
    fleet = segment(_method(data)).fleet
    now = 0.0
    fleet.dial(0, now)
    fleet.handle_timer(now)
    one = fleet.members[0].session
    for frame in split(data[1:]):
        if frame is None:
            now += 1.0
            fleet.handle_timer(now)
        else:
            fleet.receive(frame, now)
            one.receive(frame, now)
        fleet.frames_to_send()
    _must_come_to_rest(fleet, now)


def healthy(data: bytes) -> None:
    """A session that is up, with the input between it and its concentrator."""
    line = segment(_method(data))
    line.fleet.dial(0, 0.0)
    line.run(2.0)
    for frame in split(data[1:]):
        if frame is None:
            line.run(line.now + 1.0)
        else:
            line.fleet.receive(frame, line.now)
    line.run(line.now + 1.0)
    _must_come_to_rest(line.fleet, line.now)


def concentrator(data: bytes) -> None:
    """A concentrator that hears a client's input besides a healthy one's."""
    line = segment(_method(data))
    line.fleet.dial(0, 0.0)
    line.run(2.0)
    (ac,) = line.concentrators
    for frame in split(data[1:]):
        if frame is None:
            line.run(line.now + 1.0)
        else:
            ac.receive(frame, line.now)
    line.run(line.now + 1.0)
    assert set(ac.subscribers) == set(ac.discovery.sessions), "a session that only one of its books knows"


def _method(data: bytes) -> AuthMethod:
    """The first octet chooses how the session authenticates itself."""
    return METHODS[data[0] % len(METHODS)] if data else AuthMethod.CHAP


def _must_come_to_rest(fleet: Fleet, now: float) -> None:
    """Whatever happened, a hang-up ends it, and leaves no timer."""
    fleet.hang_up(0, now)
    for _ in range(20):
        now += 1.0
        fleet.handle_timer(now)
        fleet.frames_to_send()
    assert fleet.idle
    assert fleet.next_timer() is None


MACHINES: dict[int, type[Socks4 | Socks5]] = {4: Socks4, 5: Socks5}


def proxies(data: bytes) -> None:
    """A client of the proxies in pieces; behind a plain request, what its server says, in pieces that begin with 0."""
    pieces = [piece for piece in split(data) if piece]
    if not pieces:
        return
    machine = MACHINES.get(pieces[0][0], Http)(lambda name, password: True, open_to_all=True)
    with contextlib.suppress(Refused, EOFError):
        for piece in pieces:
            if not isinstance(machine, Http):
                if machine.receive(piece) is not None:
                    assert len(machine.octets_to_send()) < 8
                    return
            elif piece[0] == 0 and machine.to_server:  # a request is under way
                machine.receive_server(piece[1:])
                if machine.is_answered:
                    machine.to_server.clear()
                    _begin(machine, machine.again())
            else:
                _begin(machine, machine.receive(piece))
            assert len(machine.rest) <= len(data)


def _begin(machine: Http, wanted: Wanted | None) -> None:
    if wanted is not None:
        if wanted.how is How.CONNECT:
            raise EOFError
        machine.begin()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codecs": codecs,
    "session": session,
    "healthy": healthy,
    "concentrator": concentrator,
    "proxies": proxies,
}
