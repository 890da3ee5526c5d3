"""A process of ours that can't be started, and then can; or can't be ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine.run import child
from engine.run.child import Child
from tests.conftest import ROOT

SAYS = """#!/usr/bin/python3
import socket, sys
socket.socket(fileno=int(sys.argv[1])).send(b"\\x07")
"""


async def test_what_keeps_it_from_starting_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "AGAIN", (0.01,))
    program, loop = tmp_path / "program", asyncio.get_running_loop()
    heard: asyncio.Future[int] = loop.create_future()
    ended: asyncio.Future[str] = loop.create_future()
    failed: list[OSError] = []

    def end(how: str) -> None:
        wanted.clear()
        ended.set_result(how)

    wanted = {"it"}
    decoder = msgspec.msgpack.Decoder(int)
    encode = msgspec.msgpack.encode
    it = Child(loop, (str(program),), decoder, encode, heard.set_result, end, failed.append, lambda: bool(wanted))
    it.open()
    while not failed:
        await asyncio.sleep(0.01)
    assert [type(error) for error in failed] == [FileNotFoundError]
    written = program.with_suffix(".new")
    written.write_text(SAYS)
    written.chmod(0o755)
    written.rename(program)
    assert await asyncio.wait_for(heard, 30) == 7
    assert await asyncio.wait_for(ended, 30) in ("ended with exit code 0", "was killed by signal 9")
    assert len(failed) == 1
    await asyncio.sleep(0.1)
    assert not it.is_there
    it.close()


UNENDING = """
import asyncio, os, sys
import msgspec
from engine.host.privileges import shed
from engine.run.child import Child

STAYS = "os.close(2); os.close(1); os.setresuid(65534, 65534, 65534); time.sleep(60)"

async def main():
    loop, told = asyncio.get_running_loop(), asyncio.Queue()
    decoder = msgspec.msgpack.Decoder(int)
    command = (sys.executable, "-c", "import os, sys, time; " + STAYS)
    it = Child(loop, command, decoder, msgspec.msgpack.encode, print, told.put_nowait, print, lambda: True)
    BEGIN
    it.open()
    first = it._process
    while "Uid:\\t65534" not in open(f"/proc/{first.pid}/status").read():
        await asyncio.sleep(0.01)
    assert it.give_up()
    print((await asyncio.wait_for(told.get(), 20)).replace(str(first.pid), "PID"))
    while not it.is_there:
        await asyncio.sleep(0.01)
    print(first.poll(), first.pid, it._process.pid)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
@pytest.mark.parametrize(
    ("begin", "how", "left"),
    [
        ("it.start(); shed([5])", "was killed by signal 9", "-9"),
        ("shed([5]); it.start()", "(process PID) doesn't end, and is heard no more", "None"),
    ],
)
def test_one_that_does_not_end_is_killed_or_left(begin: str, how: str, left: str) -> None:
    """It runs as nobody. Our right to kill that, CAP_KILL, is given up, but not by who started it while we had it."""
    script = UNENDING.replace("BEGIN", begin)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    told, (code, *processes) = done.stdout.splitlines()[0], done.stdout.splitlines()[1].split()
    for each in map(int, processes):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    assert (told, code) == (how, left)
    assert len({*processes}) == 2


CROWDED = """
import asyncio, os, resource
import msgspec
from engine.run.child import Child

async def main():
    told = []
    decoder = msgspec.msgpack.Decoder(int)
    it = Child(asyncio.get_running_loop(), ("true",), decoder, print, print, print, told.append, lambda: True)
    os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    it.open()
    it.close()
    print(told)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_that_there_may_be_no_more_threads_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", CROWDED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[BlockingIOError(11, 'Resource temporarily unavailable')]\n"
