"""A User Mode Linux guest on one end of a cable: a kernel with PPP, whatever the host's own kernel has.

Its root is the host's, read-only, and its card is a raw socket on one of the host's. Commands go in and answers come
out by its first serial line, which is a pair of FIFOs in the guest's run directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import select
import shlex
import signal
import struct
import subprocess
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = Path("/usr/lib/uml/modules")
"""Where Debian puts the modules of the guest's kernel, one folder a release."""
NEEDED = ("ipv6", "pppoe", "ppp_async", "ppp_synctty")
CARD = "vec0"
"""The guest's card, by the guest's name."""


class GuestError(Exception):
    """The guest didn't start, or doesn't answer."""


# What the guest is given


def only_incoming() -> bytes:
    """The socket filter of the guest's card: without it, the guest hears its own frames."""
    load, jump_if_equal, give = 0x20, 0x15, 0x06  # classic BPF
    packet_type, outgoing, whole = 0xFFFFF004, 4, 0x40000
    steps = ((load, 0, 0, packet_type), (jump_if_equal, 0, 1, outgoing), (give, 0, 0, 0), (give, 0, 0, whole))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def module_files(names: Iterable[str], folder: Path) -> list[str]:
    """The files to load for these modules, each after those that it needs; what the kernel has built in needs none.

    They are loaded by path, so that /lib/modules, where modprobe would look, needn't exist. Raises GuestError.
    """
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, others = line.partition(":")
        needs[_name(file)] = [*reversed(others.split()), file]
    built_in = {_name(file) for file in (folder / "modules.builtin").read_text().split()}
    files: list[str] = []
    for name in names:
        if name not in needs and name not in built_in:
            raise GuestError(f"the guest's kernel has no module {name}")
        files += needs.get(name, [])
    return [str(folder / file) for file in dict.fromkeys(files)]


def _name(file: str) -> str:
    return Path(file).name.partition(".")[0].replace("-", "_")


# Start, command, stop


def start(
    run: Path,
    namespace: str,
    card: str,
    payload: str,
    ready: str,
    *,
    mac: str,
    memory: str,
    modules: Iterable[str],
    seconds: float,
) -> int:
    """Boot a guest whose card is on `card` in a named network namespace, and start `payload` in it; its process id.

    `run` is a fresh directory, and its folder `ppp` becomes the guest's /etc/ppp. It returns when the command `ready`
    succeeds in the guest. Raises GuestError if that takes too long, and then no guest is left.
    """
    releases = [path.parent for path in MODULES.glob("*/modules.dep")]
    if not releases:
        raise GuestError(f"no modules in {MODULES}: the package user-mode-linux is missing")
    orders = {"mac": mac, "payload": payload, "modules": " ".join(module_files([*NEEDED, *modules], releases[0]))}
    (run / "orders").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in orders.items()))
    (run / "incoming.bpf").write_bytes(only_incoming())
    for name in ("commands", "answers"):
        os.mkfifo(run / name)
    end = time.monotonic() + seconds
    with closing(_Line(run)) as line:
        guest = _boot(run, namespace, card, memory, line)
        (run / "pid").write_text(f"{guest.pid}\n")
        try:
            while not line.heard(rb"READY\n", 0.1):
                if guest.poll() is not None:
                    raise GuestError("the guest died")
                if time.monotonic() > end:
                    raise GuestError(f"the guest took no commands within {seconds:g} s")
            status, _ = line.ask(ready, end - time.monotonic())
            if status:
                raise GuestError(f"the guest isn't ready: {ready!r} failed")
        except GuestError as error:
            stop(run)
            said = (run / "console").read_text(errors="replace").splitlines()
            raise GuestError("\n".join([str(error), "its console said:", *said[-20:]])) from None
    return guest.pid


def _boot(run: Path, namespace: str, card: str, memory: str, line: _Line) -> subprocess.Popen[bytes]:
    # Names without a folder are in `run`, its working directory: a socket's name has room for 108 octets.
    # The kernel takes quotes around what may hold a blank.
    words = [
        *("linux.uml", "umid=guest", "uml_dir=.", f"mem={memory}", "quiet", "con=null", "con0=null,fd:1"),
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f'init="{HERE / "init"}"', f'run="{run}"'),
        *(f"vec0:transport=raw,ifname={card},bpffile=incoming.bpf", "ssl=null"),
        f"ssl0=fd:{line.commands},fd:{line.answers}",
    ]
    with (run / "console").open("wb") as console:
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, *words],
            cwd=run,
            env=os.environ | _place_for_memory(run),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            pass_fds=(line.commands, line.answers),
            start_new_session=True,
        )


def _place_for_memory(run: Path) -> dict[str, str]:
    """The guest's memory is a file, which UML puts in /dev/shm; but many containers let nothing there be executed."""
    with suppress(OSError):
        if not os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC:
            return {}
    return {"TMPDIR": str(run)}


def execute(run: Path, command: str, seconds: float) -> tuple[int, bytes]:
    """Exit code and output of a root shell command in the guest; one runs at a time. Raises GuestError."""
    if not (run / "pid").exists():
        raise GuestError(f"{run} has no guest")
    with closing(_Line(run)) as line:
        return line.ask(command, seconds)


def stop(run: Path) -> None:
    """End the guest at once, without a word on the cable, and return when all its processes are gone."""
    with suppress(FileNotFoundError):
        session = int((run / "pid").read_text())
        while processes := _processes(session, run):
            for pid in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    for name in ("pid", "commands", "answers"):
        (run / name).unlink(missing_ok=True)


def _processes(session: int, folder: Path) -> list[int]:
    """The running processes of a session that work in a folder: of the guest, even if its process id was used again."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # Not by the folder's name: what /proc says of a process in another mount namespace may have another root.
            if os.getsid(int(process.name)) == session and folder.samefile(process / "cwd"):
                found.append(int(process.name))
    return found


class _Line:
    """The guest's serial line, seen from the host; who has it open has it alone."""

    def __init__(self, run: Path) -> None:
        # Open for both directions, so that neither end ever sees an end of file.
        self.commands = os.open(run / "commands", os.O_RDWR)
        self.answers = os.open(run / "answers", os.O_RDWR)
        self._heard = b""
        fcntl.lockf(self.commands, fcntl.LOCK_EX)

    def close(self) -> None:
        os.close(self.commands)
        os.close(self.answers)

    def heard(self, pattern: bytes, seconds: float) -> re.Match[bytes] | None:
        """What the guest said that matches; it is forgotten then, with all before it. None if it said no such thing."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self._heard, re.DOTALL)):
            readable, _, _ = select.select([self.answers], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                return None
            self._heard += os.read(self.answers, 1 << 16)
        self._heard = self._heard[match.end() :]
        return match

    def ask(self, command: str, seconds: float) -> tuple[int, bytes]:
        """Exit code and output of a command. What an earlier one said too late is skipped. Raises GuestError."""
        mark = secrets.token_hex(8).encode()
        escaped = command.replace("\\", r"\\").replace("\n", r"\n").encode()
        os.write(self.commands, mark + b" " + escaped + b"\n")
        answer = self.heard(mark + rb"\n(.*)" + mark + rb" (\d+)\n", seconds)
        if not answer:
            raise GuestError(f"the guest gave no answer within {seconds:g} s")
        return int(answer[2]), answer[1]
