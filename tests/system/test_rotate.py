"""Another address for a session, where the concentrator has one and where it has none."""

from __future__ import annotations

import os
import signal
from operator import add
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import Dial, Edit, HangUp, ResetCounters, Rotate
from engine.api.values import SessionState, unpack_traffic
from engine.host.files import STACK
from engine.run.thread import Engine
from engine.settings.values import EgressChoice, HealthSettings, SessionSettings
from tests.program import descendants, until
from tests.provider import provider
from tests.system.engines import dialling, events, fetch, session, story, view, wait_state, wait_up

pytestmark = pytest.mark.usefixtures("own_net")


def test_rotate_gets_another_address() -> None:
    with provider(), dialling([session("one")]) as engine:
        wait_up(engine)
        one = view(engine, "one")
        engine.submit(Rotate((one.id,)))
        (told,) = until(lambda: events(engine, "rotated"), "what came of it")
        wait_up(engine)
        another = view(engine, "one")
        assert told.text == f"New address {another.ipv4}, was {one.ipv4}."
        assert another.flaps == 0
        assert another.device is not None
        assert fetch(another.device) == another.ipv4 != one.ipv4


def test_rotate_gives_up_where_there_is_no_other_address() -> None:
    """A network of two hosts: the concentrator's own address and one more."""
    with provider(network="100.64.0.0/30"), dialling([session("one")]) as engine:
        wait_up(engine)
        one = view(engine, "one")
        engine.submit(Rotate((one.id,)))
        (told,) = until(lambda: events(engine, "rotated"), "what came of it")
        assert told.text == f"Still {one.ipv4}: no other was given."
        assert story(engine).count(f"Got {one.ipv4} again") == 3
        wait_up(engine)
        assert view(engine, "one").ipv4 == one.ipv4


def test_an_address_is_not_exchanged_any_more_after_a_hang_up() -> None:
    with provider(network="100.64.0.0/30"), dialling([session("one")]) as engine:
        wait_up(engine)
        one = view(engine, "one")
        engine.submit(Rotate((one.id,)))
        engine.submit(HangUp((one.id,)))
        wait_state(engine, SessionState.DOWN)
        engine.submit(Dial((one.id,)))
        wait_up(engine)
        assert not events(engine, "rotated")
        assert "Got " not in story(engine), "the next address is no answer to what was asked before the hang-up"


@pytest.mark.parametrize("egress", [EgressChoice.DEVICE, EgressChoice.STACK])
def test_a_session_whose_page_fails_gets_another_address(egress: EgressChoice) -> None:
    """Really fetched, through the session: the lab's web server answers, and nobody does on the port beside it."""
    well = HealthSettings("http://100.64.0.1/", 1.0, 2)
    if egress is EgressChoice.STACK and not STACK.exists():
        pytest.skip("needs the stack program: `make stack`")

    def checked(name: str, url: str = well.url or "") -> SessionSettings:
        return session(name, health=replace(well, url=url), egress=egress)

    with provider(), dialling([checked("well"), checked("one")]) as engine:
        wait_up(engine)
        one, other = view(engine, "one"), view(engine, "well")
        engine.submit(Edit(one.id, checked("one", "http://100.64.0.1:81/")))
        (told, *_) = until(lambda: events(engine, "rotated", "one"), "another address")
        assert f"was {one.ipv4}" in told.text
        assert "failed 2 times in a row: http://100.64.0.1:81/: 100.64.0.1: " in story(engine)
        assert "refused." in story(engine)
        engine.submit(Edit(one.id, checked("one")))
        until(lambda: "The health check succeeds again." in story(engine), "a check that succeeds")
        assert view(engine, "well").ipv4 == other.ipv4
        assert not events(engine, "health", "well")


def test_the_process_of_the_checks_is_started_again_and_told_all() -> None:
    """Killed once while nothing is to be checked anew: what it finds then it was told by the process's being ready."""
    fails = HealthSettings("http://100.64.0.1:81/", 1.0, 2)

    def checks() -> int | None:
        of = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())}
        return next((pid for pid, words in of.items() if b"engine.proxy.health" in words), None)

    with provider(), dialling([session("one", health=replace(fails, every=3600.0))]) as engine:
        wait_up(engine)
        first = until(checks, "the process")
        os.kill(first, signal.SIGKILL)
        until(lambda: "health was killed by signal 9, and is started again." in story(engine), "what became of it")
        second = until(lambda: found if (found := checks()) != first else None, "another one")
        engine.submit(Edit(view(engine, "one").id, session("one", health=fails)))
        until(lambda: events(engine, "health", "one"), "what it found")
        assert checks() == second


def test_what_a_session_had_and_carried_is_known_to_the_next_run(tmp_path: Path) -> None:
    def carried(engine: Engine) -> tuple[int, ...]:
        snapshot, one = engine.snapshot(), view(engine, "one")
        return tuple(map(add, unpack_traffic(snapshot.traffic)[:4], one.counted))

    with provider():
        with dialling([session("one", ipv6=False)], state_folder=tmp_path) as engine:
            wait_up(engine)
            first = view(engine, "one")
            assert first.device is not None
            fetch(first.device)
            before = carried(engine)
        assert {path.suffix for path in tmp_path.iterdir()} >= {".addresses", ".counters"}
        with dialling([session("one", ipv6=False)], state_folder=tmp_path) as engine:
            wait_up(engine)
            another = view(engine, "one")
            assert another.counted_since == pytest.approx(first.counted_since)
            assert all(now >= then > 0 for now, then in zip(carried(engine), before, strict=True))
            had = engine.ledgers()[another.id].addresses
            assert [span.address for span in had] == [first.ipv4, another.ipv4]
            assert had[0].until is not None
            engine.submit(ResetCounters((another.id,))).result(10)
            assert sum(carried(engine)) < sum(before)
