"""Faults to order: what a concentrator, or someone who gets at its line, can do to an open session.

`FAULTS` is a table of functions by name; each does one thing to one open session of a concentrator. What a concentrator
refuses is in `REFUSALS`; what the line itself does to frames is in `engine.lab.line`.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.lab import rogue
from engine.lab.concentrator import Concentrator
from engine.pppoe.concentrator import Refusal
from engine.settings.values import AuthMethod
from engine.wire import control, ppp
from engine.wire.control import Code, ControlPacket, LcpOption, Option
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code as PppoeCode
from engine.wire.pppoe import TagType

Fault = Callable[[Concentrator, int, float], None]
"""(concentrator, session id, now)."""


def _say(protocol: int, code: int, data: bytes = b"", identifier: int = 0xE7) -> Fault:
    """A packet out of the blue."""
    packet = ppp.encode(protocol, control.encode(ControlPacket(code, identifier, data)))
    return lambda concentrator, session_id, now: concentrator.say(session_id, packet)


def _deliver(packet: bytes) -> Fault:
    """An IP packet that is not for the likes of a client."""
    payload = ppp.encode(Protocol.IPV4 if packet[0] >> 4 == 4 else Protocol.IPV6, packet)
    return lambda concentrator, session_id, now: concentrator.say(session_id, payload)


def _stray(concentrator: Concentrator, session_id: int, now: float) -> None:
    """Packets that are not for the client, and some that seem to come from itself."""
    own = concentrator.subscribers[session_id].grant.client
    for packet in rogue.strays([own], [rogue.SOMEWHERE4, rogue.SOMEWHERE], 9).values():
        _deliver(packet)(concentrator, session_id, now)


def _restart(concentrator: Concentrator, session_id: int, now: float) -> None:
    concentrator.restart()


def _ask_for(*methods: AuthMethod) -> Fault:
    """LCP all over, with another authentication, or none."""
    return lambda concentrator, session_id, now: concentrator.renegotiate(session_id, now, methods)


def _hang_up(concentrator: Concentrator, session_id: int, now: float) -> None:
    concentrator.hang_up(session_id, now)


_ODD_OPTIONS = control.encode_options(
    (Option(LcpOption.ACCM, bytes(4)), Option(LcpOption.PFC), Option(0xC8, b"what?"), Option(LcpOption.MAGIC, b"magi"))
)

FAULTS: dict[str, Fault] = {
    "Terminate-Request": _hang_up,
    "PADT": Concentrator.cut,
    "silent death": Concentrator.drop,
    "restart": _restart,
    "new challenge": Concentrator.challenge,
    "renegotiation": Concentrator.renegotiate,
    "renegotiation with PAP": _ask_for(AuthMethod.PAP),
    "renegotiation without authentication": _ask_for(),
    "odd options": _say(Protocol.LCP, Code.CONFIGURE_REQUEST, _ODD_OPTIONS),
    "late Configure-Ack": _say(Protocol.LCP, Code.CONFIGURE_ACK),
    "late Configure-Nak": _say(Protocol.IPCP, Code.CONFIGURE_NAK, b"\3\6\1\2\3\4"),
    "late Terminate-Ack": _say(Protocol.LCP, Code.TERMINATE_ACK),
    "IPCP Terminate-Request": _say(Protocol.IPCP, Code.TERMINATE_REQUEST),
    "unknown code": _say(Protocol.LCP, 0x63, b"what?"),
    "unknown protocol": _say(0x80FD, Code.CONFIGURE_REQUEST),
    "EAP": _say(Protocol.EAP, 1, b"\1"),
    "Router Advertisement": _deliver(rogue.router_advertisement()),
    "hidden Router Advertisement": _deliver(rogue.hidden_router_advertisement()),
    "Redirect": _deliver(rogue.redirect(rogue.ROGUE, rogue.SOMEWHERE, rogue.ALL_NODES)),
    "stray packets": _stray,
    "Code-Reject of an echo": _say(Protocol.LCP, Code.CODE_REJECT, bytes((Code.ECHO_REQUEST,))),
    "Code-Reject of a request": _say(Protocol.LCP, Code.CODE_REJECT, bytes((Code.CONFIGURE_REQUEST,))),
    "Protocol-Reject of IPv6CP": _say(Protocol.LCP, Code.PROTOCOL_REJECT, Protocol.IPV6CP.to_bytes(2, "big")),
    "Protocol-Reject of IPCP": _say(Protocol.LCP, Code.PROTOCOL_REJECT, Protocol.IPCP.to_bytes(2, "big")),
}

REFUSALS: dict[str, Refusal] = {
    "no such service": Refusal(PppoeCode.PADS, TagType.SERVICE_NAME_ERROR, ""),
    "system error": Refusal(PppoeCode.PADS, TagType.AC_SYSTEM_ERROR, "Out of resources"),
    "generic error": Refusal(PppoeCode.PADS, TagType.GENERIC_ERROR, "Größere Störung"),
    "session limit": Refusal(PppoeCode.PADS, TagType.AC_SYSTEM_ERROR, "Too many sessions"),
    "refused in the PADO": Refusal(PppoeCode.PADO, TagType.AC_SYSTEM_ERROR, "Overloaded"),
}
