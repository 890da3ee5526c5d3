"""The C helper's pure parts, built with sanitizers and run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELPER = ROOT / "engine" / "datapath"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{HELPER}"]
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
TESTS = [
    ("test_wire.c", ["wire.c"], "address"),
    ("test_offload.c", ["transport.c", "segment.c", "join.c", "mss.c"], "address"),
    ("test_table.c", ["table.c"], "address"),
    ("test_table.c", ["table.c"], "thread"),
    ("test_router.c", ["router.c", "wire.c"], "address"),
    ("test_own.c", ["own.c", "wire.c"], "address"),
    ("test_ring.c", [], "address"),
    ("test_ring.c", [], "thread"),
    ("test_duct.c", ["duct.c"], "address"),
    ("test_duct.c", ["duct.c"], "thread"),
    ("test_errand.c", ["errand.c"], "address"),
    ("test_errand.c", ["errand.c"], "thread"),
    ("test_relay.c", ["relay.c", "flow.c", "pipes.c"], "address"),
    ("test_relay.c", ["relay.c", "flow.c", "pipes.c"], "thread"),
]


@pytest.mark.parametrize(("test", "sources", "sanitizer"), TESTS, ids=[f"{t[0]}-{t[2]}" for t in TESTS])
def test_c(test: str, sources: list[str], sanitizer: str, tmp_path: Path) -> None:
    program = tmp_path / "test"
    files = [ROOT / "tests" / "c" / test, *(HELPER / source for source in sources)]
    options = [f"-fsanitize={SANITIZERS[sanitizer]}", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *FLAGS, *options, "-o", program, *files], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang, with libclang-rt")
def test_fuzzers_find_nothing_in_a_moment() -> None:
    done = subprocess.run([ROOT / "fuzz" / "c" / "run", "2"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("number_of_executed_units") == 2
