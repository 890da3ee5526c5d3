"""A disk that turns read-only under a running engine, which keeps its journal, its event log and a capture there."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.disks import failing
from tests.program import running, until
from tests.provider import CARD, provider
from tests.system.engines import fetch
from tests.system.test_shortage import lose

pytestmark = pytest.mark.usefixtures("own_net")

SESSIONS = 4


def test_it_is_told_once_and_costs_no_session(tmp_path: Path) -> None:
    disk, config = tmp_path / "disk", tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: anyone, password: lab, autodial: true}\n"
        "dial: {retry_min: 0.1, retry_max: 0.1}\n"
        f"sessions: [{{name: 's{{n}}', count: {SESSIONS}}}]\n"
    )
    state, log, capture = disk / "state", disk / "events", disk / "all.pcapng"
    arguments = (CARD, "--config", config, "--state-dir", state, "--headless", "--until-up", "--hold")
    with failing(disk) as fail, provider() as far, running(*arguments, "--event-log", log, "--capture", capture) as it:
        sessions = it.up(SESSIONS)
        until(lambda: "s1 " in log.read_text(), "the log")
        mark = len(it.said)
        fail()
        lose(far, [sessions["s1"], sessions["s2"]])
        for name in ("s1", "s2"):
            it.event("ipv4-up", name, since=mark)
        it.event("journal", since=mark)
        it.event("event-log", since=mark)
        assert fetch(sessions["s3"]["device"]) == sessions["s3"]["ipv4"]
        assert it.end() == 0
        assert it.complaints == []
        told = Counter(said["text"] for said in it.said[mark:] if "Read-only" in said.get("text", ""))
        assert len(told) > 3, "journal, event log and capture, and what is kept at the end"
        assert set(told.values()) == {1}
        read = subprocess.run(["tcpdump", "-nr", capture], capture_output=True, text=True, check=True)
        assert "PADI" in read.stdout
