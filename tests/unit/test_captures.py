"""Which sessions' frames go to which file, and what becomes of files that can't be finished."""

from __future__ import annotations

import os
import random
from pathlib import Path

from engine.record.captures import Captures
from engine.sessions.session import Session
from engine.settings.values import SessionSettings


def test_a_file_that_can_not_be_closed_is_told_and_keeps_no_other_open(tmp_path: Path) -> None:
    told: list[str] = []
    captures = Captures(None, lambda at: at, lambda severity, kind, text: told.append(text))
    sessions = [(n, Session(SessionSettings(f"s{n}"), b"\2" * 6, random.Random(n).randbytes)) for n in range(3)]
    for key, session in sessions:
        captures.start([(key, session)], tmp_path / f"{key}.pcapng")
    files = [captures._files[key] for key, _ in sessions]
    assert files[1]._fd is not None
    os.close(files[1]._fd)
    captures.stop(sessions)
    (text,) = told
    assert text.startswith(f"The capture {tmp_path / '1.pcapng'} stopped: Bad file descriptor.")
    assert [file._fd for file in files] == [None] * 3
    assert not any(key in captures for key, _ in sessions)
    captures.close()
    assert len(told) == 1
