"""What happens to links while the program runs: set down, unplugged, renamed, gone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum

from msgspec import Struct
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK, RTMGRP_LINK

from engine.host.links import Link, all_links, has_moved, link_index, link_name, parse_link
from engine.host.rtnl import Rtnl


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


Concerns = Callable[[int, str], bool]
"""Whether a link is of any interest, by its index and name."""


class LinkWatch:
    """Tells what happens to the links of the calling thread's namespace from now on."""

    def __init__(self, concerns: Concerns = lambda index, name: True, but_from: Collection[int] = ()) -> None:
        """Without what happens to links that are none of the caller's `concerns`, before and after.

        Nor is it woken for what is asked for from the netlink ports `but_from`.
        """
        self._concerns = concerns
        self._news = Rtnl(RTMGRP_LINK)
        if but_from:
            self._news.hear_others_only(*but_from)
        self._questions = Rtnl()
        self._known = self._all()

    def _all(self) -> dict[int, Link]:
        links = all_links(self._questions)
        return {index: link for index, link in links.items() if self._concerns(index, link.name)}

    def fileno(self) -> int:
        """Readable when there may be events."""
        return self._news.fileno()

    def events(self) -> list[LinkEvent]:
        """What happened since the last call, in order; never blocks for news. Raises OSError, RtnlError among them."""
        news = self._news.news()
        if news is None:
            return self._look_again()
        events: list[LinkEvent] = []
        for type_, body in news:
            # Bridges send messages of their own family about their ports.
            if type_ in (RTM_NEWLINK, RTM_DELLINK) and body[0] == socket.AF_UNSPEC:
                index = link_index(body)
                if index not in self._known and not self._concerns(index, link_name(body)):
                    continue
                link = parse_link(body)
                before = self._known.pop(link.index, None)
                if type_ == RTM_NEWLINK:
                    self._known[link.index] = link
                moved = type_ == RTM_DELLINK and has_moved(body)
                events += changes(before, link if type_ == RTM_NEWLINK else None, moved)
        return events

    def _look_again(self) -> list[LinkEvent]:
        """After lost news: compare everything."""
        before, self._known = self._known, self._all()
        return [event for index in before | self._known for event in changes(before.get(index), self._known.get(index))]

    def close(self) -> None:
        """Stop watching."""
        self._news.close()
        self._questions.close()
