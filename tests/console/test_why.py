"""Why a session is down: what is said of its last try, which frames are marked, what others do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.commands import Dial
from engine.api.ending import EndKind
from engine.api.values import Event, Fact, LadderEntry, SessionState, SessionView, Severity
from souppp_tui.show import detaillines
from souppp_tui.show.why import CASES, Why, why
from tests.console.conftest import Start

TRY = (
    (True, 'PADI   service ""'),
    (False, "PADO   bras-2, cookie 20 B"),
    (True, "PADR   bras-2"),
    (False, "PADS   session 01b0"),
    (True, "LCP Configure-Request  id 1  MRU 1492"),
    (False, "LCP Configure-Request  id 1  CHAP-MD5"),
    (True, "LCP Configure-Ack  id 1"),
    (False, "LCP Configure-Ack  id 1"),
    (False, "CHAP Challenge  id 7"),
    (True, "CHAP Response  id 7"),
)
WRONG = (*TRY, (False, 'CHAP Failure  id 7  "Login incorrect"'), (False, "LCP Terminate-Request  id 2"))
NOBODY = ((True, "PADI"), (True, "PADI"), (True, "PADI"))
GONE = (*TRY[:4], (True, "LCP Configure-Request  id 1"), (True, "LCP Configure-Request  id 2"))
DOWN = SessionView(0, "home-1", "u", "gold", True, SessionState.FAILED, 1000.0, vlans=(7,), ac_name="bras-2")


def ladder(*frames: tuple[bool, str], at: float = 990.0, pause: float = 0.5) -> list[LadderEntry]:
    return [LadderEntry(at + place * pause, sent, text, ()) for place, (sent, text) in enumerate(frames)]


def ask(view: SessionView, *frames: tuple[bool, str], others: tuple[SessionView, ...] = ()) -> Why:
    found = why(view, ladder(*frames), [], [view, *others])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "frames", "hangs_on"),
    [
        (EndKind.WRONG_PASSWORD, WRONG, "CHAP Failure from the concentrator"),
        (EndKind.NO_CONCENTRATOR, NOBODY, "3 × PADI in 1 s without an answer"),
        (EndKind.NO_ANSWER, GONE, "2 × LCP Configure-Request without an answer"),
        (EndKind.PEER_ENDED, (*TRY, (False, "PADT   session 01b0")), "PADT from the concentrator"),
        (EndKind.REFUSED, (*TRY[:3], (False, "PADS   no session, AC-System-Error")), "PADS from the concentrator"),
        (EndKind.NONE_WANTED, (*TRY[:2], TRY[1]), "2 × PADO from the concentrator"),
        (EndKind.CARD_DOWN, TRY, ""),
    ],
)
def test_the_frames_that_it_hangs_on(kind: EndKind, frames: tuple[tuple[bool, str], ...], hangs_on: str) -> None:
    found = ask(replace(DOWN, reason=kind.value), *frames)
    assert found.hangs_on == hangs_on
    assert found.advice == CASES[kind].advice
    assert found.said.casefold() == f"{kind.value}.".casefold()


def test_only_the_last_try_counts() -> None:
    earlier, later = ladder(*WRONG, at=800.0), ladder(*NOBODY, at=990.0)
    found = why(replace(DOWN, reason="no concentrator answers"), [*earlier, *later], [], [])
    assert found is not None
    assert found.frames == {len(earlier), len(earlier) + 1, len(earlier) + 2}
    again = ladder(*NOBODY, at=900.0)
    found = why(replace(DOWN, reason="no concentrator answers"), [*again, *later], [], [])
    assert found is not None
    assert found.frames == {3, 4, 5}


def test_every_kind_of_end_that_an_operator_did_not_wish_has_advice() -> None:
    assert set(EndKind) - set(CASES) <= {EndKind.PROGRAM_ENDS}


def test_the_event_is_the_sentence_where_it_is_of_this_end() -> None:
    event = Event(1, 999.5, Severity.WARNING, "dial-failed", 'bras-2 said "no".', 0, "home-1")
    view = replace(DOWN, reason="refused")
    found = why(view, [], [event], [view])
    assert found is not None
    assert (found.said, found.at) == ('bras-2 said "no".', 999.5)
    found = why(view, [], [replace(event, at=900.0)], [view])
    assert found is not None
    assert (found.said, found.at) == ("Refused.", 1000.0)
    assert why(replace(view, up_since=5.0), [], [event], [view]) is None
    assert why(replace(view, reason="", state=SessionState.DOWN), [], [], [view]) is None


def test_what_others_like_it_do() -> None:
    up = replace(DOWN, state=SessionState.UP, up_since=1.0)
    alike = tuple(replace(up, id=n) for n in range(1, 41))
    view = replace(DOWN, reason="wrong password")
    found = ask(view, others=alike)
    assert "The 40 others on VLAN 7 are up." in found.others
    assert found.others[-1] == "Others like it are up: likely this session's own account or settings."
    found = ask(view, others=(*alike, *(replace(view, id=n) for n in range(41, 44))))
    assert found.others[-1] == "3 others fail for the same reason.", "so it is not this account alone"
    elsewhere = tuple(replace(up, id=n, vlans=(8,), ac_name="bras-1", service="") for n in range(1, 5))
    fallen = tuple(replace(view, id=n) for n in range(5, 8))
    found = ask(view, others=elsewhere + fallen)
    assert "Of the 3 others on VLAN 7: 3 failed." in found.others
    assert "Of the 7 others in all: 4 up, 3 failed." in found.others
    assert found.others[-1] == "None at bras-2 is up and others are: likely the fault is there."
    assert ask(view, others=fallen).others[-1] == "None is up: likely the line, the modem or the card."
    assert ask(replace(view, reason="hung up by you"), others=alike).others == ()


async def test_details_begin_with_it_and_mark_the_frames(start: Start) -> None:
    async with start(9, failing=3, up=False, size=(120, 40)) as stage:
        stage.engine.submit(Dial(tuple(range(9))))
        await stage.tick(6)
        await stage.press("j", "j", "enter")
        await stage.tick()
        lines = [line[1:64].strip() for line in stage.text().splitlines()[2:9]]
        assert lines[0] == "why it is not up"
        assert lines[1].endswith('bras-2 refused the password: "Login incorrect".')
        assert any(line.startswith("do next   Check user name and password") for line in lines)
        assert any(line.startswith("others    Of the 8 others in all:") for line in lines)
        await stage.press("escape", "k", "enter")
        await stage.tick()
        assert "why it is not up" not in stage.text()


@pytest.mark.parametrize("width", [57, 62, 77])
def test_nothing_of_what_was_negotiated_is_cut(width: int) -> None:
    """`concentrator's addr…`, at 60 columns and beside the ladder."""
    facts = [Fact("concentrator's address", "100.64.0.1", "100.64.100.101", "100.64.100.101")]
    facts.append(Fact("peer's IPv6 identifier", "0000:0000:0000:0001", "", "7545:9393:a8c8:27d9"))
    shown = ["".join(text for text, _ in line) for line in detaillines.fact_lines(facts, width)]
    assert "…" not in "".join(shown)
    assert max(len(line.rstrip()) for line in shown) <= width
    letters = "".join("".join(shown).split())
    assert all(part in letters for part in ("concentrator's", "address", "identifier"))


@pytest.mark.parametrize("width", [57, 77])
def test_nothing_of_a_sessions_facts_is_cut(width: int) -> None:
    """IPv6 addresses ended in `fe80::15c…`, a counter was called `discarded: PADO that can'…`."""
    long = "discarded: PADO that can't be a PADO of ours"
    addresses = " ".join(f"3fff:64:{n}:0:d24a:4840:1516:5aae" for n in range(3))
    for right, rows in ((True, [(long, "8"), ("short", "12")]), (False, [("IPv6", addresses), ("user", "u")])):
        lines = detaillines.table(rows, width, right=right)
        shown = ["".join(text for text, _ in line) for line in lines]
        assert "…" not in "".join(shown)
        assert max(map(len, shown)) <= width
        assert " ".join("".join(shown).split()).count("3fff:64:") == (0 if right else 3)
