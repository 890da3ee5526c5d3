"""Formatting: numbers, times, states, sanitising, masking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from engine.api.ending import End, EndKind
from engine.api.spans import wait
from engine.api.values import Event, SessionState, SessionView, Severity
from engine.record.narrate import tell
from engine.sessions.session import Ended
from souppp_tui.show import words
from souppp_tui.show.eventlines import pane
from souppp_tui.show.paint import strip
from souppp_tui.show.themes import palette


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (412.4, "412"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (12_400_000, "12.4M"),
        (99_960, "100k"),
        (1_210_000_000, "1.21G"),
        (9.99e17, "999P"),
    ],
)
def test_metric(value: float, text: str) -> None:
    assert words.metric(value) == text


@given(st.floats(0, 1e20))
def test_metric_takes_at_most_five_columns(value: float) -> None:
    assert len(words.metric(value)) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (8.9, "8 s"),
        (61, "1m 00s"),
        (259, "4m 10s"),
        (700, "11m"),
        (11_260, "3h 07m"),
        (3 * 86400 + 4 * 3600, "3d 04h"),
        (99 * 86400, "99d 00h"),
        (400 * 86400, "400d"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_takes_at_most_seven_columns(seconds: float) -> None:
    assert len(words.duration(seconds)) <= 7


def test_a_minute_of_a_long_uptime_changes_nothing() -> None:
    assert len({words.duration(7200 + second) for second in range(60)}) == 1


def test_a_failed_session_says_why_and_when_next() -> None:
    view = SessionView(0, "a", "u", "", True, SessionState.FAILED, 0.0, "wrong password", 142.0)
    assert words.state(view, 100.0) == "failed · wrong password (retry in 42 s)"


@pytest.mark.parametrize(
    ("reason", "room", "text"),
    [
        ("wrong password", 39, "failed · wrong password (retry in 42 s)"),
        ("wrong password", 38, "wrong password (retry in 42 s)"),
        ("wrong password", 29, "wrong password (in 42 s)"),
        ("no common authentication", 33, "no common authenticati… (in 42 s)"),
        ("", 13, "fa… (in 42 s)"),
    ],
)
def test_when_it_is_dialled_next_is_never_cut(reason: str, room: int, text: str) -> None:
    """At 60 columns there was `failed · wrong password (retry in …`."""
    view = SessionView(0, "a", "u", "", True, SessionState.FAILED, 0.0, reason, 142.0)
    assert words.state(view, 100.0, room) == text
    assert len(text) <= room


def test_a_session_without_an_answer_says_so() -> None:
    view = SessionView(0, "a", "u", "", True, SessionState.UP, 0.0, silent_since=100.0)
    assert words.state(view, 112.0) == "no answer for 12 s"
    assert words.sign(view) == ("!", "warning")
    assert words.sign(replace(view, silent_since=None)) == ("●", "up")
    assert words.sign(replace(view, state=SessionState.FAILED)) == ("✗", "failed")


def test_what_an_open_session_lacks_is_shown() -> None:
    view = SessionView(0, "a", "u", "", True, SessionState.UP, 0.0, "without IPv4: rejected")
    assert words.state(view, 1.0) == "up · without IPv4: rejected"


def test_what_takes_long_says_how_long() -> None:
    view = SessionView(0, "a", "u", "", True, SessionState.DIALLING, 100.0)
    assert words.state(view, 104.0) == "dialling"
    assert words.state(view, 114.0) == "dialling · 14 s"


WAITS = [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (600, "10 min"), (7190, "2 h"), (31837, "9 h")]


@pytest.mark.parametrize(("seconds", "text"), WAITS)
def test_a_long_wait_is_told_in_minutes_and_hours(seconds: float, text: str) -> None:
    assert wait(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [*WAITS[1:], (0.4, "now")])
def test_an_event_tells_a_wait_in_the_same_words(seconds: float, text: str) -> None:
    story = tell(Ended(End(EndKind.WRONG_PASSWORD, "Refused.")), None, seconds)
    assert story is not None
    assert story.text == ("Refused. Dialling again now." if text == "now" else f"Refused. Trying again in {text}.")


def test_sparkline_shows_every_trickle_and_the_newest_last() -> None:
    assert words.sparkline([0, 1, 800, 400], 6) == "  ▁▁█▄"
    assert words.sparkline([0, 1, 8, 4], 6, 800) == "  ▁▁▁▁", "a trickle is no flood"
    assert words.graph([0, 1, 800, 400], 6, 2) == ["    █ ", "  ▁▁██"]


def test_a_reversed_line_is_all_of_one_colour() -> None:
    """The cursor of sixteen colours: reversed, the colours of its words would be a patchwork of grounds."""
    line = strip([("up", "up"), (" 12 Mb/s", "rx"), (" 0", "dim"), (" name", "strong")], 20, palette("ansi"), "cursor")
    styles = [segment.style for segment in line if segment.style]
    assert all(style.reverse and style.color is None and style.bgcolor is None for style in styles)
    assert [style.bold for style in styles][-2] is True, "weight stays"


@given(st.text())
def test_clean_leaves_nothing_that_steers_a_terminal(text: str) -> None:
    safe = words.clean(text)
    assert len(safe) == len(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066\u200b\ufeff" for c in safe)
    assert words.clean(safe) == safe


@pytest.mark.parametrize("sign", ["ः", "ᅡ", "☰", "㉈", "〮", "\u0378", "𝍠", "🏻", "\U0001bca0", "\u0600"])
def test_clean_leaves_nothing_on_whose_width_terminals_disagree(sign: str) -> None:
    """A name with one of them would push the rest of its row aside."""
    assert words.clean(f"a{sign}b") == "a·b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoe\u0308 Müller 北京 ●", "Zoe\u0308 Müller 北京 ●"),
        ("e" + "\u0301" * 5, "e\u0301\u0301···"),
        ("नि", "न·"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d·"),
        ("a\U0001d173b\u0378c", "a·b·c"),
    ],
)
def test_clean_keeps_what_people_write(text: str, shown: str) -> None:
    assert words.clean(text) == shown


@given(st.text(), st.integers(0, 40), st.booleans())
def test_fit_is_exact(text: str, width: int, right: bool) -> None:
    assert cell_len(words.fit(text, width, right)) == width


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at 14:02:09 from 100.64.3.12", "at 14:02:09 from •••.••.•.••"),
        ("2001:db8:4c::/56", "••••:•••:••::/56"),
        ("fe80::1", "••••::•"),
        ("identifier c0a8:0cfc:204a:a4df", "identifier ••••:••••:••••:••••"),
        ("bras-1 (02:ac:00:00:00:01)", "bras-1 (••:••:••:••:••:••)"),
        ("LCP id 1, MRU 1492", "LCP id 1, MRU 1492"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert words.mask_addresses(text) == masked


def test_a_line_is_cut_only_where_words_are_lost() -> None:
    def drawn(text: str) -> str:
        return strip([(text, "text")], 4, palette("dark")).text

    assert [drawn(text) for text in ("quit", "quit  ", "it", "漢字  ")] == ["quit", "quit", "it  ", "漢字"]
    assert drawn("quits") == "qui…"


def test_dots_show_the_latest_and_anything_above_zero() -> None:
    assert words.braille([0, 0, 1, 4], 2, 1) == ["⠀⣸"]
    assert words.braille([8], 1, 2) == ["⢸", "⢸"]
    assert words.braille([0.001, 1000], 1, 1) == ["⣸"]
    assert words.braille([5, 1, 0, 0], 1, 1) == ["⠀"]
    assert words.braille([], 2, 1, least=10.0) == ["⠀⠀"]


@pytest.mark.parametrize("unit", ["s", "min", "ms", "MB", "%", "octets", "/ s", "pkt/s", "Gb/s"])
def test_a_number_and_its_unit_stay_on_one_line(unit: str) -> None:
    text = f"Slower than the rate of 55 {unit}. Trying again in 28 {unit}."
    for width in range(len("Slower ") + len(unit), 60):
        lines = words.wrap(text, width)
        assert " ".join(lines) == text
        assert sum(f"55 {unit}." in line or f"28 {unit}." in line for line in lines) in (1, 2)
        assert not [line for line in lines if line.endswith((" 55", " 28", "/")) or line in ("55", "28")]


def test_an_event_too_long_for_the_pane_ends_with_a_sign_of_it() -> None:
    def shown(room: int) -> list[str]:
        event = Event(1, 0.0, Severity.INFO, "dial-failed", "word " * 20 + "end", session=1, name="home-01")
        return ["".join(text for text, _ in line).rstrip() for line in pane([event], 60, room, 0.0)]

    assert shown(9)[-1].endswith("end")
    for room in (1, 2):
        assert len(shown(room)) == room
        assert [line.endswith("…") for line in shown(room)] == [False] * (room - 1) + [True]
        assert all(len(line) < 60 for line in shown(room))


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("customer-0001", 12, "custom…-0001"),
        ("customer-0001", 13, "customer-0001"),
        ("home", 6, "home  "),
        ("customer-0001", 9, "customer…"),
    ],
)
def test_names_that_differ_at_their_end_are_told_apart_where_they_are_cut(name: str, width: int, shown: str) -> None:
    assert words.fit_name(name, width) == shown


@given(st.text(max_size=30), st.integers(0, 24))
def test_a_name_takes_the_columns_it_is_given(name: str, width: int) -> None:
    assert words.columns(words.fit_name(name, width)) == width
