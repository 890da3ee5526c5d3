"""The interpreter's own memory: in huge pages where the kernel gives any, and given back all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.datapath import LIBRARY

PROGRAM = """
import re
from engine.datapath.memory import use_huge_pages

def mb(what):
    return int(re.search(rf"^{what}:\\s+(\\d+)", open("/proc/self/smaps_rollup").read(), re.M)[1]) >> 10

before = [object() for _ in range(1_000_000)]
use_huge_pages()
after = [object() for _ in range(8_000_000)]
there = mb("Rss"), mb("AnonHugePages")
del before
del after
print(*there, mb("Rss"))
"""


@pytest.mark.skipif(not LIBRARY.exists(), reason="the C helper isn't built")
def test_what_is_taken_is_in_huge_pages_and_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    taken, huge, left = map(int, done.stdout.split())
    assert taken > 120
    assert left < taken / 2
    if "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        assert huge > 60, "of 128 MB"
