"""Route netlink (rtnetlink(7)) by blocking calls: pyroute2's messages over a socket of our own.

pyroute2's IPRoute runs an asyncio loop for each call, which neither nests in the engine's loop nor is cheap (0.5 ms).
Here many requests go to the kernel in one system call, and it has carried them all out when that returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

BATCH = 64
"""Requests to a system call. What the kernel says of each has to fit the socket's receive buffer."""

SOL_NETLINK = 270
NETLINK_DROP_MEMBERSHIP = 2
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NLMSGERR_ATTR_MSG = 1
SO_ATTACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 26, 32, 33
USUAL_ROOM = 1 << 16
"""Octets that any netlink socket sends at once."""
NEWS_ROOM = 1 << 23
"""Octets of notifications that may wait: thousands of sessions come up in a few seconds."""
_HEADER = struct.Struct("=IHHII")
_FLAGS, _ATTRIBUTE = struct.Struct("=H"), struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_LAST = 1
"""The sequence number of the last request of several; that of all others is 0."""


SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
"""Something has run out here: that says nothing of what was asked for."""


class RtnlError(OSError):
    """The kernel refused a request; says why in its own words where it has any."""


def request(kind: Any, type_: int, how: int, attributes: Iterable[tuple[str, Any]] = (), **fields: Any) -> bytes:
    """One request as octets: a pyroute2 message class, its type, NLM_F_ flags beside the usual, attributes, fields.

    To be made once: pyroute2's messages hold themselves, and the engine looks for no garbage.
    """
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message["header"]["type"] = type_
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | how
    message.encode()
    return bytes(message.data)


def packed(type_: int, how: int, body: bytes) -> bytes:
    """One request as octets, of its type, NLM_F_ flags beside the usual, and what follows the header."""
    return _HEADER.pack(_HEADER.size + len(body), type_, NLM_F_REQUEST | NLM_F_ACK | how, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute as octets."""
    length = len(value)
    return _ATTRIBUTE.pack(4 + length, kind) + value + _PADDING[length & 3]


def send(sender: socket.socket, octets: bytes) -> None:
    """Send a request, or requests; raises RtnlError if the kernel doesn't even take them."""
    try:
        sender.send(octets)
    except OSError as error:
        raise RtnlError(error.errno, error.strerror) from None


def hear_much(listening: socket.socket) -> None:
    """Let notifications wait for being read, where CAP_NET_ADMIN on the host is to be had."""
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, NEWS_ROOM)


_LOAD = {4: 0x20, 2: 0x28, 1: 0x30}
"""By length (linux/bpf_common.h): BPF_LD | BPF_W | BPF_ABS and so on. What is loaded is read in network byte order."""
_JUMP_IF_EQUAL, _GIVE, _ALL = 0x15, 0x06, 0xFFFFFFFF
_TYPE_AT, _PORT_AT, _INDEX_AT, _CHANGE_AT, _NAME_AT = 4, 12, 20, 28, 32
"""Where a message has its type and whose request it comes of; where one about a link has its index, which flags have
changed, and its first attribute, the name."""
_NEW_LINK, _IFNAME = 16, 3

Step = tuple[int, int, int, int]
"""Of a filter: operation, steps to skip if it is so and if it isn't, operand."""


def _filter(listening: socket.socket, program: Sequence[Step]) -> None:
    """Have the kernel keep back all that a program gives nothing of. One message of each delivery is looked at.

    The kernel puts together only what was asked for together. Raises OSError.
    """
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(steps))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def hear_others_only(listening: socket.socket, ports: Collection[int]) -> None:
    """Without notifications of what was asked for from these ports, of which there are thousands. Raises OSError.

    Nor of links that have just been made: they are nobody's yet.
    """
    drop = len(ports) + 5
    program: list[Step] = [(_LOAD[4], 0, 0, _PORT_AT)]
    for at, port in enumerate(ports, 1):
        program.append((_JUMP_IF_EQUAL, drop - at, 0, socket.htonl(port)))
    program += [(_LOAD[2], 0, 0, _TYPE_AT), (_JUMP_IF_EQUAL, 0, 2, socket.htons(_NEW_LINK))]
    program += [(_LOAD[4], 0, 0, _CHANGE_AT), (_JUMP_IF_EQUAL, 1, 0, _ALL)]
    _filter(listening, [*program, (_GIVE, 0, 0, _ALL), (_GIVE, 0, 0, 0)])


def hear_of_link_only(listening: socket.socket, index: int | None, name: str) -> None:
    """Notifications of the one link that has this index or this name: there are thousands of others. Raises OSError."""
    octets = os.fsencode(name) + b"\0"
    octets = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(octets), _IFNAME) + octets
    program: list[Step] = []
    for at in range(0, len(octets), 4):
        part = octets[at : at + 4]
        sizes = (4,) if len(part) == 4 else (2, 1) if len(part) == 3 else (len(part),)
        for size in sizes:
            program += [
                (_LOAD[size], 0, 0, _NAME_AT + at),
                (_JUMP_IF_EQUAL, 0, _ALL, int.from_bytes(part[:size], "big")),
            ]
            at, part = at + size, part[size:]
    drop = len(program) + 1
    program = [(code, yes, drop - at - 1 if no else 0, what) for at, (code, yes, no, what) in enumerate(program)]
    if index is not None:
        known = int.from_bytes(struct.pack("=i", index), "big")
        program = [(_LOAD[4], 0, 0, _INDEX_AT), (_JUMP_IF_EQUAL, len(program), 0, known), *program]
    _filter(listening, [*program, (_GIVE, 0, 0, _ALL), (_GIVE, 0, 0, 0)])


def make_room(sender: socket.socket, octets: int) -> int:
    """Let so many be sent at once, which takes CAP_NET_ADMIN on the host; how many can be asked for in any case."""
    try:
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, octets)
    except PermissionError:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, octets)
    return octets


class Template:
    """A request encoded once and filled in for each use: 1 us, against pyroute2's 80.

    `blanks` are the octets in it that are to be replaced, by others of the same length.
    """

    def __init__(self, encoded: bytes, *blanks: bytes) -> None:
        self._encoded = encoded
        self._places = [slice(at := encoded.index(blank), at + len(blank)) for blank in blanks]

    def __call__(self, *values: bytes) -> bytes:
        """The request with these values in the places of the blanks, in their order."""
        filled = bytearray(self._encoded)
        for place, value in zip(self._places, values, strict=True):
            filled[place] = value
        return bytes(filled)


def messages(data: bytes, but_from: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The messages in what one `recv` gave: type, and what follows the header.

    Without those about what was asked for from the port `but_from`.
    """
    at = 0
    while at + _HEADER.size <= len(data):
        length, type_, _, _, port = _HEADER.unpack_from(data, at)
        if port != but_from:
            yield type_, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes, at: int) -> dict[int, bytes]:
    """The attributes from offset `at` on, by type."""
    found = {}
    while at + 4 <= len(data):
        length, type_ = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[type_ & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


class Rtnl:
    """A route netlink socket in the calling thread's namespace; `groups` are the multicast groups to listen to."""

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        if groups:
            hear_much(self._socket)
        self._socket.bind((0, groups))
        self._unread = False
        """Whether a call that failed has left answers behind."""

    @classmethod
    def of(cls, descriptor: int) -> Rtnl:
        """One that somebody else has opened, in whatever namespace; ours from now on. Raises OSError."""
        there = socket.socket(fileno=descriptor)
        if (there.family, there.proto) != (socket.AF_NETLINK, socket.NETLINK_ROUTE):
            there.detach()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        made = cls.__new__(cls)
        made._socket = there
        made._unread = True
        return made

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def do(self, requests: Sequence[bytes], ignore: Collection[int] = ()) -> None:
        """Carry out requests in this order; all are tried, then the first failure is raised as RtnlError.

        Failures whose number is in `ignore` count as success.
        """
        first: Complaint | None = None
        for start in range(0, len(requests), BATCH):
            self._send(last_acknowledged(requests[start : start + BATCH]))
            ended = False
            while not ended:
                for type_, body in messages(self._socket.recv(1 << 16)):
                    complaint = failure(type_, body)
                    ended = ended or (type_ == NLMSG_ERROR and _HEADER.unpack_from(body, 4)[3] == _LAST)
                    if complaint is not None and complaint[0] not in ignore:
                        first = first or complaint
            self._unread = False
        if first is not None:
            raise RtnlError(*first)

    def ask(self, question: bytes) -> list[bytes]:
        """The answers to a question, each without its header; raises RtnlError.

        The question must be answered by a list that ends, or acknowledged, as those of `request` are.
        """
        return [*self.answers(question)]

    def answers(self, question: bytes) -> Iterator[bytes]:
        """The same one by one: the kernel makes a page of them at a time. Nothing else may be asked until the last."""
        self._send(question)
        while True:
            for type_, body in messages(self._socket.recv(1 << 16)):
                ended = type_ in (NLMSG_ERROR, NLMSG_DONE)
                self._unread = self._unread and not ended
                if (complaint := failure(type_, body)) is not None:
                    raise RtnlError(*complaint)
                if ended:
                    return
                yield body

    def _send(self, octets: bytes) -> None:
        """What a call that failed has left unread must not be taken for an answer. Raises RtnlError."""
        if self._unread:
            with suppress(BlockingIOError):
                while True:
                    self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
        self._unread = True
        send(self._socket, octets)

    @property
    def port(self) -> int:
        """What others' notifications of our changes name us by."""
        return int(self._socket.getsockname()[0])

    def hear_others_only(self, *ports: int) -> None:
        """Without the notifications of what is asked for from these ports. Raises OSError."""
        hear_others_only(self._socket, ports)

    def leave(self, groups: int) -> None:
        """Listen to these multicast groups no more."""
        for number in (bit + 1 for bit in range(groups.bit_length()) if groups >> bit & 1):
            self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, number)

    def hear_of_link_only(self, index: int | None, name: str) -> None:
        """See the function of this name. Raises OSError."""
        hear_of_link_only(self._socket, index, name)

    def news(self, but_from: int | None = None) -> list[tuple[int, bytes]] | None:
        """The messages that came for our groups; None if some were lost because nobody read them in time.

        Without those about what was asked for from the port `but_from`.

        What came before the loss is then of no use any more, and thrown away: ask for the present state.
        """
        return news(self._socket, but_from)


def news(listening: socket.socket, but_from: int | None) -> list[tuple[int, bytes]] | None:
    """See `Rtnl.news`; of any netlink socket."""
    found: list[tuple[int, bytes]] | None = []
    while True:
        try:
            data = listening.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = None
        else:
            if found is not None:
                found += messages(data, but_from)


def last_acknowledged(requests: Sequence[bytes]) -> bytes:
    """Requests to be sent at once, BATCH at most, of which the last is acknowledged: of others is told what fails."""
    *others, last = requests
    quiet = b"".join(each[:6] + _FLAGS.pack(_FLAGS.unpack_from(each, 6)[0] & ~NLM_F_ACK) + each[8:] for each in others)
    return quiet + last[:8] + struct.pack("=I", _LAST) + last[12:]


Complaint = tuple[int, str]
"""What an RtnlError is made of where it is raised. One that stands in a variable there is in a circle with the frames
of all who wait for it and what these hold, and the engine looks for no garbage."""


def failure(type_: int, body: bytes) -> Complaint | None:
    """What a message complains of, if it does: its number and text."""
    number = -struct.unpack_from("=i", body)[0] if type_ == NLMSG_ERROR else 0
    if number == 0:
        return None
    text = attributes(body, 4 + _HEADER.size).get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    return number, text or os.strerror(number)
