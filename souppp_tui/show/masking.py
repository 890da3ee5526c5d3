"""What names and addresses become while they are hidden, for pictures of the screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.api.values import Event, SessionView
from souppp_tui.show.words import mask_addresses as hide

SOMEONE = "•••"


def name(session: int) -> str:
    """What a session is called instead."""
    return f"session {session + 1}"


def view(view: SessionView) -> SessionView:
    """A session without its name, user and addresses."""
    return replace(
        view,
        name=name(view.id),
        user=SOMEONE,
        reason=text(view.reason, view),
        ipv4=view.ipv4 and hide(view.ipv4),
        ipv4_peer=view.ipv4_peer and hide(view.ipv4_peer),
        dns=tuple(map(hide, view.dns)),
        ipv6=view.ipv6 and hide(view.ipv6),
        ipv6_prefix=view.ipv6_prefix and hide(view.ipv6_prefix),
        ac_mac=view.ac_mac and hide(view.ac_mac),
        local_mac=view.local_mac and hide(view.local_mac),
    )


def event(event: Event, views: Mapping[int, SessionView]) -> Event:
    """An event without its session's name and user, and without addresses."""
    about = views.get(event.session) if event.session is not None else None
    called = "" if not event.name else SOMEONE if event.session is None else name(event.session)
    return replace(event, name=called, text=text(event.text, about))


def text(text: str, about: SessionView | None) -> str:
    """A text, about a session if it is known which, without its name, user and addresses."""
    if about is not None:
        text = text.replace(about.name, name(about.id))
        if about.user:
            text = text.replace(about.user, SOMEONE)
    return hide(text)
