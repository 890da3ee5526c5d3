"""A real concentrator's sessions: their packets leave through them or not at all, as in
`tests/system/test_promises.py`.

Here by IPv4 alone, as the concentrator doesn't offer IPv6.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.host import netns
from tests.conftest import joined_namespaces, run
from tests.interop.dialling import HOLD, dial, pppds
from tests.interop.kit import Aclab, concentrators
from tests.system.test_promises import (
    FIRST_MARK,
    FIRST_PORT,
    SESSION_WAYS,
    Result,
    Scene,
    expect_kept_in,
    flush_rules,
    other_card,
    together,
)

OWN_WAYS = ("link set down and up", "route flush", "device deleted", "addresses deleted")
"""What is done to one session each, on this host; to another the concentrator does something."""
WAYS = ("nothing at all", "all at once", "ip rule flush", "SIGSTOP", "SIGKILL", "the next start")


USES = f"marks: {FIRST_MARK}\nproxy: {{sessions: {{first_port: {FIRST_PORT}}}}}"


class RealScene(Scene):
    """The same with another concentrator, on the near side of its line, where the calling thread must be."""

    def __init__(self, stack: ExitStack, server: Aclab, folder: Path, path: str) -> None:
        self.server = server
        self.names = (*OWN_WAYS, "Terminate-Request", "PADT")
        sessions = "\n".join(f"{{name: {name}, datapath: {path}}}" for name in self.names)
        self._again = (server.line, folder, sessions, *HOLD)
        self.capture = stack.enter_context(other_card())
        self.start(stack)
        self.sessions = self.program.up(len(self.names))
        for place, name in enumerate(self.names):
            self.sessions[name] |= {"ipv6": "", "mark": FIRST_MARK + place, "proxy": FIRST_PORT + place}
        self.send(stack)

    def start(self, stack: ExitStack) -> None:
        """Start the program, for the first time or again."""
        self.program = stack.enter_context(dial(*self._again, besides=USES))

    def strike_all(self) -> None:
        """Each session in its own way."""
        for name in OWN_WAYS:
            SESSION_WAYS[name](self.sessions[name], None)  # type: ignore[arg-type]
        for name, number in (("Terminate-Request", "TERM"), ("PADT", "KILL")):
            files = " ".join(f"/proc/{pid}/cmdline" for pid in pppds(self.server))
            # Those of sessions that have just ended may be gone by now: grep's 2.
            find = f"grep -lsw {self.sessions[name]['ipv4']} {files} || test $? = 2"
            victim = self.server.exec(find).split("/")[2]
            self.server.exec(f"kill -{number} {victim}")


@pytest.fixture(scope="module", params=["afxdp", "kernel"])
def broken(
    needs_root: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Result]:
    """What came of each way, on one data path."""
    found: dict[str, Result] = {}
    before = netns.open_net()
    with ExitStack() as undo:
        undo.callback(os.close, before)
        line = undo.enter_context(joined_namespaces())
        start = undo.enter_context(concentrators(line, tmp_path_factory.mktemp("chap")))
        server = start(AUTH="chap", AC="real-one", SESSIONS="16")
        # The in-kernel path sends to a veth only if its other end has NAPI.
        run("ip", "netns", "exec", line.far, "ethtool", "-K", line.far_card, "gro", "on")
        near = os.open(f"/run/netns/{line.near}", os.O_RDONLY)
        undo.callback(os.close, near)
        undo.callback(netns.set_net, before)
        netns.set_net(near)
        with ExitStack() as stack:
            scene = RealScene(stack, server, tmp_path_factory.mktemp("run"), request.param)
            process = scene.program.process

            def go_on() -> None:
                scene.start(stack)
                scene.program.up(len(scene.names))

            steps: dict[str, Callable[[], object]] = {
                "nothing at all": lambda: None,
                "all at once": scene.strike_all,
                "ip rule flush": flush_rules,
                "SIGSTOP": lambda: process.send_signal(signal.SIGSTOP),
                "SIGKILL": process.kill,
                "the next start": go_on,
            }
            for way, strike in steps.items():
                found[way] = together(scene.blow(strike))
            assert scene.program.end() == 0
    return found


@pytest.mark.parametrize("way", WAYS)
def test_nothing_leaves_elsewhere(broken: dict[str, Result], way: str) -> None:
    expect_kept_in(broken[way], kinds=8)
