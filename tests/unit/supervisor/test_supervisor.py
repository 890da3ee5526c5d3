"""The supervisor whole, in virtual time: many sessions, a card that comes and goes, a host and a disk that fail."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from engine.api.commands import (
    Add,
    ClearGhosts,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Redial,
    Remove,
    Reply,
    Rotate,
    StartCapture,
    Stop,
    Watch,
)
from engine.api.ending import End, EndKind
from engine.api.values import Halt, SessionState, Severity
from engine.card.facts import Card
from engine.datapath import DatapathError
from engine.egress.protocol import Addresses
from engine.host.errors import HostError, Trouble
from engine.ipv6.host import Ipv6Config, Ipv6Configured
from engine.lab.concentrator import LabSettings
from engine.lab.faults import FAULTS
from engine.ppp.echoes import BEAT
from engine.ppp.judge import Address
from engine.ppp.link_events import Ipv4Closed, Ipv4Opened
from engine.pppoe.concentrator import ConcentratorSettings
from engine.sessions.fleet import SHARE
from engine.sessions.obstacle import Obstacle
from engine.sessions.session import Session
from engine.settings.values import AuthMethod, DialSettings, KeepaliveSettings, MacPolicy, VlanTag
from engine.supervisor import farewells
from engine.supervisor.handed import Taken
from engine.supervisor.parting import AGAIN
from engine.supervisor.watched import KEPT
from engine.wire.place import Place

from .world import AC, CARD, EPOCH, OURS, QUICK, World, session

UP, DOWN, FAILED = SessionState.UP, SessionState.DOWN, SessionState.FAILED
OURS_TEXT = OURS.hex(":")
NEW_MAC = bytes.fromhex("020000000007")
GHOST = Place(OURS, AC, 0x99, ())


# Many sessions


def test_what_is_over_is_freed_without_a_search_for_garbage() -> None:
    """Which would hold up the loop for as long as it takes to look at all that ten thousand sessions are made of."""
    # MS-CHAPv2's library makes types of its own, once and for all.
    world = World([session(f"s{n}", auth=(AuthMethod.CHAP,)) for n in range(5)]).open()
    world.until(lambda: world.states() == {UP})
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            world.do(Redial(tuple(range(5))))
            world.until(lambda: len(world.events("ipv4-up")) % 5 == 0 and world.states() == {UP})
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.timeout(600)
def test_a_thousand_sessions_come_up_and_leave() -> None:
    world = World([session(f"s{n}") for n in range(1000)], DialSettings(rate=1000.0, max_outstanding=200)).open()
    world.until(lambda: world.states() == {UP}, 10.0, 0.1)
    views = world.supervisor.board.views
    assert len({view.ipv4 for view in views}) == 1000
    assert len(world.egress.devices) == len(world.disk.noted) == 1000
    assert len(world.concentrator.subscribers) == 1000
    assert not world.events("internal-error")
    world.supervisor.say_goodbye(world.now)
    world.until(lambda: world.supervisor.idle, 3.0, 0.1)
    while world.supervisor.catch_up(world.now):
        pass
    assert world.states() == {DOWN}
    judge(world)
    assert not world.disk.noted
    assert not world.egress.devices
    assert not world.concentrator.subscribers


def test_a_device_is_prepared_for_who_was_let_in_and_given_up_with_him() -> None:
    without = LabSettings(any_account=True, any_password="lab", withholding=True)
    world = World([session(name, ipv6=False) for name in ("one", "two")], lab=without).open()
    world.until(lambda: SessionState.AUTHENTICATING in world.states(), step=0.0005)
    assert world.egress.prepared == {}, "not before it is let in"
    world.until(lambda: world.states() == {SessionState.GETTING_ADDRESS})
    assert world.egress.prepared == {0: 1492, 1: 1492}
    world.do(HangUp((1,)))
    world.until(lambda: world.state(1) is SessionState.DOWN)
    assert world.egress.prepared == {0: 1492}
    world.until(lambda: world.events("dial-failed", 0), 120.0)
    assert world.egress.prepared == world.egress.devices == {}, world.story()
    assert not world.events("internal-error"), world.story()


def test_those_that_do_not_answer_get_a_padt_when_we_leave() -> None:
    world = World([session(f"s{n}") for n in range(3)]).open()
    world.run(1.0)
    world.segment.concentrators.clear()
    world.supervisor.say_goodbye(world.now)
    world.run(1.0)
    assert not world.supervisor.idle
    world.supervisor.leave(world.now)
    assert world.supervisor.idle
    world.run(0.1)
    judge(world)
    assert world.supervisor.parted
    assert not world.disk.noted


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_a_concentrator_is_one_of_ours(fault: str) -> None:
    world = World([session(f"s{n}", keepalive=KeepaliveSettings(1.0, 3)) for n in range(10)]).open()
    world.run(1.0)
    assert world.states() == {UP}
    for session_id in [*world.concentrator.subscribers][:5]:
        if session_id in world.concentrator.subscribers:
            FAULTS[fault](world.concentrator, session_id, world.now)
    world.run(5.0)
    world.until(lambda: world.states() == {UP} and len(world.concentrator.subscribers) == 10, 120.0, 0.5)
    assert not world.events("internal-error"), world.story()
    assert set(world.disk.noted) == {record.place for record in world.supervisor.records.values()}


# What must be on disk before what is on the line


def test_a_session_is_noted_before_its_first_lcp_packet() -> None:
    world = World([session("one")]).open()
    seen: list[int] = []

    def look(frame: bytes) -> None:
        if frame[12:14] == b"\x88\x64":
            seen.append(len(world.disk.written))

    world.segment.on_sent = look
    world.run(1.0)
    assert world.state() is UP
    assert seen
    assert min(seen) == 1


def test_ghosts_get_their_padt_and_are_forgotten() -> None:
    world = World([], ghosts=[GHOST])
    sent: list[bytes] = []
    world.segment.on_sent = sent.append
    world.open().run(0.1)
    assert [frame[15] for frame in sent] == [0xA7]
    assert world.disk.left == []
    assert "1 session" in world.events("ghosts")[0].text
    assert world.do(ClearGhosts()) == Reply(1)


def test_all_ghosts_get_their_padt_before_anybody_is_dialled() -> None:
    """Where an earlier run had sent them, the concentrator may give a ghost's id to who is dialled now."""
    ghosts = [Place(OURS, AC, number, ()) for number in range(1, 3 * farewells.SHARE)]
    world = World([session("one")], ghosts=ghosts)
    sent: list[bytes] = []
    world.segment.on_sent = sent.append
    world.open().run(1.0)
    assert world.state() is UP
    discovery = [frame[15] for frame in sent if frame[:6] != OURS and frame[12:14] == b"\x88\x63"]
    assert discovery == [0xA7] * len(ghosts) + [0x09, 0x19]
    assert world.disk.left == []


INDISTINCT = b"\x12\x34"


def test_who_can_not_be_told_apart_by_a_host_uniq_is_told_of_once() -> None:
    """The lab's concentrator, as others, takes such for one: they end each other for ever."""
    fixed: dict[str, Any] = {"host_uniq": INDISTINCT, "autodial": False}
    others = [
        session("derived-1", mac_policy=MacPolicy.DERIVED, **fixed),
        session("derived-2", mac_policy=MacPolicy.DERIVED, **fixed),
        session("tagged", vlans=(VlanTag(7),), **fixed),
        session("another", host_uniq=b"5", autodial=False),
    ]
    world = World([session("one", **fixed), *others]).open()
    assert world.events("configuration") == []
    assert world.do(Add(session("two", **fixed))).done
    assert world.do(Add(session("three", **fixed))).done
    (told,) = world.events("configuration")
    assert told.text.startswith("one and two have the same `host_uniq` (0x1234) on one MAC address: ")
    assert "`mac: derived`" in told.text
    world.do(Edit(1, session("derived-1", mac_policy=MacPolicy.DERIVED, **fixed)))
    world.do(Edit(2, session("derived-2", vlans=(VlanTag(7),), **fixed)))
    assert [event.text.split(" have ")[0] for event in world.events("configuration")] == [
        "one and two",
        "derived-2 and tagged",
    ]
    world = World([session(f"s{number}", **fixed) for number in range(9)]).open()
    assert [event.text.split(" have ")[0] for event in world.events("configuration")] == ["s0 and 8 other sessions"]


def test_a_session_is_no_name_server_of_its_own() -> None:
    """At its own address this host would be asked, which may ask others by its own way."""
    lab = LabSettings(any_account=True, any_password="lab", dns=("100.64.0.2", "100.64.0.53"), dns6=())
    world = World([session("one"), session("two")], lab=lab).open()
    world.until(lambda: world.states() == {UP})
    dns = {view.ipv4: view.dns for view in world.supervisor.board.views}
    assert dns == {"100.64.0.2": ("100.64.0.53",), "100.64.0.3": ("100.64.0.2", "100.64.0.53")}


def test_who_clears_ghosts_is_told_how_many_there_are() -> None:
    """Those whose PADT has not left the card, as without a carrier, are still there."""
    world = World([], ghosts=[GHOST])
    world.card.resets = True
    world.open()
    assert world.do(ClearGhosts()) == Reply(1, ghosts=1)


def test_a_full_disk_is_told_and_stops_nobody() -> None:
    world = World([session("one")])
    world.disk.full = True
    world.open().run(1.0)
    assert world.state() is UP
    assert "No space left" in world.events("journal")[0].text


def test_a_disk_that_was_full_is_told_of_once_and_made_up_for() -> None:
    """A session that stays up for months would else be unknown for months: nothing was written until the next one."""
    world = World([session(f"s{number}") for number in range(20)], replace(QUICK, rate=2.0))
    world.disk.full = True
    world.open().run(30.0)
    assert len(world.supervisor.board.views) == 20
    assert [event.text for event in world.events("journal")] == ["No space left on device."]
    assert not world.disk.noted
    world.disk.full = False
    world.run(AGAIN)
    assert len(world.disk.noted) == 20
    assert world.events("journal")[-1].text == "All open sessions are noted on the disk again."
    world.run(60.0)
    assert len(world.events("journal")) == 2


def test_without_a_journal_there_are_no_ghosts() -> None:
    world = World([session("one")], journal=False).open()
    world.run(1.0)
    assert world.state() is UP
    assert not world.events("ghosts")


# The card


def test_a_card_that_is_down_is_not_taken() -> None:
    world = World([session("one")])
    world.card.change(up=False)
    with pytest.raises(Trouble, match="ip link set eth9 up"):
        world.open()


def test_no_card() -> None:
    world = World([session("one")])
    world.card.card = None
    with pytest.raises(Trouble, match="no card"):
        world.open()


@pytest.mark.parametrize(
    ("gone", "back", "taken"),
    [
        ({"carrier": False}, {"carrier": True}, 1),
        ({"up": False}, {"up": True}, 1),
        ({"index": 8}, {}, 2),
        ({"rx_queues": 1}, {}, 2),
        ({"rx_queues": 1, "mac": NEW_MAC}, {}, 2),
    ],
    ids=["carrier", "set down", "driver reloaded", "queues", "queues and address"],
)
def test_sessions_are_lost_with_the_card_and_come_back_with_it(
    gone: dict[str, object], back: dict[str, object], taken: int
) -> None:
    many = SHARE + 5
    world = World([session(f"s{n}") for n in range(many)] + [session("idle", autodial=False)]).open()
    world.run(1.0)
    world.card.change(**gone)
    world.look()
    assert len(world.events("card-down")) == 1, world.story()
    if back:
        assert world.supervisor.card.view is not None
        assert not world.supervisor.card.view.up
        assert {view.reason for view in world.supervisor.board.views if view.name != "idle"} == {EndKind.CARD_DOWN}
        assert not world.egress.devices
        assert len(world.disk.noted) == many, "nobody has told the concentrator"
        world.run(30.0)
        assert {view.state for view in world.supervisor.board.views} == {FAILED, DOWN}
        world.card.change(**back)
        world.look()
    assert world.supervisor.card.view is not None
    assert world.supervisor.card.view.up
    world.until(lambda: sum(view.state is UP for view in world.supervisor.board.views) == many)
    assert world.card.times_taken == taken
    assert world.view(many).state is DOWN, "one that nobody wants stays down"
    assert len(world.concentrator.subscribers) == many, "the old ones got their PADT"
    assert world.view(0).local_mac == (world.card.card or CARD).mac.hex(":")


@pytest.mark.parametrize("more", [{}, {"mac": NEW_MAC}], ids=["queues", "queues and address"])
def test_a_change_is_told_as_what_it_is(more: dict[str, object]) -> None:
    world = World([session("one")]).open()
    world.card.change(rx_queues=1, **more)
    world.look()
    (told,) = world.events("card-down")
    assert "1 queue" in told.text
    assert ("the address 02:00:00:00:00:07" in told.text) == ("mac" in more)


@pytest.mark.parametrize("more", [{}, {"rx_queues": 4, "tx_queues": 4}], ids=["address", "address and queues"])
def test_another_address_costs_those_sessions_that_used_the_cards(more: dict[str, object]) -> None:
    """One that has the card's former address by its own settings goes on as well: it is listened for."""
    own = {"derived": MacPolicy.DERIVED, "fixed": MacPolicy.FIXED}
    others = [session(name, mac_policy=policy, mac=OURS) for name, policy in own.items()]
    world = World([session("one"), *others, session("idle", autodial=False)]).open()
    world.until(lambda: len(world.concentrator.subscribers) == 3)
    world.run(1.0)
    before = world.supervisor.board.views
    world.card.change(mac=NEW_MAC, **more)
    world.look()
    (told,) = world.events("card-mac")
    assert told.text == (
        "eth9 has the address 02:00:00:00:00:07 now, before 02:00:00:00:00:01: "
        "1 session that used it must be dialled anew."
    )
    world.until(lambda: world.view(0).local_mac == "02:00:00:00:00:07" and world.view(0).state is UP)
    after = world.supervisor.board.views
    assert after[1:3] == before[1:3], "those that have one of their own have noticed nothing"
    assert (after[0].flaps, after[3].state, after[3].local_mac) == (1, DOWN, "02:00:00:00:00:07")
    assert len(world.concentrator.subscribers) == 3, "the one that was lost got its PADT"
    assert len(world.disk.noted) == 3
    assert (world.card.times_taken, world.card.grown) == (1, [4] if more else [])
    assert world.supervisor.card.view is not None
    assert world.supervisor.card.view.mac == "02:00:00:00:00:07"
    assert not world.events("card-down")
    world.run(60.0)
    assert [world.view(key).up_since for key in range(3)] == [view.up_since for view in after[:3]], world.story()


def test_another_address_while_nobody_uses_it() -> None:
    world = World([session("one", mac_policy=MacPolicy.DERIVED), session("idle", autodial=False)]).open()
    world.run(1.0)
    world.card.change(mac=NEW_MAC)
    world.look()
    (told,) = world.events("card-mac")
    assert told.text.endswith("02:00:00:00:00:01: no session used it.")
    assert world.view().flaps == 0
    world.do(Dial((1,)))
    world.until(lambda: world.state(1) is UP)


def test_another_address_and_the_former_one_again() -> None:
    """A thousand are not dialled anew at once: who has had no turn yet may stay as it is."""
    world = World([session(f"s{n}") for n in range(2 * SHARE)]).open()
    world.run(5.0)
    for mac in (NEW_MAC, OURS):
        world.card.change(mac=mac)
        world.supervisor.look_at_card(world.now)
    world.until(lambda: world.states() == {UP} and {v.local_mac for v in world.supervisor.board.views} == {OURS_TEXT})
    assert sum(view.flaps for view in world.supervisor.board.views) == SHARE
    assert len(world.concentrator.subscribers) == len(world.disk.noted) == 2 * SHARE


def test_queues_that_a_card_has_more_with_our_program_are_no_change() -> None:
    """As of virtio_net: one for each processor."""
    world = World([session("one")])
    world.card.adds_queues = 2
    world.open()
    world.run(10.0)
    world.look()
    world.run(10.0)
    assert "4 queues" in world.events("card-ready")[0].text
    assert not world.events("card-down")
    assert (world.card.times_taken, world.card.grown) == (1, [])


def test_more_queues_cost_no_session() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.change(rx_queues=4, tx_queues=4)
    world.look()
    world.look()
    assert world.card.grown == [4]
    assert [event.text for event in world.events("card-mended")] == ["eth9 has 4 queues now, before 2: all are served."]
    assert world.view().flaps == 0
    assert not world.events("card-down")


def test_a_card_that_nobody_can_look_at_is_as_it_was() -> None:
    """No descriptor is left for it: that is told once, and ends no session."""
    world = World([session("one")]).open()
    world.run(1.0)
    for _ in range(2):
        world.card.hidden = "eth9 can't be looked at: Too many open files."
        for _ in range(3):
            world.look()
        world.card.hidden = ""
        world.look()
    text = "eth9 can't be looked at: Too many open files. It is taken to be as it was."
    assert [event.text for event in world.events("card-unseen")] == [text] * 2
    assert not world.events("internal-error")
    assert (world.state(), world.view().flaps, world.card.times_taken) == (UP, 0, 1)


def test_a_card_that_nobody_can_look_at_once_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.card, before = None, world.card.card
    world.look()
    world.card.card = before
    take = world.card.take

    def take_the_last(card: Card) -> Taken:
        world.card.hidden = "eth9 can't be looked at: Too many open files."
        return take(card)

    monkeypatch.setattr(world.card, "take", take_the_last)
    world.look()
    assert world.card.times_taken == 2
    world.card.hidden = ""
    world.look()
    world.until(lambda: world.state() is UP)
    assert world.card.times_taken == 2


def test_queues_that_can_not_be_served_cost_the_card() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.change(rx_queues=4, tx_queues=4)
    world.card.refusals = [DatapathError("cannot open an AF_XDP socket on queue 2 of eth9: in use")]
    world.look()
    assert "eth9 can't be used as it was: cannot open an AF_XDP socket" in world.events("card-down")[0].text
    world.until(lambda: world.state() is UP)
    assert world.card.times_taken == 2


def test_a_card_with_another_name_is_followed() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.change(name="wan0")
    world.look()
    assert [event.text for event in world.events("card-renamed")] == ["eth9 is called wan0 now."]
    assert world.supervisor.card.view is not None
    assert world.supervisor.card.view.name == world.disk.card == "wan0"
    assert world.state() is UP
    world.card.set_carrier(False)
    world.look()
    assert "wan0 lost its carrier." in world.events("card-down")[0].text


def test_a_program_that_someone_took_off_is_put_back() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.bare = True
    world.look()
    world.look()
    (told,) = world.events("card-mended")
    assert (told.severity, told.text) == (
        Severity.ERROR,
        "Someone took our XDP program off eth9: it was put back.",
    )
    assert world.view().flaps == 0


def test_a_program_that_can_not_be_put_back_costs_the_card() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.refusals = [HostError("another XDP program is on eth9")] * 2
    world.look()
    assert "another XDP program is on eth9" in world.events("card-down")[0].text
    assert "another XDP program is on eth9" in world.events("card-lost")[0].text
    world.look()
    world.until(lambda: world.state() is UP)


def test_a_card_taken_out_and_put_back() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.card = None
    world.look()
    world.look()
    assert world.card.taken is None
    assert [event.text for event in world.events("card-down")] == [
        "eth9 is gone. 1 session lost. Sessions are dialled again when it is back."
    ]
    world.do(Dial((0,)))
    world.run(20.0)
    world.card.card = replace(CARD, index=12)
    world.look()
    world.until(lambda: world.state() is UP)
    assert world.card.times_taken == 2


def test_a_card_that_is_back_and_cannot_be_taken_is_tried_again() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.refusals = [HostError("Device or resource busy.")]
    world.card.change(index=8)
    world.look()
    assert world.events("card-lost")[0].text == "Device or resource busy. Waiting for the card to change."
    assert world.supervisor.card.view is not None
    assert not world.supervisor.card.view.up
    world.card.refusals = [HostError("Device or resource busy.")] * 5
    for _ in range(5):
        world.look()
    assert len(world.events("card-lost")) == 1, "the same is not told again and again"
    world.look()
    world.until(lambda: world.state() is UP)


@pytest.mark.parametrize("how", ["at the start", "when it is back"])
def test_nothing_is_sent_before_the_carrier_is_back_that_the_driver_took_away(how: str) -> None:
    world = World([session(f"s{n}") for n in range(3)], ghosts=[GHOST] if how == "at the start" else ())
    world.card.resets = True
    sent: list[bytes] = []
    world.segment.on_sent = sent.append
    world.open()
    if how == "when it is back":
        world.card.set_carrier(True)
        world.run(1.0)
        assert world.states() == {UP}
        world.card.change(index=8)
        world.look()
        sent.clear()
    world.run(2.5)
    assert sent == []
    assert world.supervisor.card.view is not None
    assert world.supervisor.card.view.waits
    assert not world.supervisor.card.view.up
    assert not world.events("ghosts"), "its PADT hasn't left"
    assert not world.disk.left or world.disk.left == [GHOST]
    waits = world.events("card-waits")
    assert [event.severity for event in waits] == [Severity.INFO] * len(waits)
    assert len(waits) == world.card.times_taken
    assert "resets its link" in waits[-1].text
    world.card.set_carrier(True)
    world.run(1.0)  # nobody has to tell
    assert world.events("card-up")[-1].text == "eth9 has its carrier."
    assert not world.supervisor.card.view.waits
    assert world.states() == {UP}
    owed = 1 if how == "at the start" else 3
    assert [frame[15] for frame in sent[:owed]] == [0xA7] * owed, "PADTs come first"
    assert 0xA7 not in [frame[15] for frame in sent[owed:] if frame[12:14] == b"\x88\x63"]
    assert len(world.events("ghosts")) == (how == "at the start")
    assert not world.disk.left
    assert len(world.disk.noted) == len(world.concentrator.subscribers) == 3


def test_a_carrier_that_does_not_come_is_told_and_waited_for() -> None:
    world = World([session("one")])
    world.card.set_carrier(False)
    world.open().run(60.0)
    assert [event.severity for event in world.events("card-waits")] == [Severity.WARNING] * 2
    assert world.events("card-waits")[0].text == (
        "eth9 has no carrier: is the cable in? Sessions are dialled when it has one."
    )
    assert "still has no carrier, 10 s after" in world.events("card-waits")[1].text
    assert (world.state(), world.view().reason) == (DOWN, EndKind.CARD_DOWN)
    samples = (world.supervisor.counting.next_timer(), world.supervisor.lately.next_timer())
    assert world.supervisor.next_timer() in samples, "netlink will tell of the card"
    world.card.set_carrier(True)
    world.look()
    world.until(lambda: world.state() is UP)


def test_who_waits_for_a_turn_when_the_card_is_back_does_not_wait_for_the_card() -> None:
    """At every start of the lab the table said `queued · card is down` beside a card that was up."""
    world = World([session(f"s{n}") for n in range(SHARE + 5)], dial=DialSettings(rate=1.0, max_outstanding=1))
    world.card.set_carrier(False)
    world.open().run(30.0)
    assert {(view.queued, view.reason) for view in world.supervisor.board.views} == {(True, EndKind.CARD_DOWN)}
    world.card.set_carrier(True)
    world.look()
    world.until(lambda: world.state() is UP)
    waiting = {view.reason for view in world.supervisor.board.views if view.queued}
    assert waiting == {""}


def test_who_cannot_be_dialled_when_the_card_is_back_is_told_once() -> None:
    """Each was dialled as the line came back, and as one that waited for it once more."""
    count = SHARE + 5
    world = World([session(f"s{n}") for n in range(count)], dial=DialSettings(rate=10_000.0, max_outstanding=500))
    world.egress.obstacles = dict.fromkeys(range(count), Obstacle("It is in the way."))
    world.card.set_carrier(False)
    world.open().run(30.0)
    world.card.set_carrier(True)
    world.look()
    world.until(lambda: len(world.events("dial-failed")) >= count)
    world.run(30.0)
    assert len(world.events("dial-failed")) == count


# PADTs that may not have left


@pytest.fixture
def parting() -> Iterator[World]:
    """A session has just been ended, and its PADT handed to the card."""
    world = World([session("one")]).open()
    world.run(1.0)
    keys = world.supervisor.records[0].place
    assert keys is not None
    world.card.kept = 1
    world.supervisor.fleet.stop(0, End(EndKind.HUNG_UP, "Hung up by you."), world.now)
    world.do(HangUp((0,)))
    world.run(0.001)
    assert world.state() is DOWN
    assert list(world.disk.noted) == [keys]
    yield world
    assert not world.events("internal-error")


def padts(world: World) -> list[float]:
    """When PADTs are sent from now on."""
    sent: list[float] = []

    def look(frame: bytes) -> None:
        if frame[12:16] == b"\x88\x63\x11\xa7":
            sent.append(world.now)

    world.segment.on_sent = look
    return sent


def test_a_session_is_noted_until_the_card_has_taken_its_padt(parting: World) -> None:
    parting.run(30.0)
    assert len(parting.disk.noted) == 1
    assert not parting.supervisor.parted
    parting.card.kept = 0
    parting.run(1.1)
    assert not parting.disk.noted
    assert parting.supervisor.parted


def test_a_padt_that_the_card_took_without_a_carrier_is_sent_again(parting: World) -> None:
    sent = padts(parting)
    parting.card.set_carrier(False)
    parting.card.set_carrier(True)
    parting.card.kept = 0
    parting.run(1.0)
    assert len(sent) == 1
    assert not parting.disk.noted
    assert not parting.events("card-down"), "it was too short for that"


def judge(world: World) -> None:
    """As the loop does at the end: the card is looked at once, when it has taken all."""
    taken = world.supervisor.all_taken
    assert taken is not None
    card = world.card.look()
    world.supervisor.judge(taken, card.carrier_changes if card.carrier else None, world.now)
    world.run(0.001)


def test_at_the_end_the_card_is_looked_at_once_and_the_journal_goes_unwritten() -> None:
    world = World([session(f"s{n}") for n in range(farewells.SHARE * 5)], DialSettings(rate=1e6)).open()
    world.until(lambda: world.states() == {UP})
    world.card.kept, written = 1, len(world.disk.written)
    world.supervisor.say_goodbye(world.now)
    world.until(lambda: world.supervisor.idle)
    world.run(5.0)
    assert world.supervisor.all_taken is None, "one is still on its way"
    assert not world.supervisor.parted
    world.card.kept = 0
    judge(world)
    assert world.supervisor.parted
    assert not world.disk.noted
    assert len(world.disk.written) == written


@pytest.mark.parametrize("full", [False, True])
def test_at_the_end_padts_that_were_lost_with_the_carrier_are_sent_again_while_it_is_there(full: bool) -> None:
    world = World([session(f"s{n}") for n in range(3)]).open()
    world.run(1.0)
    world.supervisor.say_goodbye(world.now)
    world.until(lambda: world.supervisor.idle)
    world.card.set_carrier(False)
    world.card.set_carrier(True)
    sent = padts(world)
    world.disk.full = full
    judge(world)
    assert len(sent) == 3
    assert len(world.disk.noted) == 3
    assert not world.supervisor.parted
    judge(world)
    assert world.supervisor.parted
    assert not world.disk.noted
    assert not world.events("internal-error")


def test_a_padt_that_was_lost_with_the_carrier_is_sent_when_that_is_back(parting: World) -> None:
    sent = padts(parting)
    parting.card.set_carrier(False)
    parting.card.kept = 0
    parting.run(5.0)
    assert sent == []
    assert len(parting.disk.noted) == 1
    assert parting.supervisor.parted, "who leaves now has nothing to wait for, and leaves the note"
    parting.card.set_carrier(True)
    parting.look()
    parting.run(1.0)
    assert len(sent) == 1
    assert not parting.disk.noted


def test_nothing_is_shown_as_sent_while_the_card_is_down() -> None:
    """The ladder of who hung up meanwhile: neither a Terminate-Request nor a PADT has left."""
    world = World([session("one")]).open()
    world.run(1.0)
    sent = padts(world)
    world.card.set_carrier(False)
    world.look()
    lost_at = EPOCH + world.now
    world.do(HangUp((0,)))
    world.run(5.0)
    world.do(Watch(0))
    assert (world.state(), sent) == (DOWN, [])
    assert [entry for entry in world.supervisor.board.details[0].ladder if entry.at < lost_at]
    assert not [entry for entry in world.supervisor.board.details[0].ladder if entry.at >= lost_at]
    world.card.set_carrier(True)
    world.look()
    world.run(1.0)
    world.do(Watch(0))
    (late,) = [entry for entry in world.supervisor.board.details[0].ladder if entry.at >= lost_at]
    assert (late.sent, late.summary.split()[0], late.at) == (True, "PADT", EPOCH + sent[0]), "when it really left"


@pytest.mark.parametrize("why", ["card", "stopped", "turn"])
def test_who_waits_to_be_dialled_can_be_told_to_stay_down(why: str) -> None:
    """For the card, for what is stopped, or for its turn: it is not dialled, and its reason says who wished that."""
    world = World([session("one"), session("two")]).open()
    world.run(1.0)
    if why == "card":
        world.card.set_carrier(False)
        world.look()
        world.do(Redial((1,)))
    elif why == "stopped":
        world.do(Stop(Halt.ALL))
        world.run(1.0)
    else:
        world.do(HangUp((0, 1)))
        world.run(1.0)
        world.supervisor.fleet.hold(line=True)
        world.do(Dial((0, 1)))
        assert world.view(0).queued
    world.do(HangUp((0, 1)))
    world.run(1.0)
    for view in (world.view(0), world.view(1)):
        assert (view.state, view.reason, view.queued) == (DOWN, "hung up by you", False)
    world.card.set_carrier(True)
    world.look()
    world.do(Stop(Halt.NOTHING))
    world.supervisor.fleet.release(world.now)
    world.run(5.0)
    assert [world.view(key).state for key in (0, 1)] == [DOWN, DOWN]


def test_no_padt_follows_a_session_whose_number_was_given_out_again(parting: World) -> None:
    before = list(parting.disk.noted)
    sent = padts(parting)
    parting.concentrator.restart()
    parting.do(Dial((0,)))
    parting.run(1.0)
    assert parting.state() is UP
    assert list(parting.disk.noted) == before, "the same session id"
    parting.card.set_carrier(False)
    parting.card.set_carrier(True)
    parting.card.kept = 0
    parting.run(1.0)
    assert sent == []
    assert list(parting.disk.noted) == before
    assert parting.state() is UP


@pytest.mark.parametrize(("received", "told"), [(0, "received nothing at all"), (3, "bridge mode")])
def test_a_card_that_hears_nothing_is_told_as_that(received: int, told: str) -> None:
    """Its own counter stands still: that is the cable or the driver, not a modem in bridge mode."""
    world = World([session("one")])
    world.segment.concentrators.clear()
    world.open()
    world.card.change(received=received)
    world.look()
    world.run(20.0)
    assert told in world.events("dial-failed")[0].text


def test_a_changed_mtu_changes_the_sessions() -> None:
    """Else their largest packets would vanish. What is dialled then asks for no more either."""
    world = World([session("one"), session("tagged", vlans=(VlanTag(7), VlanTag(8))), session("later")])
    world.card.change(mtu=1504)
    world.open()
    world.do(HangUp((2,)))
    world.run(1.0)
    assert world.egress.mtus[0] == 1492
    world.card.change(mtu=1400)
    world.look()
    (told,) = world.events("card-mtu")
    assert told.severity is Severity.WARNING
    assert "`ip link set eth9 mtu 1504` makes room" in told.text
    assert (world.egress.mtus[0], world.egress.mtus[1]) == (1392, 1388)
    assert (world.view(0).mtu, world.view(1).mtu) == (1392, 1388)
    world.do(Dial((2,)))
    world.until(lambda: world.view(2).state is UP)
    assert world.view(2).mtu == 1392
    world.card.change(mtu=1600)
    world.look()
    assert world.events("card-mtu")[-1].severity is Severity.INFO
    assert (world.egress.mtus[0], world.egress.mtus[1]) == (1492, 1492)
    assert world.view(2).mtu == 1392, "that is what was agreed"


def test_a_session_too_large_for_the_card_is_told_at_the_start() -> None:
    world = World([session("big", mru=1500)]).open()
    assert "needs 1508" in world.events("card-mtu")[0].text


@pytest.mark.parametrize(("driver", "told"), [("igb", 0), ("rndis_host", 1)])
def test_a_tagged_session_on_a_card_without_room_for_a_tag_is_told(driver: str, told: int) -> None:
    world = World([session("tagged", vlans=(VlanTag(7),)), session("plain")])
    world.card.change(driver=driver)
    events = world.open().events("card-mtu")
    assert len(events) == told
    assert all("tagged needs 1504" in event.text for event in events)


def test_a_card_that_strips_tags_is_told_to_those_who_need_them() -> None:
    for vlans, told in (((), 0), ((VlanTag(7),), 1)):
        world = World([session("one", vlans=vlans)])
        world.card.change(strips_vlan_tags=True)
        assert len(world.open().events("vlan-offload")) == told


@pytest.mark.parametrize("driver", ["bonding", "bridge"])
def test_a_card_made_of_others_is_told_as_that(driver: str) -> None:
    world = World([session("plain"), session("tagged", vlans=(VlanTag(7), VlanTag(8)))])
    world.card.change(driver=driver, strips_vlan_tags=True)
    (told,) = world.open().events("vlan-offload")
    assert world.supervisor.card.view is not None
    assert not world.supervisor.card.view.strips, "nothing that --fix-card could mend"
    assert "`ip link add link eth9 name eth9.7 type vlan id 7`" in told.text
    assert "rxvlan" not in told.text


def test_what_strips_tags_is_switched_off_and_nobody_is_disturbed() -> None:
    world = World([session("one"), session("tagged", vlans=(VlanTag(7),))])
    world.card.change(strips_vlan_tags=True)
    world.open().run(1.0)
    assert world.supervisor.card.view is not None
    assert world.supervisor.card.view.strips
    world.do(FixCard())
    assert not world.supervisor.card.view.strips
    assert world.card.times_taken == 1
    assert world.state() is UP


def test_what_keeps_xdp_out_of_the_driver_is_switched_off_by_taking_the_card_anew() -> None:
    world = World([session("one")])
    world.card.in_the_way = "lro"
    world.open().run(1.0)
    assert world.supervisor.card.view is not None
    assert (world.supervisor.card.view.mode, world.supervisor.card.view.fixes) == ("generic", "lro")
    assert world.state() is UP
    world.do(FixCard())
    assert world.events("card-down")[0].text.startswith("eth9 is taken anew, without what keeps XDP out of its driver.")
    assert (world.supervisor.card.view.mode, world.supervisor.card.view.fixes) == ("native", "")
    world.until(lambda: world.state() is UP)
    assert len(world.concentrator.subscribers) == 1
    assert not world.events("internal-error")


def test_addresses_of_its_own_make_the_card_promiscuous_once_and_again_when_it_is_taken_anew() -> None:
    world = World([session(f"s{n}", mac_policy=MacPolicy.DERIVED) for n in range(3)]).open()
    assert len(world.events("promiscuous")) == 1
    assert world.supervisor.card.view is not None
    assert "promiscuous" in world.supervisor.card.view.notice
    world.card.change(index=8)
    world.look()
    assert world.card.promiscuous
    assert len(world.events("promiscuous")) == 2


def test_a_card_that_filters_vlans_is_made_promiscuous_for_tagged_sessions() -> None:
    for vlans, promiscuous in (((), False), ((VlanTag(7),), True)):
        world = World([session("one", vlans=vlans)])
        world.card.change(filters_vlans=True)
        world.open().run(1.0)
        assert world.state() is UP
        assert world.card.promiscuous is promiscuous
        assert len(world.events("promiscuous")) == promiscuous


# The host


@pytest.mark.parametrize("step", ["open", "set_addresses", "set_mtu"])
def test_an_egress_that_fails_ends_its_session_and_no_other(step: str) -> None:
    lab = LabSettings(ConcentratorSettings(max_payload=1500), any_account=True, any_password="lab")
    world = World([session(f"s{n}", mru=1500) for n in range(3)], lab=lab)
    world.card.change(mtu=1508)
    world.egress.fails = step
    world.open().run(0.9)
    (told,) = world.events("device")
    ends = [e for e in world.events("dial-failed") + world.events("session-down") if e.session == told.session]
    assert f"cannot {step}" in ends[0].text
    assert sum(view.state is UP for view in world.supervisor.board.views) == 2
    world.until(lambda: world.states() == {UP}, 60.0)


def test_an_egress_that_fails_at_the_end_is_told() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.egress.fails = "close"
    world.concentrator.cut(next(iter(world.concentrator.subscribers)), world.now)
    world.run(0.002)
    assert world.events("device")
    assert world.card.known == {}, "its frames are a stranger's all the same"
    world.until(lambda: world.state() is UP, 60.0)


def test_a_session_whose_egress_fails_is_removed_all_the_same() -> None:
    world = World([session("one"), session("two")]).open()
    world.run(1.0)
    world.do(Watch(0))
    world.do(StartCapture((0,), "/tmp/one"))
    world.egress.fails = "close"
    assert world.do(Remove((0,))).done == (0,)
    world.run(0.1)
    assert [view.name for view in world.supervisor.board.views] == ["two"]
    assert (world.card.known.keys(), world.captures.files, world.supervisor.board.details) == ({1}, {}, {})
    assert world.events("device")


# A bug in one session


class Bug(Exception):
    """Whatever a mistake of ours may raise."""


def plant_a_bug(world: World, key: int) -> None:
    """From now on a session can send no frame."""

    def tap(frame: object) -> None:
        raise Bug

    world.supervisor.fleet.members[key].session.tap = tap


LOSSES = {
    "leaves": lambda world: world.supervisor.leave(world.now),
    "says goodbye": lambda world: world.supervisor.say_goodbye(world.now),
    "loses the card": lambda world: (world.card.set_carrier(False), world.look()),
    "loses the card for good": lambda world: (setattr(world.card, "card", None), world.look()),
}


@pytest.mark.parametrize("how", LOSSES)
def test_a_bug_in_one_session_keeps_no_other_from_its_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session(f"s{n}") for n in range(3)]).open()
    world.run(1.0)
    plant_a_bug(world, 0)
    faulty, drop = world.supervisor.fleet.members[0].session, Session.drop_frames
    # Where there is no line nothing is sent, and so nothing shown to the tap.
    monkeypatch.setattr(Session, "drop_frames", lambda self: 1 / 0 if self is faulty else drop(self))
    LOSSES[how](world)
    world.run(1.0)
    assert {view.state for view in world.supervisor.board.views if view.id} <= {DOWN, FAILED}
    assert world.events("internal-error")


def test_a_bug_in_one_session_keeps_no_other_from_being_dialled_again() -> None:
    world = World([session(f"s{n}") for n in range(3)]).open()
    world.run(1.0)
    world.card.set_carrier(False)
    world.look()
    plant_a_bug(world, 0)
    world.card.set_carrier(True)
    world.look()
    world.until(lambda: all(world.state(key) is UP for key in (1, 2)))
    assert world.events("internal-error")


def test_a_session_whose_address_the_card_cannot_hear_keeps_no_other_from_a_card_that_is_back() -> None:
    world = World([session("one", mac_policy=MacPolicy.DERIVED), session("two")]).open()
    world.run(1.0)
    world.card.card = None
    world.look()
    world.card.deaf = True
    world.card.change(mac=bytes.fromhex("020000000002"))
    world.look()
    world.until(lambda: world.state(1) is UP)
    assert world.view(1).local_mac == "02:00:00:00:00:02"
    assert any("promiscuous" in event.text for event in world.events("trouble"))


def test_a_card_that_can_not_be_given_back_is_taken_again_when_it_can() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    world.card.stuck = True
    world.card.card = None
    world.look()
    assert world.events("internal-error")
    world.run(0.1)
    world.card.change()
    world.look()
    world.until(lambda: world.state() is UP)
    assert world.card.times_taken == 2


def test_the_egress_has_the_addresses_of_what_is_open_and_no_others() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    have = world.egress.addresses[0]
    assert (str(have.ipv4), str(have.ipv6)) == (world.view().ipv4, world.view().ipv6)
    assert world.card.known == {0: world.supervisor.records[0].place}
    FAULTS["IPCP Terminate-Request"](world.concentrator, next(iter(world.concentrator.subscribers)), world.now)
    world.run(0.002)
    assert world.egress.addresses[0] == replace(have, ipv4=None, peer=None)
    world.concentrator.cut(next(iter(world.concentrator.subscribers)), world.now)
    world.run(0.002)
    assert world.card.known == {}


def test_an_address_that_is_given_back_never_reaches_the_egress() -> None:
    """Nor by way of IPv6, which opens a moment later on the same session."""
    world = World([session("one")], unwanted=("100.64.0.0/16",))
    seen: list[Addresses] = []
    proper = world.egress.set_addresses

    def look(key: int, addresses: Addresses, mtu: int) -> None:
        seen.append(addresses)
        proper(key, addresses, mtu)

    world.egress.set_addresses = look  # type: ignore[method-assign]
    world.open().run(100.0)
    assert all(addresses.ipv4 is None for addresses in seen)


WHY = "How this host reaches 203.0.113.0/24 can't be asked: No buffer space available."


def test_an_obstacle_that_nobody_can_look_for_costs_that_dial_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session(f"s{n}") for n in range(3)])
    refusals = [HostError(WHY)]

    def look(key: int, session: object) -> None:
        if key == 1 and refusals:
            raise refusals.pop()

    monkeypatch.setattr(world.egress, "obstacle", look)
    world.supervisor.fleet._obstacles = look
    world.open().run(1.0)
    assert [world.state(key) is UP for key in range(3)] == [True, False, True]
    assert [event.text.startswith(WHY) for event in world.events("dial-failed")] == [True]
    world.until(lambda: world.state(1) is UP, 600.0)


def test_a_bug_in_the_making_of_a_device_ends_that_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be up, and have none."""
    world = World([session(f"s{n}") for n in range(3)])
    proper = world.egress.open

    def faulty(key: int, *more: Any) -> None:
        if key == 1:
            raise MemoryError
        proper(key, *more)

    monkeypatch.setattr(world.egress, "open", faulty)
    world.open().run(1.0)
    assert [world.state(key) is UP for key in range(3)] == [True, False, True]
    assert world.events("internal-error")
    assert "MemoryError" in world.events("device")[0].text


def test_a_bug_in_one_session_is_told_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([session(f"s{n}") for n in range(5)]).open()
    faulty = world.supervisor.fleet.members[2].session
    monkeypatch.setattr(type(faulty), "note_traffic", lambda self, now: 1 / 0)
    world.run(1.0)
    world.do(Watch(2))
    monkeypatch.setattr(world.egress, "device", lambda key: {}[key] if key == 2 else None)
    world.do(Dial((2,)))
    assert world.events("internal-error")
    assert world.state(3) is UP


# Addresses


def test_an_unwanted_address_is_given_back_a_few_times() -> None:
    lab = LabSettings(any_account=True, any_password="lab", network="100.64.0.0/29")
    world = World([session("one")], lab=lab, unwanted=("100.64.0.0/30",)).open()
    world.until(lambda: world.state() is UP, 60.0)
    assert world.view().ipv4 == "100.64.0.4"
    assert not world.egress.devices.keys() - {0}
    hopeless = World([session("one")], unwanted=("100.64.0.0/16",)).open()
    hopeless.run(300.0)
    assert hopeless.state() is DOWN
    assert "Keeps getting unwanted addresses" in hopeless.events("unwanted-address")[0].text
    assert not hopeless.events("device")


def test_rotation_brings_another_address_or_says_that_there_is_none() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    before = world.view().ipv4
    world.do(Rotate((0,)))
    world.until(lambda: world.events("rotated"))
    assert world.view().ipv4 != before
    assert f"was {before}" in world.events("rotated")[0].text

    lab = LabSettings(any_account=True, any_password="lab", network="100.64.0.0/30")
    single = World([session("one")], lab=lab).open()
    single.run(1.0)
    before = single.view().ipv4
    single.do(Rotate((0,)))
    single.until(lambda: single.events("rotated"))
    assert single.events("rotated")[0].text == f"Still {before}: no other was given."
    assert single.view().ipv4 == before


def test_a_rotation_that_is_hung_up_meanwhile_is_over() -> None:
    from engine.api.commands import HangUp

    world = World([session("one")]).open()
    world.run(1.0)
    world.do(Rotate((0,)))
    world.do(HangUp((0,)))
    world.run(5.0)
    assert world.state() is DOWN
    world.do(Dial((0,)))
    world.until(lambda: world.view().ipv4)
    assert not world.events("rotated")


# What others see


def test_details_tell_of_packets_that_the_sessions_addresses_had_nothing_to_do_with() -> None:
    world = World([session("one")]).open()
    world.egress.lost[0] = {"not_for_us": 7, "forged": 0, "not_from_us": 2}
    world.do(Watch(0))
    counted = [(words, count) for words, count in world.supervisor.board.details[0].counters if "dropped" in words]
    assert counted == [("dropped coming in: not for us", 7), ("dropped going out: not from us", 2)]


def test_details_are_fresh_while_somebody_looks_and_gone_after() -> None:
    world = World([session("one")]).open()
    assert world.supervisor.board.details == {}
    world.do(Watch(0))
    assert world.supervisor.board.details[0].timers
    world.run(1.0)
    assert any(fact.name for fact in world.supervisor.board.details[0].facts)
    assert world.supervisor.board.details[0].usage == (("fetch", "curl soup0"),)
    world.do(Watch(0))
    assert all(entry.at >= EPOCH for entry in world.supervisor.board.details[0].ladder)
    world.run(KEPT + 2.0)
    assert world.supervisor.board.details == {}
    assert world.supervisor.next_timer() is not None


def test_all_times_that_a_console_gets_are_of_one_clock() -> None:
    world = World([session("one"), session("two", password="wrong")]).open()
    world.run(3.0)
    world.do(Watch(0))
    world.do(Watch(1))
    now = EPOCH + world.now
    up, waiting = world.view(0), world.view(1)
    assert up.up_since is not None
    assert waiting.retry_at is not None
    assert EPOCH < up.up_since == up.since < now < waiting.retry_at < now + 3600
    for key in (0, 1):
        details = world.supervisor.board.details[key]
        assert all(EPOCH <= entry.at <= now for entry in details.ladder)
        assert all(now <= at < now + 3600 for _, at in details.timers)
    assert ("next dial", waiting.retry_at) in world.supervisor.board.details[1].timers


def test_details_go_with_their_session() -> None:
    world = World([session("one")]).open()
    world.do(Watch(0))
    world.do(Remove((0,)))
    assert world.supervisor.board.details == {}
    world.run(2.0)
    assert world.supervisor.board.details == {}


def test_the_padts_of_many_leave_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what else there is to do waits for milliseconds only; all of them have left before the program does."""
    many = 2 * farewells.SHARE + 1
    world = World([session(f"s{n}") for n in range(many)], replace(QUICK, rate=1e6, max_outstanding=many)).open()
    world.until(lambda: world.states() == {UP})
    at_once: list[int] = []
    frames_to_send = world.supervisor.frames_to_send

    def count() -> list[bytes]:
        frames = frames_to_send()
        at_once.append(sum(frame[12:16] == b"\x88\x63\x11\xa7" for frame in frames))
        return frames

    world.card.set_carrier(False)
    world.look()
    world.run(5.0)
    assert UP not in world.states()
    monkeypatch.setattr(world.supervisor, "frames_to_send", count)
    world.card.set_carrier(True)
    world.look()
    assert not world.supervisor.parted
    world.until(lambda: world.supervisor.parted)
    assert (sum(at_once), max(at_once)) == (many, farewells.SHARE)
    assert len(world.disk.noted) <= many, "those that are up again"


def test_a_round_trip_marks_one_view_and_no_tick_marks_any() -> None:
    world = World([session(f"s{n}", keepalive=KeepaliveSettings(30.0, 3)) for n in range(20)]).open()
    world.run(2.0)
    version = world.supervisor.board.version
    world.supervisor.note_traffic([1] * 20, world.now)
    world.supervisor.note_traffic([1] * 20, world.now)
    world.look()
    world.run(5.0)
    assert world.supervisor.board.version == version, "nothing happened"
    world.run(30.0)
    changes = world.supervisor.board.changes_since(version)
    assert len(changes.views) == 20
    assert all(view.rtt_ms for view in changes.views)


def test_a_view_that_a_round_trip_changed_is_as_one_that_is_made_anew() -> None:
    world = World([session(f"s{n}") for n in range(3)]).open()
    world.until(lambda: all(view.rtt_ms for view in world.supervisor.board.views))
    before = [view.rtt_ms for view in world.supervisor.board.views]
    world.segment.upstream.quality = replace(world.segment.upstream.quality, delay=0.25)
    world.run(15.0)
    assert all(view.rtt_ms not in (None, had) for view, had in zip(world.supervisor.board.views, before, strict=True))
    version = world.supervisor.board.version
    world.supervisor.run(lambda: world.supervisor.changed(range(3)), world.now)
    assert world.supervisor.board.version == version


def test_echoes_of_many_sessions_go_out_together() -> None:
    """On the beat: one by one each has a wake-up, which for thousands of sessions is more work than the echoes are."""
    world = World([session(f"s{n}", ipv6=False) for n in range(20)], replace(QUICK, rate=97.0)).open()
    world.until(lambda: all(view.rtt_ms for view in world.supervisor.board.views))
    due = [member.session.next_timer() for _, member in world.supervisor.fleet]
    assert all(at is not None and at % BEAT == 0.0 for at in due)
    assert len({*due}) < 20


def test_traffic_is_a_sign_of_life() -> None:
    world = World(
        [session(f"s{n}", keepalive=KeepaliveSettings(1.0, 3)) for n in range(2)], replace(QUICK, max_flaps=0)
    )
    world.open().run(0.5)
    world.segment.concentrators.clear()
    for packets in range(1, 11):
        world.supervisor.note_traffic([packets, 0], world.now)
        world.run(1.0)
    assert world.state(0) is UP
    assert world.view(1).state is not UP
    assert world.view(1).flaps == 1


def test_a_session_that_has_no_answer_does_not_look_healthy() -> None:
    world = World([session(f"s{n}", keepalive=KeepaliveSettings(10.0, 4)) for n in range(2)]).open()
    world.until(lambda: all(view.rtt_ms for view in world.supervisor.board.views))
    world.segment.concentrators.clear()
    world.until(lambda: all(view.silent_since for view in world.supervisor.board.views))
    assert world.states() == {UP}
    assert all(view.rtt_ms is None for view in world.supervisor.board.views)
    world.supervisor.note_traffic([1, 0], world.now)
    assert (world.view(0).silent_since, world.view(1).silent_since is None) == (None, False)


def stop_for(world: World, seconds: float) -> None:
    world.cable.stopped = True
    world.run(seconds)
    world.cable.stopped = False


@pytest.mark.parametrize("seconds", [5.0, 300.0])
def test_a_process_that_was_stopped_judges_nobody_by_that(seconds: float) -> None:
    """Echoes, set-ups and all: what had come by then is heard first, and who owes an answer is asked once more."""
    world = World([session(f"s{n}", keepalive=KeepaliveSettings(1.0, 2)) for n in range(100)]).open()
    world.until(lambda: world.states() == {UP})
    world.do(Redial((0, 1, 2)))
    for _ in range(3):
        world.run(0.4)
        stop_for(world, seconds)
    world.run(10.0)
    assert world.states() == {UP}
    lost = [event.text for key in range(3, 100) for event in world.events("session-down", key)]
    assert all("The concentrator ended the session (PADT)." in text for text in lost), world.story()
    assert bool(lost) == (seconds > 60), "it has its own patience"
    told = world.events("stood-still")
    assert len(told) == 3
    assert "was stopped for" in told[0].text


def test_sessions_that_are_gone_after_a_stop_are_dialled_again_at_the_usual_pace() -> None:
    many, rate = 200, 50.0
    world = World(
        [session(f"s{n}", keepalive=KeepaliveSettings(1.0, 2)) for n in range(many)], replace(QUICK, rate=rate)
    )
    world.open()
    world.until(lambda: world.states() == {UP})
    dials: list[float] = []
    receive = world.concentrator.receive

    def hear(frame: bytes, now: float) -> None:
        dials.extend([now] * (frame[12:14] == b"\x88\x63" and frame[15] == 0x09))
        receive(frame, now)

    world.cable.stopped = True
    for number in [*world.concentrator.subscribers]:
        world.concentrator.drop(number, world.now)
    world.run(120.0)
    world.cable.stopped = False
    world.concentrator.receive = hear  # type: ignore[method-assign]
    world.until(lambda: all(view.flaps for view in world.supervisor.board.views) and world.states() == {UP})
    busiest = max(sum(at <= other < at + 1.0 for other in dials) for at in dials)
    assert busiest <= rate * 1.2 + 5


def test_a_host_that_slept_asks_at_once_who_is_still_there() -> None:
    world = World([session(f"s{n}", keepalive=KeepaliveSettings(30.0, 3)) for n in range(5)]).open()
    world.run(1.0)
    world.segment.concentrators.clear()
    world.supervisor.note_sleep(3600.0, world.now)
    assert "asleep for 3600 s" in world.events("asleep")[0].text
    world.run(4.0)
    assert all(view.silent_since is not None for view in world.supervisor.board.views)


def test_a_clock_that_was_set_sets_all_times() -> None:
    world = World([session("one")]).open()
    world.run(1.0)
    before, since = world.view().since, world.now
    had = world.supervisor.history.of("one")
    world.supervisor.set_clock(EPOCH + 3600.0, since)
    assert world.view().since == before + 3600.0
    assert world.supervisor.wall(since) == EPOCH + 3600.0 + since
    world.run(60.0)
    assert world.supervisor.history.of("one") == tuple(replace(each, since=each.since + 3600.0) for each in had)


def test_no_more_than_the_concentrator_has_room_for() -> None:
    lab = LabSettings(ConcentratorSettings(max_sessions=3), any_account=True, any_password="lab")
    world = World([session(f"s{n}") for n in range(5)], lab=lab).open()
    world.run(5.0)
    assert sum(view.state is UP for view in world.supervisor.board.views) == 3
    assert {view.reason for view in world.supervisor.board.views if view.state is FAILED} == {EndKind.TOO_MANY}


# Large frames


def test_a_card_in_zero_copy_is_asked_for_one_large_frame() -> None:
    world = World([session("one"), session("two")]).open()
    sizes: list[int] = []
    receive = world.concentrator.receive

    def hear(frame: bytes, now: float) -> None:
        sizes.append(len(frame))
        receive(frame, now)

    world.concentrator.receive = hear  # type: ignore[method-assign]
    world.run(30.0)
    assert world.states() == {UP}
    assert [size for size in sizes if size > 1000] == [1514]
    assert world.card.times_taken == 1
    assert not world.events("large-frames")


def test_a_card_that_loses_large_frames_in_zero_copy_is_taken_anew_without() -> None:
    world = World([session("one"), session("two")])
    world.card.room = lambda: 1024 if world.card.zero_copy else 2048
    world.open()
    world.run(10.0)
    assert world.card.times_taken == 2
    assert world.states() == {UP}
    view = world.supervisor.card.view
    assert view is not None
    assert (view.mode, view.zero_copy) == ("native", False)
    assert "large ones were lost" in view.notice
    assert [event.text for event in world.events("large-frames")] == [
        "Packets of 1,492 octets don't come through eth9 in zero-copy: its frames are copied now.",
        "Packets of 1,492 octets come through eth9.",
    ]
    world.card.change(index=8)
    world.look()
    world.run(10.0)
    assert world.card.times_taken == 3
    assert not view.zero_copy
    assert len(world.events("large-frames")) == 2


def test_where_large_frames_do_not_come_in_copy_mode_either_it_is_the_line() -> None:
    world = World([session("one")])
    world.card.room = lambda: 1024
    world.open()
    world.run(30.0)
    assert world.card.times_taken == 2
    assert world.states() == {UP}
    assert [event.severity for event in world.events("large-frames")] == [Severity.WARNING, Severity.WARNING]
    assert "in copy mode either" in world.events("large-frames")[-1].text


def test_an_operator_who_insists_on_zero_copy_is_told_only() -> None:
    world = World([session("one")])
    world.card.insists = True
    world.card.room = lambda: 1024
    world.open()
    world.run(30.0)
    assert world.card.times_taken == 1
    (event,) = world.events("large-frames")
    assert event.severity is Severity.WARNING
    assert "`xdp: copy`" in event.text


def test_no_session_with_small_packets_only_is_asked() -> None:
    world = World([session("small", mru=576)])
    world.card.room = lambda: 700
    world.open()
    world.run(30.0)
    assert world.states() == {UP}
    assert world.card.times_taken == 1


def test_another_session_is_asked_where_the_first_one_went_down() -> None:
    world = World([session("one"), session("two", autodial=False)])
    world.card.room = lambda: 1024 if world.card.zero_copy else 2048
    world.open()
    world.until(lambda: world.state(0) is UP)
    world.do(HangUp((0,)))
    world.run(10.0)
    assert world.card.times_taken == 1
    world.do(Dial((1,)))
    world.run(10.0)
    assert world.card.times_taken == 2
    assert world.state(1) is UP


def test_a_line_that_is_lost_is_one_event_however_many_sessions_are_with_it() -> None:
    world = World([session(f"s{n}") for n in range(50)]).open()
    world.until(lambda: world.states() == {UP})
    seen = world.supervisor.log.last
    world.card.set_carrier(False)
    world.look()
    world.until(lambda: UP not in world.states())
    told = [event for event in world.supervisor.log.since(seen)[0] if event.severity > Severity.DEBUG]
    assert [(event.severity, event.kind) for event in told] == [(Severity.ERROR, "card-down")]
    assert "50 sessions lost" in told[0].text
    assert len(world.events("session-down")) == 50, "each is there for who looks for it"


# What egresses are asked for


def test_an_egress_is_told_of_all_addresses_at_once_when_its_session_is_up() -> None:
    world = World([session("a")])
    world.open()
    told: list[Addresses] = []
    set_addresses = world.egress.set_addresses

    def note(key: int, addresses: Addresses, mtu: int) -> None:
        told.append(addresses)
        assert world.supervisor.fleet.members[key].session.state is SessionState.UP
        set_addresses(key, addresses, mtu)

    world.egress.set_addresses = note  # type: ignore[method-assign]
    world.run(5)
    assert world.state() is SessionState.UP
    assert len(told) == 1
    assert told[0].ipv4 is not None
    assert told[0].ipv6 is not None
    assert told[0].global6


def test_what_one_session_loses_is_taken_from_it_before_another_gets_it() -> None:
    """Both happen within one piece of work, and other events of either stand between them."""
    world = World([session("a"), session("b")])
    world.open()
    world.run(5)
    owners: dict[Address, int] = {}
    set_addresses = world.egress.set_addresses

    def note(key: int, addresses: Addresses, mtu: int) -> None:
        for address in [each for each, owner in owners.items() if owner == key]:
            del owners[address]
        if addresses.ipv4 is not None:
            assert addresses.ipv4 not in owners
            owners[addresses.ipv4] = key
        set_addresses(key, addresses, mtu)

    had = {key: world.egress.addresses[key].ipv4 for key in (0, 1)}
    owners.update({address: key for key, address in had.items() if address is not None})
    world.egress.set_addresses = note  # type: ignore[method-assign]
    first, second = (world.supervisor.fleet.members[key].session for key in (0, 1))
    agreed = first.ipv4
    assert agreed is not None

    def swap() -> None:
        events = world.supervisor.fleet._events
        events.append((1, Ipv6Configured(Ipv6Config())))
        events.append((1, Ipv4Closed()))
        events.append((0, Ipv4Closed()))
        events.append((1, Ipv4Opened(agreed)))
        events.append((0, Ipv6Configured(first.ipv6_config)))

    world.supervisor.run(swap, world.now)
    assert owners == {agreed.address: 1}
    assert second.state is SessionState.UP
