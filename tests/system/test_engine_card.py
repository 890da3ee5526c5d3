"""What happens to the card: sessions are said to be lost, and come back by themselves when the card does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.api.commands import Add, Dial, HangUp, Remove
from engine.api.values import SessionState, SessionView, unpack_traffic
from engine.card import xdp
from engine.card.facts import Card
from engine.card.xdp import XdpError
from engine.egress import confinement
from engine.egress.carriers import Carriers
from engine.record.journal import GhostJournal, replay
from engine.run.line import CardLine
from engine.run.loop import TICK
from engine.run.thread import Engine, EngineError, EngineOptions
from engine.settings.values import DatapathChoice, MacPolicy, Settings, XdpMode
from engine.supervisor.handed import Taken
from engine.wire.place import Place
from tests.conftest import run
from tests.program import until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system.engines import dialling, events, fetch, pings, session, story, too_long, views, wait_state, wait_up

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


@contextmanager
def elsewhere() -> Iterator[tuple[str, ...]]:
    """The card is moved to another namespace, where commands run behind the given words; in the end it is back."""
    with subprocess.Popen(["unshare", "-n", "sleep", "60"]) as other:
        there = ("nsenter", "-t", str(other.pid), "-n")
        until(lambda: CARD not in run(*there, "ip", "-br", "link"), "the other namespace")
        run("ip", "link", "set", CARD, "netns", str(other.pid))
        try:
            yield there
            run(*there, "ip", "link", "set", CARD, "netns", str(os.getpid()))
        finally:
            other.kill()
    run("ip", "link", "set", CARD, "up")


def test_set_down_and_up(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    run("ip", "link", "set", CARD, "up")
    back(engine)


def test_given_back_whole_though_its_counters_can_not_be_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else our own program would stay on it, and keep us from taking it again."""

    def unreadable(carriers: Carriers) -> None:
        raise XdpError("cannot read the XDP program's counters")

    monkeypatch.setattr(Carriers, "queues", unreadable)
    with elsewhere():
        until(lambda: events(engine, "trouble"), "what went wrong")
        monkeypatch.undo()
    back(engine)


def test_cable_pulled_and_plugged(engine: Engine, far: Provider) -> None:
    far.run("ip", "link", "set", FAR_CARD, "down")
    lost(engine)
    assert "carrier" in events(engine, "card-down")[0].text
    far.run("ip", "link", "set", FAR_CARD, "up")
    back(engine)


class Resetting:
    """A driver that resets its link when the card is taken: the far end of the cable is down until `up`."""

    def __init__(self, far: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
        self._far, take = far, CardLine.take

        def take_and_reset(line: CardLine, card: Card) -> Taken:
            taken = take(line, card)
            far.run("ip", "link", "set", FAR_CARD, "down")
            return taken

        monkeypatch.setattr(CardLine, "take", take_and_reset)

    def up(self) -> None:
        self._far.run("ip", "link", "set", FAR_CARD, "up")


def waits(engine: Engine, times: int = 1) -> None:
    """See that it waits for its carrier, the operator is told, and nothing is sent."""

    def told() -> int:
        """How often; that it still waits is said besides, where that takes some seconds."""
        return sum("resets its link" in event.text for event in events(engine, "card-waits"))

    until(lambda: told() == times, "it wait")
    sent = [queue.tx_packets for queue in engine.snapshot().queues]
    time.sleep(0.5)
    assert engine.snapshot().card.waits
    assert [queue.tx_packets for queue in engine.snapshot().queues] == sent


def test_a_driver_that_resets_the_link_for_the_program(
    far: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is sent before the carrier is back would be lost: ghosts' PADTs, first PADIs. And when it is back."""
    ghost = Place(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 0x99, ())
    left = GhostJournal(tmp_path / "state" / f"{CARD}.ghosts")
    left.opened([ghost])
    left.close()

    def noted() -> bool:
        return replay((tmp_path / "state" / f"{CARD}.ghosts").read_bytes()) == [ghost]

    driver = Resetting(far, monkeypatch)
    with dialling([session(name) for name in NAMES], state_folder=tmp_path / "state") as engine:
        waits(engine)
        assert noted()
        assert not events(engine, "ghosts")
        driver.up()
        wait_up(engine, *NAMES)
        until(lambda: events(engine, "ghosts"), "the ghost ended")
        assert events(engine, "ghosts")[0].text == "Ended 1 session that an earlier run had left open."
        assert not noted()
        assert not events(engine, "dial-failed"), story(engine)
        assert not engine.snapshot().card.waits
        with elsewhere():
            until(lambda: events(engine, "card-down"), "the change")
        waits(engine, 2)
        driver.up()
        until(lambda: len(events(engine, "ipv4-up")) == 2 * len(NAMES), "all once more")
        wait_up(engine, *NAMES)
        assert not events(engine, "dial-failed"), story(engine)
    assert journals(tmp_path) == [], "every PADT has left"


def test_what_giving_the_card_back_does_to_it_is_not_told(far: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver resets its link once more when the program goes, and that may take long."""
    give_back = CardLine.give_back

    def reset_and_give_back(line: CardLine) -> None:
        give_back(line)
        far.run("ip", "link", "set", FAR_CARD, "down")
        time.sleep(TICK + 0.1)

    monkeypatch.setattr(CardLine, "give_back", reset_and_give_back)
    with dialling([session("one")]) as engine:
        wait_up(engine)
    assert not events(engine, "card-down"), story(engine)


def test_a_cable_that_is_out_at_the_start(far: Provider) -> None:
    far.run("ip", "link", "set", FAR_CARD, "down")
    with dialling([session(name) for name in NAMES]) as engine:
        assert "no carrier: is the cable in?" in events(engine, "card-waits")[0].text
        assert {each.state for each in views(engine).values()} == {SessionState.DOWN}
        far.run("ip", "link", "set", FAR_CARD, "up")
        wait_up(engine)


def test_sessions_that_end_without_a_carrier_stay_noted(far: Provider, tmp_path: Path) -> None:
    """The program leaves while the cable is out: the next start has to tell the concentrator."""
    journal = tmp_path / "state" / f"{CARD}.ghosts"
    with dialling([session(name) for name in NAMES], state_folder=tmp_path / "state") as engine:
        wait_up(engine)
        far.run("ip", "link", "set", FAR_CARD, "down")
        wait_state(engine, SessionState.FAILED)
    assert len(replay(journal.read_bytes())) == 3
    far.run("ip", "link", "set", FAR_CARD, "up")
    with dialling([], state_folder=tmp_path / "state") as engine:
        until(lambda: events(engine, "ghosts"), "them ended")
        assert events(engine, "ghosts")[0].text.startswith("Ended 3 sessions")
    assert not journal.exists()


def test_a_session_hung_up_while_the_card_is_down_stays_down(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    engine.submit(HangUp((views(engine)["two"].id,)))
    wait_state(engine, SessionState.DOWN, "two")
    run("ip", "link", "set", CARD, "up")
    wait_up(engine, "one", "three")
    assert views(engine)["two"].state is SessionState.DOWN


def test_a_session_dialled_while_the_card_is_down_comes_up_with_it(engine: Engine) -> None:
    run("ip", "link", "set", CARD, "down")
    lost(engine)
    engine.submit(Dial((views(engine)["idle"].id,)))
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
    assert len(unpack_traffic(snapshot.traffic)) == 4 * 4
    engine.submit(Add(session("later")))
    until(lambda: "later" in views(engine) or events(engine, "internal-error"), "the new session")
    assert not events(engine, "internal-error"), story(engine)
    engine.submit(Remove((views(engine)["later"].id,)))
    until(lambda: "later" not in views(engine), "it gone")


def unhurt(engine: Engine, before: dict[str, SessionView], card: str = CARD) -> None:
    """See that each session is the one it was, and carries packets."""
    assert engine.snapshot().card.name == card
    for name in NAMES:
        found = views(engine)[name]
        assert (found.session_id, found.flaps) == (before[name].session_id, 0), story(engine)
        assert found.device is not None
        assert fetch(found.device) == found.ipv4
    assert not events(engine, "card-down"), story(engine)
    assert not events(engine, "internal-error"), story(engine)


@pytest.mark.parametrize("datapath", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_more_queues_cost_no_session(far: Provider, datapath: DatapathChoice) -> None:
    """Upwards, for the kernel lets nobody take away queues that AF_XDP sockets use."""
    run("ethtool", "-L", CARD, "tx", "1")
    with dialling([session(name, datapath=datapath) for name in NAMES]) as engine:
        wait_up(engine, *NAMES)
        before = views(engine)
        assert len(engine.snapshot().queues) == 1
        run("ethtool", "-L", CARD, "tx", "2")
        until(lambda: len(engine.snapshot().queues) == 2, "two queues")
        until(lambda: events(engine, "card-mended"), "a word about it")
        assert "2 queues now" in events(engine, "card-mended")[0].text
        seen = engine.snapshot().queues[1].rx_packets
        unhurt(engine, before)
        until(lambda: engine.snapshot().queues[1].rx_packets > seen or pings("soup1"), "a frame by the new queue")
        unhurt(engine, before)


def test_queues_that_come_with_the_program_are_served(far: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As virtio_net's do: it adds one for each processor."""
    run("ethtool", "-L", CARD, "rx", "1", "tx", "1")

    def attach(program: int, ifname: str, *more: Any) -> tuple[int, str, str]:
        attached = proper(program, ifname, *more)
        run("ethtool", "-L", ifname, "rx", "2", "tx", "2")
        return attached

    proper = xdp._attach
    monkeypatch.setattr(xdp, "_attach", attach)
    with dialling([session(name) for name in NAMES]) as engine:
        wait_up(engine, *NAMES)
        before = views(engine)
        time.sleep(2 * TICK)
        assert len(engine.snapshot().queues) == 2
        assert not events(engine, "card-mended")
        unhurt(engine, before)


def journals(folder: Path) -> list[str]:
    return [file.name for file in (folder / "state").glob("*.ghosts")]


def test_another_name(far: Provider, tmp_path: Path) -> None:
    """It is followed, and so is the journal of open sessions, which the next start looks for by the new one."""
    with dialling([session(name) for name in NAMES], state_folder=tmp_path / "state") as engine:
        wait_up(engine, *NAMES)
        before = views(engine)
        run("ip", "link", "set", CARD, "name", "wan0")
        until(lambda: events(engine, "card-renamed"), "the new name")
        assert events(engine, "card-renamed")[0].text == f"{CARD} is called wan0 now."
        unhurt(engine, before, "wan0")
        assert journals(tmp_path) == ["wan0.ghosts"]
        assert len(replay((tmp_path / "state" / "wan0.ghosts").read_bytes())) == len(NAMES)
        run("ip", "link", "set", "wan0", "mtu", "1400")
        until(lambda: views(engine)["one"].mtu == 1392, "the smaller MTU")
        unhurt(engine, before, "wan0")
    assert journals(tmp_path) == [], "all have had their PADT"


def test_a_journal_that_is_there_by_the_new_name_stays(far: Provider, tmp_path: Path) -> None:
    left = GhostJournal(tmp_path / "state" / "wan0.ghosts")
    left.opened([Place(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", 0x99, ())])
    left.close()
    with dialling([session("one")], state_folder=tmp_path / "state") as engine:
        wait_up(engine)
        run("ip", "link", "set", CARD, "name", "wan0")
        until(lambda: events(engine, "journal"), "a word about it")
        assert "wan0.ghosts is there already" in events(engine, "journal")[0].text
        wait_up(engine)
    assert journals(tmp_path) == ["wan0.ghosts"]


def test_moved_to_another_namespace_and_back(engine: Engine) -> None:
    with elsewhere() as there:
        lost(engine)
        assert f"{CARD} was moved to another network namespace." in events(engine, "card-down")[0].text
        assert "xdp" not in run(*there, "ip", "link", "show", CARD)
    back(engine)


def take_off(card: str) -> None:
    """As an administrator does: our program hangs on a link, which `ip link set xdp off` doesn't get off."""
    attached = json.loads(run("bpftool", "-j", "net", "list", "dev", card))[0]["xdp"][0]["id"]
    links = json.loads(run("bpftool", "-j", "link", "list"))
    run("bpftool", "link", "detach", "id", str(next(each["id"] for each in links if each.get("prog_id") == attached)))
    assert "xdp" not in run("ip", "link", "show", card)


@pytest.mark.parametrize("mode", [XdpMode.COPY, XdpMode.GENERIC])
def test_the_program_taken_off(far: Provider, mode: XdpMode) -> None:
    with dialling([session(name) for name in NAMES], xdp=mode) as engine:
        wait_up(engine, *NAMES)
        before = views(engine)
        take_off(CARD)
        until(lambda: "xdp" in run("ip", "link", "show", CARD), "it back on the card")
        until(lambda: events(engine, "card-mended"), "a word about it")
        assert ("xdpgeneric" in run("ip", "link", "show", CARD)) == (mode is XdpMode.GENERIC)
        unhurt(engine, before)


def test_mtu_changed(engine: Engine) -> None:
    """Sessions live on, and their devices have no larger packets than fit."""
    before = views(engine)
    run("ip", "link", "set", CARD, "mtu", "1400")
    until(lambda: events(engine, "card-mtu"), "a word about it")
    assert "an MTU of 1400 now. That is too small for 4 sessions" in events(engine, "card-mtu")[0].text
    until(lambda: {views(engine)[name].mtu for name in NAMES} == {1392}, "the smaller MTU, which follows the event")
    for name in NAMES:
        found = views(engine)[name]
        assert found.mtu == 1392
        assert f" mtu {found.mtu} " in run("ip", "link", "show", str(found.device))
        assert pings(str(found.device), 1392 - 28)
        assert too_long(str(found.device), 1392 - 27)
    unhurt(engine, before)
    run("ip", "link", "set", CARD, "mtu", "1500")
    until(lambda: {views(engine)[name].mtu for name in NAMES} == {1492}, "the larger MTU")
    assert all(pings(str(views(engine)[name].device), 1492 - 28) for name in NAMES)
    unhurt(engine, before)


@pytest.mark.parametrize("datapath", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_mtu_too_small_for_ipv6(far: Provider, datapath: DatapathChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes IPv6 from the devices: that is said, nobody else may use the addresses, and they come back."""
    monkeypatch.setattr(confinement, "GRACE", 0.001)
    with dialling([session(name, datapath=datapath) for name in NAMES]) as engine:
        wait_up(engine, *NAMES)
        until(lambda: all(views(engine)[name].ipv6_addresses for name in NAMES), "addresses of IPv6")
        has = {name: views(engine)[name].ipv6_addresses[0] for name in NAMES}

        def confined() -> set[str]:
            found = run("ip", "-6", "route", "show", "table", "all")
            return {name for name, address in has.items() if f"unreachable default from {address} " in found}

        def on_devices() -> set[str]:
            shown = run("ip", "-6", "addr")
            return {name for name, address in has.items() if f" {address}/" in shown}

        run("ip", "link", "set", CARD, "mtu", "1200")
        until(lambda: {views(engine)[name].mtu for name in NAMES} == {1192}, "the smaller MTU")
        assert events(engine, "card-mtu")[0].text.endswith("Until then their devices have no IPv6.")
        assert not on_devices()
        engine.submit(HangUp((views(engine)["three"].id,)))
        until(lambda: confined() == {"one", "two"}, "that what nobody has is the host's again, and no more")
        run("ip", "link", "set", CARD, "mtu", "1500")
        until(lambda: on_devices() == {"one", "two"}, "their addresses again")
        assert confined() == {"one", "two"}
        for name in ("one", "two"):
            device = str(views(engine)[name].device)
            assert f"dev {device} " in run("ip", "-6", "route", "get", "3fff:ffff::1", "from", has[name])
        assert not events(engine, "internal-error"), story(engine)


@pytest.mark.parametrize("datapath", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_address_of_the_card_changed(far: Provider, datapath: DatapathChoice) -> None:
    """Frames of sessions that used it bear the old one: they have to be dialled anew. The others live on."""
    own = [session(name, mac_policy=MacPolicy.DERIVED, datapath=datapath) for name in ("mine", "mine too")]
    with dialling([session("card's", datapath=datapath), *own]) as engine:
        wait_up(engine)
        before = views(engine)
        run("ip", "link", "set", CARD, "address", "02:00:00:00:77:01")
        until(lambda: views(engine)["card's"].local_mac == "02:00:00:00:77:01", "the new address")
        wait_up(engine)
        after = views(engine)
        assert after["card's"].flaps == 1
        for each in own:
            was, now = before[each.name], after[each.name]
            assert (now.flaps, now.local_mac, now.session_id) == (0, was.local_mac, was.session_id), story(engine)
        for found in after.values():
            assert found.device is not None
            assert fetch(found.device) == found.ipv4
        assert len(events(engine, "ipv4-up")) == 4, story(engine)
        assert len(events(engine, "card-ready")) == 1
        assert "1 session that used it must be dialled anew" in events(engine, "card-mac")[0].text
        assert engine.snapshot().card.mac == "02:00:00:00:77:01"


def test_a_cable_that_flickers(engine: Engine, far: Provider) -> None:
    """The kernel tells of some of that, and late: sessions may be up for a moment that are about to be lost."""
    for _ in range(5):
        far.run("ip", "link", "set", FAR_CARD, "down")
        far.run("ip", "link", "set", FAR_CARD, "up")

    def all_carry() -> bool:
        found = [views(engine)[name] for name in NAMES]
        with suppress(subprocess.CalledProcessError):
            return all(each.device and fetch(each.device) == each.ipv4 for each in found)
        return False

    until(all_carry, "traffic")


def test_zero_copy_that_cannot_be_had_is_an_error_that_says_why(far: Provider) -> None:
    """A veth copies, whatever is asked of it."""
    with (
        pytest.raises(EngineError, match="with zero-copy: its driver has none"),
        dialling([session("one")], xdp=XdpMode.ZERO_COPY),
    ):
        pass


@pytest.mark.parametrize(("xdp", "mode"), [(XdpMode.COPY, "native"), (XdpMode.GENERIC, "generic")])
def test_the_mode_that_was_asked_for(far: Provider, xdp: XdpMode, mode: str) -> None:
    with dialling([session("one")], xdp=xdp) as engine:
        wait_up(engine)
        card = engine.snapshot().card
        assert (card.mode, card.zero_copy) == (mode, False)


def test_the_command_line_wins_over_the_file(far: Provider) -> None:
    engine = Engine(CARD, Settings(xdp=XdpMode.COPY), EngineOptions(xdp=XdpMode.GENERIC))
    engine.start()
    try:
        engine.wait_ready()
        assert engine.snapshot().card.mode == "generic"
    finally:
        engine.stop()
