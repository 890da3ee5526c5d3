"""A service that is restarted keeps its sessions with a stack: their connections alone end, and it says so."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from engine.host.files import STACK
from tests.conftest import run
from tests.program import until
from tests.provider import provider
from tests.system.test_handed_over import KEPT, USUAL, echo, service
from tests.system.test_stack import curl

pytestmark = [
    pytest.mark.usefixtures("own_net"),
    pytest.mark.skipif(not STACK.exists(), reason="needs the stack program: `make stack`"),
]

CONFIGURATION = f"""\
sessions:
  - {{name: one, {USUAL}, egress: stack}}
  - {{name: two, {USUAL}, egress: stack}}
proxy: {{sessions: {{first_port: 20001}}, allow_private: true}}
"""
PROXIES = {"one": "socks5h://127.0.0.1:20001", "two": "socks5h://127.0.0.1:20002"}


def by_proxy(port: int) -> socket.socket:
    """A connection to the echo server by SOCKS 5."""
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.sendall(bytes((5, 1, 0, 5, 1, 0, 1)) + socket.inet_aton("100.64.0.1") + (7001).to_bytes(2, "big"))
    answer = b""
    while len(answer) < 12:
        answer += connection.recv(12 - len(answer)) or b"\0" * 12
    assert answer[:4] == bytes((5, 0, 5, 0))
    return connection


def test_sessions_with_a_stack_live_through_it_and_their_connections_do_not(tmp_path: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    with provider(mtu=1508) as far, echo(far), service(tmp_path, configuration=CONFIGURATION) as it:
        it.wait_up()
        before = it.sessions()
        for name, proxy in PROXIES.items():
            until(lambda name=name, proxy=proxy: before[name]["ipv4"] in curl(proxy), "its proxy")
        with by_proxy(20001) as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            it.manager.restart(signal.SIGUSR2)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        for name, proxy in PROXIES.items():
            until(lambda name=name, proxy=proxy: before[name]["ipv4"] in curl(proxy), "its proxy again")
        after = it.sessions()
        for name in PROXIES:
            assert {key: after[name][key] for key in KEPT} == {key: before[name][key] for key in KEPT}
        assert "2 of 2 sessions that the process before had up go on." in it.events()
        assert it.events().count("have ended with the process before.") == 1
        assert "The stack program" not in it.events(), "it ended as it was to"
