"""Sessions come and go 10,000 times under load in both directions, on the real rings and with sanitizers watching.

`churn.c` does it, linked with the C helper's sources: no packet may come out anywhere but where its session says, no
thread may race another, and no octet beyond a buffer may be touched.
"""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.card.xdp import XdpProgram
from engine.egress.tun import open_tun
from tests.unit.test_c import FLAGS, HELPER, SANITIZERS

from .line import NEAR, QUEUES, Wire, namespace, needs_root, run, veth_line

pytestmark = [needs_root, pytest.mark.timeout(500)]

CYCLES = 10_000
PAIRS, DEVICES = 4, 3


def built(sanitizer: str, folder: Path) -> Path:
    """The program, with this one of the sanitizers."""
    program = folder / "churn"
    sources = [Path(__file__).with_name("churn.c"), *HELPER.glob("*.c")]
    options = [f"-fsanitize={SANITIZERS[sanitizer]}", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *FLAGS, *options, "-o", program, *sources, "-lxdp", "-lbpf"], check=True)
    return program


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sessions_come_and_go_under_load_and_no_packet_goes_astray(sanitizer: str, tmp_path: Path) -> None:
    program = built(sanitizer, tmp_path)
    with ExitStack() as stack:
        line = stack.enter_context(veth_line("churn"))
        egresses: list[int] = []
        for _ in range(PAIRS):
            for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
                stack.enter_context(end).setblocking(False)
                egresses.append(end.fileno())
        for number in range(DEVICES):
            name = f"soup{number}"
            with namespace(line.near):
                fd = open_tun(name)
            stack.callback(os.close, fd)
            run("ip", "-n", line.near, "link", "set", name, "up")
            inside = Wire(line.near, name)
            stack.callback(inside.close)
            egresses += (fd, inside.fileno())
        with namespace(line.near):
            xdp = XdpProgram.attach(NEAR, QUEUES)
        stack.callback(xdp.close)
        words = [NEAR, xdp.xsk_map_fd, line.wire.fileno(), CYCLES, *egresses]
        done = subprocess.run(
            ["ip", "netns", "exec", line.near, program, *map(str, words)],
            env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"},
            pass_fds=[xdp.xsk_map_fd, line.wire.fileno(), *egresses],
            capture_output=True,
            text=True,
            timeout=450,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        up, down, control, strangers = map(int, done.stdout.split())
        assert up > CYCLES
        assert down > CYCLES / 10
        assert control > CYCLES / 10
        assert strangers > CYCLES / 10
