"""What systemd-resolved is told of sessions' name servers, and by which commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.api.commands import HangUp, Redial
from engine.api.values import SessionState
from engine.egress.protocol import Happening
from engine.run import resolved
from engine.run.resolved import Resolved
from engine.settings.values import DefaultRoute
from engine.supervisor.resolving import LinkNames
from tests.program import until
from tests.unit.supervisor.world import World, session

OWN = ("192.0.2.53", "2001:db8::53")


def test_it_is_told_once_of_each_session_that_asks_for_it() -> None:
    world = World(
        [
            session("a", resolved=True, dns=OWN),
            session("b", dns=OWN),
            session("c", resolved=True, dns=OWN, default_route=DefaultRoute(50)),
        ]
    ).open()
    world.until(lambda: world.states() == {SessionState.UP})
    orders = world.supervisor.resolving.orders
    first = LinkNames("soup0", OWN, False)
    assert sorted(orders, key=str) == [first, LinkNames("soup2", OWN, True)]
    orders.clear()
    world.run(30.0)
    assert orders == [], "nothing is new"
    world.supervisor.note_egress([Happening("Someone deleted the device soup0: it was made anew.", 0)], world.now)
    assert orders == [first]
    orders.clear()
    world.do(HangUp((0,)))
    world.until(lambda: world.state(0) is SessionState.DOWN)
    assert orders == []
    world.do(Redial((0,)))
    world.until(lambda: world.state(0) is SessionState.UP)
    assert orders == [first]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Complaints, with a resolvectl that writes down what it is asked and refuses the device `bad`."""
    program = tmp_path / "resolvectl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$2" != bad ] || {{ echo "No such device" >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(resolved, "RUNS", tmp_path)
    return []


def test_its_commands_never_give_the_servers_what_is_not_for_them(told: list[str], tmp_path: Path) -> None:
    it = Resolved(lambda severity, kind, text: told.append(f"{severity.name} {kind}: {text}"))
    asked = tmp_path / "asked"
    it.order([LinkNames("soup0", OWN, False), LinkNames("bad", OWN, True), LinkNames("soup1", OWN[:1], True)])
    until(lambda: asked.exists() and "\ndns soup1" in asked.read_text(), "all of it")  # not of mdns
    it.close()
    assert asked.read_text().splitlines() == [
        "default-route soup0 no",
        "llmnr soup0 no",
        "mdns soup0 no",
        "dns soup0 192.0.2.53 2001:db8::53",
        "default-route bad yes",
        "default-route soup1 yes",
        "llmnr soup1 no",
        "mdns soup1 no",
        "dns soup1 192.0.2.53",
    ]
    assert told == ["WARNING resolved: systemd-resolved doesn't take the name servers of bad: No such device."]


def test_while_it_hangs_the_latest_of_each_device_waits_and_the_end_waits_for_nothing(
    told: list[str], tmp_path: Path
) -> None:
    (tmp_path / "resolvectl").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$2" != slow ] || exec cat {tmp_path}/fifo\n'
    )
    os.mkfifo(tmp_path / "fifo")
    it = Resolved(lambda severity, kind, text: told.append(text))
    asked = tmp_path / "asked"
    it.order([LinkNames("slow", OWN, False)])
    until(lambda: asked.exists() and "slow" in asked.read_text(), "that it hangs")
    for number in range(1000):
        it.order([LinkNames("soup0", (f"192.0.2.{number % 250}",), False), LinkNames("soup1", OWN, False)])
    assert it.waiting == 2
    with (tmp_path / "fifo").open("w"):
        pass  # it goes on, and hangs at the next command
    until(lambda: asked.read_text().count("slow") == 2, "the next command")
    it.close()
    assert "soup0" not in asked.read_text()
    assert told == []


def test_what_is_the_same_for_all_devices_is_told_once(told: list[str], tmp_path: Path) -> None:
    (tmp_path / "resolvectl").write_text('#!/bin/sh\necho "Failed to set $2: Access denied." >&2\nexit 1\n')
    it = Resolved(lambda severity, kind, text: told.append(text))
    it.order([LinkNames(f"soup{number}", OWN, False) for number in range(5)])
    until(lambda: not it.waiting and told, "all of it")
    it.close()
    why = "Failed to set soup0: Access denied"
    assert told == [f"systemd-resolved doesn't take the name servers of soup0: {why}."]


def test_where_it_does_not_run_that_is_said_once(
    told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolved, "RUNS", tmp_path / "none")
    it = Resolved(lambda severity, kind, text: told.append(text))
    it.order([LinkNames("soup0", OWN, False), LinkNames("soup1", OWN, False)])
    until(lambda: told, "a word")
    it.order([LinkNames("soup2", OWN, False)])
    it.close()
    assert told == ["`resolved: true` does nothing: systemd-resolved doesn't run on this host."]
