"""One Ethernet frame in words, for the ladder of the details screen and for logs.

Each layer is a function that appends its fields and returns its part of the summary, with that of the layer inside it.
What codes mean stands in tables: PPP protocol -> code -> name and body; a tag's or option's type -> name and value.

Secrets are left out: of a PAP password and a CHAP response only the length is told, and packets that a peer sends back
as rejected are not shown, because they may hold either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from engine.ppp import ipcp, ipv6cp, lcp
from engine.record import describe_ipv6
from engine.wire import auth, control, ethernet, ppp, pppoe
from engine.wire.auth import ChapCode, PapCode
from engine.wire.control import Ipv6cpOption, Option
from engine.wire.errors import Malformed, WireError
from engine.wire.ppp import Protocol
from engine.wire.pppoe import ERROR_TAGS, PppoePacket, TagType
from engine.wire.text import printable

Fields = list[tuple[str, str]]
Part = Callable[[bytes, Fields], str]
"""Appends the fields of some octets and returns their part of the summary; raises WireError."""

MAX_SHOWN = 64
"""Octets shown in hex of one value."""
MAX_BRIEF = 40
"""Characters of one value in a summary."""


class Described(Struct, frozen=True):
    """One frame in words."""

    summary: str
    """One line, as in `LCP Configure-Request  id 1  MRU 1492, magic 0xaafc326c`."""
    fields: tuple[tuple[str, str], ...]
    """Name and value of every field, outermost first; a name may come more than once."""


def describe(frame: bytes) -> Described:
    """Describe an Ethernet frame. Raises nothing: where a frame is malformed, it says so and how."""
    fields: Fields = [("frame", f"{len(frame)} octets")]
    return Described(_read(_ethernet, frame, fields), tuple(fields))


def _read(part: Part, data: bytes, fields: Fields) -> str:
    try:
        return part(data, fields)
    except WireError as error:
        fields.append(("malformed", str(error)))
        return f"malformed: {error}"


# Values


def _hex(value: bytes) -> str:
    shown = value[:MAX_SHOWN].hex()
    return shown if len(value) <= MAX_SHOWN else f"{shown}… ({len(value)} octets)"


def _quoted(value: bytes) -> str:
    return f'"{printable(value)}"'


def _number(value: bytes) -> str:
    return str(int.from_bytes(value, "big")) if len(value) == 2 else _hex(value)


def _cut(text: str, length: int = MAX_BRIEF) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# Ethernet


def _ethernet(data: bytes, fields: Fields) -> str:
    frame = ethernet.decode(data)
    name, part = _ETHERTYPES.get(frame.ethertype, ("not PPPoE", _length_only))
    fields += [("destination", ethernet.format_mac(frame.dst)), ("source", ethernet.format_mac(frame.src))]
    for tag in frame.vlans:
        dei = ", drop eligible" if tag.dei else ""
        fields.append(("VLAN", f"{tag.vid}, priority {tag.priority}{dei}, TPID 0x{tag.tpid:04x}"))
    fields.append(("EtherType", f"0x{frame.ethertype:04x} ({name})"))
    summary = _read(part, frame.payload, fields)
    return summary if frame.ethertype in _ETHERTYPES else f"EtherType 0x{frame.ethertype:04x}  {summary}"


def _length_only(data: bytes, fields: Fields) -> str:
    fields.append(("data", f"{len(data)} octets"))
    return f"{len(data)} octets"


# PPPoE


def _pppoe(data: bytes, fields: Fields) -> tuple[PppoePacket, str]:
    packet = pppoe.decode(data)
    name = _PPPOE_CODES.get(packet.code, f"PPPoE code 0x{packet.code:02x}")
    fields += [
        ("PPPoE code", f"{name} (0x{packet.code:02x})"),
        ("session id", f"{packet.session_id:04x}"),
        ("PPPoE length", str(len(packet.payload))),
    ]
    if padding := len(data) - pppoe.HEADER - len(packet.payload):
        fields.append(("padding", f"{padding} octets"))
    return packet, name


def _discovery(data: bytes, fields: Fields) -> str:
    packet, name = _pppoe(data, fields)
    told = [_session_text(packet)] if packet.code in (pppoe.Code.PADS, pppoe.Code.PADT) else []
    told.append(_read(partial(_tags, _TAGS_TOLD.get(packet.code, ())), packet.payload, fields))
    return f"{name}   {', '.join(filter(None, told))}".rstrip()


def _session_text(packet: PppoePacket) -> str:
    return f"session {packet.session_id:04x}" if packet.session_id else "no session"


def _tags(told: tuple[TagType, ...], data: bytes, fields: Fields) -> str:
    tags = pppoe.decode_tags(data)
    for tag in tags:
        kind = _TAGS.get(tag.type)
        fields.append((kind.name, kind.value(tag.value)) if kind else (f"tag 0x{tag.type:04x}", _hex(tag.value)))
    present = {tag.type: tag.value for tag in reversed(tags)}
    return ", ".join(_TAGS[kind].brief(present[kind]) for kind in (*told, *ERROR_TAGS) if kind in present)


def _vendor(value: bytes) -> str:
    """TR-101 line identification in words, any other vendor's data in hex."""
    if value[:4] != pppoe.DSL_FORUM_VENDOR_ID.to_bytes(4, "big"):
        return f"vendor 0x{value[:4].hex()}, {len(value[4:])} octets"
    told, rest = [], value[4:]
    while len(rest) >= 2:
        name = {1: "circuit id", 2: "remote id"}.get(rest[0], f"sub-tag {rest[0]}")
        told.append(f"{name} {_quoted(rest[2 : 2 + rest[1]])}")
        rest = rest[2 + rest[1] :]
    return ", ".join(["Broadband Forum", *told])


def _session(data: bytes, fields: Fields) -> str:
    packet, name = _pppoe(data, fields)
    if packet.code != pppoe.Code.SESSION:
        return f"{name} in a session frame"
    return _read(_ppp, packet.payload, fields)


# PPP


def _ppp(data: bytes, fields: Fields) -> str:
    protocol, information = ppp.decode(data)
    name = _PROTOCOLS.get(protocol, f"protocol 0x{protocol:04x}")
    fields.append(("protocol", _protocol_text(protocol)))
    codes = _CODES.get(protocol)
    if protocol == Protocol.IPV6:
        return f"{name} {_read(describe_ipv6.packet, information, fields)}"
    if codes is None:
        return f"{name}  {_read(_length_only, information, fields)}"
    return f"{name} {_read(partial(_control, codes), information, fields)}"


def _protocol_text(protocol: int) -> str:
    return f"{_PROTOCOLS.get(protocol, 'unknown')} (0x{protocol:04x})"


def _control(codes: Mapping[int, _CodeKind], data: bytes, fields: Fields) -> str:
    packet = control.decode(data)
    kind = codes.get(packet.code, _CodeKind(f"code {packet.code}", _length_only))
    fields += [
        ("code", f"{kind.name} ({packet.code})"),
        ("identifier", str(packet.identifier)),
        ("length", str(len(packet.data) + 4)),
    ]
    return f"{kind.name}  id {packet.identifier}  {_read(kind.body, packet.data, fields)}".rstrip()


def _options(naming: _Naming, data: bytes, fields: Fields) -> str:
    told = []
    for option in control.decode_options(data):
        name, value = naming.name(option.type), naming.value(option)
        fields.append((name, value))
        told.append(name if value == "yes" else f"{name} {_cut(value)}")
    return ", ".join(told)


def _reason(data: bytes, fields: Fields) -> str:
    if not data:
        return ""
    fields.append(("reason", _quoted(data)))
    return _quoted(data)


def _rejected_code(names: Mapping[int, str], data: bytes, fields: Fields) -> str:
    if not data:
        raise WireError(Malformed.TRUNCATED)
    text = f"{names.get(data[0], 'code')} ({data[0]})"
    fields += [("rejected code", text), ("rejected packet", f"{len(data)} octets, not shown")]
    return text


def _rejected_protocol(data: bytes, fields: Fields) -> str:
    if len(data) < 2:
        raise WireError(Malformed.TRUNCATED)
    text = _protocol_text(data[0] << 8 | data[1])
    fields += [("rejected protocol", text), ("rejected packet", f"{len(data) - 2} octets, not shown")]
    return text


def _magic(data: bytes, fields: Fields) -> bytes:
    """Takes the magic number off; returns what follows it."""
    if len(data) < 4:
        raise WireError(Malformed.TRUNCATED)
    fields.append(("magic", f"0x{data[:4].hex()}"))
    return data[4:]


def _echo(data: bytes, fields: Fields) -> str:
    if rest := _magic(data, fields):
        _length_only(rest, fields)
    return ""


def _identification(data: bytes, fields: Fields) -> str:
    text = _quoted(_magic(data, fields))
    fields.append(("message", text))
    return text


def _time_remaining(data: bytes, fields: Fields) -> str:
    rest = _magic(data, fields)
    if len(rest) < 4:
        raise WireError(Malformed.TRUNCATED)
    seconds = f"{int.from_bytes(rest[:4], 'big')} s"
    fields += [("time remaining", seconds), ("message", _quoted(rest[4:]))]
    return seconds


# Authentication


def _pap_request(data: bytes, fields: Fields) -> str:
    user, password = auth.decode_pap_request(data)
    fields += [("user", printable(user)), ("password", f"not shown ({len(password)} octets)")]
    return f"user {printable(user)}"


def _pap_message(data: bytes, fields: Fields) -> str:
    return _message(auth.decode_pap_message(data), fields)


def _message(data: bytes, fields: Fields) -> str:
    if not data:
        return ""
    # MS-CHAPv2's Success proves that the peer knows the password, by a digest made from it (RFC 2759 section 5).
    text = re.sub(r"S=[0-9A-Fa-f]+", "S=…", _quoted(data))
    fields.append(("message", text))
    return text


def _challenge(data: bytes, fields: Fields) -> str:
    value, name = auth.decode_chap_value(data)
    fields += [("challenge", _hex(value)), ("name", printable(name))]
    return f"from {printable(name)}" if name else ""


def _response(data: bytes, fields: Fields) -> str:
    value, name = auth.decode_chap_value(data)
    fields += [("response", f"not shown ({len(value)} octets)"), ("name", printable(name))]
    return f"user {printable(name)}"


# Tables


class _TagKind(Struct, frozen=True):
    name: str
    value: Callable[[bytes], str]
    brief: Callable[[bytes], str]
    """Its part of a summary."""


class _CodeKind(Struct, frozen=True):
    name: str
    body: Part


class _Naming(Struct, frozen=True):
    """How options of one protocol are named."""

    name: Callable[[int], str]
    value: Callable[[Option], str]


def _error_tag(name: str) -> _TagKind:
    return _TagKind(name, _quoted, lambda value: f"{name} {_quoted(value)}" if value else name)


_ETHERTYPES: dict[int, tuple[str, Part]] = {
    ethernet.ETH_PPPOE_DISCOVERY: ("PPPoE discovery", _discovery),
    ethernet.ETH_PPPOE_SESSION: ("PPPoE session", _session),
}

_PPPOE_CODES: dict[int, str] = {code: code.name for code in pppoe.Code}

_TAGS: dict[int, _TagKind] = {
    TagType.SERVICE_NAME: _TagKind("Service-Name", _quoted, lambda value: f"service {_quoted(value)}"),
    TagType.AC_NAME: _TagKind("AC-Name", printable, printable),
    TagType.HOST_UNIQ: _TagKind("Host-Uniq", _hex, lambda value: f"host-uniq {_cut(value.hex(), 7)}"),
    TagType.AC_COOKIE: _TagKind("AC-Cookie", _hex, lambda value: f"cookie {len(value)} B"),
    TagType.VENDOR_SPECIFIC: _TagKind("Vendor-Specific", _vendor, _vendor),
    TagType.RELAY_SESSION_ID: _TagKind("Relay-Session-Id", _hex, lambda value: f"relay id {len(value)} B"),
    TagType.PPP_MAX_PAYLOAD: _TagKind("PPP-Max-Payload", _number, lambda value: f"max payload {_number(value)}"),
    TagType.SERVICE_NAME_ERROR: _error_tag("Service-Name-Error"),
    TagType.AC_SYSTEM_ERROR: _error_tag("AC-System-Error"),
    TagType.GENERIC_ERROR: _error_tag("Generic-Error"),
}

_TAGS_TOLD: dict[int, tuple[TagType, ...]] = {
    pppoe.Code.PADI: (TagType.SERVICE_NAME, TagType.PPP_MAX_PAYLOAD, TagType.HOST_UNIQ),
    pppoe.Code.PADO: (TagType.AC_NAME, TagType.PPP_MAX_PAYLOAD, TagType.AC_COOKIE),
    pppoe.Code.PADR: (TagType.SERVICE_NAME, TagType.PPP_MAX_PAYLOAD, TagType.AC_COOKIE),
    pppoe.Code.PADS: (TagType.PPP_MAX_PAYLOAD,),
}
"""The tags that a summary tells, in this order; those that refuse always come after them."""

_PROTOCOLS: dict[int, str] = {
    Protocol.IPV4: "IPv4",
    Protocol.IPV6: "IPv6",
    Protocol.IPCP: "IPCP",
    Protocol.IPV6CP: "IPv6CP",
    Protocol.LCP: "LCP",
    Protocol.PAP: "PAP",
    Protocol.CHAP: "CHAP",
    Protocol.EAP: "EAP",
    0x003D: "Multilink",
    0x00FD: "compressed data",
    0x0281: "MPLS",
    0x8053: "ECP",
    0x80FD: "CCP",
    0x8281: "MPLSCP",
    0xC025: "LQR",
}

_CONTROL_NAMES: dict[int, str] = {code: code.name.title().replace("_", "-") for code in control.Code}


def _control_protocol(naming: _Naming) -> dict[int, _CodeKind]:
    """The codes that every protocol made like LCP has."""
    bodies: dict[int, Part] = {
        **dict.fromkeys(range(1, 5), partial(_options, naming)),
        **dict.fromkeys(range(5, 7), _reason),
        control.Code.CODE_REJECT: partial(_rejected_code, _CONTROL_NAMES),
    }
    return {code: _CodeKind(_CONTROL_NAMES[code], body) for code, body in bodies.items()}


_LCP_BODIES: dict[int, Part] = {
    control.Code.PROTOCOL_REJECT: _rejected_protocol,
    control.Code.ECHO_REQUEST: _echo,
    control.Code.ECHO_REPLY: _echo,
    control.Code.DISCARD_REQUEST: _echo,
    control.Code.IDENTIFICATION: _identification,
    control.Code.TIME_REMAINING: _time_remaining,
}


def _ipv6cp_name(kind: int) -> str:
    return "address" if kind == Ipv6cpOption.INTERFACE_IDENTIFIER else f"option {kind}"


def _ipv6cp_value(option: Option) -> str:
    """The link-local address that an identifier makes."""
    if option.type == Ipv6cpOption.INTERFACE_IDENTIFIER and len(option.value) == 8:
        return str(ipv6cp.link_local(option.value))
    return _hex(option.value)


_UNKNOWN_OPTIONS = _Naming(lambda kind: f"option {kind}", lambda option: _hex(option.value) or "yes")

_CODES: dict[int, dict[int, _CodeKind]] = {
    Protocol.LCP: {
        **_control_protocol(_Naming(lcp.option_name, lcp.value_text)),
        **{code: _CodeKind(_CONTROL_NAMES[code], body) for code, body in _LCP_BODIES.items()},
    },
    Protocol.IPCP: _control_protocol(_Naming(ipcp.option_name, ipcp.value_text)),
    Protocol.IPV6CP: _control_protocol(_Naming(_ipv6cp_name, _ipv6cp_value)),
    0x80FD: _control_protocol(_UNKNOWN_OPTIONS),
    0x8053: _control_protocol(_UNKNOWN_OPTIONS),
    0x8281: _control_protocol(_UNKNOWN_OPTIONS),
    Protocol.PAP: {
        PapCode.REQUEST: _CodeKind("Authenticate-Request", _pap_request),
        PapCode.ACK: _CodeKind("Authenticate-Ack", _pap_message),
        PapCode.NAK: _CodeKind("Authenticate-Nak", _pap_message),
    },
    Protocol.CHAP: {
        ChapCode.CHALLENGE: _CodeKind("Challenge", _challenge),
        ChapCode.RESPONSE: _CodeKind("Response", _response),
        ChapCode.SUCCESS: _CodeKind("Success", _message),
        ChapCode.FAILURE: _CodeKind("Failure", _message),
    },
    Protocol.EAP: {
        code: _CodeKind(name, _length_only)
        for code, name in enumerate(("Request", "Response", "Success", "Failure"), 1)
    },
}
