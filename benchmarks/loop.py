"""How long one piece of work holds the engine's loop, by what happens to a fleet.

    python benchmarks/loop.py [sessions]

The supervisor runs whole, in virtual time, against the lab's concentrator; the card, the host and the disk are those of
the unit tests, and cost nothing. Each of its calls is timed as the loop makes it, with the frames that come of it, in
CPU time, so that other work on the machine disturbs it little.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.api.commands import Command, Dial, HangUp, Redial
from engine.api.values import SessionState
from engine.datapath import BATCH_FRAMES
from engine.host.promptness import never_collect
from engine.settings.values import DialSettings
from tests.unit.supervisor.world import World, session

TO_REACH = 0.02
"""Seconds."""
SESSIONS = 10_000
TICK = 2.0
"""As in the engine's loop."""
FAST = DialSettings(rate=1000.0, max_outstanding=1000)


class Bench:
    """A world whose supervisor is called as the loop calls it, and timed."""

    def __init__(self, sessions: int) -> None:
        self.world = World([session(f"s{number}") for number in range(sessions)], FAST)
        self.keys = tuple(range(sessions))
        self.supervisor = self.world.supervisor
        self.held: dict[str, list[float]] = {}
        """Seconds of each call since the last report, by its name."""
        self._next_tick = TICK
        self._received = [0] * sessions

    def step(self, name: str, work: Callable[..., object], *arguments: object) -> None:
        """One piece of work, and what it has to say goes on the line."""
        now, world = self.world.now, self.world
        began = time.thread_time()
        work(*arguments)
        frames = self.supervisor.frames_to_send()
        self.supervisor.next_timer()
        took = time.thread_time() - began
        self.held.setdefault(name, []).append(took)
        card = world.card.card
        world.card.handed += len(frames)
        if card is not None and card.carrier:
            world.segment.upstream.put(frames, now)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time go by: all that is due, when it is due."""
        segment, end = self.world.segment, self.world.now + seconds
        (concentrator,) = segment.concentrators
        while not until():
            now = segment.now
            frames = segment.downstream.take(now)
            for begin in range(0, len(frames), BATCH_FRAMES):
                self.step("receive", self.supervisor.receive, frames[begin : begin + BATCH_FRAMES], now)
            if (due := self.supervisor.next_timer()) is not None and due <= now:
                self.step("timers", self.supervisor.handle_timer, now)
            if now >= self._next_tick:
                self._next_tick = now + TICK
                self._received = [number + 1 for number in self._received]
                self.step("look at traffic", self.supervisor.note_traffic, self._received, now)
                self.step("look at the card", self.supervisor.look_at_card, now)
            for frame in segment.upstream.take(now):
                concentrator.receive(frame, now)
            concentrator.handle_timer(now)
            while concentrator.next_event() is not None:
                pass
            segment.downstream.put(concentrator.frames_to_send(), now)
            timers = (
                self.supervisor.next_timer(),
                segment.upstream.next_arrival(),
                segment.downstream.next_arrival(),
                concentrator.next_timer(),
                self._next_tick,
            )
            segment.now = max(now, min(at for at in timers if at is not None))
            if segment.now > end:
                segment.now = end
                return

    def up(self) -> bool:
        return all(view.state is SessionState.UP for view in self.supervisor.board.views)

    def idle(self) -> bool:
        return all(view.state in (SessionState.DOWN, SessionState.FAILED) for view in self.supervisor.board.views)

    def command(self, command: Command) -> None:
        self.step("command", self.world.do, command)

    def report(self, what: str) -> None:
        """Print the longest calls since the last report."""
        for name, times in self.held.items():
            times.sort()
            longest, usual = times[-1], times[len(times) * 999 // 1000]
            verdict = "" if longest <= TO_REACH else "   TOO LONG"
            figures = f"{longest * 1000:8.1f} ms at most, {usual * 1000:8.1f} ms 99.9 of 100 times"
            print(f"{what:24} {name:18} {figures}, {sum(times):7.2f} s in all{verdict}", flush=True)
        self.held.clear()


def main() -> None:
    """Print, for each thing that happens, the longest that each of the supervisor's calls took."""
    never_collect()
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else SESSIONS
    bench = Bench(sessions)
    world, supervisor = bench.world, bench.supervisor
    bench.step("open", supervisor.open, world.now)
    bench.report("the start")
    bench.run(600.0, bench.up)
    assert bench.up()
    bench.report("all come up")
    bench.run(25.0)
    bench.report("keepalive")
    bench.command(Redial(bench.keys))
    bench.run(1.0)
    bench.run(600.0, bench.up)
    bench.report("all are redialled")
    world.card.set_carrier(False)
    bench.step("look at the card", supervisor.look_at_card, world.now)
    bench.run(5.0)
    bench.report("the carrier is lost")
    world.card.set_carrier(True)
    bench.step("look at the card", supervisor.look_at_card, world.now)
    bench.run(600.0, bench.up)
    bench.report("and is back")
    bench.command(HangUp(bench.keys))
    bench.run(30.0, bench.idle)
    bench.report("all are hung up")
    bench.command(Dial(bench.keys))
    bench.run(600.0, bench.up)
    bench.report("all are dialled")
    bench.step("say goodbye", supervisor.say_goodbye, world.now)
    bench.run(3.0, lambda: supervisor.idle)
    bench.step("leave", supervisor.leave, world.now)
    bench.report("the end")


if __name__ == "__main__":
    main()
