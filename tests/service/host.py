"""A Debian host in a guest, with systemd, a card whose line leads to the lab's concentrator, and the package."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from tests.kernels import packages
from tests.kernels.bench import CARD_MAC, CONCENTRATOR, Failed
from tests.kernels.cards import CARDS
from tests.kernels.guest import CommandFailed, Guest
from tests.kernels.line import TAP, access_line

CARD = "eth0"
UNIT = f"souppp@{CARD}"
EXPORTER = f"souppp-exporter@{CARD}"
CONFIG = f"/etc/souppp/{CARD}.yaml"
SOCKET = f"/run/souppp/{CARD}.sock"
PASSWORD = "correct-horse-battery"
"""One that is nowhere by chance."""
NAMES = ("home-1", "home-2", "home-3", "home-4")
DOWNLOAD = 1_000_000
"""Octets."""
PATIENCE = 600
"""Seconds for what takes some ten of them on an idle machine."""


class Host:
    """The guest, and what an operator asks there."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._card = CARDS["virtio"].arguments(CARD_MAC, 1)

    def run(self, *commands: str, seconds: float = PATIENCE) -> str:
        """What shell commands print; raises CommandFailed with the first that fails."""
        return self.guest.run("set -e\n" + "\n".join(commands), seconds)

    def code(self, command: str) -> tuple[int, str]:
        """A shell command's exit code, and what it says on both outputs."""
        pieces: list[bytes] = []
        code = self.guest.carry_out(f"{{ {command}\n}} 2>&1", pieces.append)
        return code, b"".join(pieces).decode(errors="replace")

    def until(self, command: str, what: str, seconds: int = PATIENCE) -> None:
        """Return when a shell command succeeds. Raises Failed."""
        try:
            self.guest.until(command, seconds)
        except CommandFailed:
            raise Failed(f"never saw {what}; {self.complaints()}") from None

    # The service

    def configure(self, users: Mapping[str, str]) -> None:
        """Write the configuration: a session for each name, with its user."""
        sessions = "".join(f"  - {{name: {name}, user: {user}}}\n" for name, user in users.items())
        text = f"defaults: {{password: {PASSWORD}, autodial: true}}\nsessions:\n{sessions}"
        self.run(f"umask 077; cat >{CONFIG} <<'END'\n{text}END")

    def shown(self, *properties: str, unit: str = UNIT) -> dict[str, str]:
        """What systemd knows of a unit."""
        lines = self.run(f"systemctl show {unit} -p {','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def ctl(self, *words: str) -> Any:
        """What `souppp-tui ctl --json` answers."""
        return json.loads(self.run(f"souppp-tui ctl --json {' '.join(map(quote, words))}"))

    def sessions(self) -> dict[str, dict[str, Any]]:
        """The sessions by name, as `ctl list` has them."""
        return {each["name"]: each for each in self.ctl("list")}

    def ids(self) -> dict[str, int]:
        """The sessions' ids by name: others after each dial."""
        return {name: each["session_id"] for name, each in self.sessions().items()}

    def wait_up(self, names: Iterable[str] = NAMES) -> None:
        """Return when these sessions are up, and no other is there. Raises Failed."""
        code, said = self.code(f"souppp-tui ctl wait --timeout {PATIENCE}")
        if code != 0:
            raise Failed(f"not all sessions came up: {said}; {self.complaints()}")
        found = self.sessions()
        if set(found) != set(names):
            raise Failed(f"there are the sessions {', '.join(found)}, not {', '.join(names)}")

    @contextmanager
    def started_anew(self) -> Iterator[None]:
        """What the block does makes systemd start the service anew: behind it, it is ready again. Raises Failed."""
        before = int(self.shown("NRestarts")["NRestarts"])
        yield
        self.until(
            f"systemctl show {UNIT} -p NRestarts | grep -qx NRestarts={before + 1} && systemctl -q is-active {UNIT}",
            "the service started anew by systemd",
        )

    def each(self, command: str, what: str) -> None:
        """Run a command for all sessions at once, with `$device`, until it succeeds. Raises Failed."""
        devices = {name: each["device"] for name, each in self.sessions().items()}
        work = [
            f"(export device={device}; timeout {PATIENCE} bash -c {quote(f'until {command}; do sleep 1; done')}"
            f" >/dev/null 2>&1 && echo {name}) &"
            for name, device in devices.items()
        ]
        done = set(self.run(*work, "wait").split())
        if lacking := [name for name in devices if name not in done]:
            raise Failed(f"{len(done)} of {len(devices)} {what}, not {', '.join(lacking)}; {self.complaints()}")

    def try_traffic(self) -> str:
        """Every session carries pings and TCP. Raises Failed."""
        self.each(f"ping -q -c 3 -i 0.3 -w 30 -I $device {CONCENTRATOR}", "pinged")
        fetch = f'curl -s --interface $device -o /dev/null -w "%{{size_download}}" http://{CONCENTRATOR}/{DOWNLOAD}'
        self.each(f'[ "$({fetch})" = {DOWNLOAD} ]', "downloaded")
        return f"{len(self.sessions())} sessions pinged and downloaded"

    @contextmanager
    def downloading(self) -> Iterator[Callable[[], None]]:
        """A TCP connection through every session; call what you get to see that each goes on. Raises Failed."""
        counts = {each["device"]: f"/root/through-{name}" for name, each in self.sessions().items()}

        def goes_on() -> None:
            for device, file in counts.items():
                count = self.run(f"cat {file} 2>/dev/null || echo 0").strip() or "0"
                self.until(f"[ $(cat {file}) -gt {count} ]", f"more come through {device}")

        try:
            for device, file in counts.items():
                sip = f"python3 /root/sip.py {device} {CONCENTRATOR} {file}"
                self.run(f"systemd-run -q --collect --unit=through-{device} {sip}")
            goes_on()
            yield goes_on
        finally:
            self.run("systemctl stop 'through-*.service'", f"rm -f {' '.join(counts.values())}")

    # What it said

    def entries(self, *options: str) -> list[dict[str, Any]]:
        """The journal's entries of this boot."""
        lines = self.run(f"journalctl -b -q -o json {' '.join(options)}").splitlines()
        return [json.loads(line) for line in lines]

    def complaints(self) -> str:
        """The last that was said of the service."""
        lines = self.guest.run(f"journalctl -b -q -n 12 -o cat -u {UNIT} -t souppp-tui; true").splitlines()
        return " | ".join(lines)

    # The card, and what is left

    def unplug_card(self) -> None:
        """Take the card out of the guest."""
        self.guest.qmp("device_del", id="card")
        self.guest.wait_event("DEVICE_DELETED")

    def plug_card(self) -> None:
        """Put it back."""
        self.guest.plug(self._card)

    def expect_nothing_left(self) -> None:
        """The card is as it was, and nothing of the service's is there. Raises Failed."""
        looks = (
            "ls /sys/class/net | grep ^soup",
            f"ip -d link show {CARD} | grep -o -E 'xdp[a-z/]* |promiscuity [1-9]'",
            "ip rule | grep -v -E '^(0|32766|32767):'; ip -6 rule | grep -v -E '^(0|32766|32767):'",
            "nft list tables | grep souppp",
            "ls -A /run/souppp 2>/dev/null",
            "pgrep -af 'souppp_tui.* [s]erve'",
        )
        look = "; ".join(looks)
        try:
            self.guest.until(f'[ -z "$({look})" ]', 60)
        except CommandFailed:
            raise Failed(f"left behind: {', '.join(self.guest.run(f'{look}; true').splitlines())}") from None


@contextmanager
def host(qemu: packages.Qemu, kernel: packages.Kernel, disk: Path) -> Iterator[Host]:
    """A host that has booted from a disk. Raises GuestError and CommandFailed."""
    with (
        access_line(1, password=PASSWORD),
        Guest(qemu, kernel, line=TAP, card=CARDS["virtio"].arguments(CARD_MAC, 1), disk=disk) as guest,
    ):
        yield Host(guest)
