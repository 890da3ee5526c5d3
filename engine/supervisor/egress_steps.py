"""What the events of a session ask of its egress. Pure, but for the egress it is handed."""

from __future__ import annotations

from dataclasses import replace

from engine.api.values import SessionState
from engine.egress.protocol import Addresses, Egress
from engine.ipv6.host import Ipv6Configured
from engine.ppp.link import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, MtuVerified
from engine.sessions.session import Session, SessionEvent
from engine.sessions.states import IDLE

_ENDING = {SessionState.HANGING_UP, *IDLE}
"""States in which a session gets no address any more."""


def follow(egress: Egress, key: int, session: Session, event: SessionEvent, had: Addresses) -> Addresses:
    """Do what an event asks for; returns the addresses that the session has from now on. Raises Trouble.

    They are kept from event to event, not read off the session: by the time that one event is heeded the session may
    have an address that a later one brought, and that is not to be kept.
    """
    addresses = _after(event, had)
    if isinstance(event, MtuVerified):
        egress.set_mtu(key, min(event.mtu, session.mru))
    elif session.state in _ENDING:  # its device goes as a whole: taking each address off it first is most of the work
        if isinstance(event, Ipv4Closed | Ipv6Closed):
            egress.close(key)
    elif addresses != had or isinstance(event, Ipv4Opened | Ipv6Opened):
        mtu = session.mtu or session.mru
        if session.place is not None:
            egress.open(key, session.settings, session.place, mtu)
        egress.set_addresses(key, addresses, mtu)
    return addresses


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
