"""What happens to links while the program runs: set down, unplugged, renamed, gone."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial

from msgspec import Struct
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK, RTMGRP_LINK

from engine.host.links import Link, all_links, has_moved, link_at, link_named, parse_link
from engine.host.rtnl import Rtnl, RtnlError


class LinkChange(StrEnum):
    """What can happen to a link."""

    APPEARED = "appeared"
    GONE = "gone"
    MOVED = "moved"
    RENAMED = "renamed"
    DOWN = "down"
    UP = "up"
    CARRIER_LOST = "carrier lost"
    CARRIER_BACK = "carrier back"
    MTU = "MTU changed"
    MAC = "MAC changed"


class LinkEvent(Struct, frozen=True):
    """Something happened to a link."""

    name: str
    """Its name before that."""
    index: int
    change: LinkChange
    text: str
    """One line, full sentences."""


def changes(before: Link | None, after: Link | None, moved: bool = False) -> Iterator[LinkEvent]:
    """What happened between two looks at the same link; None where it isn't there, `moved` where it is elsewhere."""
    if before is None or after is None:
        link = before or after
        if link is not None:
            change = LinkChange.APPEARED if before is None else LinkChange.MOVED if moved else LinkChange.GONE
            yield LinkEvent(link.name, link.index, change, f"{link.name} {_COMINGS[change]}.")
        return
    name = before.name
    table = (
        (before.name != after.name, LinkChange.RENAMED, f"{name} is now called {after.name}."),
        (before.up and not after.up, LinkChange.DOWN, f"{name} was set down."),
        (before.carrier and not after.carrier, LinkChange.CARRIER_LOST, f"{name} lost its carrier: is the cable in?"),
        (before.mtu != after.mtu, LinkChange.MTU, f"The MTU of {name} is now {after.mtu} (before: {before.mtu})."),
        (before.mac != after.mac, LinkChange.MAC, f"The MAC address of {name} is now {after.mac.hex(':')}."),
        (after.up and not before.up, LinkChange.UP, f"{name} was set up."),
        (after.carrier and not before.carrier, LinkChange.CARRIER_BACK, f"{name} has a carrier again."),
    )
    for happened, change, text in table:
        if happened:
            yield LinkEvent(name, before.index, change, text)


_COMINGS = {
    LinkChange.APPEARED: "is there",
    LinkChange.GONE: "is gone",
    LinkChange.MOVED: "was moved to another network namespace",
}


Which = Callable[[], tuple[int | None, str]]
"""The index of a card at this moment, None while it isn't there, and its name."""


class LinkWatch:
    """Tells what happens to the links of the calling thread's namespace from now on."""

    def __init__(self, card: Which | None = None) -> None:
        """Or to one card alone, by its index or its name: then the kernel says nothing of others."""
        self._card = card
        self._at: tuple[int | None, str] | None = None
        self._news = Rtnl(RTMGRP_LINK)
        self._questions = Rtnl()
        self._has_turned()
        self._known = self._all()

    def _has_turned(self) -> bool:
        """Whether another card, or the same by another name, is to be heard of from now on."""
        if self._card is None or (card := self._card()) == self._at:
            return False
        self._at = card
        self._news.hear_of_link_only(*card)
        return True

    def _all(self) -> dict[int, Link]:
        if self._at is None:
            return all_links(self._questions)
        index, name = self._at
        asked = [partial(link_named, self._questions, name)]
        if index is not None:
            asked.append(partial(link_at, self._questions, index))
        found = {}
        for ask in asked:
            try:
                link = ask()
            except RtnlError as error:
                if error.errno != errno.ENODEV:
                    raise
            else:
                found[link.index] = link
        return found

    def fileno(self) -> int:
        """Readable when there may be events."""
        return self._news.fileno()

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order; never blocks for news. Raises OSError, RtnlError among them."""
        news = self._news.news()
        events: list[LinkEvent] = []
        for type_, body in news or ():
            # Bridges send messages of their own family about their ports.
            if type_ in (RTM_NEWLINK, RTM_DELLINK) and body[0] == socket.AF_UNSPEC:
                link = parse_link(body)
                before = self._known.pop(link.index, None)
                if type_ == RTM_NEWLINK:
                    self._known[link.index] = link
                moved = type_ == RTM_DELLINK and has_moved(body)
                events += changes(before, link if type_ == RTM_NEWLINK else None, moved)
        if self._has_turned() or news is None:
            events += self._look_again()
        return events

    def _look_again(self) -> list[LinkEvent]:
        """After lost news, or none so far: compare everything."""
        before, self._known = self._known, self._all()
        return [event for index in before | self._known for event in changes(before.get(index), self._known.get(index))]

    def close(self) -> None:
        """Stop watching."""
        self._news.close()
        self._questions.close()
