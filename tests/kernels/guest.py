"""A virtual machine with a kernel of its own over this machine's files, which it can't change, or on a disk of its own.

QEMU emulates the processor, so that it runs everywhere, some ten times slower than the machine itself. A guest without
a disk has the checkout at the path that it has here. Shell commands go to it over a serial line.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.kernels import initramfs
from tests.kernels.packages import ROOT, Kernel, Qemu

CPU = "max"
PATIENCE = 600.0
"""Seconds for what takes some ten of them on an idle machine."""
COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr"
    " tsc=unstable nowatchdog no_timer_check net.ifnames=0"
)
"""The kernel's: clocks and watchdogs are not made for a processor that stands still now and then; a card is eth0."""


class GuestError(Exception):
    """The guest is gone, or doesn't answer; with what its kernel said last."""


class CommandFailed(Exception):
    """A command in the guest ended with another exit code than 0."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"in the guest, exit code {code}: {command}\n{output}")
        self.code = code


class Guest:
    """A running guest, to the end of a `with`. `line` names a tap device here; `card` is its device, as QEMU says."""

    def __init__(
        self,
        qemu: Qemu,
        kernel: Kernel,
        *,
        modules: Iterable[str] = (),
        cpus: int = 2,
        memory: int = 2048,
        line: str | None = None,
        queues: int = 1,
        card: str | None = None,
        disk: Path | None = None,
    ) -> None:
        """Boot it; `memory` in MiB, `queues` of the tap device. Raises GuestError.

        `disk` holds an ext4 file system with another system, which must start `agent` with the mark that is on the
        kernel's command line (MARK=); what changes there is lost with the guest.
        """
        self._mark = secrets.token_hex(16)
        self._text = b""
        self._events: list[str] = []
        with ExitStack() as undo:
            self._folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="souppp-guest-")))
            archive = self._folder / "initramfs"
            root = initramfs.MACHINE if disk is None else initramfs.DISK
            initramfs.write(archive, kernel, qemu.busybox, root, modules)
            self._shell, shell = socket.socketpair()
            self._qmp, qmp = socket.socketpair()
            for end in (self._shell, self._qmp):
                undo.enter_context(end)
            words: list[str | Path] = [
                *("setpriv", "--pdeathsig", "KILL", *qemu.command),  # it ends with us, however we end
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", str(cpus), "-m", str(memory)),
                *("-kernel", kernel.image, "-initrd", archive),
                *("-append", f'{COMMAND_LINE} MARK={self._mark} "CHECKOUT={ROOT}"'),
                *_files(disk),
                *("-serial", f"file:{self._folder}/console"),
                *("-chardev", f"socket,id=shell,fd={shell.fileno()}", "-serial", "chardev:shell"),
                *("-chardev", f"socket,id=qmp,fd={qmp.fileno()}", "-mon", "chardev=qmp,mode=control"),
                *("-device", "pcie-root-port,id=place,chassis=1,slot=1", "-device", "qemu-xhci,id=usb"),
            ]
            if line is not None:
                many = f",queues={queues}" if queues > 1 else ""
                words += ["-netdev", f"tap,id=line,ifname={line},script=no,downscript=no,vhost=off{many}"]
            if card is not None:
                words += ["-device", card]
            with shell, qmp:
                self._process = subprocess.Popen(
                    words,
                    pass_fds=(shell.fileno(), qmp.fileno()),
                    env=qemu.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=(self._folder / "qemu").open("w"),
                )
            undo.callback(self._end)
            self._qmp.settimeout(PATIENCE)
            self._answers = self._qmp.makefile("r")
            self._said()
            self.qmp("qmp_capabilities")
            self._answer(PATIENCE, None)
            self._undo = undo.pop_all()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, command: str, seconds: float = PATIENCE) -> str:
        """What a shell command in the guest's checkout prints. Raises CommandFailed and GuestError."""
        pieces: list[bytes] = []
        code = self.carry_out(command, pieces.append, seconds)
        output = b"".join(pieces).decode(errors="replace")
        if code != 0:
            raise CommandFailed(command, code, output)
        return output

    def carry_out(self, command: str, sink: Callable[[bytes], object] | None, seconds: float = PATIENCE) -> int:
        """The exit code of a shell command, whose output goes to `sink` as it comes. Raises GuestError."""
        self._shell.sendall(base64.b64encode(command.encode()) + b"\n")
        return self._answer(seconds, sink)

    def until(self, command: str, seconds: float = PATIENCE) -> None:
        """Return when a shell command in the guest succeeds, which is tried again and again. Raises CommandFailed."""
        self.run(f"for i in $(seq {seconds:.0f}); do {{ {command}; }} && exit; sleep 1; done; exit 1", 2 * seconds)

    def _answer(self, seconds: float, sink: Callable[[bytes], object] | None) -> int:
        """Pass on what comes until the mark does; returns the exit code behind it."""
        end = re.compile(rb"\n%s (\d+)\n" % self._mark.encode())
        hidden = len(self._mark) + 6
        deadline = time.monotonic() + seconds
        while (found := end.search(self._text)) is None:
            if sink is not None and len(self._text) > hidden:
                sink(self._text[:-hidden])
                self._text = self._text[-hidden:]
            self._shell.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                piece = self._shell.recv(1 << 16)
            except TimeoutError:
                raise GuestError(f"the guest didn't answer for {seconds:.0f} s\n{self.console()}") from None
            if not piece:
                raise GuestError(f"the guest is gone\n{self.console()}")
            self._text += piece
        if sink is not None:
            sink(self._text[: found.start()])
        self._text = self._text[found.end() :]
        return int(found[1])

    def reboot(self) -> None:
        """Return when it has ended all that runs there and is up again. Raises CommandFailed and GuestError."""
        self.qmp("set-action", reboot="reset")
        self.run("systemd-run --on-active=1 systemctl reboot")
        self._answer(PATIENCE, None)

    def qmp(self, command: str, **arguments: object) -> Any:
        """QEMU's answer to one of its monitor's commands. Raises GuestError."""
        try:
            self._qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError:
            raise GuestError(f"the guest is gone\n{self.console()}") from None
        while True:
            said = self._said()
            if "return" in said:
                return said["return"]
            if "error" in said:
                raise GuestError(f"QEMU: {command}: {said['error']['desc']}")

    def plug(self, device: str) -> None:
        """Plug a device in, in the words of QEMU's `-device`. Raises GuestError."""
        # Only the monitor for people takes those words.
        if objection := self.qmp("human-monitor-command", **{"command-line": f"device_add {device}"}):
            raise GuestError(f"QEMU: {objection}")

    def wait_event(self, name: str) -> None:
        """Return when QEMU has told of an event since the last one that was waited for. Raises GuestError."""
        while name not in self._events:
            self._said()
        self._events.clear()

    def _said(self) -> dict[str, Any]:
        """The next thing that QEMU says; events are noted."""
        try:
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line:
            raise GuestError(f"QEMU is gone or silent\n{self.console()}")
        said: dict[str, Any] = json.loads(line)
        if "event" in said:
            self._events.append(said["event"])
        return said

    def console(self) -> str:
        """The last of what the kernel, and QEMU, said."""
        texts = (self._folder / name for name in ("qemu", "console"))
        lines = [line for text in texts if text.exists() for line in text.read_text(errors="replace").splitlines()]
        return "\n".join(lines[-40:])


def _files(disk: Path | None) -> tuple[str, ...]:
    """In QEMU's words."""
    if disk is None:
        return ("-virtfs", "local,path=/,readonly=on,security_model=none,mount_tag=machine,multidevs=remap")
    return ("-drive", f"file={disk},format=raw,if=virtio,snapshot=on,cache=unsafe")


def compile_modules() -> None:
    """Compile the project's Python here, where that is faster, for guests can't keep what they compile."""
    folders = [str(ROOT / name) for name in ("engine", "souppp_tui", "tests")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *folders], check=True)
