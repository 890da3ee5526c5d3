"""The summary: groups that add up, whose filters show exactly them, and on which one can act."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.api.commands import Dial, HangUp, Redial
from engine.api.values import SessionState
from souppp_tui.desk.actions import BY_NAME
from souppp_tui.model.groups import GROUPINGS, common, groups
from souppp_tui.model.model import Model
from souppp_tui.show import grouplines, words
from souppp_tui.show.words import LIVES
from tests.console.conftest import Start
from tests.console.scripted import ScriptedEngine


def scene() -> ScriptedEngine:
    """Thirty sessions in every state there is, with services, VLANs and tags."""
    engine = ScriptedEngine(30, busy=9, failing=7, up=False)
    engine.submit(Dial(tuple(range(28))))
    engine.advance(0.5, 6)
    engine.submit(HangUp((0, 1)))
    engine.submit(Redial((3, 4)))
    engine.advance(0.3)
    engine.change(5, silent_since=engine.wall - 20)
    engine.change(6, queued=True)
    engine.change(8, state=SessionState.FAILED, up_since=None, reason='said "no"', service="silver gold")
    engine.change(9, tags=("blue", "fast"), vlans=(7,), service="gold")
    engine.change(10, tags=("blue",), vlans=(7, 9), service="!odd")
    engine.change(11, state=SessionState.HANGING_UP)
    return engine


@pytest.mark.parametrize("by", GROUPINGS.values(), ids=lambda by: by.name)
def test_groups_add_up_and_their_filters_show_them(by: object) -> None:
    engine, model = scene(), Model()
    for _ in range(4):
        engine.advance(0.0)
        model.take(engine.snapshot())
    grouping = GROUPINGS[by.name]  # type: ignore[attr-defined]
    found = groups(model.views.values(), grouping)
    assert {session for group in found for session in group.sessions} == set(model.views)
    if grouping.name != "tag":
        assert sum(len(group.sessions) for group in found) == 30
    assert all(sum(group.lives.values()) == len(group.sessions) for group in found)
    assert all(group.filter or '"' in group.value for group in found)
    for group in found:
        if group.filter:
            model.filter(group.filter)
            assert (model.filter_error, set(model.shown)) == ("", set(group.sessions)), group.filter


def test_states_stand_in_their_order_and_carry_what_their_sessions_do() -> None:
    engine, model = scene(), Model()
    for _ in range(4):
        engine.advance(0.5)
        model.take(engine.snapshot())
    found = groups(model.views.values(), GROUPINGS["state"])
    places = [list(LIVES).index(group.value) for group in found]
    assert places == sorted(places)
    received, sent = (
        sum(both) for both in zip(*(model.meter.together(group.sessions) for group in found), strict=True)
    )
    assert (received, sent) == pytest.approx((model.meter.total().rx_bits, model.meter.total().tx_bits))
    assert received > 0
    (up,) = [group for group in found if group.value == "up"]
    assert up.rtt is not None
    assert up.oldest == min(model.views[session].since for session in up.sessions)


def test_those_without_an_answer_are_as_old_as_their_silence() -> None:
    """Their rows say for how long there was none; the group said since when they were up."""
    engine = scene()
    (group,) = [each for each in groups(engine.snapshot().sessions, GROUPINGS["state"]) if each.value == "no answer"]
    assert group.oldest == engine.snapshot().sessions[5].silent_since


def test_what_sessions_have_in_common() -> None:
    view = replace(ScriptedEngine(1).snapshot().sessions[0], service="gold", vlans=(7,), reason="no echo")
    assert common([view, view]) == ["service gold", f"concentrator {view.ac_name}", "VLAN 7", "no echo"]
    assert common([view, replace(view, vlans=(8,), reason="", ac_name=None)]) == ["service gold"]
    assert common([]) == []


@pytest.mark.parametrize(
    ("share", "bar"), [(0.0, "    "), (0.001, "▏   "), (0.5, "██  "), (1.0, "████"), (0.4, "█▋  ")]
)
def test_a_bar_shows_anything_that_is_more_than_nothing(share: float, bar: str) -> None:
    assert words.bar(share, 4) == bar


@pytest.mark.parametrize("width", [15, 30, 60, 80, 120, 200])
def test_a_group_s_line_fits(width: int) -> None:
    fitted = grouplines.layout(width)
    line = grouplines.GroupLine("a" * 50, 10_000, 10_000, {"up": 10_000}, 4.1, 3.4e9, 1e9, 0.0, "up")
    for spans in (grouplines.line(line, fitted, 1e6), grouplines.header(fitted, "GROUP")):
        assert sum(words.columns(text) for text, _ in spans) <= max(width, grouplines.NAME)


@pytest.mark.parametrize("width", range(15, 120))
def test_the_numbers_that_are_shown_add_up(width: int) -> None:
    """All four, or none of them: at 60 columns those that are down were left out beside `FAIL`."""
    titles = {column.title for column in grouplines.layout(width).columns}
    assert len(titles & {"UP", "WAIT", "FAIL", "DOWN"}) in (0, 4)
    assert ("DOWN" in titles) or width < 57


def test_with_few_sessions_reasons_are_whole_at_80_columns() -> None:
    assert grouplines.layout(77, 999).name >= len("no common authentication")


async def test_what_a_group_is_is_not_explained_by_what_was_before(start: Start) -> None:
    """`card is down` had the warning of a try of minutes ago beside it."""
    async with start(5, failing=5, up=False, size=(80, 24)) as stage:
        stage.engine.submit(Dial((4,)))
        await stage.tick(6)
        await stage.press("1", "g", "j")
        assert "Login incorrect" in stage.text()
        await stage.tick(20)
        stage.engine.change(4, state=SessionState.DOWN, reason="card is down", since=stage.engine.wall)
        await stage.tick(5)
        await stage.press("k", "j")
        assert "card is down · 1 session" in stage.text()
        assert "Login incorrect" not in stage.text()


async def test_one_key_there_enter_narrows_and_two_goes_back(start: Start) -> None:
    async with start(30, failing=5, up=False) as stage:
        stage.engine.submit(Dial(tuple(range(30))))
        await stage.tick(6)
        await stage.press("1")
        assert "30 sessions by state" in stage.text()
        await stage.press("g")
        assert "30 sessions by reason" in stage.text()
        await stage.press("j")
        assert "wrong password · 6 sessions" in stage.text()
        assert "Login incorrect" in stage.text()
        await stage.press("enter")
        assert 'filter: state=failed|down reason="wrong password" !is:queued  6 of 30' in stage.text()
        await stage.press("1")
        assert "30 sessions by reason" in stage.text()
        await stage.press("2")
        assert "6 of 30" in stage.text()
        await stage.press("1", "3")
        assert "events:" in stage.text()


async def test_actions_are_for_the_group_and_ask_with_its_number(start: Start) -> None:
    async with start(30, failing=5, up=False) as stage:
        stage.engine.submit(Dial(tuple(range(30))))
        await stage.tick(6)
        await stage.press("1", "g", "j", "d")
        assert stage.last == Dial(tuple(range(4, 30, 5)))
        await stage.tick(1)
        assert "wrong password" in stage.line("▸")
        await stage.press("h")
        assert "There is no session here." in stage.text()
        await stage.press("k")
        assert "wrong password" not in "".join(stage.text().splitlines()[:8])
        await stage.press("h")
        assert "Hang up 24 sessions" in stage.text()
        await stage.press("escape", "r")
        assert "24 sessions" in stage.text()
        await stage.press("n", "x")
        assert stage.last == Dial(tuple(range(4, 30, 5)))


async def test_the_summary_is_usable_on_a_small_screen(start: Start) -> None:
    async with start(30, failing=5, size=(60, 15)) as stage:
        await stage.press("1")
        await stage.tick()
        assert "SESSIONS" in stage.line("GROUP")
        assert all(len(line) <= 60 for line in stage.text().splitlines())
        assert "summary" in BY_NAME["narrow"].pages
