"""Why a session is down: its last try as a sentence, the frames it hangs on, what to do, what others do. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from engine.api.ending import EndKind
from engine.api.values import Event, LadderEntry, SessionState, SessionView
from souppp_tui.show.words import COMING_UP, LIVES, UP, count, life

ENDS = ("dial-failed", "session-down", "auth-failed")
"""The kinds of events that tell how a try ended."""
SAME = 2.0
"""Seconds between an end and the event that tells of it, at most."""
_STARTS = re.compile(r"PADI\b")
_REFUSES = re.compile(r"-Error|\bPADT\b|Terminate-Request|Failure|Nak\b|Reject|session 0000", re.IGNORECASE)


class Case(Struct, frozen=True):
    """What is known of one kind of end."""

    advice: str
    """What to do next."""
    sent: bool
    """Whether it hangs on frames of ours that had no answer, or on frames of the other side."""
    frames: str
    """A pattern of those frames' summaries."""


_BRIDGE = "Check the modem (bridge mode), the cable and the VLAN; `c` captures what leaves."
_PASSWORD = "Check user name and password (`E` edits them): providers lock an account that is tried too often."
CASES: dict[EndKind, Case] = {
    EndKind.NO_CONCENTRATOR: Case(_BRIDGE, True, r"PADI\b"),
    EndKind.NONE_WANTED: Case(
        "Compare `ac` and `service` in the settings (`E`) with the offers marked.", False, r"PADO\b"
    ),
    EndKind.NO_ANSWER: Case(
        "It answered before: a loaded concentrator or frames lost on the line. Look at the queues' drops (`i`).",
        True,
        ".",
    ),
    EndKind.REFUSED: Case(
        "What it says stands in the marked frame (enter shows it): ask the provider with that.", False, ""
    ),
    EndKind.TOO_MANY: Case(
        "Its limit is reached. An earlier session may still be open there: `:clear ghosts` ends what a crash left, "
        "else wait. If it counts by MAC address, give each session its own: `mac: derived`.",
        False,
        "",
    ),
    EndKind.WRONG_PASSWORD: Case(_PASSWORD, False, r"Failure|Authenticate-Nak"),
    EndKind.AUTH_METHOD: Case("Allow a method that it offers: `auth` in the settings (`E`).", False, r"LCP Configure-"),
    EndKind.WEAKER: Case(
        "Somebody else may answer on this line. If the provider has changed it, allow that: `auth`.",
        False,
        r"LCP Configure-",
    ),
    EndKind.NO_BETTER: Case("It is dialled again with what it offers.", False, r"Terminate-Request|PADT|Reject"),
    EndKind.NO_ADDRESS: Case(
        "The account has no address free, or no IPv4: ask the provider.", False, r"IPCP|IPV?6CP|Protocol"
    ),
    EndKind.ADDRESS_REFUSED: Case(
        "Its address is in use on this host: look at `ip address` and the other sessions.", False, r"IPCP"
    ),
    EndKind.UNWANTED_ADDRESS: Case("It goes on until an address outside `unwanted_networks` comes.", False, r"IPCP"),
    EndKind.ECHO_TIMEOUT: Case(
        "The line or the concentrator went silent: see what others there do.", True, r"Echo-Request"
    ),
    EndKind.PEER_ENDED: Case(
        "The concentrator ended it: many at once mean maintenance there.", False, r"PADT|Terminate-Request"
    ),
    EndKind.LOOPED_BACK: Case("Our own frames come back: look for a loop at the modem or switch.", False, r"LCP"),
    EndKind.NOT_CONVERGING: Case("Both sides insist: compare asked and offered below.", False, r"Nak|Reject"),
    EndKind.CARD_DOWN: Case(
        "It is dialled when the card is back: look at cable and `ip link` (`i` is the card).", True, ""
    ),
    EndKind.LOCAL_ERROR: Case("Mend what the sentence says on this host; `d` dials it at once.", True, ""),
    EndKind.NOT_POSSIBLE: Case("Change the setting that the sentence names (`E`), then `d` dials it.", True, ""),
    EndKind.HUNG_UP: Case("`d` dials it.", True, ""),
    EndKind.ALL_STOPPED: Case("All sessions were stopped: start them again the same way.", True, ""),
}
_KINDS = sorted(CASES, key=lambda kind: -len(kind.value))


class Why(Struct, frozen=True):
    """The answer."""

    said: str
    """The last try as a sentence."""
    at: float
    """When that ended."""
    frames: frozenset[int]
    """The places in the ladder of the frames that it hangs on."""
    hangs_on: str
    """Those in words; empty where there are none."""
    advice: str
    others: tuple[str, ...]
    """What sessions with the same concentrator, service and VLAN do, a sentence each; then what follows from it."""


def why(
    view: SessionView, ladder: Sequence[LadderEntry], events: Iterable[Event], everyone: Iterable[SessionView]
) -> Why | None:
    """Why a session is not up; None for one that is, or that nobody has tried. `events` are its own, oldest first."""
    if view.up_since is not None:
        return None
    ended = next((event for event in reversed([*events]) if event.kind in ENDS), None)
    if ended is None and not view.reason:
        return None
    kind = next((kind for kind in _KINDS if view.reason.startswith(kind.value)), None)
    case = CASES[kind] if kind is not None else None
    frames = hanging(ladder, case)
    hangs_on = _in_words([ladder[place] for place in sorted(frames)], case is not None and case.sent)
    at_rest = view.state in (SessionState.DOWN, SessionState.FAILED)
    said, at = f"{view.reason[:1].upper()}{view.reason[1:]}.", view.since
    if ended is not None and (not at_rest or not view.reason or abs(ended.at - view.since) < SAME):
        said, at = ended.text, ended.at
    advice = case.advice if case is not None else "Its events (below) and frames say more; `d` tries again now."
    wished = kind in (EndKind.HUNG_UP, EndKind.ALL_STOPPED)
    return Why(said, at, frames, hangs_on, advice, () if wished else tuple(others(view, everyone)))


def last_try(ladder: Sequence[LadderEntry]) -> int:
    """Where the latest try begins: at the first of its PADIs."""
    starts = [place for place, entry in enumerate(ladder) if entry.sent and _STARTS.match(entry.summary)]
    if not starts:
        return 0
    first = starts[-1]
    for place in reversed(starts[:-1]):
        if place != first - 1 or ladder[first].at - ladder[place].at > 2 * _pause(ladder, first):
            break
        first = place
    return first


def _pause(ladder: Sequence[LadderEntry], place: int) -> float:
    """The longest pause there may be before a PADI that repeats: that to the next one, or 5 s."""
    following = ladder[place + 1].at - ladder[place].at if place + 1 < len(ladder) else 5.0
    return max(following, 5.0)


def hanging(ladder: Sequence[LadderEntry], case: Case | None) -> frozenset[int]:
    """The frames that the latest try hangs on: what had no answer, or what refused it."""
    first = last_try(ladder)
    mine = range(first, len(ladder))
    if case is not None and not case.sent:
        pattern = re.compile(case.frames) if case.frames else _REFUSES
        refusing = [place for place in mine if not ladder[place].sent and pattern.search(ladder[place].summary)]
        return frozenset(refusing[-1:] if case.frames != r"PADO\b" else refusing)
    if case is not None and not case.frames:
        return frozenset()
    answered = max((place for place in mine if not ladder[place].sent), default=first - 1)
    if case is None and answered >= first and _REFUSES.search(ladder[answered].summary):
        return frozenset({answered})
    silent = [place for place in mine if place > answered and ladder[place].sent]
    wanted = case.frames if case is not None else "."
    return frozenset(place for place in silent if re.search(wanted, ladder[place].summary))


def _in_words(frames: Sequence[LadderEntry], sent: bool) -> str:
    if not frames:
        return ""
    names = Counter(_name(entry.summary) for entry in frames)
    told = ", ".join(f"{number} × {name}" if number > 1 else name for name, number in names.items())
    span = frames[-1].at - frames[0].at
    over = f" in {span:.0f} s" if len(frames) > 1 and span >= 1 else ""
    return f"{told}{over} without an answer" if sent or frames[0].sent else f"{told} from the concentrator"


def _name(summary: str) -> str:
    return re.split(r"\s{2,}", summary, maxsplit=1)[0].strip()


_ALIKE: tuple[tuple[str, Callable[[SessionView], object], Callable[[SessionView], str]], ...] = (
    ("concentrator", lambda view: view.ac_name, lambda view: f"at {view.ac_name}"),
    ("service", lambda view: view.service, lambda view: f"with service {view.service}"),
    ("VLAN", lambda view: view.vlans, lambda view: f"on VLAN {'.'.join(map(str, view.vlans))}"),
)


def others(view: SessionView, everyone: Iterable[SessionView]) -> list[str]:
    """What the others like it do, and what follows from it."""
    rest = [other for other in everyone if other.id != view.id and other.engine == view.engine]
    said: list[str] = []
    groups: list[tuple[str, Counter[str]]] = []
    for _, get, name in _ALIKE:
        wanted = get(view)
        if not wanted:
            continue
        alike = [other for other in rest if get(other) == wanted]
        lives = Counter(map(life, alike))
        groups.append((name(view), lives))
        said.append(_sentence(lives, name(view)))
    lives = Counter(map(life, rest))
    same = sum(bool(view.reason) and other.reason == view.reason and other.up_since is None for other in rest)
    if rest and not any(alike.total() == len(rest) for _, alike in groups):
        said.append(_sentence(lives, "in all"))
    if same:
        said.append(f"{count(same)} {'other fails' if same == 1 else 'others fail'} for the same reason.")
    return said + _verdict(groups, lives, same)


def _sentence(lives: Counter[str], where: str) -> str:
    number = lives.total()
    if not number:
        return f"There is no other session {where}."
    if lives[UP] == number:
        return f"The other one {where} is up." if number == 1 else f"The {count(number)} others {where} are up."
    told = ", ".join(f"{count(lives[word])} {word}" for word in LIVES if lives[word])
    return f"The other one {where} is {told}." if number == 1 else f"Of the {count(number)} others {where}: {told}."


def _verdict(groups: Sequence[tuple[str, Counter[str]]], everyone: Counter[str], same: int) -> list[str]:
    """Where the fault is likely to be, as far as the others tell."""
    number, up = everyone.total(), everyone[UP]
    if number > 1 and not up and not everyone[COMING_UP]:
        return ["None is up: likely the line, the modem or the card."]
    for where, lives in groups:
        if lives.total() > 1 and not lives[UP] and up:
            return [f"None {where} is up and others are: likely the fault is there."]
    best = max((lives[UP] / lives.total() for _, lives in groups if lives.total()), default=0.0)
    if best >= 0.9 and not same:
        return ["Others like it are up: likely this session's own account or settings."]
    return []
