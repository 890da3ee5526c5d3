"""What a process can still do to others of the same user, root's too, that has refused itself to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TELLING = """
def tell_what_goes(acts):
    for name, act in acts.items():
        try:
            act()
        except PermissionError:
            pass
        except OSError as error:
            print(name, error)
        else:
            print(name, "goes")
"""
SCRIPT = """
import ctypes, os, platform, resource, signal, sys, threading
from engine.host.privileges import give_up_all
from engine.host.seccomp import {refuse}

other = os.getppid()
aimed = os.pidfd_open(other)
give_up_all()
if not {refuse}():
    print("none here")
    raise SystemExit
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

x86 = platform.machine() == "x86_64"
octets = ctypes.create_string_buffer(64)
tell_what_goes({{
    "kill": lambda: os.kill(other, 0),
    "everybody": lambda: os.kill(-1, 0),
    "tkill": lambda: call(200 if x86 else 130, other, 0),
    "tgkill": lambda: call(234 if x86 else 131, other, other, 0),
    "by descriptor": lambda: signal.pidfd_send_signal(aimed, 0),
    "pidfd_open": lambda: os.pidfd_open(other),
    "pidfd_getfd": lambda: call(438, aimed, 0, 0),
    "prlimit": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE),
    "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    "affinity": lambda: os.sched_setaffinity(other, os.sched_getaffinity(0)),
    "process_vm_readv": lambda: call(310 if x86 else 270, other, octets, 1, octets, 1, 0),
    "process_vm_writev": lambda: call(311 if x86 else 271, other, octets, 1, octets, 1, 0),
}})
signal.pthread_kill(threading.get_ident(), 0)
resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("alone")
"""


def said(script: str, *arguments: Path) -> tuple[str, str]:
    """What a script writes to its two outputs."""
    command = (sys.executable, "-c", TELLING + script, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.stdout == "none here\n":
        pytest.skip("this machine's system calls are not known")
    return done.stdout, done.stderr


@pytest.mark.parametrize("refuse", ["refuse_files_and_sockets", "refuse_other_processes"])
def test_no_other_process_can_be_touched(refuse: str) -> None:
    assert said(SCRIPT.format(refuse=refuse)) == ("alone\n", "")


BY_ADDRESS = """
import ctypes, os, socket, sys
from engine.host.privileges import give_up_all
from engine.host.seccomp import refuse_files_and_sockets

listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listening.bind(sys.argv[1])
listening.setblocking(False)
before, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)]
sent = 0

def heard():
    global sent
    try:
        sent += bool(listening.recv(64))
    except BlockingIOError:
        pass

before.sendto(b"at first", sys.argv[1])
heard()
assert sent == 1
give_up_all()
if not refuse_files_and_sockets():
    print("none here")
    raise SystemExit
libc = ctypes.CDLL(None, use_errno=True)
SENDMMSG = {"x86_64": 307}.get(os.uname().machine, 269)

def many():
    if libc.syscall(SENDMMSG, before.fileno(), None, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")

tell_what_goes({
    "sendto": lambda: before.sendto(b"x", sys.argv[1]),
    "sendmmsg": many,
    "a pair of datagram sockets": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    "one that doesn't wait": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
    "a raw one": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW),
    "connect": lambda: before.connect(sys.argv[1]),
    "bind": lambda: before.bind(sys.argv[1] + "2"),
    "a socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
})
for ours, theirs in (*pairs, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)):
    for send in (lambda: ours.send(b"x"), lambda: ours.sendmsg([b"y"])):
        send()
        assert len(theirs.recv(1)) == 1
    try:
        ours.sendmsg([b"z"], [], 0, sys.argv[1])  # with which seccomp can do nothing: they have one peer
    except OSError:
        pass
heard()
print(sent, "by path")
"""


def test_nobody_is_sent_to_by_path(tmp_path: Path) -> None:
    """A Unix socket's path is in reach of every network namespace: /dev/log, systemd's notifications, a container's."""
    assert said(BY_ADDRESS, tmp_path / "socket") == ("1 by path\n", "")
