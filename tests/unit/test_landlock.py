"""What a process can still do that has shut itself off from files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import os, socket
from engine.host.landlock import shut_files
from engine.host.privileges import give_up_all
kept = open("/etc/passwd")
give_up_all()
if not shut_files():
    print("none here")
    raise SystemExit
for path in ("/etc/passwd", "/proc/self/status", "/tmp", "/new"):
    try:
        os.open(path, os.O_RDONLY if path != "/new" else os.O_CREAT | os.O_WRONLY)
    except PermissionError:
        pass
    else:
        print(path, "can be opened")
assert kept.read(), "what is open stays open"
socket.socket().bind(("127.0.0.1", 0))
print("shut")
"""


def test_no_file_can_be_opened_and_the_network_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.stdout == "none here\n":
        pytest.skip("this kernel has no Landlock")
    assert (done.stdout, done.stderr) == ("shut\n", "")
