"""The program in a guest with a card on a line: what an operator does to them, and what is to be seen of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from shlex import join
from typing import Any

from tests.kernels import packages
from tests.kernels.cards import CARDS, Card
from tests.kernels.guest import CommandFailed, Guest
from tests.kernels.line import TAP, access_line

CARD_MAC = "52:54:00:00:00:01"
CONCENTRATOR = "100.64.0.1"
DOWNLOAD = 1_000_000
"""Octets."""
PATIENCE = 600
"""Seconds for what takes some ten of them on an idle machine."""
SESSIONS = """\
defaults: {{password: lab, autodial: true}}
sessions:
  - {{name: plain, user: plain}}
  - {{name: "derived-{{n}}", user: "derived{{n}}", mac: derived, count: 2}}
  - {{name: vlan, user: vlan, vlan: 100}}
  - {{name: qinq, user: qinq, vlan: 100.200}}
  - {{name: large, user: large, mru: 1500}}
  - {{name: kernel, user: kernel, datapath: {in_kernel}}}
  - {{name: kernel-vlan, user: kernel-vlan, datapath: {in_kernel}, vlan: 101}}
"""
COUNT = 8
USUAL_MTU, LARGE = 1492, 1500
PPPOE, TAG = 8, 4
"""Octets of what is around a session's packets."""
BOND = """set -e
test -e /sys/class/net/spare || {{
  ip link add spare address 52:54:00:00:00:02 type veth peer name nowhere  # which is down: no carrier
  ip link set bond0 type bond mode active-backup miimon 100
}}
for each in {card} spare; do
  test -e /sys/class/net/$each/master || {{ ip link set $each down; ip link set $each master bond0; }}
done
ip link set bond0 mtu {mtu} up
"""
VLAN = """set -e
test -e /sys/class/net/{card} || ip link add link bond0 name {card} type vlan id {vlan}
ip link set {card} mtu {mtu} up
"""
START = """
rm -f /guest/code
( bash -c 'echo $$ >/guest/pid; exec "$@"' - {within} souppp-tui {card} \
  --config /guest/sessions.yaml --state-dir /guest/state --fix-card \
  --headless --until-up --hold --timeout {patience} {options} \
  >/guest/said 2>/guest/errors; echo $? >/guest/code ) &
"""


class Failed(Exception):
    """One line that says what was to be seen and what was."""


@dataclass
class Bench:
    """A guest with a card whose line is up, and the program in it."""

    guest: Guest
    card: Card
    version: str
    queues: int
    options: str = ""
    """More of the program's command line."""
    features: str = ""
    """Of the card, before the program touched it."""
    devices: dict[str, str] = field(default_factory=dict)
    """Of the sessions that are up, by name."""

    def mtu(self, name: str) -> int:
        """What a session is to carry: what it asks for, held to what the card has room for."""
        tags = {"vlan": 1, "kernel-vlan": 1, "qinq": 2}.get(name, 0)
        room = self.card.mtu - PPPOE - TAG * tags * self.card.counts_tags
        return min(LARGE if name == "large" else USUAL_MTU, room)

    # The card

    def raise_card(self) -> None:
        """Bring the card up, as an operator does before the program starts."""
        self.guest.until(f"ip link set {self.card.link} mtu {self.card.mtu} up")
        self.guest.run(f"ethtool -L {self.card.link} combined {self.queues}; true")
        if self.card.bonded:
            self.guest.run(BOND.format(card=self.card.link, mtu=self.card.mtu))
        if self.card.vlan is not None:
            self.guest.run(VLAN.format(card=self.card.name, vlan=self.card.vlan, mtu=self.card.mtu))
        self.guest.until(f"grep -q 1 /sys/class/net/{self.card.name}/carrier")

    def card_features(self) -> str:
        """What the card does for us, as ethtool tells it."""
        return self.guest.run(f"ethtool -k {self.card.name}")

    def unplug_card(self) -> None:
        """Take the card out of the guest."""
        self.guest.qmp("device_del", id="card")
        self.guest.wait_event("DEVICE_DELETED")

    def plug_card(self) -> None:
        """Put it back."""
        self.guest.plug(self.card.arguments(CARD_MAC, self.queues))
        self.raise_card()

    def set_carrier(self, up: bool) -> None:
        """Plug the line out of the card, or into it."""
        self.guest.qmp("set_link", name="line", up=up)

    # The program

    def start(self, within: Iterable[str] = ()) -> None:
        """Start the program; `within` is the beginning of its command line, which must exec what follows."""
        in_kernel = "kernel" if self.card.mode(self.version).startswith("native") else "auto"
        sessions = SESSIONS.format(in_kernel=in_kernel)
        if not self.card.tags:
            sessions = re.sub(r", vlan: [0-9.]+", "", sessions)
        self.guest.run(f"cat >/guest/sessions.yaml <<'END'\n{sessions}END")
        words = {"card": self.card.name, "patience": PATIENCE, "options": self.options, "within": join(within)}
        self.guest.run(START.format(**words))

    def stop(self, signal: str) -> str:
        """The program's exit code after a signal."""
        self.guest.run(f"kill -{signal} $(cat /guest/pid)")
        self.guest.until("test -e /guest/code", PATIENCE)
        return self.guest.run("cat /guest/code").strip()

    def said(self) -> list[dict[str, Any]]:
        """What the program has printed: events and sessions."""
        lines = self.guest.run("cat /guest/said").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_said(self, found: Callable[[list[dict[str, Any]]], bool], what: str) -> list[dict[str, Any]]:
        """What the program has printed when it is as wanted. Raises Failed."""
        deadline = time.monotonic() + 2 * PATIENCE
        while not found(said := self.said()):
            if time.monotonic() > deadline or self.guest.run("ls /guest").split().count("code"):
                raise Failed(f"never saw {what}; {self.complaints()}")
            time.sleep(0.5)
        return said

    def event(self, kind: str, since: int = 0) -> str:
        """The text of the first event of a kind, once it is there. Raises Failed."""

        def texts(said: list[dict[str, Any]]) -> list[str]:
            return [one["text"] for one in said[since:] if one.get("event") == kind]

        return texts(self.wait_said(lambda said: bool(texts(said)), f"the event {kind}"))[0]

    def complaints(self) -> str:
        """The latest warnings and errors."""
        bad = [one["text"] for one in self.said() if one.get("severity") in ("warning", "error")]
        errors = self.guest.run("tail -n 3 /guest/errors").split("\n")
        return " | ".join([*bad[-3:], *filter(None, errors)]) or "no complaint"

    def wait_up(self) -> None:
        """Return when all sessions are up. Raises Failed."""

        def sessions(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [one for one in said if "event" not in one]

        all_of_them = sessions(self.wait_said(lambda said: len(sessions(said)) == COUNT, f"{COUNT} sessions"))
        self.devices = {one["name"]: one["device"] for one in all_of_them if one["state"] == "up"}
        down = {one["name"]: one["error"] for one in all_of_them if one["state"] != "up"}
        if down:
            reasons = "; ".join(f"{name}: {why}" for name, why in down.items())
            raise Failed(f"{len(self.devices)} of {COUNT} up: {reasons}; {self.complaints()}")

    def each(self, command: str, what: str) -> None:
        """Run a command for all sessions at once, with `$device` and `$mtu`, until it succeeds. Raises Failed."""
        work = [
            f"(device={device} mtu={self.mtu(name)} name={name}; "
            f"timeout {PATIENCE} bash -c 'until {command}; do sleep 1; done' >/dev/null 2>&1 && echo $name) &"
            for name, device in self.devices.items()
        ]
        done = set(self.guest.run("export device mtu\n" + "\n".join([*work, "wait"])).split())
        lacking = [name for name in self.devices if name not in done]
        if lacking or len(done) < COUNT:
            raise Failed(f"{len(done)} of {COUNT} {what}, not {', '.join(lacking)}; {self.complaints()}")

    def expect_nothing_left(self, rules: bool = True) -> None:
        """The card is as it was, and no device of the program's is there, nor a rule if that counts. Raises Failed."""
        look = "ls /sys/class/net | grep ^soup"
        look += f"; ip -d link show {self.card.name} | grep -o -E 'xdp[a-z]* |promiscuity [1-9]'"
        if rules:
            look += "; ip rule | grep -v -E '^(0|32766|32767):'"
        try:
            self.guest.until(f'[ -z "$({look})" ]', PATIENCE)
        except CommandFailed:
            raise Failed(f"left behind: {', '.join(self.guest.run(f'{look}; true').splitlines())}") from None


@contextmanager
def bench(version: str, card: str, *, options: str = "", modules: Iterable[str] = ()) -> Iterator[Bench]:
    """A guest with a kernel such as `6.12` and a card such as `igb:2`, whose line is up.

    `options` are the program's, `modules` more of the kernel's. Raises Unavailable, GuestError and CommandFailed.
    """
    name, _, number = card.partition(":")
    kind, queues = CARDS[name], int(number or 1)
    taps = queues if kind.queues_by_device else 1
    with (
        access_line(taps),
        Guest(
            packages.qemu(),
            packages.kernel(version),
            modules=(*kind.modules, *modules),
            cpus=max(2, queues),
            line=TAP,
            queues=taps,
            card=kind.arguments(CARD_MAC, queues),
        ) as guest,
    ):
        it = Bench(guest, kind, version, queues, options)
        it.raise_card()
        yield it
