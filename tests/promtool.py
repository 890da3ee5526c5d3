"""Prometheus' own judge of metrics and rules, installed here or fetched: its package would start a server."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.kernels.packages import Unavailable, unpacked

COMMAND = "promtool"


@cache
def promtool() -> Path:
    """The command; skips the test where it can't be had."""
    if there := shutil.which(COMMAND):
        return Path(there)
    try:
        fetched = unpacked("prometheus") / "usr" / "bin" / COMMAND
    except Unavailable as error:
        pytest.skip(f"needs {COMMAND}: {error}")
    if not fetched.exists():
        pytest.skip(f"needs {COMMAND}, which this release has in another package than prometheus")
    return fetched


def judged(*arguments: str | Path, given: bytes | None = None) -> None:
    """What it is asked about must be without a fault, and without a remark."""
    done = subprocess.run([promtool(), *arguments], input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
