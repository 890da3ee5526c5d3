"""The guest's first file system: busybox, the kernel modules that it needs, and the script that goes on from there.

Where it goes on is a `Root`: this machine's own files, or a disk with another system.

Packages don't hold modules.dep, but each module names those it needs.
"""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.packages import Kernel


@dataclass(frozen=True, slots=True)
class Root:
    """What a guest's files are."""

    init: Path
    """The script that gets at them."""
    modules: tuple[str, ...]
    """What that needs, and what nobody there would load."""


MACHINE = Root(Path(__file__).with_name("init"), ("virtio_pci", "9pnet_virtio", "9p", "overlay", *("tun", "veth")))
DISK = Root(Path(__file__).with_name("init-disk"), ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4"))
"""It has modules of its own, and loads them as a host does."""
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def write(target: Path, kernel: Kernel, busybox: Path, root: Root, modules: Iterable[str]) -> None:
    """Write the archive for a kernel; `modules` are loaded in order, what they need before them."""
    loaded = dict(_with_needed(kernel, (*root.modules, *modules)))
    with target.open("wb") as archive:
        for folder in ("bin", "modules", "proc", "sys", "dev", "machine", "memory", "root"):
            archive.write(_entry(folder, stat.S_IFDIR | 0o755))
        archive.write(_entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
        archive.write(_entry("init", stat.S_IFREG | 0o755, root.init.read_bytes()))
        archive.write(_entry("order", stat.S_IFREG | 0o644, "\n".join(loaded).encode() + b"\n"))
        for name, content in loaded.items():
            archive.write(_entry(f"modules/{name}", stat.S_IFREG | 0o644, content))
        archive.write(_entry("TRAILER!!!", 0))


def _with_needed(kernel: Kernel, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Modules by name, each behind those that it needs. What isn't there is built in, or unknown to this kernel."""
    files = {file.name.partition(".ko")[0].replace("-", "_"): file for file in kernel.modules.rglob("*.ko*")}
    for name in names:
        file = files.get(name.replace("-", "_"))
        if file is None:
            continue
        content = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        found = _DEPENDS.search(content)
        if found is not None and found[1]:
            yield from _with_needed(kernel, found[1].decode().split(","))
        yield name, content


def _entry(name: str, mode: int, content: bytes = b"") -> bytes:
    """One file in the format `newc` of cpio."""
    path = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
    return _padded(head) + _padded(content)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
