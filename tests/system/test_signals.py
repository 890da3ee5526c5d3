"""A signal at any moment of the start: it ends in order, says nothing that isn't so, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shlex import join

import pytest

from engine.lab.provider import Provider
from tests.conftest import run
from tests.program import COMMAND, Traces, noted, running, until
from tests.provider import CARD, FAR_CARD
from tests.terminal import Terminal, needs_tmux

pytestmark = pytest.mark.usefixtures("own_net")

TERM, INT = signal.SIGTERM, signal.SIGINT
MOMENTS = ((0.0, TERM), (0.1, INT), (0.2, TERM), (0.4, INT), (0.8, TERM))
"""Seconds after the program has begun: spread over the start on any machine, and no more is asked of them."""


@pytest.fixture
def arguments(tmp_path: Path) -> Iterator[tuple[str | Path, ...]]:
    """A card with nobody at the other end of its cable."""
    run("ip", "link", "add", CARD, "numrxqueues", "2", "numtxqueues", "2", "type", "veth", "peer", "name", FAR_CARD)
    run("ip", "link", "set", CARD, "up")
    run("ip", "link", "set", FAR_CARD, "up")
    config = tmp_path / "config.yaml"
    config.write_text("sessions: [{name: one, user: alice, password: lab, autodial: true}]\n")
    yield CARD, "--config", config, "--state-dir", tmp_path / "state"
    assert {name for _, name in socket.if_nameindex()} == {"lo", CARD, FAR_CARD}
    assert "prog/xdp" not in run("ip", "-d", "link", "show", CARD)
    assert not noted(tmp_path / "state")


def heeds(pid: int, number: int) -> bool:
    """Whether a process has begun to handle a signal: before that the interpreter's own start ends by it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_signals_to_the_group_leave_the_labs_concentrator_to_its_parent() -> None:
    """It is in the group until it has a session of its own."""
    provider = Provider()
    for number in (TERM, INT, signal.SIGHUP):
        os.kill(provider.pid, number)
    provider.wait_unshared()
    provider.kill()


@pytest.mark.parametrize("lab", [False, True], ids=["card", "lab"])
def test_a_signal_to_the_whole_group(arguments: tuple[str | Path, ...], lab: bool) -> None:
    """As a terminal, `timeout` and systemd send it: the children get it too."""
    wishes = ("--lab",) if lab else arguments
    for moment, number in MOMENTS[lab::2]:
        with running(*wishes, "--headless", within=("setsid",)) as program:
            until(lambda pid=program.pid: heeds(pid, TERM), "its handlers")
            time.sleep(moment)
            traces = Traces(program.pid)
            os.killpg(program.pid, number)
            assert program.ended() == 0, moment
            assert program.complaints == [], moment
            until(lambda traces=traces: not traces.left(), "everything gone")


def test_not_every_session_was_up(arguments: tuple[str | Path, ...]) -> None:
    """The documented exit code, whether it came so far as to dial or not."""
    with running(*arguments, "--headless", "--until-up") as program:
        until(lambda: heeds(program.pid, TERM), "its handlers")
        assert program.end() == 1
        assert program.complaints == []


@needs_tmux
def test_before_the_console_is_there(arguments: tuple[str | Path, ...], tmp_path: Path) -> None:
    for moment, number in MOMENTS[::2]:
        folder = tmp_path / f"at-{moment}"
        folder.mkdir()
        with closing(Terminal(folder)) as terminal:
            terminal.start(join(map(str, (*COMMAND, *arguments))))
            pid = until(lambda t=terminal: _program(t), "the program")
            until(lambda pid=pid: heeds(pid, TERM), "its handlers")
            time.sleep(moment)
            os.kill(pid, number)
            assert terminal.ended() == 0, moment
            assert "souppp-tui:" not in terminal.screen(), moment


def _program(terminal: Terminal) -> int:
    try:
        return terminal.pid
    except (IndexError, FileNotFoundError):
        return 0
