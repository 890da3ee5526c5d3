"""A process of ours that can't be started, and then can."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from engine.run import child
from engine.run.child import Child

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
    await asyncio.sleep(0.2)
    assert [type(error) for error in failed] == [FileNotFoundError]
    written = program.with_suffix(".new")
    written.write_text(SAYS)
    written.chmod(0o755)
    written.rename(program)
    assert await asyncio.wait_for(heard, 30) == 7
    assert await asyncio.wait_for(ended, 30) == "ended with exit code 0"
    assert len(failed) == 1
    await asyncio.sleep(0.1)
    assert not it.is_there
    it.close()
