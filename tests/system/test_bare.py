"""Sessions with `egress: none`: PPP is up, echoes are answered, and no packet of theirs goes anywhere."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import Edit, Redial, Watch
from engine.api.values import SessionState
from engine.host.peers import Peer
from engine.run import stack
from engine.run.thread import Engine
from engine.settings.values import EgressChoice, KeepaliveSettings, ProxySettings, SessionPorts
from engine.supervisor.views import STRAYS
from tests.conftest import run
from tests.program import until
from tests.provider import provider
from tests.system.engines import dialling, session, story, view, wait_state

NONE = EgressChoice.NONE
ANY_PORT = ProxySettings(SessionPorts(first_port=20001), allow_private=True)


def dropped(engine: Engine, name: str) -> int:
    key = view(engine, name).id
    engine.submit(Watch(key))
    details = engine.watched(key)
    return dict(details.counters).get(STRAYS["not_open"], 0) if details is not None else 0


@pytest.mark.usefixtures("own_net")
def test_a_session_without_a_device_is_up_and_its_packets_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stack, "STACK", Path("/nowhere"))
    run("ip", "link", "set", "lo", "up")
    devices = socket.if_nameindex()
    asks = session("asks", egress=NONE, netns="elsewhere", mark=7)
    stacked = session("stacked", egress=EgressChoice.STACK)
    bare = session("bare", egress=NONE, keepalive=KeepaliveSettings(0.2, 3))
    with provider() as far, dialling([bare, session("usual"), asks, stacked], proxy=ANY_PORT) as engine:
        wait_state(engine, SessionState.UP, "bare", "usual")
        until(lambda: view(engine, "usual").device is not None, "the other one's device")
        it, other = view(engine, "bare"), view(engine, "usual")
        assert it.ipv4 is not None
        assert (it.egress, it.device, other.egress) == ("none", None, "device")
        until(lambda: bool(view(engine, "bare").ipv6_addresses), "an IPv6 address")
        until(lambda: view(engine, "bare").rtt_ms is not None, "an echo")
        mine = {name for _, name in socket.if_nameindex()} - {name for _, name in devices}
        assert mine == {"va", other.device}
        assert it.ipv4 not in run("ip", "addr") + run("ip", "rule")

        subprocess.run(far.command("ping", "-c", "3", "-i", "0.2", "-W", "1", it.ipv4), check=False)
        until(lambda: dropped(engine, "bare") >= 3, "counted packets")
        assert dropped(engine, "usual") == 0

        until(lambda: view(engine, "usual").proxy is not None, "a proxy of the other one")
        assert view(engine, "bare").proxy is None, "nothing listens that could not connect"
        reply = engine.admit(it.id, 1, Peer(0, 0, frozenset()))
        assert reply.refused[0].reason == "bare has no device (`egress: none`)."

        refused = view(engine, "asks")
        assert refused.state is SessionState.FAILED, story(engine)
        assert "`egress: none` gives no device, which `netns`, `mark` needs" in story(engine)

        assert view(engine, "stacked").state is SessionState.FAILED, story(engine)
        assert "`egress: stack` takes a program of its own: run `make stack`." in story(engine)

        changed = replace(bare, egress=EgressChoice.DEVICE)
        engine.submit(Edit(it.id, changed)).result(5)
        engine.submit(Redial((it.id,))).result(5)
        until(lambda: view(engine, "bare").device is not None, "a device after the next dial")
        wait_state(engine, SessionState.UP, "bare")
