"""What control frames cost: a set-up of a session, an echo, junk from strangers; and how fast a fleet comes up.

    python benchmarks/control.py [sessions]

All of it runs without I/O in one thread. Each figure is the best of several rounds, in CPU time, so that other work on
the machine disturbs it little. The concentrator's share is measured apart, since a real one runs elsewhere.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.api.values import SessionState
from engine.lab.concentrator import Concentrator, LabSettings
from engine.sessions.fleet import Fleet
from engine.sessions.session import Session
from engine.settings.values import AuthMethod, DialSettings, SessionSettings
from engine.wire import control, ethernet, ppp, pppoe
from engine.wire.control import Code, ControlPacket
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame
from engine.wire.ppp import Protocol
from engine.wire.pppoe import PppoePacket

AC = bytes.fromhex("02acacac0001")
STRANGER = bytes.fromhex("02bad0bad001")
ROUNDS = 5
START = 100.0


class Bench:
    """A fleet and a concentrator with a clock for each."""

    def __init__(self, sessions: int, method: AuthMethod, *, ipv6: bool = True) -> None:
        entropy = random.Random(1).randbytes
        self.fleet = Fleet(DialSettings(rate=1e9, max_outstanding=sessions), random.Random(2).random)
        self.fleet.pace.window = float(sessions)  # here nothing waits for anything
        lab = LabSettings(accounts=(("alice", "wonderland"),), auth=(method,))
        self.concentrator = Concentrator(lab, AC, entropy)
        settings = SessionSettings("bench", "alice", "wonderland", auth=(method,), ipv6=ipv6)
        for number in range(sessions):
            self.fleet.add(number, Session(settings, (0x02 << 40 | number).to_bytes(6, "big"), entropy), START)
        self.fleet_seconds = self.concentrator_seconds = 0.0
        self.sent = self.received = 0

    def come_up(self) -> None:
        """Dial everyone, and carry frames until all is quiet."""
        now = START
        began = time.process_time()
        for number in self.fleet.members:
            self.fleet.dial(number, now)
        now += 1.0
        self.fleet.handle_timer(now)
        sent = self.fleet.frames_to_send()
        self.fleet_seconds += time.process_time() - began
        while sent:
            self.sent += len(sent)
            began = time.process_time()
            for frame in sent:
                self.concentrator.receive(frame, now)
            answers = self.concentrator.frames_to_send()
            while self.concentrator.next_event() is not None:
                pass
            self.concentrator_seconds += time.process_time() - began
            self.received += len(answers)
            began = time.process_time()
            for frame in answers:
                self.fleet.receive(frame, now)
            self.fleet.handle_timer(now)
            while self.fleet.next_event() is not None:
                pass
            sent = self.fleet.frames_to_send()
            self.fleet_seconds += time.process_time() - began
        states = {member.session.state for _, member in self.fleet}
        assert states == {SessionState.UP}, states

    def frames(self, code: int, identifier: int) -> list[bytes]:
        """One LCP packet for each session, as the concentrator would send it."""
        frames = []
        for _, member in self.fleet:
            keys = member.session.place
            assert keys is not None
            payload = ppp.encode(Protocol.LCP, control.encode(ControlPacket(code, identifier, b"magi" + bytes(8))))
            packet = pppoe.encode(PppoePacket(pppoe.Code.SESSION, keys.session_id, payload))
            frames.append(ethernet.encode(EthernetFrame(keys.own_mac, AC, ETH_PPPOE_SESSION, packet)))
        return frames


def best(work: Callable[[], None], per: int) -> float:
    """Microseconds for each of `per` pieces of work, in the best of the rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds) / per * 1e6


def set_up(sessions: int, method: AuthMethod) -> None:
    """Print what a session's set-up costs with one authentication method."""
    rounds = [Bench(sessions, method) for _ in range(ROUNDS)]
    for bench in rounds:
        bench.come_up()
    bench = min(rounds, key=lambda one: one.fleet_seconds)
    frames = bench.sent + bench.received
    each = bench.fleet_seconds / sessions * 1e6
    print(
        f"set-up, {method:<9} {each:7.0f} us a session  {bench.fleet_seconds / frames * 1e6:5.1f} us a frame"
        f"  {frames / sessions:4.1f} frames  {1e6 / each:6.0f} sessions/s"
        f"  (concentrator: {bench.concentrator_seconds / sessions * 1e6:.0f} us a session)"
    )


def main() -> None:
    """Print all figures."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    for method in AuthMethod:
        set_up(sessions, method)
    bench = Bench(sessions, AuthMethod.PAP, ipv6=False)  # nobody asks for a router meanwhile
    bench.come_up()
    fleet, now = bench.fleet, START + 2.0
    fleet.handle_timer(now)  # else it looks as if all had stood still from here on

    def echoes() -> None:
        for frame in requests:
            fleet.receive(frame, now)
        fleet.frames_to_send()

    requests = bench.frames(Code.ECHO_REQUEST, 1)
    print(f"Echo-Request answered     {best(echoes, sessions):7.1f} us")

    def keepalive() -> None:
        nonlocal now
        now += 10.0
        asked = 0
        while (due := fleet.next_timer()) is not None and due <= now:  # a share at a time
            fleet.handle_timer(now)
            asked += len(fleet.frames_to_send())
        assert asked == sessions
        number = 2 + next(rounds)
        for frame in replies[number % 256]:
            fleet.receive(frame, now)
        while fleet.next_event() is not None:
            pass

    rounds = iter(range(1000))
    replies = {number: bench.frames(Code.ECHO_REPLY, number) for number in range(40)}
    print(f"keepalive, request + reply {best(keepalive, sessions):6.1f} us")

    junk = ethernet.encode(
        EthernetFrame(bytes(6), STRANGER, ETH_PPPOE_DISCOVERY, pppoe.encode(PppoePacket(pppoe.Code.PADT, 1, b"")))
    )
    offer = pppoe.encode_tags(
        [
            pppoe.Tag(pppoe.TagType.AC_NAME, b"evil"),
            pppoe.Tag(pppoe.TagType.SERVICE_NAME),
            pppoe.Tag(pppoe.TagType.HOST_UNIQ, bytes(12)),
        ]
    )
    pado = ethernet.encode(
        EthernetFrame(bytes(6), STRANGER, ETH_PPPOE_DISCOVERY, pppoe.encode(PppoePacket(pppoe.Code.PADO, 0, offer)))
    )
    for name, frame in (("PADT", junk), ("PADO", pado)):

        def strangers(frame: bytes = frame) -> None:
            for _ in range(10_000):
                fleet.receive(frame, now)

        print(f"a stranger's {name}         {best(strangers, 10_000):7.1f} us")

    def timers() -> None:
        for _ in range(10_000):
            fleet.next_timer()

    print(f"next_timer, {sessions} sessions  {best(timers, 10_000):7.1f} us")


if __name__ == "__main__":
    main()
