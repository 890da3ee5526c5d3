"""The stack program's own tests, in Go; those that need a far host are in tests/system/test_stack_program.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

STACK = Path(__file__).resolve().parents[2] / "engine" / "egress" / "stack"
LIBRARY = Path("/usr/share/gocode/src/gvisor.dev")


@pytest.mark.skipif(
    shutil.which("go") is None or not LIBRARY.is_dir(),
    reason="needs golang-go and golang-gvisor-gvisor-dev (make stack)",
)
def test_go() -> None:
    done = subprocess.run(["make", "--silent", "-C", STACK, "test"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run(["gofmt", "-l", STACK], capture_output=True, text=True, check=True).stdout == ""
