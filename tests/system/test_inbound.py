"""`inbound: closed` lets into a session only answers to what the host has begun; the default lets in what is for it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from engine.api.commands import Edit, Redial
from engine.egress import inbound
from engine.egress.addresses import Devices
from engine.host import netns
from engine.host.errors import HostError
from engine.host.nft import Nft
from engine.lab import rogue
from engine.lab.server import DEVICE as SUBSCRIBERS
from engine.run.thread import Engine
from engine.settings.values import DatapathChoice, Inbound
from tests.conftest import run
from tests.program import PATIENCE, running, until
from tests.provider import CARD, Provider, provider
from tests.system.engines import dialling, events, fetch, pings, session, view, wait_up
from tests.system.test_networks import BEHIND, HERE, ROUTED, WORLD, answers, host
from tests.system.test_promises import Capture
from tests.system.test_router_messages import say
from tests.system.test_strays import PORT, Listener

pytestmark = pytest.mark.usefixtures("own_net")

over_paths = pytest.mark.parametrize("path", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
ROGUE = IPv4Address("100.64.0.1")
CLOSED = Inbound.CLOSED


def tables() -> list[str]:
    """The names of those that let nothing in."""
    nft = Nft()
    try:
        return [name for name in nft.tables() if name.startswith(inbound.TABLE)]
    finally:
        nft.close()


def reached(far: Provider, address: str, patience: int) -> set[str]:
    """What the provider is answered within so many seconds each: a connection to a service of the host's, a ping."""
    connect = f"import socket; socket.create_connection(('{address}', {PORT}), {patience})"
    tries = {
        "service": far.command("python3", "-c", connect),
        "ping": far.command("ping", "-q", "-c", "1", "-W", str(patience), address),
    }
    return {
        what
        for what, command in tries.items()
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    }


def is_open(far: Provider, address: str) -> bool:
    return reached(far, address, 20) == {"service", "ping"}


def is_closed(far: Provider, address: str) -> bool:
    return reached(far, address, 1) == set()


def send_in(far: Provider, engine: Engine, name: str, text: str) -> None:
    """A datagram to each of a session's addresses, which says `text` and the version."""
    found = view(engine, name)
    assert found.session_id is not None
    packets = [
        rogue.datagram(ROGUE, IPv4Address(found.ipv4 or ""), PORT, f"{text} 4".encode()),
        rogue.datagram(rogue.ROGUE, IPv6Address(found.ipv6 or ""), PORT, f"{text} 6".encode()),
    ]
    say(far, found.session_id, found.local_mac or "", packets)


@over_paths
def test_only_answers_come_into_a_closed_session(path: DatapathChoice) -> None:
    run("ip", "link", "set", "lo", "up")
    sessions = [session("closed", datapath=path, inbound=CLOSED), session("open", datapath=path)]
    with provider() as far, dialling(sessions) as engine, ExitStack() as stack:
        wait_up(engine)
        until(lambda: all(view(engine, name).ipv6 for name in ("closed", "open")), "IPv6")
        closed, other = view(engine, "closed"), view(engine, "open")
        stack.enter_context(socket.create_server(("", PORT)))
        listener = Listener(stack)
        for name in ("closed", "open"):
            send_in(far, engine, name, name)
        until(lambda: all(listener.has_heard(f"open {version}") for version in (4, 6)), "what came by the open one")
        assert sorted(listener.heard) == ["open 4", "open 6"]
        assert is_open(far, other.ipv4 or "")
        assert is_closed(far, closed.ipv4 or "")
        for each in (closed, other):
            assert fetch(each.device or "") == each.ipv4
            assert pings(each.device or "")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.bind((each.ipv4 or "", 0))
                asker.settimeout(PATIENCE)
                asker.connect((str(ROGUE), 4444))
                asker.send(b"is anybody there?")
                with pytest.raises(ConnectionRefusedError):
                    asker.recv(100)  # an error that is about what the host has begun is let in
    assert tables() == []


@over_paths
def test_nothing_is_forwarded_into_what_lies_behind_a_closed_session(path: DatapathChoice) -> None:
    one = session("one", datapath=path, networks=(str(ROUTED),), inbound=CLOSED, ipv6=False)
    with host() as (_, behind), provider() as far, dialling([one]) as engine, ExitStack() as stack:
        wait_up(engine)
        with netns.visiting(behind):
            lan = Capture("eth0")
        stack.callback(lan.close)
        with netns.inside(far.pid):
            line = Capture(SUBSCRIBERS)
        stack.callback(line.close)
        found = view(engine, "one")
        assert found.session_id is not None
        say(far, found.session_id, found.local_mac or "", [rogue.datagram(WORLD, BEHIND, PORT)] * 3)
        assert answers(str(HERE), str(BEHIND))
        with netns.visiting(behind), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((str(BEHIND), PORT))
            sender.sendto(b"begin", (str(WORLD), PORT))
        until(lambda: line.seen[str(BEHIND)], "what the host behind has begun")
        say(far, found.session_id, found.local_mac or "", [rogue.datagram(WORLD, BEHIND, PORT)])
        until(lambda: lan.seen[str(WORLD)], "the answer")
        assert lan.seen[str(WORLD)] == 1


def test_it_can_be_closed_and_opened_again_from_dial_to_dial() -> None:
    one = session("one", ipv6=False)
    with provider() as far, dialling([one]) as engine, socket.create_server(("", PORT)):
        for times, how in enumerate((Inbound.OPEN, CLOSED, Inbound.OPEN), 1):
            until(lambda times=times: len(events(engine, "ipv4-up")) == times, "the session")
            wait_up(engine)
            assert (is_open if how is Inbound.OPEN else is_closed)(far, view(engine, "one").ipv4 or "")
            engine.submit(Edit(0, session("one", ipv6=False, inbound=CLOSED if times == 1 else Inbound.OPEN)))
            engine.submit(Redial((0,)))


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
def test_who_flushes_all_tables_opens_nothing() -> None:
    one = session("one", ipv6=False, inbound=CLOSED)
    with provider() as far, dialling([one]) as engine, socket.create_server(("", PORT)):
        wait_up(engine)
        run("nft", "flush", "ruleset")
        assert len(tables()) == 1
        assert is_closed(far, view(engine, "one").ipv4 or "")
        assert pings(view(engine, "one").device or "")


def test_the_table_goes_with_the_process(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sessions: [{name: one, user: u, password: lab, autodial: true, inbound: closed}]\n")
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    with provider(), running(*arguments) as program:
        program.up(1)
        assert len(tables()) == 1
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
        until(lambda: not tables(), "the table go")


def test_where_it_is_not_to_be_had_the_session_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than be open."""

    def refuse(self: Nft, batch: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(Nft, "commit", refuse)
    with provider(), dialling([session("one", inbound=CLOSED), session("other")]) as engine:
        wait_up(engine, "other")
        until(lambda: events(engine, "dial-failed", "one"), "the refusal")
        text = events(engine, "dial-failed", "one")[0].text
        assert text == (
            "`inbound: closed` is not to be had: no nftables with connection tracking (Operation not supported)."
        )
        assert not events(engine, "dialling", "one")


def test_a_device_that_can_not_be_closed_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices()

    def refuse(self: inbound.Inbound, index: int) -> None:
        raise HostError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(inbound.Inbound, "shut", refuse)
        with pytest.raises(HostError, match="no room"):
            devices.create(1, "soup1", closed=True)
    assert 1 not in devices
    devices.create(1, "soup1", closed=True)
    assert len(tables()) == 1
    devices.close()
    assert tables() == []
