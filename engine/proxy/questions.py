"""A question to a DNS server, and what an answer to it says. Octets to values, pure.

RFC 1035; RFC 2308 for what does not exist; RFC 6891's OPT record for long answers. Letters of the name are large or
small at random, and an answer must repeat them: with the identifier and the port that is what a forger has to guess.
Names are read by dnspython, the rest here: an answer may be long, and most of it is of no use.
"""

from __future__ import annotations

import struct
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address

import dns.exception
import dns.name
from msgspec import Struct

from engine.proxy.exits import Address

UDP_SIZE = 1232
"""Octets of an answer that pass every path in one packet (DNS flag day 2020)."""
MOST_RECORDS = 2000
"""That are looked at; nobody has a use for an answer with more."""
MOST_ADDRESSES = 32
"""That are kept."""
LONGEST_CHAIN = 16
"""Aliases from the name that was asked for to the one that has addresses."""
LONGEST_TTL = 86_400.0
LONGEST_ABSENCE = 900.0
"""Seconds for which something's not being there is believed."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_RESPONSE, _OPCODE, _TRUNCATED, _WANT_RECURSION, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_IN, _CNAME, _SOA = 1, 5, 6
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP = 0, 1, 3, 4
_OPT = struct.pack("!BHHIH", 0, 41, UDP_SIZE, 0, 0)
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
"""Octets (RFC 1035 section 3.1)."""
_TO_THE_QUESTION = b"\xc0\x0c"
"""The compressed form of the name that was asked for."""
_ELSEWHERE = frozenset((b"localhost", b"local", b"onion", b"invalid"))
"""Top levels of names that no DNS server is asked for (RFC 6761, 6762, 7686)."""


class Kind(IntEnum):
    """What is asked for: addresses of one family; the values are the record's types."""

    A = 1
    AAAA = 28


class Reply(Struct, frozen=True):
    """What a server says of a name, good for `ttl` seconds."""

    addresses: tuple[Address, ...]
    ttl: float
    exists: bool = True
    """False if there is no such name; it may also have no address of the kind."""


class Unfit(Enum):
    """An answer that says nothing of the name."""

    STRANGE = "not an answer to this question"
    SPELLED = "an answer to the question, spelled in another way"
    TRUNCATED = "too long for a datagram"
    OLD = "the server doesn't know RFC 6891"
    FAILED = "the server says that it failed, or refuses"
    MALFORMED = "not a message, or one that makes no sense"


Name = bytes
"""A name as a message holds it, without compression, in lower case."""


class NotAName(ValueError):
    """What was to be looked up is not a name, or none that DNS servers are asked for."""


def name_of(text: str) -> Name:
    """An absolute name; raises NotAName. No search list is applied."""
    labels = text.lower().removesuffix(".").encode("ascii", "replace").split(b".")
    if not text.isascii() or "\\" in text:
        labels = _labels(text)
    if labels[-1] in _ELSEWHERE or not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        raise NotAName(text)
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(name) > _LONGEST_NAME:
        raise NotAName(text)
    return name


def _labels(text: str) -> list[bytes]:
    """Of a name that is more than ASCII; raises NotAName."""
    try:
        return [*dns.name.from_text(text.lower()).labels[:-1]] or [b""]
    except (dns.exception.DNSException, UnicodeError, ValueError):
        raise NotAName(text) from None


def _name_at(octets: bytes, at: int) -> tuple[Name, int]:
    """A name in a message, and how many octets it takes there; raises DNSException."""
    name, used = dns.name.from_wire(octets, at)
    return name.canonicalize().to_wire() or b"\0", int(used)


def question(name: Name, kind: Kind, identifier: int, spelling: int, *, options: bool = True) -> bytes:
    """A question as octets; bit i of `spelling` makes octet i of the name a large letter if it is one."""
    written = bytearray(name)
    for at, octet in enumerate(written):
        if 97 <= octet <= 122 and spelling >> at & 1:
            written[at] = octet - 32
    header = _HEADER.pack(identifier, _WANT_RECURSION, 1, 0, 0, int(options))
    return header + written + struct.pack("!HH", kind, _IN) + (_OPT if options else b"")


def read(octets: bytes, asked: bytes, name: Name, kind: Kind, *, exact: bool = True) -> Reply | Unfit:
    """What is said in answer to `asked`, which is `question(name, kind, …)`; `exact` in the same spelling too."""
    if len(octets) < _HEADER.size:
        return Unfit.STRANGE
    _, flags, questions, answers, authorities, _ = _HEADER.unpack_from(octets)
    if octets[:2] != asked[:2] or not flags & _RESPONSE or flags & _OPCODE:
        return Unfit.STRANGE
    rcode = flags & _RCODE
    if rcode in (_FORMERR, _NOTIMP) and questions == 0:
        return Unfit.OLD
    end = _HEADER.size + len(name) + 4
    repeated, wanted = octets[_HEADER.size : end], asked[_HEADER.size : end]
    if questions != 1 or repeated.lower() != wanted.lower():
        return Unfit.STRANGE
    if exact and repeated != wanted:
        return Unfit.SPELLED
    if flags & _TRUNCATED:
        return Unfit.TRUNCATED
    if rcode not in (_NOERROR, _NXDOMAIN):
        return Unfit.OLD if rcode in (_FORMERR, _NOTIMP) else Unfit.FAILED
    try:
        records = _Records(octets, end, answers, authorities, name, kind)
    except (dns.exception.DNSException, struct.error, ValueError):
        return Unfit.MALFORMED
    return records.reply(name, exists=rcode == _NOERROR)


class _Records:
    """The records of an answer that are of use: addresses, aliases, how long an absence lasts."""

    def __init__(self, octets: bytes, at: int, answers: int, authorities: int, name: Name, kind: Kind) -> None:
        if answers + authorities > MOST_RECORDS:
            raise ValueError(answers)
        self._aliases: dict[Name, tuple[Name, int]] = {}
        self._addresses: dict[Name, list[tuple[Address, int]]] = {}
        self._absence = 0.0
        self._octets = octets
        for number in range(answers + authorities):
            at = self._record(at, name, kind, number < answers)

    def _record(self, at: int, name: Name, kind: Kind, answers: bool) -> int:
        """Notes the record at an offset; the offset of the next one."""
        octets = self._octets
        if octets[at : at + 2] == _TO_THE_QUESTION:
            owner, at = name, at + 2
        else:
            owner, used = _name_at(octets, at)
            at += used
        type_, class_, ttl, length = _RECORD.unpack_from(octets, at)
        at += _RECORD.size
        end = at + int(length)
        data = octets[at:end]
        if len(data) != length:
            raise ValueError("cut short")
        ttl = 0 if ttl >> 31 else ttl  # RFC 2181 section 8
        if class_ != _IN:
            return end
        if not answers:
            if type_ == _SOA and length >= 22:
                self._absence = float(min(ttl, int.from_bytes(data[-4:])))
        elif type_ == kind:
            address: Address = IPv4Address(data) if kind is Kind.A else IPv6Address(data)
            self._addresses.setdefault(owner, []).append((address, ttl))
        elif type_ == _CNAME:
            target, used = _name_at(octets, at)
            if used != length:
                raise ValueError("an alias and something more")
            self._aliases.setdefault(owner, (target, ttl))
        return end

    def reply(self, name: Name, exists: bool) -> Reply | Unfit:
        """What they say of a name, by the aliases that lead on from it."""
        ttl, seen = LONGEST_TTL, 0
        while (alias := self._aliases.get(name)) is not None:
            name, ttl, seen = alias[0], min(ttl, alias[1]), seen + 1
            if seen > LONGEST_CHAIN:
                return Unfit.MALFORMED
        found = self._addresses.get(name, [])[:MOST_ADDRESSES]
        if not found or not exists:
            return Reply((), min(ttl, self._absence, LONGEST_ABSENCE), exists)
        return Reply(tuple(dict.fromkeys(each for each, _ in found)), min([ttl, *(float(t) for _, t in found)]))
