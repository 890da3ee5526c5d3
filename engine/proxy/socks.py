"""SOCKS 4, 4a and 5 as a server speaks them, up to the answer to a request. Sans-IO.

    machine.receive(octets)     what the client said; returns what it wants once that is known, raises Refused
    machine.octets_to_send()    to be sent to it after each of the above
    machine.rest                what it said behind its request: for whoever it is connected to

RFC 1928 (SOCKS 5), RFC 1929 (user name and password); SOCKS 4 and 4a are no RFCs. No message is longer than a few
hundred octets, so what is kept of a client that never comes to its end is little.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from engine.proxy.asked import Host, How, Refusal, Refused, Wanted, host_of, plain

Check = Callable[[str, bytes | None], bool]
"""Whether somebody with this user name and password may use the proxy; None where there is no password."""

VERSION_4, VERSION_5 = 4, 5
_CONNECT, _UDP_ASSOCIATE = 1, 3
_IPV4, _NAME, _IPV6 = 1, 3, 4
_NO_AUTHENTICATION, _PASSWORD, _NO_METHOD = 0, 2, 0xFF
_NEGOTIATION = 1
"""The version of RFC 1929's messages."""
NOWHERE = IPv4Address(0)
_LONGEST = 255
"""Octets of a user name or host in SOCKS 4, which sets no limit: as in SOCKS 5."""

_CODES = {
    Refusal.NOT_ALLOWED: 2,
    Refusal.FORBIDDEN: 2,
    Refusal.LIMIT: 1,
    Refusal.DOWN: 3,
    Refusal.NO_NAME: 4,
    Refusal.NAME_FAILED: 4,
    Refusal.UNREACHABLE: 4,
    Refusal.REFUSED: 5,
    Refusal.TIMED_OUT: 6,
    Refusal.NOT_SUPPORTED: 7,
    Refusal.ADDRESS_TYPE: 8,
}
"""RFC 1928 section 6; what isn't here is 1, a general failure. No session is "network unreachable"."""


class Socks5:
    """One client, from its first octet on."""

    def __init__(self, check: Check, *, open_to_all: bool) -> None:
        """`open_to_all` if a client needs no user name."""
        self._check = check
        self._open_to_all = open_to_all
        self._buffer = b""
        self._answers = b""
        self._step: Callable[[bytes], int | Wanted] = self._greeting
        self._user = ""
        self._password: bytes | None = None
        self._requested = False

    @property
    def rest(self) -> bytes:
        """What came behind the request."""
        return self._buffer

    def receive(self, octets: bytes) -> Wanted | None:
        """What the client wants, None while that isn't said. Raises Refused: then nothing more may be received."""
        self._buffer += octets
        while True:
            try:
                done = self._step(self._buffer)
            except IndexError:
                return None
            if isinstance(done, Wanted):
                return done
            self._buffer = self._buffer[done:]

    def octets_to_send(self) -> bytes:
        """For the client."""
        answers, self._answers = self._answers, b""
        return answers

    # Each step returns how many octets it has dealt with, and raises IndexError while there are too few.

    def _greeting(self, octets: bytes) -> int:
        """RFC 1928 section 3: version, number of methods, methods."""
        end = 2 + octets[1]
        methods = _part(octets, 2, end)
        if _PASSWORD in methods:
            self._answers += bytes((VERSION_5, _PASSWORD))
            self._step = self._authentication
        elif _NO_AUTHENTICATION in methods and self._open_to_all:
            self._answers += bytes((VERSION_5, _NO_AUTHENTICATION))
            self._step = self._request
        else:
            self._answers += bytes((VERSION_5, _NO_METHOD))
            raise Refused(Refusal.NOT_ALLOWED)
        return end

    def _authentication(self, octets: bytes) -> int:
        """RFC 1929 section 2: version, user name, password, each with its length before it."""
        if octets[0] != _NEGOTIATION:
            raise Refused(Refusal.MALFORMED)
        at = 2 + octets[1]
        name = _part(octets, 2, at)
        end = at + 1 + octets[at]
        password = _part(octets, at + 1, end)
        try:
            self._user = name.decode()
        except UnicodeDecodeError:
            self._user = ""
        self._password = password
        may = self._check(self._user, password)
        self._answers += bytes((_NEGOTIATION, 0 if may else 1))
        if not may:
            raise Refused(Refusal.NOT_ALLOWED)
        self._step = self._request
        return end

    def _request(self, octets: bytes) -> Wanted:
        """RFC 1928 section 4: version, command, a zero, type of address, address, port."""
        if octets[0] != VERSION_5:
            raise Refused(Refusal.MALFORMED)
        self._requested = True
        host, end = address(octets, 3)
        port = int.from_bytes(_part(octets, end, end + 2))
        if octets[1] not in (_CONNECT, _UDP_ASSOCIATE):
            raise Refused(Refusal.NOT_SUPPORTED)
        self._buffer = octets[end + 2 :]
        how = How.SOCKS5 if octets[1] == _CONNECT else How.UDP
        if how is How.SOCKS5 and port == 0:
            raise Refused(Refusal.MALFORMED)
        return Wanted(how, host, port, self._user, self._password)

    def refusal(self, why: Refusal) -> bytes:
        """The answer to who gets nothing; empty before there was a request, where other answers say so."""
        return refusal_5(why) if self._requested else b""

    def success(self, bound: tuple[IPv4Address | IPv6Address, int]) -> bytes:
        """The answer to who gets what it wants: RFC 1928 section 6. `bound` is the address to tell, and the port."""
        return _reply(0, *bound)


def refusal_5(why: Refusal) -> bytes:
    """The answer to a request of somebody who gets nothing, in SOCKS 5: RFC 1928 section 6."""
    return _reply(_CODES.get(why, 1))


def refusal_4(why: Refusal) -> bytes:
    """The same in SOCKS 4: 91, rejected or failed; 93, not the user that it says it is."""
    return bytes((0, 93 if why is Refusal.NOT_ALLOWED else 91)) + bytes(6)


def _reply(code: int, host: Host = NOWHERE, port: int = 0) -> bytes:
    return bytes((VERSION_5, code, 0)) + address_octets(host, port)


def address(octets: bytes, at: int) -> tuple[Host, int]:
    """Type and address as in SOCKS 5, and where they end. Raises IndexError if that is later, and Refused."""
    kind = octets[at]
    if kind == _IPV4:
        return IPv4Address(_part(octets, at + 1, at + 5)), at + 5
    if kind == _IPV6:
        return plain(IPv6Address(_part(octets, at + 1, at + 17))), at + 17
    if kind != _NAME:
        raise Refused(Refusal.ADDRESS_TYPE)
    end = at + 2 + octets[at + 1]
    return _host(_part(octets, at + 2, end)), end


def address_octets(host: Host, port: int) -> bytes:
    """The reverse, and the port behind it."""
    if isinstance(host, str):
        name = host.encode("ascii")
        return bytes((_NAME, len(name))) + name + port.to_bytes(2)
    return bytes((_IPV4 if host.version == 4 else _IPV6,)) + host.packed + port.to_bytes(2)


class Socks4:
    """The same for SOCKS 4 and 4a, in which there is no password: only where a client needs no user name."""

    def __init__(self, check: Check, *, open_to_all: bool) -> None:
        self._check = check
        self._open_to_all = open_to_all
        self._buffer = b""

    @property
    def rest(self) -> bytes:
        """See `Socks5`."""
        return self._buffer

    def receive(self, octets: bytes) -> Wanted | None:
        """Version, command, port, address, user name, and a host's name where the address is 0.0.0.x; see `Socks5`."""
        self._buffer += octets
        try:
            user, at = _text(self._buffer, 8)
            number = int.from_bytes(self._buffer[4:8])
            name, end = _text(self._buffer, at) if 0 < number < 256 else (b"", at)
        except IndexError:
            return None
        command, port = self._buffer[1], int.from_bytes(self._buffer[2:4])
        self._buffer = self._buffer[end:]
        if command != _CONNECT:
            raise Refused(Refusal.NOT_SUPPORTED)
        if port == 0:
            raise Refused(Refusal.MALFORMED)
        try:
            said = user.decode()
        except UnicodeDecodeError:
            raise Refused(Refusal.NOT_ALLOWED) from None
        if not self._open_to_all or not self._check(said, None):
            raise Refused(Refusal.NOT_ALLOWED)
        return Wanted(How.SOCKS4, _host(name) if name else IPv4Address(number), port, said)

    def octets_to_send(self) -> bytes:
        """Nothing: it has one answer."""
        return b""

    def refusal(self, why: Refusal) -> bytes:
        """See `refusal_4`."""
        return refusal_4(why)

    def success(self, bound: tuple[IPv4Address | IPv6Address, int]) -> bytes:
        """90: granted. What stands behind it means nothing to who connects."""
        return bytes((0, 90)) + bytes(6)


def _part(octets: bytes, start: int, end: int) -> bytes:
    if end > len(octets):
        raise IndexError
    return octets[start:end]


def _text(octets: bytes, start: int) -> tuple[bytes, int]:
    """What ends with a zero, and where what follows begins."""
    end = octets.find(0, start, start + _LONGEST + 1)
    if end < 0:
        if len(octets) > start + _LONGEST:
            raise Refused(Refusal.TOO_LONG)
        raise IndexError
    return octets[start:end], end + 1


def _host(name: bytes) -> Host:
    try:
        return host_of(name.decode("ascii"))
    except UnicodeDecodeError:
        raise Refused(Refusal.MALFORMED) from None
