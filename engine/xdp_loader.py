"""The child of `engine.xdp`: compiles and loads the XDP program with bcc and hands its descriptors to the parent.

Run as a script: `xdp_loader.py SOCKET_FD QUEUES SOURCE HEADERS`. It answers with one message on the socket: the
descriptors of the program and the maps in the order of `DESCRIPTORS`, or a line that says what is wrong.
It is a process of its own because bcc's compiler never gives back the 129 MB it takes.
"""

from __future__ import annotations

import os
import socket
import sys

MAPS = ("ethertypes", "xsks", "counters")
DESCRIPTORS = ("program", *MAPS)
LOADED = b"loaded"
NO_BCC = (
    "bcc is missing: run `apt-get install python3-bpfcc` (PyPI's package `bcc` is something else; "
    "if it is installed, uninstall it)"
)


class LoadError(Exception):
    """One line that says why there is no program."""


def load(queues: int, source: str, headers: str) -> list[int]:
    """The descriptors, in the order of `DESCRIPTORS`. Raises LoadError."""
    os.environ["BCC_KERNEL_SOURCE"] = headers
    try:
        from bcc import BPF
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) and error.name == "bcc" else f" ({error})"
        raise LoadError(NO_BCC + reason) from None
    try:
        bpf = BPF(src_file=source, cflags=[f"-DQUEUES={queues}"])
        program = bpf.load_func("souppp", BPF.XDP)
    except Exception as error:
        line = str(error).strip().splitlines()[-1:]
        raise LoadError(f"bcc cannot load the XDP program: {' '.join(line) or type(error).__name__}") from error
    return [program.fd, *(bpf[name].map_fd for name in MAPS)]


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        descriptors = load(int(sys.argv[2]), sys.argv[3], sys.argv[4])
    except LoadError as error:
        channel.send(str(error).encode()[:1000])
    else:
        socket.send_fds(channel, [LOADED], descriptors)
    sys.stdout.flush()
    os._exit(0)  # taking bcc down in good order takes time and helps nobody


if __name__ == "__main__":
    main()
