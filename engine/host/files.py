"""The program's files that are no modules: the C helper, the XDP programs' sources, the headers to compile these with.

A wheel and a Debian package hold them beside the modules, in `engine/private`; in a checkout they are where they are
written or built.
"""

from __future__ import annotations

from pathlib import Path

PRIVATE = Path(__file__).resolve().parents[1] / "private"
CHECKOUT = PRIVATE.parents[1]
IN_CHECKOUT = {
    "libsouppp.so": "build",
    "bcc-headers": "build",
    "souppp.bpf.c": "bpf",
    "kernel_path.bpf.c": "bpf",
}
"""The folder of each, by its name; what builds a wheel copies these."""

REMEDY = "install souppp-tui anew" if PRIVATE.is_dir() else "run `make setup`"
"""What the operator does when one of them is missing."""


STACK = Path("/usr/libexec/souppp-stack") if PRIVATE.is_dir() else CHECKOUT / "build" / "souppp-stack"
"""The stack program, which is made and installed apart."""
STACK_REMEDY = "install the package souppp-stack" if PRIVATE.is_dir() else "run `make stack`"


def private(name: str) -> Path:
    """Where one of `IN_CHECKOUT` is; KeyError for any other. Whether it is there is for its user to see."""
    folder = IN_CHECKOUT[name]
    return (PRIVATE if PRIVATE.is_dir() else CHECKOUT / folder) / name
