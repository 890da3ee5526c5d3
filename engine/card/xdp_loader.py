"""The child of `engine.card.xdp`: compiles and loads XDP programs with bcc and hands their descriptors to the parent.

Run as a script: `xdp_loader.py SOCKET_FD ORDER`, the order in JSON: `headers`, `sources` (compiled as one text, one
behind the other), `flags`, `programs`, `maps`, `shared`: descriptors by name of maps to use instead of new ones; and
perhaps `kept`: where what is compiled is kept for the next time, which see in `engine.card.compiled`.
It answers with one message on the socket: the descriptors of the programs and the maps in that order, with the layouts
of the maps' keys and values in JSON, or a line that says what is wrong.
It is a process of its own because bcc's compiler never gives back the 129 MB it takes.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

LOADED = b"loaded"
NO_BCC = (
    "bcc is missing: run `apt-get install python3-bpfcc`; a virtual environment needs --system-site-packages to see it "
    "(PyPI's package `bcc` is something else; if it is installed, uninstall it)"
)


class LoadError(Exception):
    """One line that says why there is no program."""


def load(order: dict[str, Any]) -> tuple[list[int], dict[str, Any]]:
    """The descriptors of the programs and the maps, in that order, and the maps' layouts. Raises LoadError."""
    os.environ["BCC_KERNEL_SOURCE"] = order["headers"]
    try:
        from bcc import BPF
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) and error.name == "bcc" else f" ({error})"
        raise LoadError(NO_BCC + reason) from None
    try:
        text = "".join(Path(source).read_text() for source in order["sources"])
        bpf = BPF(text=text, cflags=order["flags"])
        for name, fd in order["shared"].items():
            os.dup2(fd, bpf[name].map_fd)  # the program, not loaded yet, knows its maps by the numbers of descriptors
    except Exception as error:
        line = str(error).strip().splitlines()[-1:]
        raise LoadError(f"bcc cannot load the XDP program: {' '.join(line) or type(error).__name__}") from error
    programs = [_load(bpf, name, BPF.XDP) for name in order["programs"]]
    maps = {name: bpf[name] for name in order["maps"]}
    told = {name: layouts(it) for name, it in maps.items()}
    if "kept" in order:
        compiled().keep(order, bpf, told)
    return [*programs, *(it.map_fd for it in maps.values())], told


def compiled() -> Any:
    """The module `engine.card.compiled`, which is not where this script looks for modules by itself."""
    if (root := str(Path(__file__).resolve().parents[2])) not in sys.path:
        sys.path.append(root)
    return import_module("engine.card.compiled")


def layouts(table: Any) -> list[dict[str, tuple[int, int]]]:
    """The layouts of a map's key and value as the compiler has them: offset and size by field, the whole's by "".

    What it fills gaps with is left out.
    """
    found = []
    for kind in (table.Key, getattr(table, "sLeaf", table.Leaf)):  # sLeaf: one of a map's that has one for each CPU
        names = [name for name, *_ in getattr(kind, "_fields_", ()) if not name.startswith("__pad")]
        fields = {name: (getattr(kind, name).offset, getattr(kind, name).size) for name in names}
        found.append({"": (0, ctypes.sizeof(kind)), **fields})
    return found


def _load(bpf: Any, name: str, kind: int) -> int:
    """The descriptor of a compiled program once the kernel has taken it; why it doesn't is on standard error."""
    try:
        return int(bpf.load_func(name, kind).fd)
    except Exception as error:
        raise LoadError(f"the kernel refuses the XDP program `{name}`") from error


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        order = json.loads(sys.argv[2])
        descriptors, known = ("kept" in order and compiled().loaded(order)) or load(order)
    except LoadError as error:
        channel.send(str(error).encode()[:1000])
    else:
        socket.send_fds(channel, [LOADED, json.dumps(known).encode()], descriptors)
    sys.stdout.flush()
    os._exit(0)  # taking bcc down in good order takes time and helps nobody


if __name__ == "__main__":
    main()
