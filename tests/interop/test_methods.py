"""Against the real concentrator: other authentication, none at all, and its limit of sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.dialling import HOLD, dial, pings, wait_pppds, wait_refused
from tests.interop.kit import Aclab


def test_pap_and_the_limit_of_sessions(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    server = aclab(AUTH="pap", SESSIONS="2")
    with dial(server.line, tmp_path, "{name: wrong, password: no-such-secret}") as program:
        wait_refused(program, "wrong")
        assert program.end() == 0
    wait_pppds(server, 0)
    with dial(server.line, tmp_path, "{name: not-pap, auth: [chap, mschapv2]}") as program:
        assert "insists on pap" in program.event("dial-failed", "not-pap")["text"]
        assert program.end() == 0
    wait_pppds(server, 0)
    with dial(server.line, tmp_path, '{name: "s{n}", count: 3, auth: [pap]}') as program:
        up = {program.event("ipv4-up")["session"]}
        up.add(program.wait_for(lambda said: said.get("event") == "ipv4-up" and said["session"] not in up)["session"])
        failed = program.event("dial-failed")
        assert failed["session"] not in up
        assert "No client slots available" in failed["text"]
        assert program.event("authenticated")["text"].startswith("Authenticated by pap")
        numbers = sorted(int(name[1]) - 1 for name in up)
        assert all(pings(server.line, f"soup{n}") for n in numbers)
        wait_pppds(server, 2)
        assert program.end() == 0
    wait_pppds(server, 0)


def test_a_refusal_for_its_limit_is_recognised(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    server = aclab(AUTH="chap", SESSIONS="1")
    with dial(server.line, tmp_path, '{name: "s{n}", count: 2}', "--until-up", "--timeout", "12") as program:
        assert program.ended() == 1
        (why,) = {said["error"] for said in program.sessions(2).values()} - {None}
        assert "too many sessions" in why or "No client slots available" in why, "the first if it isn't being dialled"


def test_mschapv2(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    server = aclab(AUTH="mschapv2")
    with dial(server.line, tmp_path, "{name: one}\n{name: wrong, password: no-such-secret}") as program:
        program.event("ipv4-up", "one")
        assert program.event("authenticated", "one")["text"].startswith("Authenticated by mschapv2")
        wait_refused(program, "wrong")
        assert pings(server.line, "soup0")
        assert program.end() == 0


def test_no_authentication(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    server = aclab(AUTH="none")
    with dial(server.line, tmp_path, "{name: strict}") as program:
        assert "asks for no authentication: refused." in program.event("dial-failed", "strict")["text"]
        assert program.end() == 0
    wait_pppds(server, 0)
    sessions = '{name: without, user: "", password: ""}\n{name: with, auth: [none, chap]}'
    with dial(server.line, tmp_path, sessions, *HOLD) as program:
        for said in program.up(2).values():
            assert pings(server.line, said["device"])
        assert not [said for said in program.said if said.get("event") == "authenticated"]
        assert program.end() == 0
    wait_pppds(server, 0)


@pytest.mark.parametrize("word", ["lcp-echo-interval 1;lcp-echo-failure 3"])
def test_the_concentrators_own_keepalive_is_answered(aclab: Callable[..., Aclab], tmp_path: Path, word: str) -> None:
    server = aclab(AUTH="chap", OPTS=word)
    with dial(server.line, tmp_path, "{name: one, keepalive: {interval: 0}}", *HOLD) as program:
        program.up(1)
        wait_pppds(server, 1)
        server.exec("sleep 5")
        assert not [said for said in program.said if said.get("event") == "session-down"]
        assert pings(server.line, "soup0")
        assert program.end() == 0
