"""A rogue at the concentrator's end does to real sessions all that it can: nothing of the host's changes or leaks."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from engine.lab.faults import FAULTS
from tests.conftest import run
from tests.program import until
from tests.system.test_promises import ENOUGH, Scene

pytestmark = pytest.mark.usefixtures("own_net")

ATTACKS = tuple(name for name in FAULTS if name != "restart")
"""One session each; a restart hits them all."""
POOL = IPv4Network("100.64.0.0/16")


def of_the_host() -> list[str]:
    """Its routes and addresses, but those of sessions' own link-local addresses: what a router could change."""
    words = ("-4 route", "-6 route", "-4 route show table local dev lan0", "-br addr show dev lan0")
    lines = [line for each in words for line in run("ip", *each.split()).splitlines()]
    return [line for line in lines if not line.startswith("fe80::/64 dev soup")]


@pytest.mark.parametrize("path", ["afxdp", "kernel"])
def test_every_attack_costs_no_more_than_its_session(tmp_path: Path, path: str) -> None:
    with ExitStack() as stack:
        names = tuple(f"s{number}" for number in range(len(ATTACKS)))
        scene = Scene(stack, tmp_path, path, names, faults=ATTACKS)
        before, mark = of_the_host(), len(scene.program.said)
        results = scene.blow(lambda: os.kill(scene.far.pid, signal.SIGUSR1), 3.0)
        assert all(not each.leaked for each in results.values()), results
        assert not [source for source in scene.capture.seen if "." in source and IPv4Address(source) in POOL]
        assert min(each.host for each in results.values()) > ENOUGH, "the host's own traffic went on"
        assert of_the_host() == before

        def hit() -> set[str]:
            told = list(scene.program.said[mark:])
            return {said["session"] for said in told if said.get("event") in ("session-down", "dial-failed")}

        until(lambda: len(hit()) >= 2, "that Terminate-Request and PADT end their sessions")
        assert len(hit()) < len(ATTACKS) / 2, "by far not all"
        assert scene.program.end() == 0  # which sees that there was no internal error
