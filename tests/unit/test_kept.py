"""Descriptors that a service manager keeps (sd_notify(3), FDSTORE=1)."""

from __future__ import annotations

import os
import socket
import threading
from fcntl import F_DUPFD, fcntl
from pathlib import Path

import pytest

from engine.host import service

MANY = 300
"""More than go with one message."""
BEYOND = 1100
"""Beyond what select(2) knows: an engine has a descriptor and more for each session."""


def test_many_descriptors_are_kept_also_of_a_process_that_has_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    heard: list[tuple[bytes, int]] = []

    def hear() -> None:
        while b"BARRIER=1" not in dict(heard):
            said, fds, _, _ = socket.recv_fds(notified, 4096, 253)
            heard.append((said, len(fds)))
            for fd in fds:
                os.close(fd)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        one = os.eventfd(0)
        many = [fcntl(one, F_DUPFD, 3) for _ in range(MANY)]
        try:
            while many[-1] < BEYOND:
                many.append(fcntl(one, F_DUPFD, 3))
            manager = threading.Thread(target=hear)
            manager.start()
            service.keep({"eth0.devices": many[:MANY]})
            manager.join()
        finally:
            for fd in (one, *many):
                os.close(fd)
    stored = [count for said, count in heard if said.startswith(b"FDSTORE=1")]
    assert sum(stored) == MANY
    assert all(b"FDPOLL=0\nFDNAME=eth0.devices" in said for said, _ in heard[:-1])


def test_nobody_keeps_anything_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("FDSTORE", "100")
    assert not service.keeps()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    assert service.keeps()
    monkeypatch.setenv("FDSTORE", "0")
    assert not service.keeps()


def test_what_is_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "LISTEN_PID": str(os.getppid())}.items():
        monkeypatch.setenv(name, value)
    assert service.kept() == {}
    assert "LISTEN_FDS" not in os.environ, "a child is told nothing of it"
