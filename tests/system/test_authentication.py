"""A rogue concentrator on a real card: it asks for less than the one that it passes for, or knows no password."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.program import running
from tests.provider import CARD, FAR_CARD, Provider

AC = "02:ac:ac:ac:00:01"


class Rogue(Provider):
    """All of them have one MAC address."""

    def lay_cable(self, mtu: int = 1500, queues: int = 2) -> None:
        super().lay_cable(mtu, queues)
        self.run("ip", "link", "set", FAR_CARD, "address", AC)


@contextmanager
def concentrator(**order: object) -> Iterator[Rogue]:
    it = Rogue(**order)
    try:
        yield it
    finally:
        it.kill()


@pytest.fixture
def arguments(own_net: None, tmp_path: Path) -> tuple[str | Path, ...]:
    (tmp_path / "config.yaml").write_text("sessions: [{name: one, user: alice, password: lab, autodial: true}]\n")
    return (CARD, "--config", tmp_path / "config.yaml", "--state-dir", tmp_path / "state", "--headless", "--until-up")


def test_a_restart_makes_no_concentrator_weaker(arguments: tuple[str | Path, ...], tmp_path: Path) -> None:
    with concentrator(auth=("chap", "pap")), running(*arguments) as program:
        assert program.ended() == 0
        assert program.event("authenticated")["text"].startswith("Authenticated by chap")
    kept, *_ = sorted((tmp_path / "state").iterdir(), key=lambda path: path.suffix != ".proofs")
    assert kept.name == f"{CARD}.proofs"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with concentrator(auth=("pap",)):
        with running(*arguments, "--timeout", "3") as program:
            assert program.ended() == 1
            text = program.event("dial-failed")["text"]
            assert "asks for pap now and did chap with this account before: refused." in text
            assert "set `auth: [pap]`" in text
            assert not [said for said in program.said if said.get("event") == "in-clear"]
        (tmp_path / "config.yaml").write_text(
            "sessions: [{name: one, user: alice, password: lab, autodial: true, auth: [pap]}]\n"
        )
        with running(*arguments) as program:
            assert program.ended() == 0
            assert AC in program.event("in-clear")["text"]


def test_an_impostor_that_has_to_prove_itself_gets_no_session(arguments: tuple[str | Path, ...]) -> None:
    with concentrator(auth=("mschapv2",), impostor=True), running(*arguments, "--timeout", "3") as program:
        assert program.ended() == 1
        assert "could not prove that it knows the password" in program.event("dial-failed")["text"]
        assert not [said for said in program.said if said.get("event") == "ipv4-up"]
