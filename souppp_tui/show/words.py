"""Numbers, times and states as the operator reads them. Pure functions."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from unicodedata import category

from rich.cells import cell_len, set_cell_size

from engine.api.spans import wait
from engine.api.values import Event, SessionState, SessionView
from engine.settings.limits import MAX_SESSIONS

DASH = "–"
BARS = " ▁▂▃▄▅▆▇█"
LONG = 5.0
"""Seconds on the way to an address after which it is worth saying how many."""

UP, NO_ANSWER, COMING_UP, HANGING_UP, QUEUED, FAILED, DOWN = (
    *("up", "no answer", "coming up", "hanging up", "queued", "failed", "down"),
)
LIVES: dict[str, tuple[str, str]] = {
    UP: ("●", "up"),
    NO_ANSWER: ("!", "warning"),
    COMING_UP: ("◐", "busy"),
    HANGING_UP: ("◑", "busy"),
    QUEUED: ("◌", "busy"),
    FAILED: ("✗", "failed"),
    DOWN: ("○", "down"),
}
"""What sessions are counted by, each in exactly one of them: the word, its one-character sign and colour role."""
_LIFE = {
    SessionState.UP: UP,
    SessionState.HANGING_UP: HANGING_UP,
    SessionState.FAILED: FAILED,
    SessionState.DOWN: DOWN,
}
"""All other states are on the way: `coming up`."""
_WITH_REASON = (SessionState.UP, SessionState.DOWN, SessionState.FAILED, SessionState.HANGING_UP)


class Times(StrEnum):
    """How times are shown."""

    USUAL = "how long sessions are up, events by the clock"
    CLOCK = "all by the clock"
    AGO = "all as how long ago"


_HOSTILE = re.compile(
    "[\u034f\u115f-\u11ff\u3164\ud7b0-\ud7ff\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff"
    "\u2630-\u2637\u268a-\u268f\u3248-\u324f\u4dc0-\u4dff\U0001d300-\U0001d37f\U0001f3fb-\U0001f3ff]"
)
"""Besides those of the categories below: first what hides itself or melts together, then what terminals show in one
column or in two."""
_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Cs", "Mc", "Me", "Zl", "Zp"})
"""Those that steer a terminal, change the order of a line or hide themselves, and that Unicode doesn't have yet."""
MARKS = 2
"""Accents that one character may bear: more of them run into the lines above and below."""


def clean(text: str) -> str:
    """Text from elsewhere made safe to show: what steers a terminal, hides itself or breaks a line becomes `·`."""
    return text if text.isascii() and text.isprintable() else _clean(text)


@lru_cache(maxsize=MAX_SESSIONS)
def _clean(text: str) -> str:
    shown, marks = "", 0
    for character in _HOSTILE.sub("·", text):
        kind = category(character)
        marks = marks + 1 if kind == "Mn" else 0
        shown += "·" if kind in _CATEGORIES or marks > MARKS else character
    return shown


def glyph(state: SessionState) -> str:
    """The state's one-character sign."""
    return LIVES[_LIFE.get(state, COMING_UP)][0]


def role(state: SessionState) -> str:
    """The state's colour role."""
    return LIVES[_LIFE.get(state, COMING_UP)][1]


def sign(view: SessionView) -> tuple[str, str]:
    """A session's one-character sign and colour role: one that is up and silent doesn't look healthy."""
    return LIVES[life(view)] if is_silent(view) or view.queued else (glyph(view.state), role(view.state))


def life(view: SessionView) -> str:
    """Which of LIVES a session is in: that of its state, but for one that doesn't answer or waits for its dial."""
    if is_silent(view):
        return NO_ANSWER
    return QUEUED if view.queued else _LIFE.get(view.state, COMING_UP)


def is_silent(view: SessionView) -> bool:
    """Whether a session that is up has not been heard for a while."""
    return view.silent_since is not None and view.state is SessionState.UP


def state_words(view: SessionView) -> str:
    """What a session's state is looked for by, whatever the time is."""
    return _state_words(view.state, is_silent(view), view.draining, view.queued, view.reason)


@lru_cache(maxsize=4096)
def _state_words(state: SessionState, silent: bool, draining: bool, queued: bool, reason: str) -> str:
    more = " · silent, no answer" * silent + " · draining" * draining + " · queued" * queued
    return f"{state.value}{more} · {reason}".casefold()


def metric(value: float) -> str:
    """A number in at most five characters with a decimal prefix: `0`, `412`, `12.4M`, `1.21G`."""
    if value < 999.5:
        return f"{value:.0f}"
    for unit in "kMGTPE":
        value /= 1000
        if value < 9.995:
            return f"{value:.2f}{unit}"
        if value < 99.95:
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return "huge"


def rate(value: float, unit: str = "b/s") -> str:
    """A rate with its unit, as in `3.40 Gb/s`."""
    text = metric(value)
    return f"{text[:-1]} {text[-1]}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def count(value: int) -> str:
    """A whole number with commas between thousands."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """A time span in at most seven characters: `8 s`, `4m 10s`, `3h 07m`, `3d 04h`, `100d`.

    It moves ever more slowly, so that a screen of long-lived sessions stands still.
    """
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if minutes < 10:
        return f"{minutes}m {whole % 60 // 10}0s"
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h {minutes % 60:02d}m"
    return f"{days}d {hours % 24:02d}h" if days < 100 else f"{days}d"


def event_line(event: Event) -> str:
    """One event as a line of a file, or of a terminal that is nobody's screen."""
    name = "".join(f"{clean(word)}  " for word in (event.engine, event.name) if word)
    return f"{iso_here(event.at)}  {event.severity.name:7}  {name}{clean(event.text)}"


def milliseconds(value: float | None) -> str:
    """A measured time: `0.6 ms`, `412 ms`, `1.2 s`; `…` while it is under way."""
    if value is None:
        return "…"
    if value < 99.95:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.1f} s"


def clock(at: float) -> str:
    """The time of day, from a Unix time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def iso(at: float) -> str:
    """A Unix time as ISO 8601 in UTC with milliseconds, for scripts: `2026-11-26T17:05:09.120Z`."""
    whole, thousandths = divmod(round(at * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03d}Z"


def iso_here(at: float) -> str:
    """The same by this host's clock and with its zone, for files that people read: `2026-11-26T18:05:09+0100`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(at))


def short_clock(at: float, now: float) -> str:
    """A time in seven characters: `20:31:05` would be too wide, so `20:31`, and of another day its date: `25 Nov`."""
    when, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if when[:3] == today[:3] else "%d %b", when)


def moment(at: float, now: float, times: Times) -> str:
    """When something was, as wide as the time of day: by the clock, or how long ago."""
    return f"{duration(now - at):>8}" if times is Times.AGO else clock(at)


def date_clock(at: float) -> str:
    """Date and time of day, for a file."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def fine_clock(at: float) -> str:
    """The time of day with milliseconds."""
    whole = int(at)
    return f"{clock(whole)}.{int((at - whole) * 1000):03d}"


def state(view: SessionView, now: float, room: int | None = None) -> str:
    """What a session is doing, for how long if that is long, and why and what next where that is known.

    In less `room` (columns) in fewer words: the time of the next try stays, whatever else is cut.
    """
    text: str = QUEUED if view.queued else view.state.value
    if is_silent(view) and view.silent_since is not None:
        return f"no answer for {duration(now - view.silent_since)}"
    if view.draining:
        text += " · draining"
    if role(view.state) == "busy" and now - view.since >= LONG:
        text += f" · {duration(now - view.since)}"
    if view.reason and view.state in _WITH_REASON:
        text += f" · {view.reason}"
    if view.retry_at is None:
        return text
    left = wait(view.retry_at - now)
    short = view.reason if view.reason and view.state is SessionState.FAILED else text  # its sign says `failed`
    variants = [f"{text} (retry in {left})", f"{short} (retry in {left})"]
    if room is None or columns(variants[0]) <= room:
        return variants[0]
    ending = f" (in {left})"
    variants.append(fit(short, max(0, room - len(ending))).rstrip() + ending)
    return next((each for each in variants if columns(each) <= room), variants[-1])


def graph(values: Sequence[float], width: int, height: int, least: float = 0.0) -> list[str]:
    """The latest `width` values as columns `height` lines high, newest last; anything above zero shows.

    The highest fills the height, but nothing less than `least` does: a trickle must not look like a flood.
    """
    latest = list(values)[-width:]
    top = max(latest, default=0.0)
    eighths = [0 if v <= 0 else max(1, round(v / max(top, least) * 8 * height)) for v in latest]
    lines = []
    for line in reversed(range(height)):
        filled = [max(0, min(8, eighth - 8 * line)) for eighth in eighths]
        lines.append("".join(BARS[part or 1] if line == 0 else BARS[part] for part in filled).rjust(width))
    return lines


def braille(values: Sequence[float], width: int, height: int, least: float = 0.0) -> list[str]:
    """The latest `2 * width` values as columns of dots, `height` lines of four dots high, newest last.

    The highest fills the height, but nothing less than `least` does; anything above zero has a dot.
    """
    latest = list(values)[-2 * width :]
    top = max([*latest, least])
    dots = [0 if v <= 0 or not top else max(1, round(v / top * 4 * height)) for v in latest]
    dots = [0] * (2 * width - len(dots)) + dots
    lines = []
    for line in reversed(range(height)):
        filled = [max(0, min(4, each - 4 * line)) for each in dots]
        lines.append(
            "".join(chr(_BRAILLE + _LEFT[a] + _RIGHT[b]) for a, b in zip(filled[::2], filled[1::2], strict=True))
        )
    return lines


_BRAILLE = 0x2800
_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
"""The dots of a sign's left and right column, from below."""


def bar(share: float, width: int) -> str:
    """A bar of a share of `width` characters, to an eighth of one; what is more than nothing can be seen."""
    eighths = max(1 if share > 0 else 0, round(min(1.0, share) * width * 8))
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + "▏▎▍▌▋▊▉"[rest - 1 : rest] * bool(rest)).ljust(width)


def sparkline(values: Sequence[float], width: int, least: float = 0.0) -> str:
    """The same in one line."""
    return graph(values, width, 1, least)[0]


_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:/ )?(?:m?s|min|h|%|octets|[kMG]?B|[kMG]?b/s|pkt/s)(?!\w))|(?<=\d /) (?=s)")
_TOGETHER = "\0"
"""No character of a text that is clean, nor one that lines are broken at."""


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` characters, broken between words where there are any; never empty.

    A number stays with its unit.
    """
    kept = _BEFORE_UNIT.sub(_TOGETHER, clean(text))
    lines = textwrap.wrap(kept, max(1, width), break_on_hyphens=False)
    return [line.replace(_TOGETHER, " ") for line in lines] or [""]


_GROUPS = r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*"
ADDRESS = re.compile(
    r"(?i:\b\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"
    r"|\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b"
    rf"|(?<![\w:])(?:{_GROUPS})?::(?:{_GROUPS})?(?![\w:])"
    r"|(?<![\w:])(?:[0-9a-f]{1,4}:){3}[0-9a-f]{1,4}(?![\w:]))"
)
"""An IPv4, IPv6 or MAC address, or an IPv6 identifier."""


def mask_addresses(text: str) -> str:
    """Every address in a text with its letters and digits hidden."""
    return ADDRESS.sub(lambda match: dots(match[0]), text)


def dots(address: str) -> str:
    """An address with its letters and digits hidden."""
    return re.sub(r"[0-9A-Fa-f]", "•", address)


def columns(text: str) -> int:
    """How many columns of a terminal a clean text takes."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, right: bool = False) -> str:
    """Text in exactly `width` columns of a terminal: cleaned, cut with `…` where it is too long, else padded."""
    text = clean(text)
    taken = columns(text)
    if taken > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    return " " * (width - taken) + text if right else text + " " * (width - taken)


ENDING = 5
"""Characters of a name's end that stay where it is cut: that is where names of one kind differ."""


def fit_name(name: str, width: int) -> str:
    """A name in exactly `width` columns, cut in the middle where it is too long: `customer-0001` as `custom…-0001`."""
    name = clean(name)
    if columns(name) <= width or width < 2 * ENDING:
        return fit(name, width)
    tail = name[-ENDING:]
    return set_cell_size(name, width - 1 - columns(tail)) + "…" + tail
