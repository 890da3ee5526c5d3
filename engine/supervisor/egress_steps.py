"""What the events of a session ask of its egress. Pure, but for the egress it is handed."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from engine.api.values import SessionState
from engine.egress.protocol import Addresses, Egress
from engine.ipv6.host import Ipv6Configured
from engine.ppp.link_events import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, MtuVerified
from engine.sessions.session import Session, SessionEvent
from engine.sessions.states import IDLE, SETTING_UP

_ENDING = {SessionState.HANGING_UP, *IDLE}
"""States in which a session gets no address any more."""
_NOTHING = Addresses()
_OF_ADDRESSES = (Ipv4Opened, Ipv4Closed, Ipv6Opened, Ipv6Configured, Ipv6Closed, MtuVerified)
"""Events that ask anything of an egress while there is no end."""


class Had(Struct):
    """Addresses of a session.

    They are kept from event to event, not read off the session: by the time that one event is heeded the session may
    have an address that a later one brought, and that is not to be kept.
    """

    wanted: Addresses = field(default_factory=Addresses)
    """Those that it has, as far as its events have been heeded."""
    told: Addresses = field(default_factory=Addresses)
    """Those that its egress was told to have last."""
    due: bool = False
    """Whether its egress is to be told of them, be it of the same once more."""


def prepare(egress: Egress, key: int, session: Session) -> None:
    """Once the concentrator has let a session in it mostly comes up: a device is made while it gets its address."""
    if session.state is SessionState.GETTING_ADDRESS:
        egress.prepare(key, session.settings, session.mtu or session.mru)


def heed(egress: Egress, key: int, session: Session, event: SessionEvent, had: Had) -> None:
    """Take in what an event says, and do what can't wait. Raises Trouble.

    What is taken away can't: it may be another session's with the next event.
    """
    if session.state not in _ENDING and not isinstance(event, _OF_ADDRESSES):
        return
    before, had.wanted = had.wanted, _after(event, had.wanted)
    if isinstance(event, MtuVerified):
        egress.set_mtu(key, min(event.mtu, session.mru))
    elif session.state in _ENDING:  # its device goes as a whole: taking each address off it first is most of the work
        had.due = False
        if isinstance(event, Ipv4Closed | Ipv6Closed):
            egress.close(key)
    elif had.wanted != before or isinstance(event, Ipv4Opened | Ipv6Opened):
        had.due = True
        if _lacks(had.wanted, before):
            follow(egress, key, session, had)


def _lacks(now: Addresses, before: Addresses) -> bool:
    """Whether it had anything before that it hasn't now."""
    return (
        before.ipv4 not in (now.ipv4, None)
        or before.ipv6 not in (now.ipv6, None)
        or not {*before.global6, *before.prefixes6} <= {*now.global6, *now.prefixes6}
    )


def follow(egress: Egress, key: int, session: Session, had: Had) -> None:
    """Have an egress in line with what several events have said, once for all of them. Raises Trouble.

    A session that is on its way up gets all that it has by then when it is up: IPv6 mostly comes a moment before.
    """
    if not had.due or session.state in _ENDING or (session.state in SETTING_UP and had.told == _NOTHING):
        return
    had.due, had.told = False, had.wanted
    mtu = session.mtu or session.mru
    if session.place is not None:
        egress.open(key, session.settings, session.place, mtu)
    egress.set_addresses(key, had.wanted, mtu)


def _after(event: SessionEvent, had: Addresses) -> Addresses:
    match event:
        case Ipv4Opened(agreed):
            return replace(had, ipv4=agreed.address, peer=agreed.peer)
        case Ipv4Closed():
            return replace(had, ipv4=None, peer=None)
        case Ipv6Opened(agreed6):
            return replace(had, ipv6=agreed6.address)
        case Ipv6Configured(config):
            return replace(
                had,
                global6=config.addresses,
                deprecated6=config.deprecated,
                prefixes6=config.prefixes,
                mtu6=config.mtu,
            )
        case Ipv6Closed():
            return replace(had, ipv6=None, global6=(), deprecated6=frozenset(), prefixes6=(), mtu6=None)
        case _:
            return had
