"""nftables (nf_tables over nfnetlink) by blocking calls: the few messages that a table of sets and drops takes.

All messages of one `commit` come into force in the same instant, or none does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum

from engine.host.rtnl import (
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    SOL_NETLINK,
    USUAL_ROOM,
    Complaint,
    RtnlError,
    attribute,
    attributes,
    failure,
    hear_much,
    hear_others_only,
    make_room,
    messages,
    news,
    send,
)

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER, _SUBSYSTEM, _INET = 12, 10, 1
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_REQUEST, _DUMP, _CREATE = 0x001, 0x300, 0x400
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
NEWS = 1 << 6
"""The multicast group that tells of changes of tables, NFNLGRP_NFTABLES."""


class Message(IntEnum):
    """What can be asked for."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    NEWRULE = 6
    NEWSET = 9
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14


def field(kind: int, value: bytes | int | str) -> bytes:
    """An attribute that is octets, a number of 32 bits, or text."""
    if isinstance(value, int):
        return attribute(kind, struct.pack("!I", value))
    return attribute(kind, value.encode() + b"\0" if isinstance(value, str) else value)


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(inner))


def message(kind: Message, *inner: bytes) -> bytes:
    """One message of a batch."""
    return _message(_SUBSYSTEM << 8 | kind, _REQUEST | _CREATE, _INET, 0, b"".join(inner))


def _message(kind: int, flags: int, family: int, resource: int, body: bytes) -> bytes:
    body = struct.pack("!BBH", family, 0, resource) + body
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


_BEGIN = _message(_BATCH_BEGIN, _REQUEST, 0, _SUBSYSTEM, b"")
_END = _message(_BATCH_END, _REQUEST, 0, _SUBSYSTEM, b"")


# Expressions of a rule. Register 1 has room for an IPv6 address: it is the same as the short ones from 8 to 11.


def _expression(name: str, *inner: bytes) -> bytes:
    return nest(1, field(1, name), nest(2, *inner))


def load_meta(key: int, register: int) -> bytes:
    """Load what is known of the packet, as its device."""
    return _expression("meta", field(2, key), field(1, register))


def load_network(offset: int, length: int, register: int) -> bytes:
    """Load octets of the IP header."""
    return _expression("payload", field(1, register), field(2, 1), field(3, offset), field(4, length))


def load_connection(key: int, register: int) -> bytes:
    """Load what is known of the packet's connection, as its state."""
    return _expression("ct", field(1, register), field(2, key))


def mask(register: int, bits: bytes) -> bytes:
    """Leave only these bits in a register."""
    return _expression(
        "bitwise",
        *(field(kind, value) for kind, value in ((1, register), (2, register), (3, len(bits)))),
        *(nest(kind, field(1, value)) for kind, value in ((4, bits), (5, bytes(len(bits))))),
    )


def compare(register: int, value: bytes, equal: bool = True) -> bytes:
    """Go on if a register has a value, or has another."""
    return _expression("cmp", field(1, register), field(2, int(not equal)), nest(3, field(1, value)))


def look_up(name: str, register: int, there: bool = True) -> bytes:
    """Go on if what is in a register is in a set, or isn't."""
    return _expression("lookup", field(1, name), field(2, register), field(5, int(not there)))


def count() -> bytes:
    """Count packets and octets."""
    return _expression("counter")


def drop() -> bytes:
    """Let the packet go nowhere."""
    return _verdict(0)


def accept() -> bytes:
    """Let the packet pass this chain."""
    return _verdict(1)


def _verdict(code: int) -> bytes:
    return _expression("immediate", field(1, 0), nest(2, nest(2, field(1, code))))


class Nft:
    """A socket for nftables in the calling thread's namespace; `groups` are the multicast groups to listen to."""

    def __init__(self, groups: int = 0) -> None:
        """Raises OSError, as where the kernel has no netfilter."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        if groups:
            hear_much(self._socket)
        self._socket.bind((0, groups))
        self._room = USUAL_ROOM
        """How long a batch may be, in octets."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def commit(self, batch: Sequence[bytes]) -> None:
        """Carry out all messages or none; raises RtnlError with the first complaint."""
        octets = b"".join((_BEGIN, *batch, _END))
        if len(octets) > self._room:
            self._room = make_room(self._socket, len(octets))
        send(self._socket, octets)
        first: Complaint | None = None
        for kind, body in self._answers():
            first = first or failure(kind, body)
        if first is not None:
            raise RtnlError(*first)

    @property
    def port(self) -> int:
        """What notifications of our changes name us by."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._socket.fileno()

    def hear_others_only(self, port: int) -> None:
        """Without the notifications of what is asked for from this port. Raises OSError."""
        hear_others_only(self._socket, (port,))

    def news_of(self, table: str, but_from: int) -> bool | None:
        """Whether anyone but the port `but_from` has changed a table, or anything in it; None if that was lost.

        What is added counts too: a rule that accepts all, a device for an address, or that the table sleeps.
        """
        heard = news(self._socket, but_from)
        if heard is None:
            return None
        return any(
            kind >> 8 == _SUBSYSTEM and attributes(body, 4).get(1) == table.encode() + b"\0" for kind, body in heard
        )

    def tables(self) -> list[str]:
        """The names of all tables for IPv4 and IPv6 together."""
        send(self._socket, _message(_SUBSYSTEM << 8 | Message.GETTABLE, _REQUEST | _DUMP, _INET, 0, b""))
        answers = [body for kind, body in self._answers() if kind == _SUBSYSTEM << 8 | Message.NEWTABLE]
        return [attributes(body, 4).get(1, b"").rstrip(b"\0").decode() for body in answers]

    def elements(self, table: str, name: str) -> list[bytes]:
        """The keys in a set; none if there is no such table or set."""
        return [first for first, _ in self.ranges(table, name)]

    def ranges(self, table: str, name: str) -> list[tuple[bytes, bytes]]:
        """The keys in a set, each from and to; the latter is empty but in a set of ranges."""
        question = _message(
            _SUBSYSTEM << 8 | Message.GETSETELEM, _REQUEST | _DUMP, _INET, 0, field(1, table) + field(2, name)
        )
        send(self._socket, question)
        keys: list[tuple[bytes, bytes]] = []
        for kind, body in self._answers():
            if kind == _SUBSYSTEM << 8 | Message.NEWSETELEM:
                keys += map(_key, _list(attributes(body, 4).get(3, b"")))
        return keys

    def _answers(self) -> Iterable[tuple[int, bytes]]:
        """All are there when the request has been sent, but those of a long list: they follow as they are fetched."""
        while True:
            try:
                yield from messages(self._socket.recv(1 << 16, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return


def _list(data: bytes) -> Iterable[bytes]:
    """The values of attributes that may all be of one kind."""
    at = 0
    while at + 4 <= len(data):
        length, _ = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def _key(element: bytes) -> tuple[bytes, bytes]:
    found = attributes(element, 0)
    return attributes(found.get(1, b""), 0).get(1, b""), attributes(found.get(10, b""), 0).get(1, b"")
