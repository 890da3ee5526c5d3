"""What happened to a session, in an operator's words."""

from __future__ import annotations

from typing import NamedTuple

from engine.api.ending import EndKind
from engine.api.spans import wait
from engine.api.values import SessionState, Severity
from engine.ipv6.host import Ipv6Config, Ipv6Configured
from engine.ppp.link_events import Authenticated, Ipv4Opened, Ipv6Opened, MtuVerified, Notice, ProtocolMissing
from engine.record.events import Facts
from engine.sessions.session import Ended, PppoeOpened, SentInClear, SessionEvent, StateChanged
from engine.settings.values import DEFAULT_MRU
from engine.wire.ethernet import format_mac
from engine.wire.ppp import Protocol


class Story(NamedTuple):
    """An event before it gets its number."""

    severity: Severity
    kind: str
    text: str


_SEVERITIES = {
    EndKind.HUNG_UP: Severity.INFO,
    EndKind.PROGRAM_ENDS: Severity.INFO,
    EndKind.ALL_STOPPED: Severity.DEBUG,  # as with a card that goes
    EndKind.UNWANTED_ADDRESS: Severity.INFO,
    EndKind.CARD_DOWN: Severity.DEBUG,  # one cause is one event: the card's own says how many are lost
}
"""How much an end matters; of all other kinds, as a warning."""


def tell(event: SessionEvent, ac_name: str | None, redial_in: float | None) -> Story | None:
    """The story of one event, None for those that say nothing new; `redial_in` is the pause before the next dial."""
    match event:
        case StateChanged(SessionState.DIALLING):
            return Story(Severity.DEBUG, "dialling", "Looking for a concentrator.")
        case PppoeOpened(place, resumed=True):
            text = f"Session {place.session_id:04x} with {_concentrator(ac_name, place.peer_mac)} goes on."
            return Story(Severity.INFO, "resumed", text)
        case PppoeOpened(place, lacks):
            text = f"Session {place.session_id:04x} opened with {_concentrator(ac_name, place.peer_mac)}."
            return Story(Severity.INFO, "pppoe-open", f"{text} Its offer has no {lacks}." if lacks else text)
        case Authenticated(method, message):
            said = f': "{message}"' if message else ""
            return Story(Severity.DEBUG, "authenticated", f"Authenticated by {method}{said}.")
        case SentInClear(mac, name):
            text = f"The password goes to {_concentrator(name, mac)} in clear (PAP), for all on the line to read."
            return Story(Severity.WARNING, "in-clear", f"{text} `auth: [mschapv2, chap]` refuses that.")
        case Ipv4Opened(agreed):
            dns = ", ".join(map(str, agreed.dns)) or "none"
            return Story(Severity.INFO, "ipv4-up", f"Up with address {agreed.address}, DNS {dns}.")
        case Ipv6Opened(agreed):
            return Story(Severity.DEBUG, "ipv6-up", f"IPv6 is open with link-local address {agreed.address}.")
        case Ipv6Configured(config, before) if _same_addresses(config, before):
            return None
        case Ipv6Configured(config) if config.addresses or config.prefixes:
            addresses = ", ".join(map(str, config.addresses)) or "none"
            prefixes = f", delegated {', '.join(map(str, config.prefixes))}" if config.prefixes else ""
            return Story(Severity.INFO, "ipv6-addresses", f"IPv6 addresses: {addresses}{prefixes}.")
        case Ipv6Configured():
            return Story(Severity.INFO, "ipv6-addresses", "No IPv6 address but the link-local one.")
        case MtuVerified(mtu):
            severity = Severity.INFO if mtu > DEFAULT_MRU else Severity.WARNING
            return Story(severity, "mtu", f"The path carries packets of {mtu} octets.")
        case ProtocolMissing(protocol, why):
            family = "IPv4" if protocol is Protocol.IPCP else "IPv6"
            severity = Severity.WARNING if protocol is Protocol.IPCP else Severity.DEBUG
            return Story(severity, "no-protocol", f"No {family} on this session: {why}. It is asked for again.")
        case Notice(text):
            return Story(Severity.WARNING, "notice", text)
        case Ended(end):
            severity = _SEVERITIES.get(end.kind, Severity.WARNING)
            return Story(severity, "session-down" if end.was_up else "dial-failed", end.text + _next(redial_in))
        case _:
            return None


def facts(event: SessionEvent, ac_name: str | None, retry_at: float | None) -> Facts:
    """What an event tells, for scripts: `engine.api.values.FACTS`; `retry_at` is a Unix time."""
    told: dict[str, str | int | float | None] = {}
    match event:
        case PppoeOpened(place):
            told = {"session_id": place.session_id, "ac_name": ac_name, "ac_mac": format_mac(place.peer_mac)}
        case Authenticated(method):
            told = {"method": str(method)}
        case Ipv4Opened(agreed):
            told = {"address": str(agreed.address), "dns": " ".join(map(str, agreed.dns))}
        case Ipv6Opened(agreed):
            told = {"ipv6": str(agreed.address)}
        case Ipv6Configured(config):
            addresses, prefixes = (" ".join(map(str, each)) for each in (config.addresses, config.prefixes))
            told = {"ipv6_addresses": addresses, "ipv6_prefixes": prefixes}
        case MtuVerified(mtu):
            told = {"mtu": mtu}
        case Ended(end):
            told = {"reason": end.kind.name.lower(), "retry_at": retry_at}
    return tuple((name, value) for name, value in told.items() if value not in (None, ""))


def _same_addresses(config: Ipv6Config, before: Ipv6Config) -> bool:
    """Whether only something else has changed: name servers, the MTU, which address is deprecated."""
    return {*config.addresses, *config.prefixes} == {*before.addresses, *before.prefixes}


def _concentrator(name: str | None, mac: bytes) -> str:
    """It may have given no name."""
    return f"{name} ({format_mac(mac)})" if name else format_mac(mac)


def _next(redial_in: float | None) -> str:
    if redial_in is None:
        return ""
    return " Dialling again now." if redial_in < 0.5 else f" Trying again in {wait(redial_in)}."
