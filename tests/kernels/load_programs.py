"""Runs in a guest: loads every XDP program and attaches it to a veth, as the data paths do.

The program without the in-kernel data path is a part of that with it, and compiling takes a minute on an emulated
processor: `make test-kernels` loads both, one after the other, as the engine does.
"""

from __future__ import annotations

import socket
import subprocess

from engine.card import xdp
from engine.card.xdp import KERNEL_PATH_PROGRAMS, PROGRAMS, Loading, XdpProgram
from engine.egress.requests import uint32
from engine.egress.veth import run_program
from engine.host.rtnl import Rtnl

NEAR, FAR = "near", "far"
PATIENCE = 1200.0
"""Seconds: the compiler works on an emulated processor, beside other tests."""


def main() -> None:
    """Print a line for each that is attached. Raises XdpError or RtnlError."""
    subprocess.run(["ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR], check=True)
    xdp.LOAD_TIMEOUT = PATIENCE
    program = XdpProgram.attach(NEAR, 1, loading=Loading(kernel_path=True))
    print(f"{', '.join(PROGRAMS)} with the in-kernel data path: attached, {program.mode} mode", flush=True)
    rtnl = Rtnl()
    for name in KERNEL_PATH_PROGRAMS:
        rtnl.do([run_program(uint32(socket.if_nametoindex(FAR)), uint32(program.descriptors[name]))])
        print(f"{name}: attached", flush=True)
    program.close()


if __name__ == "__main__":
    main()
