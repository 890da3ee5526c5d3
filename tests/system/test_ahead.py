"""A session that is let in and gets no address: the device that was made for it carries nothing, and goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.api.commands import HangUp
from engine.api.values import SessionState
from engine.host import netns
from engine.host.rtnl import Rtnl
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice
from tests.conftest import run
from tests.program import PATIENCE, until
from tests.provider import Provider, provider

from .engines import dialling, events, pings, session, story, views, wait_state, wait_up

pytestmark = [pytest.mark.usefixtures("needs_root", "own_net")]
both_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
SESSIONS = 3


def devices() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("soup")}


def all_there() -> bool:
    return len(devices()) == SESSIONS


@contextmanager
def without_addresses(path: DatapathChoice) -> Iterator[tuple[Provider, Engine]]:
    """Sessions that are waiting for an address, and have a device."""
    sessions = [session(f"s{number}", datapath=path, ipv6=False) for number in range(SESSIONS)]
    with provider(withholding=True) as far, dialling(sessions) as engine:
        until(all_there, "their devices")
        yield far, engine
    assert devices() == set()


@both_paths
def test_a_device_without_an_address_carries_nothing(path: DatapathChoice) -> None:
    with without_addresses(path) as (_, engine):
        wait_state(engine, SessionState.GETTING_ADDRESS)
        for name in devices():
            assert ",UP" not in run("ip", "link", "show", name)
            assert "inet" not in run("ip", "addr", "show", name)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
                with pytest.raises(OSError, match=r"unreachable|down"):
                    sender.sendto(b"x", ("100.64.0.1", 9))
        assert "proto 80" not in run("ip", "rule")
        assert all(view.device is None for view in views(engine).values()), "nothing is said of it"
        assert not events(engine, "internal-error"), story(engine)


@both_paths
def test_it_goes_with_its_session(path: DatapathChoice) -> None:
    with without_addresses(path) as (_, engine):
        engine.submit(HangUp((1,)))
        wait_state(engine, SessionState.DOWN, "s1")
        until(lambda: devices() == {"soup0", "soup2"}, "its device go")


@both_paths
def test_it_goes_where_its_session_is_to_be_elsewhere(path: DatapathChoice) -> None:
    """Its device will be made where the session is to be, with the same name."""
    elsewhere = netns.new_net()
    with netns.visiting(elsewhere):
        there = Rtnl()
    with without_addresses(path) as (_, engine):
        reply = engine.lend(1, "there", elsewhere, os.dup(there.fileno())).result(PATIENCE)
        assert reply.refused == ()
        until(lambda: devices() == {"soup0", "soup2"}, "its device go")
        assert not events(engine, "dial-failed"), "not by its end"
    there.close()


@both_paths
def test_it_goes_with_the_card_and_comes_back(path: DatapathChoice) -> None:
    with without_addresses(path) as (far, engine):
        run("ip", "link", "del", "va")
        until(lambda: devices() == set(), "the devices go")
        far.kill()
        with provider():
            wait_up(engine)
            assert all(map(pings, devices()))
        assert not events(engine, "internal-error"), story(engine)


WAITING = """
import sys, time
from tests.system.test_ahead import *
with dialling([session(f"s{n}", datapath=DatapathChoice(sys.argv[1]), ipv6=False) for n in range(SESSIONS)]) as engine:
    until(all_there, "their devices")
    print("there", flush=True)
    time.sleep(60)
"""


@both_paths
def test_a_killed_program_leaves_none(path: DatapathChoice) -> None:
    with provider(withholding=True):
        child = subprocess.Popen([sys.executable, "-c", WAITING, path], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        until(lambda: devices() == set(), "the devices go")
