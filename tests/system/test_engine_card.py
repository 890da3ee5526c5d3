"""What happens to the card: sessions are said to be lost, and come back by themselves when the card does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.api.values import SessionState
from engine.run.thread import Engine
from tests.conftest import run
from tests.program import until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system.engines import dialling, events, fetch, session, story, views, wait_state, wait_up

pytestmark = pytest.mark.usefixtures("own_net")

NAMES = ("one", "two", "three")


@pytest.fixture
def far() -> Iterator[Provider]:
    with provider() as far:
        yield far


@pytest.fixture
def engine(far: Provider) -> Iterator[Engine]:
    with dialling([session(name) for name in NAMES] + [session("idle", autodial=False)]) as engine:
        wait_up(engine, *NAMES)
        yield engine


def lost(engine: Engine) -> None:
    """Wait until all are lost, and see that it is said and that their devices are gone."""
    wait_state(engine, SessionState.FAILED, *NAMES)
    assert {views(engine)[name].reason for name in NAMES} == {"card is down"}
    assert not engine.snapshot().card.up
    assert events(engine, "card-down")
    until(lambda: "soup" not in run("ip", "-br", "link"), "their devices gone")


def back(engine: Engine) -> None:
    """Wait until all are up again, and use them."""
    until(lambda: all(views(engine)[name].flaps for name in NAMES), "them lost")
    wait_up(engine, *NAMES)
    assert engine.snapshot().card.up
    assert views(engine)["idle"].state is SessionState.DOWN, "what nobody wanted is left alone"
    for name in NAMES:
        found = views(engine)[name]
        assert found.device is not None
        assert fetch(found.device) == found.ipv4
        assert found.flaps == 1
    assert not events(engine, "internal-error"), story(engine)


def test_set_down_and_up(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    run("ip", "link", "set", CARD, "up")
    back(engine)


def test_cable_pulled_and_plugged(engine: Engine, far: Provider) -> None:
    far.run("ip", "link", "set", FAR_CARD, "down")
    lost(engine)
    assert "carrier" in events(engine, "card-down")[0].text
    far.run("ip", "link", "set", FAR_CARD, "up")
    back(engine)


def test_a_session_hung_up_while_the_card_is_down_stays_down(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    engine.hang_up([views(engine)["two"].id])
    wait_state(engine, SessionState.DOWN, "two")
    run("ip", "link", "set", CARD, "up")
    wait_up(engine, "one", "three")
    assert views(engine)["two"].state is SessionState.DOWN


def test_a_session_dialled_while_the_card_is_down_comes_up_with_it(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    engine.dial([views(engine)["idle"].id])
    run("ip", "link", "set", CARD, "up")
    wait_up(engine)


def test_the_concentrator_is_told_of_what_it_could_not_hear(far: Provider) -> None:
    """Its limit would refuse new sessions if it still had the old ones."""
    far.kill()
    with provider(max_sessions=2), dialling([session("one"), session("two")]) as engine:
        wait_up(engine)
        run("ip", "link", "set", CARD, "down")
        wait_state(engine, SessionState.FAILED)
        run("ip", "link", "set", CARD, "up")
        wait_up(engine)
        assert not events(engine, "dial-failed"), story(engine)


def test_card_removed_and_made_again(far: Provider, engine: Engine) -> None:
    run("ip", "link", "del", CARD)
    lost(engine)
    assert "gone" in events(engine, "card-down")[0].text
    far.kill()
    with provider():
        back(engine)


def test_card_removed_for_good(engine: Engine) -> None:
    """The engine still answers, and ends in order."""
    run("ip", "link", "del", CARD)
    lost(engine)
    snapshot = engine.snapshot()
    assert snapshot.queues == ()
    assert len(snapshot.traffic) == 4 * 4
    engine.add(session("later"))
    until(lambda: "later" in views(engine) or events(engine, "internal-error"), "the new session")
    assert not events(engine, "internal-error"), story(engine)
    engine.remove([views(engine)["later"].id])
    until(lambda: "later" not in views(engine), "it gone")


def test_number_of_queues_changed(far: Provider) -> None:
    """Upwards, for the kernel lets nobody take away queues that AF_XDP sockets use."""
    run("ethtool", "-L", CARD, "tx", "1")
    with dialling([session(name) for name in NAMES] + [session("idle", autodial=False)]) as engine:
        wait_up(engine, *NAMES)
        assert len(engine.snapshot().queues) == 1
        run("ethtool", "-L", CARD, "tx", "2")
        until(lambda: len(engine.snapshot().queues) == 2, "two queues")
        back(engine)
        assert "2 queues" in events(engine, "card-down")[0].text


def test_mtu_changed(engine: Engine) -> None:
    """Sessions live on; where their packets don't fit any more, that is said."""
    before = {name: found.session_id for name, found in views(engine).items()}
    run("ip", "link", "set", CARD, "mtu", "1400")
    until(lambda: engine.snapshot().card.mtu == 1400, "the MTU")
    until(lambda: events(engine, "card-mtu"), "a word about it")
    assert "an MTU of 1400 now. That is too small for 4 sessions" in events(engine, "card-mtu")[0].text
    run("ip", "link", "set", CARD, "mtu", "1500")
    until(lambda: engine.snapshot().card.mtu == 1500, "the MTU")
    wait_up(engine, *NAMES)
    assert {name: found.session_id for name, found in views(engine).items()} == before


def test_address_of_the_card_changed(engine: Engine) -> None:
    """The sessions' frames bear the old one: they have to be dialled anew."""
    run("ip", "link", "set", CARD, "address", "02:00:00:00:77:01")
    until(lambda: {views(engine)[name].local_mac for name in NAMES} == {"02:00:00:00:77:01"}, "the new address")
    wait_up(engine, *NAMES)
    for name in NAMES:
        found = views(engine)[name]
        assert found.device is not None
        assert fetch(found.device) == found.ipv4


def test_a_cable_that_flickers(engine: Engine, far: Provider) -> None:
    for _ in range(5):
        far.run("ip", "link", "set", FAR_CARD, "down")
        far.run("ip", "link", "set", FAR_CARD, "up")
    wait_up(engine, *NAMES)
    until(lambda: all(fetch(found.device) == found.ipv4 for found in views(engine).values() if found.device), "traffic")
