"""A process that is asked whether it moves: it stops, spins, has no processor, or has much to do first."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.run import pulse
from engine.run.pulse import Pulse

ANSWERS = """
import signal, sys
def spin(*_):
    while True:
        pass
signal.signal(signal.SIGUSR1, spin)
print(0, flush=True)
for line in iter(sys.stdin.readline, ""):
    print(line, end="", flush=True)
"""
PATIENCE = 60.0


class Asked:
    """A process that says each number again, and what its pulse tells of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.answers = self.looks = self.room = 0
        self.takes_in = 0
        self.still = False
        assert process.stdin is not None
        say = process.stdin.write
        loop = asyncio.get_running_loop()
        self.pulse = Pulse(loop, process.pid, lambda n: say(b"%d\n" % n), self._made_room, self._stands_still)

    def _made_room(self) -> int:
        self.looks += 1
        self.room += self.takes_in
        return self.room

    def _stands_still(self) -> None:
        assert not self.still
        self.still = True

    async def hear(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.pulse.answered(int(line))
            self.answers += 1

    async def until(self, is_so: Callable[[Asked], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_so(self):
                await asyncio.sleep(0.01)


@pytest.fixture
async def asked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    monkeypatch.setattr(pulse, "LOOK", 0.02)
    monkeypatch.setattr(pulse, "STILL", 0.2)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ANSWERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    asked = Asked(process)
    hearing = asyncio.ensure_future(asked.hear())
    yield asked
    asked.pulse.close()
    process.kill()
    await hearing
    await process.wait()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGUSR1])
async def test_one_that_stops_or_spins_stands_still(asked: Asked, how: signal.Signals) -> None:
    await asked.until(lambda it: it.answers >= 3)
    assert not asked.still
    asked.process.send_signal(how)
    await asked.until(lambda it: it.still)


async def test_one_that_takes_in_what_it_was_told_does_not(asked: Asked) -> None:
    asked.takes_in = 1
    asked.process.send_signal(signal.SIGSTOP)
    await asked.until(lambda it: it.looks >= 40)
    assert not asked.still
    asked.takes_in = 0
    await asked.until(lambda it: it.still)


@contextmanager
def hogs(processor: int, number: int) -> Iterator[None]:
    """Processes that leave next to nothing of a processor to one that asks for little."""
    spin = f"import os\nos.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(number)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


async def test_one_that_gets_no_processor_does_not(asked: Asked) -> None:
    processor = min(os.sched_getaffinity(0))
    os.sched_setaffinity(asked.process.pid, {processor})
    os.sched_setscheduler(asked.process.pid, os.SCHED_IDLE, os.sched_param(0))
    with hogs(processor, 3):
        begun = asked.answers
        await asked.until(lambda it: it.answers >= begun + 5 and it.looks >= 200)
    assert not asked.still
