"""What names and addresses become while they are hidden, for pictures of the screen. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from engine.api.values import Event, SessionView
from souppp_tui.show.words import ADDRESS, dots
from souppp_tui.show.words import mask_addresses as hide

SOMEONE = "•••"


def name(session: int) -> str:
    """What a session is called instead."""
    return f"session {session + 1}"


def view(view: SessionView) -> SessionView:
    """A session without its name, user and addresses."""
    engine: dict[str, Any] = {"engine": hide(view.engine)} if view.engine else {}
    return replace(
        view,
        **engine,
        name=name(view.id),
        user=SOMEONE,
        reason=text(view.reason, view),
        ipv4=view.ipv4 and hide(view.ipv4),
        ipv4_peer=view.ipv4_peer and hide(view.ipv4_peer),
        dns=tuple(map(hide, view.dns)),
        ipv6=view.ipv6 and hide(view.ipv6),
        ipv6_addresses=tuple(map(hide, view.ipv6_addresses)),
        ipv6_prefixes=tuple(map(hide, view.ipv6_prefixes)),
        ac_mac=view.ac_mac and hide(view.ac_mac),
        local_mac=view.local_mac and hide(view.local_mac),
    )


def event(event: Event, views: Mapping[int, SessionView]) -> Event:
    """An event without its session's name and user, and without addresses."""
    about = views.get(event.session) if event.session is not None else None
    called = "" if not event.name else SOMEONE if event.session is None else name(event.session)
    engine: dict[str, Any] = {"engine": hide(event.engine)} if event.engine else {}
    return replace(event, **engine, name=called, text=text(event.text, about))


def text(text: str, about: SessionView | None) -> str:
    """A text, about a session if it is known which, without its name, user and addresses."""
    if about is None:
        return hide(text)
    instead = {about.user: SOMEONE, about.name: name(about.id)}
    return _secrets(about.name, about.user).sub(lambda found: instead.get(found[0]) or dots(found[0]), text)


@lru_cache(1024)
def _secrets(*words: str) -> re.Pattern[str]:
    """Finds whole words and addresses in one go: a name that is a part of an address must not break it up."""
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    holding_one = [word for word in longest_first if ADDRESS.search(word)]
    others = [word for word in longest_first if word not in holding_one]
    return re.compile("|".join([*map(_whole, holding_one), ADDRESS.pattern, *map(_whole, others)]))


def _whole(word: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return f"{before}{re.escape(word)}{after}"
