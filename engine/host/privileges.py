"""What this process may do on this host."""

from __future__ import annotations

from pathlib import Path

_CAPABILITIES = {
    "CAP_NET_ADMIN": (12,),
    "CAP_NET_RAW": (13,),
    "CAP_BPF": (39, 21),
    "CAP_SYS_ADMIN": (21,),
}
"""Capabilities by name, with the bits of which one is enough (CAP_SYS_ADMIN includes CAP_BPF); see capabilities(7)."""


def missing_capabilities(*, namespaces: bool = False) -> list[str]:
    """The capabilities that the calling thread lacks; with `namespaces`, also what it takes to make one."""
    status = Path("/proc/thread-self/status").read_text()
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    needed = {name: bits for name, bits in _CAPABILITIES.items() if namespaces or name != "CAP_SYS_ADMIN"}
    return [name for name, bits in needed.items() if not any(effective >> bit & 1 for bit in bits)]
