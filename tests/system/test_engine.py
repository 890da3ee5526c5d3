"""The engine on a cable to the lab's concentrator: tags, addresses, limits, and what can be done at run time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from engine.api.commands import Add, Dial, Edit, HangUp, Redial, Refused, Remove, StartCapture, StopCapture
from engine.api.values import SessionState, unpack_traffic
from engine.run.thread import NOT_RUNNING, Engine
from engine.sessions.macs import derived
from engine.sessions.session import Session
from engine.settings.values import DialSettings, KeepaliveSettings, MacPolicy, Settings
from engine.wire.ethernet import VlanTag
from tests.conftest import run
from tests.program import until
from tests.provider import CARD, provider
from tests.system.engines import (
    dialling,
    events,
    fetch,
    pings,
    session,
    story,
    too_long,
    view,
    views,
    wait_state,
    wait_up,
)

pytestmark = pytest.mark.usefixtures("own_net")

TAGS = {
    "untagged": (),
    "dot1q": (VlanTag(100),),
    "priority": (VlanTag(101, priority=5),),
    "dot1ad": (VlanTag(100, tpid=0x88A8),),
    "qinq": (VlanTag(100, tpid=0x88A8), VlanTag(200)),
    "qinq-8100": (VlanTag(101), VlanTag(200)),
}
FULL = 1492 - 28
"""Data octets of the largest ping through a session."""


def promiscuity() -> int:
    (card,) = json.loads(run("ip", "-j", "-d", "link", "show", CARD))
    return int(card["promiscuity"])


def test_sessions_behind_all_kinds_of_tags_at_once() -> None:
    with provider(mtu=1508), dialling([session(name, vlans=tags) for name, tags in TAGS.items()]) as engine:
        wait_up(engine)
        for name, found in views(engine).items():
            assert found.vlans == tuple(tag.vid for tag in TAGS[name])
            assert found.device is not None
            assert fetch(found.device) == found.ipv4
            assert pings(found.device, FULL), name
            assert too_long(found.device, FULL + 1), name
        assert promiscuity() == 0, "all use the card's own address"


def test_two_tags_on_a_card_without_room_for_them_are_told_of() -> None:
    """The card's MTU of 1500 covers one tag more at the most; what is lost must not be lost in silence."""
    with provider(mtu=1500), dialling([session("qinq", vlans=TAGS["qinq"])]) as engine:
        wait_up(engine)
        device = view(engine, "qinq").device
        assert device is not None
        assert any("MTU" in event.text for event in engine.events_since(0)[0]) or pings(device, FULL), story(engine)


def test_addresses_of_their_own_and_promiscuous_mode_restored() -> None:
    fixed = bytes.fromhex("020000001234")
    sessions = [
        session("card"),
        session("fixed", mac_policy=MacPolicy.FIXED, mac=fixed),
        *(session(f"derived-{n}", mac_policy=MacPolicy.DERIVED) for n in range(4)),
    ]
    with provider():
        with dialling(sessions) as engine:
            wait_up(engine)
            card_mac = bytes.fromhex(engine.snapshot().card.mac.replace(":", ""))
            for name, found in views(engine).items():
                own = {"card": card_mac, "fixed": fixed}.get(name, derived(card_mac, name))
                assert found.local_mac == own.hex(":")
                assert found.device is not None
                assert fetch(found.device) == found.ipv4
            assert len({found.local_mac for found in views(engine).values()}) == 6
            assert promiscuity() == 1
            assert "promiscuous" in " ".join([engine.snapshot().card.notice, story(engine)])
        assert promiscuity() == 0


def test_fifteen_hundred_octets_where_both_sides_can() -> None:
    with provider(mtu=1508, max_payload=1500), dialling([session("big", mru=1500), session("usual")]) as engine:
        wait_up(engine)
        until(lambda: view(engine, "big").mtu == 1500, "an MTU of 1500")
        big, usual = view(engine, "big").device, view(engine, "usual").device
        assert big is not None
        assert usual is not None
        assert pings(big, 1500 - 28)
        assert pings(usual, FULL)
        assert too_long(usual, FULL + 1)


def test_fifteen_hundred_octets_where_the_path_cannot() -> None:
    """The concentrator agrees to RFC 4638, but frames that long are lost between here and there."""
    with provider(mtu=1508, max_payload=1500) as far:
        far.run("ip", "link", "set", "vb", "mtu", "1496")
        with dialling([session("big", mru=1500)]) as engine:
            wait_up(engine)
            until(lambda: events(engine, "mtu"), "what the path carries")
            until(lambda: view(engine, "big").mtu == 1492, "an MTU of 1492")
            device = view(engine, "big").device
            assert device is not None
            assert "mtu 1492 " in run("ip", "link", "show", device)


def test_fifteen_hundred_octets_where_the_first_full_size_echo_was_lost() -> None:
    """What the path carries is known only after the session's packets flow, and then both ends use it."""
    with provider(mtu=1508, max_payload=1500) as far, dialling([session("big", mru=1500, autodial=False)]) as engine:
        for attempt in range(1, 6):  # a busy machine may be too late for the last of the echoes
            far.run("ip", "link", "set", "vb", "mtu", "1496")
            engine.submit(Dial((view(engine, "big").id,)))
            wait_up(engine)
            assert view(engine, "big").mtu == 1492
            far.run("ip", "link", "set", "vb", "mtu", "1508")
            until(lambda told=attempt: len(events(engine, "mtu")) == told, "what the path carries")  # type: ignore[misc]
            if "carries packets of 1500" in events(engine, "mtu")[-1].text:
                break
            engine.submit(HangUp((view(engine, "big").id,)))
            wait_state(engine, SessionState.DOWN)
        until(lambda: view(engine, "big").mtu == 1500, "what was told, in the table")
        device = view(engine, "big").device
        assert device is not None
        assert pings(device, 1500 - 28)


def test_unwanted_addresses_are_given_back() -> None:
    unwanted = "100.64.0.0/30"
    with provider(), dialling([session("one"), session("two")], unwanted_networks=(unwanted,)) as engine:
        wait_up(engine)
        for found in views(engine).values():
            assert found.ipv4 is not None
            assert IPv4Address(found.ipv4) not in IPv4Network(unwanted)
            assert fetch(found.ipv4) == found.ipv4
            assert found.flaps == 0
        given_back = events(engine, "session-down") + events(engine, "dial-failed")
        assert sorted(re.findall(r"100\.64\.0\.\d+", " ".join(event.text for event in given_back))) == [
            "100.64.0.2",
            "100.64.0.3",
        ]


def test_only_unwanted_addresses_end_in_rest() -> None:
    dial = DialSettings(retry_min=0.1, retry_max=0.1)
    with provider(), dialling([session("one")], dial, unwanted_networks=("100.64.0.0/10",)) as engine:
        until(lambda: events(engine, "unwanted-address"), "the last try")
        wait_state(engine, SessionState.DOWN)
        assert view(engine, "one").retry_at is None


def test_add_edit_and_remove_at_run_time() -> None:
    with provider(), dialling([session("first")]) as engine:
        wait_up(engine)
        (key,) = engine.submit(Add(session("second"))).result(10).done
        assert view(engine, "second").id == key
        wait_up(engine)
        first, second = view(engine, "first"), view(engine, "second")
        assert second.device is not None
        assert fetch(second.device) == second.ipv4

        reply = engine.submit(Add(session("first"))).result(10)
        assert reply.refused == (Refused(None, "There is already a session called first."),)
        assert list(views(engine)) == ["first", "second"]

        engine.submit(Edit(second.id, session("renamed", mac_policy=MacPolicy.DERIVED, autodial=False)))
        until(lambda: engine.settings(second.id) != session("second"), "the settings that a next change starts from")
        changed = engine.settings(second.id)
        assert changed is not None
        assert view(engine, "second").state is SessionState.UP, "an edit is in force at the next dial"
        engine.submit(Edit(second.id, replace(changed, mru=1400)))
        engine.submit(Redial((second.id,)))
        until(lambda: "renamed" in views(engine), "the new name")
        wait_up(engine)
        renamed = view(engine, "renamed")
        assert (renamed.id, renamed.local_mac) != (second.id, second.local_mac)
        assert renamed.id == second.id
        assert renamed.mtu == 1400, "a second change before the next dial adds to the first"
        assert promiscuity() == 1

        engine.submit(Remove((second.id,)))
        until(lambda: "renamed" not in views(engine), "it gone")
        assert renamed.device is not None
        until(lambda: renamed.device not in run("ip", "-br", "link"), "its device gone")
        assert engine.settings(second.id) is None
        assert engine.details(second.id) is None
        assert replace(view(engine, "first"), rtt_ms=first.rtt_ms) == first, "the other one took no notice"
        assert first.device is not None
        assert fetch(first.device) == first.ipv4


def test_a_command_to_an_engine_that_does_not_run_is_refused() -> None:
    """Before it is ready, while it says goodbye, and after; nobody waits for a reply in vain."""
    with provider():
        engine = Engine(CARD, Settings((session("one"),)))
        early = engine.submit(Dial((0,)))
        engine.start()
        engine.wait_ready()
        wait_up(engine)
        last = [engine.submit(HangUp((0,)))]
        stopping = Thread(target=engine.stop)
        stopping.start()
        while stopping.is_alive():
            last.append(engine.submit(Dial((0,))))
            stopping.join(0.01)
        last.append(engine.submit(Dial((0,))))
    assert early.result(0).refused == (Refused(None, NOT_RUNNING),)
    assert last[0].result(0).done == (0,)
    assert last[-1].result(0).refused == (Refused(None, NOT_RUNNING),)
    assert all(future.result(0).done or future.result(0).refused for future in last)
    assert not [name for name in run("ip", "-br", "link").split() if name.startswith("soup")]


def test_dial_hang_up_and_redial() -> None:
    with provider(), dialling([session("one", autodial=False), session("two")]) as engine:
        wait_up(engine, "two")
        one, two = view(engine, "one"), view(engine, "two")
        assert one.state is SessionState.DOWN
        reply = engine.submit(Dial((one.id, two.id, 12345))).result(10)
        assert reply.done == (one.id, two.id)
        assert [refused.key for refused in reply.refused] == [12345]
        wait_up(engine)
        assert view(engine, "two").session_id == two.session_id, "dialling what is up does nothing"
        engine.submit(Redial((two.id,)))
        until(lambda: view(engine, "two").session_id not in (None, two.session_id), "another session")
        wait_up(engine)
        engine.submit(HangUp((one.id,)))
        wait_state(engine, SessionState.DOWN, "one")
        assert view(engine, "one").reason == "hung up by you"
        assert "two" in views(engine)
        assert view(engine, "one").device is None
        until(lambda: run("ip", "-br", "link").count("soup") == 1, "the device gone")


def test_capture_holds_both_directions_and_opens_in_tcpdump(tmp_path: Path) -> None:
    everything, only_two = tmp_path / "everything", tmp_path / "two"
    with provider(), dialling([session("one"), session("two")], capture=everything) as engine:
        wait_up(engine)
        two = view(engine, "two")
        (refused,) = engine.submit(StartCapture((two.id,), str(tmp_path / "no" / "file"))).result(10).refused
        assert "No such file or directory" in refused.reason
        assert engine.submit(StartCapture((two.id,), str(only_two))).result(10).done == (two.id,)
        assert only_two.exists()
        assert view(engine, "two").capturing
        assert events(engine, "capture")[-1].text == f"Control frames of 1 session go to {only_two}."
        engine.submit(Redial((two.id,)))
        until(lambda: view(engine, "two").session_id not in (None, two.session_id), "another session")
        wait_up(engine)
        engine.submit(StopCapture((two.id,)))
        until(lambda: not view(engine, "two").capturing, "its end")
    shown = run("tcpdump", "-nr", everything)
    for word in (
        "PADI",
        "PADO",
        "PADR",
        "PADS",
        "PADT",
        "Conf-Request",
        "Conf-Ack",
        "Challenge",
        "Success",
        "Term-Ack",
    ):
        assert word in shown, word
    assert stat_mode(everything) == stat_mode(only_two) == 0o600, "secrets may be in it"
    mine = run("tcpdump", "-nr", only_two)
    assert re.findall(r"PAD[IORST]", mine) == ["PADT", "PADI", "PADO", "PADR", "PADS"]
    assert f"[ses {view_session(two.session_id)}]" in mine


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def view_session(session_id: int | None) -> str:
    """As tcpdump writes it."""
    assert session_id is not None
    return f"0x{session_id:x}"


@pytest.mark.parametrize("place", ["dial", "receive_decoded", "receive_packet", "handle_timer"])
def test_a_fault_in_one_session_is_told_and_stops_no_other(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    proper = getattr(Session, place)

    def faulty(self: Session, *arguments: object) -> object:
        if self.settings.name == "faulty" and (place == "dial" or self.state is not SessionState.DOWN):
            raise RuntimeError("made for this test")
        return proper(self, *arguments)

    monkeypatch.setattr(Session, place, faulty)
    dial = DialSettings(rate=1000, retry_min=0.2, retry_max=1.0)
    sound = [f"sound-{n}" for n in range(20)]
    sessions = [session(name) for name in sound]
    sessions.insert(10, session("faulty", service="silence" if place == "handle_timer" else ""))
    with provider(services=("internet",)), dialling(sessions, dial) as engine:
        wait_up(engine, *sound)
        until(lambda: events(engine, "internal-error"), "the fault")
        engine.submit(Redial((view(engine, "sound-3").id,)))
        until(lambda: events(engine, "session-down", "sound-3"), "its end")
        wait_up(engine, *sound)
    assert not [name for name in run("ip", "-br", "link").split() if name.startswith("soup")]


def test_the_concentrator_dies_and_comes_back() -> None:
    with (
        provider() as far,
        dialling([session(f"s{n}", keepalive=KeepaliveSettings(0.5, 3)) for n in range(5)]) as engine,
    ):
        wait_up(engine)
        os.kill(far.pid, signal.SIGSTOP)
        try:
            until(lambda: events(engine, "session-down"), "that it is noticed")
        finally:
            os.kill(far.pid, signal.SIGCONT)
        wait_up(engine)
        assert {event.name for event in events(engine, "session-down")} <= {f"s{n}" for n in range(5)}
        assert "echo" in events(engine, "session-down")[0].text.lower()
        found = view(engine, "s0")
        assert found.device is not None
        assert fetch(found.device) == found.ipv4


def test_leaving_while_the_concentrator_is_silent_still_says_goodbye(tmp_path: Path) -> None:
    """The Terminate-Requests stay without an answer; then the PADTs go out and the engine ends."""
    with provider() as far, dialling([session("one"), session("two")], capture=tmp_path / "capture") as engine:
        wait_up(engine)
        os.kill(far.pid, signal.SIGSTOP)
        try:
            engine.stop()
        finally:
            os.kill(far.pid, signal.SIGCONT)
    shown = run("tcpdump", "-nr", tmp_path / "capture")
    assert shown.count("PADT") == 2
    assert shown.rindex("Term-Request") < shown.index("PADT")


def test_traffic_is_counted() -> None:
    with provider(), dialling([session("one"), session("two")]) as engine:
        wait_up(engine)
        before = engine.snapshot()
        found = view(engine, "one")
        assert found.device is not None
        size = 300_000
        curl = ["curl", "-sS", "-o", "/dev/null", "--max-time", "20", "--interface", found.device]
        subprocess.run([*curl, f"http://100.64.0.1/{size}"], check=True, timeout=30)
        after = engine.snapshot()
        grown = [b - a for a, b in zip(*(unpack_traffic(s.traffic) for s in (before, after)), strict=True)]
        mine, others = grown[found.id * 4 :][:4], grown[(1 - found.id) * 4 :][:4]
        assert others == [0, 0, 0, 0] or sum(others) < 1000, "IPv6 chatter at most"
        assert size < mine[1] < 1.2 * size
        assert mine[0] >= size // 1492
        assert 0 < mine[3] < size / 5
        assert sum(queue.rx_packets for queue in after.queues) >= size // 1492
        assert sum(queue.redirected for queue in after.queues) == sum(queue.rx_packets for queue in after.queues)


def test_what_is_told_before_anything_happens_bears_its_time(tmp_path: Path) -> None:
    (tmp_path / f"{CARD}.proofs").write_text("rubbish")
    began = time.time()
    with provider(), dialling([], state_folder=tmp_path) as engine:
        (event,) = until(lambda: events(engine, "proofs"), "what can't be read")
        assert began <= event.at <= time.time()
