"""SIGKILL at any moment: the next start ends what was left open at the concentrator, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run
from tests.program import noted, running
from tests.provider import CARD, provider

pytestmark = pytest.mark.usefixtures("own_net")


@pytest.fixture
def arguments(tmp_path: Path) -> tuple[str | Path, ...]:
    config = tmp_path / "config.yaml"
    config.write_text('sessions: [{name: "s{n}", user: alice, password: lab, autodial: true, count: 2}]\n')
    return (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")


@pytest.mark.parametrize("moment", ["pppoe-open", "authenticated", "ipv4-up"])
def test_the_next_start_ends_the_ghosts(arguments: tuple[str | Path, ...], tmp_path: Path, moment: str) -> None:
    """The concentrator takes two sessions, no more: the second run's come up because the first one's were ended."""
    with provider(max_sessions=2):
        with running(*arguments) as program:
            program.event(moment, "s2")
            program.process.kill()
            program.process.wait()
        assert (tmp_path / "state" / f"{CARD}.ghosts").exists()
        with running(*arguments) as program:
            assert program.event("ghosts")["text"] == "Ended 2 sessions that an earlier run had left open."
            program.up(2)
            assert not [said for said in program.said if said.get("event") == "dial-failed"]
            assert program.end() == 0
        assert not noted(tmp_path / "state"), "after an orderly end there is nothing to note"


def test_without_the_journal_the_concentrator_refuses(arguments: tuple[str | Path, ...], tmp_path: Path) -> None:
    """What the test above would look like without ghosts being ended."""
    with provider(max_sessions=2):
        with running(*arguments) as program:
            program.up(2)
            program.process.kill()
            program.process.wait()
        (tmp_path / "state" / f"{CARD}.ghosts").unlink()
        with running(*arguments) as program:
            assert "refused" in program.event("dial-failed")["text"]
            assert not [said for said in program.said if said.get("event") == "ghosts"]


def test_kill_after_kill(arguments: tuple[str | Path, ...]) -> None:
    with provider(max_sessions=2):
        for _ in range(3):
            with running(*arguments) as program:
                program.up(2)
        with running(*arguments) as program:
            program.event("ghosts")
            program.up(2)


def test_all_that_many_sessions_leave_is_cleared(own_net: None, tmp_path: Path) -> None:
    """Twenty-nine at once: so many that the rules of an earlier release outlived its clearing up."""
    config = tmp_path / "config.yaml"
    words = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    entry = "user: alice, password: lab, autodial: true"
    config.write_text(f'sessions: [{{name: "s{{n}}", count: 29, {entry}}}]\n')
    with provider():
        with running(*words) as program:
            program.up(29)
            program.process.kill()
            program.process.wait()
        assert len(ours()) >= 28
        config.write_text(f"sessions: [{{name: one, {entry}}}]\n")
        with running(*words) as program:
            assert program.event("ghosts")["text"] == "Ended 29 sessions that an earlier run had left open."
            program.up(1)
            assert program.end() == 0
    assert ours() == []
    assert not noted(tmp_path / "state")


def ours() -> list[str]:
    """Rules of ours, of IPv4 and IPv6."""
    found = [line for family in ("-4", "-6") for line in run("ip", family, "rule").splitlines()]
    return [line for line in found if "proto 80" in line]
