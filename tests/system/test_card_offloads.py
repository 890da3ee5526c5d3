"""What the card does to frames before we see them: told, switched off where that is wanted, and always put back."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.api.commands import Add, FixCard
from engine.api.values import Severity
from engine.card import ethtool
from engine.card.facts import Card
from engine.card.objection import drivers_words
from engine.card.port import Port
from engine.card.xdp import XdpProgram
from engine.run.thread import Engine
from engine.wire.ethernet import VlanTag
from tests.conftest import run
from tests.program import noted, running, until
from tests.provider import CARD, FAR_CARD, BridgedProvider, Provider, provider
from tests.system.engines import dialling, events, session, story, view, wait_up

pytestmark = pytest.mark.usefixtures("own_net")

TAGS = "rx-vlan-hw-parse"
TAGGED = (session("tagged", vlans=(VlanTag(7),)), session("plain"))


@pytest.fixture
def far() -> Iterator[Provider]:
    with provider() as far:
        yield far


def is_on(feature: str = TAGS) -> bool:
    return ethtool.features(CARD)[feature].active


def told(engine: Engine) -> list[str]:
    return [event.text for event in events(engine, "offload")]


def counters(engine: Engine, name: str) -> dict[str, int]:
    details = engine.details(view(engine, name).id)
    return dict(details.counters) if details is not None else {}


def test_stripped_tags_are_warned_of_with_the_remedies(far: Provider) -> None:
    with dialling(TAGGED) as engine:
        wait_up(engine)
        (warning,) = events(engine, "vlan-offload")
        assert warning.severity is Severity.WARNING
        for remedy in (f"`ethtool -K {CARD} rxvlan off`", "--fix-card", "card page"):
            assert remedy in warning.text
        assert is_on()
        assert engine.snapshot().card.strips


def bridge(card: str) -> None:
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "link", "set", card, "master", "bridge")


def macvlan(card: str) -> None:
    run("ip", "link", "add", "link", card, "name", "macvlan", "type", "macvlan", "mode", "passthru")


@pytest.mark.parametrize("made", [bridge, macvlan])
def test_a_card_made_of_others_loses_tags_and_is_told_as_that(far: Provider, made: Callable[[str], None]) -> None:
    """As a bond is, which not every kernel has."""
    name = made.__name__
    made(CARD)
    run("ip", "link", "set", name, "up")
    with dialling(TAGGED, card=name) as engine:
        wait_up(engine, "plain")
        (warning,) = events(engine, "vlan-offload")
        assert f"`ip link add link {name} name {name}.7 type vlan id 7`" in warning.text
        until(lambda: "discarded: not for this session" in counters(engine, "tagged"), "an answer without its tag")


def test_a_tagged_session_that_is_added_later_is_warned_for(far: Provider) -> None:
    with dialling([session("plain")]) as engine:
        assert not events(engine, "vlan-offload")
        engine.submit(Add(TAGGED[0]))
        until(lambda: events(engine, "vlan-offload"), "the warning")
        wait_up(engine)


def test_fix_card_switches_it_off_and_on_again_at_the_end(far: Provider, tmp_path: Path) -> None:
    note = tmp_path / "state" / f"{CARD}.offloads"
    with dialling(TAGGED, fix_card=True, state_folder=tmp_path / "state") as engine:
        wait_up(engine)
        assert not is_on()
        assert "rx-vlan-stag-hw-parse" in told(engine)[0]
        assert told(engine)[0].startswith(f"Switched off on {CARD}, and put back at the end: rxvlan, ")
        assert not events(engine, "vlan-offload")
        assert TAGS in note.read_text()
    assert is_on()
    assert told(engine)[-1].startswith(f"On again on {CARD}: rxvlan, ")
    assert not noted(tmp_path / "state")


def test_without_tagged_sessions_there_is_nothing_to_fix(far: Provider) -> None:
    with dialling([session("plain")], fix_card=True) as engine:
        wait_up(engine)
        assert is_on()
        assert not told(engine)


def test_the_key_on_the_card_page(far: Provider) -> None:
    """Sessions that are up stay up."""
    with dialling(TAGGED) as engine:
        wait_up(engine)
        engine.submit(FixCard())
        until(lambda: not is_on(), "it off")
        until(lambda: not engine.snapshot().card.strips, "it shown")
        assert len(events(engine, "ipv4-up")) == 2
        assert not events(engine, "card-down")
        engine.submit(FixCard())
    assert is_on()


def test_what_the_driver_switches_off_for_the_program_is_put_back(
    far: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vmxnet3 does with LRO, and the kernel in generic mode; a veth has nothing of the kind."""
    opened = Port.__init__

    def open_and_switch_off(port: Port, card: Card, *more: object, **options: object) -> None:
        opened(port, card, *more, **options)  # type: ignore[arg-type]
        run("ethtool", "-K", CARD, "rx-vlan-stag-hw-parse", "off")

    monkeypatch.setattr(Port, "__init__", open_and_switch_off)
    with dialling([session("plain")]) as engine:
        wait_up(engine)
        assert told(engine) == [
            f"Went off on {CARD} with the XDP program, and is put back at the end: rx-vlan-stag-hw-parse."
        ]
        assert not is_on("rx-vlan-stag-hw-parse")
    assert is_on("rx-vlan-stag-hw-parse")


def test_the_next_start_puts_back_what_a_killed_run_left_off(far: Provider, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sessions: [{name: one, user: anyone, password: lab, autodial: true, vlan: 7}]\n")
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    with running(*arguments, "--fix-card") as program:
        program.up(1)
        assert not is_on()
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
    assert not is_on(), "nobody could put it back"
    with running(*arguments) as program:
        assert "where an earlier run that was killed had left it off: rxvlan" in program.event("offload")["text"]
        program.up(1)
        assert is_on()
        assert program.end() == 0
    assert not noted(tmp_path / "state")


def test_a_killed_run_that_is_started_again_with_the_same_wish(far: Provider, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sessions: [{name: one, user: anyone, password: lab, autodial: true, vlan: 7}]\n")
    arguments = (CARD, "--config", config, "--state-dir", tmp_path / "state", "--headless", "--until-up", "--hold")
    with running(*arguments, "--fix-card") as program:
        program.up(1)
    with running(*arguments, "--fix-card") as program:
        program.up(1)
        assert not is_on()
        assert program.end() == 0
    assert is_on()


def test_generic_mode_says_why_in_the_drivers_words_with_the_remedy() -> None:
    far = BridgedProvider(mtu=9000)
    try:
        with dialling([session("plain")]) as engine:
            wait_up(engine)
            assert [notice.text for notice in events(engine, "card-notice")] == [
                f"{CARD} cannot run XDP in its driver (veth: Peer MTU is too large to set XDP): generic mode is used, "
                f"which is slower. Remedy: a smaller MTU, as in `ip link set {CARD} mtu 1508`."
            ], story(engine)
            assert engine.snapshot().card.notice in story(engine)
    finally:
        far.kill()


def test_a_driver_that_would_have_taken_the_program_is_left_without_one() -> None:
    run("ip", "link", "add", CARD, "type", "veth", "peer", "name", FAR_CARD)
    program = XdpProgram.attach(FAR_CARD, 1)
    try:
        assert drivers_words(program.descriptors["souppp"], socket.if_nametoindex(CARD), 1 << 2) == ""
        assert "xdp" not in run("ip", "link", "show", CARD)
    finally:
        program.close()
