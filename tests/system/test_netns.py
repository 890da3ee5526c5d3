"""A session's device in a network namespace of its own, by `netns:` or `exec --netns`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api.commands import HangUp, Redial
from engine.api.values import SessionState
from engine.egress.elsewhere import NAMES, Namespace, Namespaces
from engine.host import netns
from engine.host.rtnl import Rtnl
from engine.run.server import Server
from engine.run.sockets import listen
from engine.settings.values import DatapathChoice, Inbound
from tests.conftest import ROOT, run
from tests.program import until
from tests.provider import CARD, provider
from tests.system.engines import dialling, events, session, story, view, wait_state, wait_up
from tests.system.test_exec import exec_command

pytestmark = pytest.mark.usefixtures("own_net")

PAGE = ("curl", "-sS", "--max-time", "10", "http://100.64.0.1/")


@pytest.fixture
def names(needs_root: None) -> Iterator[tuple[str, str, str]]:
    """Of namespaces; the first two are there, and none of them at the end."""
    found = tuple(f"souppp-test-{os.getpid()}-{number}" for number in range(3))
    for name in found[:2]:
        run("ip", "netns", "add", name)
    try:
        yield found[0], found[1], found[2]
    finally:
        for name in found:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(name: str, *command: str) -> str:
    return run("ip", "netns", "exec", name, *command)


def test_a_device_is_in_its_namespace_with_address_and_route(names: tuple[str, str, str], tmp_path: Path) -> None:
    first, second, third = names
    run("ip", "link", "set", "lo", "up")
    sessions = [
        session("a", netns=first),
        session("b", netns=second, datapath=DatapathChoice.KERNEL),
        session("c"),
        session("d", netns="souppp-test-nowhere"),
        session("e", netns=first, inbound=Inbound.CLOSED),
    ]
    path = tmp_path / "engine.sock"
    with provider(), dialling(sessions) as engine:
        server = Server(engine, listen(path), release="0", card=CARD)
        server.start()
        try:
            wait_up(engine, "a", "b", "c")
            wait_state(engine, SessionState.FAILED, "d", "e")
            assert "There is no network namespace souppp-test-nowhere: `ip netns add" in story(engine)
            assert view(engine, "d").retry_at is not None, "at boot it may come late"
            assert view(engine, "e").retry_at is None, "which only the settings can change"
            assert "`inbound: closed` is not to be had in the network namespace" in story(engine)
            for name, where in (("a", first), ("b", second)):
                own = view(engine, name)
                assert own.netns == where
                assert inside(where, *PAGE).split()[-1] == own.ipv4
                assert "lan" not in inside(where, "ip", "-br", "link")
                done = subprocess.run(exec_command(path, name, *PAGE), capture_output=True, text=True, cwd=ROOT)
                assert done.stdout.split()[-1:] == [own.ipv4], done.stderr
            here = json.loads(run("ip", "-j", "link"))
            assert {view(engine, "a").device, view(engine, "b").device}.isdisjoint(each["ifname"] for each in here)

            engine.submit(HangUp((0,))).result()
            wait_state(engine, SessionState.DOWN, "a")
            until(lambda: "soup" not in inside(first, "ip", "-br", "link"), "its device gone")
            assert inside(first, "ip", "route") == ""
            engine.submit(Redial((0, 1))).result()
            wait_up(engine, "a", "b")
            until(lambda: inside(first, "ip", "route"), "its route")
            assert inside(first, *PAGE).split()[-1] == view(engine, "a").ipv4
            assert inside(second, *PAGE).split()[-1] == view(engine, "b").ipv4

            command = exec_command(path, "c", *PAGE)
            command[command.index("c") : command.index("c")] = ["--netns", third]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            assert done.stdout.split()[-1:] == [view(engine, "c").ipv4], done.stderr
            assert (view(engine, "c").netns, view(engine, "c").state) == (third, SessionState.UP)
            engine.submit(Redial((2,))).result()
            wait_up(engine, "c")
            until(lambda: inside(third, "ip", "route"), "its route")
            assert inside(third, *PAGE).split()[-1] == view(engine, "c").ipv4
        finally:
            server.close()
    for name in names:
        assert "soup" not in inside(name, "ip", "-br", "link")


@pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_a_session_follows_its_namespace_when_that_is_made_anew(
    names: tuple[str, str, str], path: DatapathChoice
) -> None:
    """It would be up in one that nobody can name any more, as after a restart of whatever makes it."""
    name = names[0]
    with provider(), dialling([session("a", netns=name, datapath=path)]) as engine:
        wait_up(engine)
        run("ip", "netns", "del", name)
        run("ip", "netns", "add", name)
        until(lambda: events(engine, "session-down"), "its end")
        assert f"another one was made of the name {name}" in events(engine, "session-down")[0].text
        wait_up(engine)
        until(lambda: inside(name, "ip", "route"), "its route")
        assert inside(name, *PAGE).split()[-1] == view(engine, "a").ipv4


def test_who_opens_a_namespace_once_more_takes_nothing_from_the_devices_there(names: tuple[str, str, str]) -> None:
    namespaces = Namespaces()
    first = namespaces.find(names[0])
    with netns.inside(NAMES / names[0]):
        namespaces.add(names[0], Namespace(netns.open_net(), Rtnl()))
    assert namespaces.find(names[0]) is namespaces.now(names[0]) is first
    assert first.rtnl.port, "it is open"
    run("ip", "netns", "del", names[0])
    assert namespaces.now(names[0]) is first, "what is in it goes on"
    run("ip", "netns", "add", names[0])
    assert namespaces.now(names[0]) is None
    second = namespaces.find(names[0])
    namespaces.let_go([first])
    assert first.rtnl.port, "a device is in it"
    namespaces.let_go([second])
    with pytest.raises(OSError, match="Bad file"):
        first.rtnl.port  # noqa: B018
    namespaces.close()
