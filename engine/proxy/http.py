"""HTTP/1.1 as a proxy speaks it: CONNECT, and plain requests one after the other. Sans-IO, by h11 on both sides.

    machine.receive(octets)       what the client said; returns what it wants once that is known, raises Refused
    machine.rest                  what it said behind a CONNECT
    machine.begin()               for a plain request: it is connected
    machine.receive_server(octets)   what the server said, b"" for its end
    machine.to_server, machine.to_client   to be sent after each of the above
    machine.again()               both sides said all: what the client wants next, if it said so already

A plain request is taken apart and put together anew (RFC 9112 section 3.2, RFC 9110 section 7.6), so that nothing can
be smuggled past us: what goes out is one request with one length, to a server that is told to close behind it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any

import h11

from engine.proxy.asked import Host, How, Refusal, Refused, Wanted, host_of
from engine.proxy.socks import Check

LONGEST_HEAD = 16 << 10
"""Octets of a request's head."""
LONGEST_ANSWER_HEAD = 65_536

_HOP_BY_HOP = {
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"transfer-encoding",
    b"te",
    b"trailer",
    b"upgrade",
    b"proxy-authenticate",
    b"proxy-authorization",
}
"""RFC 9110 section 7.6.1: for one connection alone."""

_STATUS = {
    Refusal.MALFORMED: (400, "Bad Request"),
    Refusal.ADDRESS_TYPE: (400, "Bad Request"),
    Refusal.FORBIDDEN: (403, "Forbidden"),
    Refusal.NOT_ALLOWED: (407, "Proxy Authentication Required"),
    Refusal.LIMIT: (429, "Too Many Requests"),
    Refusal.TOO_LONG: (431, "Request Header Fields Too Large"),
    Refusal.FAULT: (500, "Internal Server Error"),
    Refusal.NOT_SUPPORTED: (501, "Not Implemented"),
    Refusal.NO_NAME: (502, "Bad Gateway"),
    Refusal.NAME_FAILED: (502, "Bad Gateway"),
    Refusal.REFUSED: (502, "Bad Gateway"),
    Refusal.UNREACHABLE: (502, "Bad Gateway"),
    Refusal.DOWN: (503, "Service Unavailable"),
    Refusal.TIMED_OUT: (504, "Gateway Timeout"),
}

_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/?#@]+))(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?#]*)([^#]*)")

Headers = Iterable[tuple[bytes, bytes]]


def refusal(why: Refusal) -> bytes:
    """The answer to a request of somebody who gets nothing."""
    status, reason = _STATUS[why]
    text = f"souppp: {why}\n".encode()
    proof = 'Proxy-Authenticate: Basic realm="souppp", charset="UTF-8"\r\n' if status == 407 else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\n{proof}Content-Type: text/plain\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text


class Http:
    """One client, for as long as it keeps its connection."""

    def __init__(self, check: Check, *, open_to_all: bool) -> None:
        """`open_to_all` if a client needs no user name."""
        self._check = check
        self._open_to_all = open_to_all
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._server: h11.Connection | None = None
        self._request: h11.Request | None = None
        self._answered = False
        self.to_server = bytearray()
        self.to_client = bytearray()

    # The request

    def receive(self, octets: bytes) -> Wanted | None:
        """What the client wants, None while that isn't said; within a plain request None too. Raises Refused."""
        self._client.receive_data(octets)
        return self._hear()

    def _hear(self) -> Wanted | None:
        try:
            return self._hear_client()
        except h11.RemoteProtocolError as error:
            hint = {431: Refusal.TOO_LONG, 501: Refusal.NOT_SUPPORTED}
            raise Refused(hint.get(error.error_status_hint, Refusal.MALFORMED)) from None

    def _hear_client(self) -> Wanted | None:
        while True:
            if self._request is not None and self._server is None:
                return None  # what follows its head is for later
            event = self._client.next_event()
            match event:
                case h11.Request():
                    return self._asked(event)
                case h11.Data() if self._server is not None:
                    self._tell_server(h11.Data(event.data))
                case h11.EndOfMessage() if self._server is not None:
                    self._tell_server(h11.EndOfMessage())
                case h11.ConnectionClosed():
                    raise Refused(Refusal.MALFORMED)
                case _:
                    return None

    def _asked(self, request: h11.Request) -> Wanted:
        if request.http_version not in (b"1.0", b"1.1"):
            raise Refused(Refusal.MALFORMED)
        user, password = self._proof(request.headers)
        if not (self._check(user, password) if password is not None else self._open_to_all and self._check(user, None)):
            raise Refused(Refusal.NOT_ALLOWED)
        if request.method == b"CONNECT":
            if _length(request.headers) or _named(request.headers, b"transfer-encoding"):
                raise Refused(Refusal.MALFORMED)
            host, port = _endpoint(request.target, None)
            self._client.next_event()  # the end of a message without a body
            return Wanted(How.CONNECT, host, port, user, password)
        absolute = _ABSOLUTE.fullmatch(request.target)
        if absolute is None:
            raise Refused(Refusal.NOT_SUPPORTED if b"://" in request.target else Refusal.MALFORMED)
        host, port = _endpoint(absolute[1], 80)
        self._request = _rewritten(request, absolute[1], absolute[2])
        self._answered = False
        return Wanted(How.HTTP, host, port, user, password)

    @staticmethod
    def _proof(headers: Headers) -> tuple[str, bytes | None]:
        """User name and password of RFC 7617; no password where there is none of either."""
        values = [value for name, value in headers if name == b"proxy-authorization"]
        if not values:
            return "", None
        scheme, _, token = values[0].partition(b" ")
        if len(values) > 1 or scheme.lower() != b"basic":
            raise Refused(Refusal.NOT_ALLOWED)
        try:
            name, colon, password = base64.b64decode(token.strip(), validate=True).partition(b":")
            return name.decode(), password if colon else b""
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(Refusal.NOT_ALLOWED) from None

    @property
    def rest(self) -> bytes:
        """What the client said behind a CONNECT."""
        return bytes(self._client.trailing_data[0])

    # A plain request on its way

    def begin(self) -> None:
        """It is connected: the request goes out, as far as it is there. Raises Refused."""
        assert self._request is not None
        self._server = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_ANSWER_HEAD)
        self._tell_server(self._request)
        self._hear()

    @property
    def hears_client(self) -> bool:
        """Whether there is more of the request to come."""
        return self._client.their_state is h11.SEND_BODY

    def receive_server(self, octets: bytes) -> None:
        """Pass on what the server said. Raises Refused where that makes no sense."""
        assert self._server is not None
        try:
            self._server.receive_data(octets)
            while self._hear_server():
                pass
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            raise Refused(Refusal.UNREACHABLE) from None

    def _hear_server(self) -> bool:
        """Whether there may be more."""
        assert self._server is not None
        event = self._server.next_event()
        match event:
            case h11.InformationalResponse():
                if event.status_code == 101:
                    raise Refused(Refusal.UNREACHABLE)
                headers = list(_passed_on(event.headers))
                self._tell_client(
                    h11.InformationalResponse(status_code=event.status_code, headers=headers, reason=event.reason)
                )
            case h11.Response():
                headers = list(_passed_on(event.headers))
                self._answered = True
                self._tell_client(h11.Response(status_code=event.status_code, headers=headers, reason=event.reason))
            case h11.Data():
                self._tell_client(h11.Data(event.data))
            case h11.EndOfMessage():
                self._tell_client(h11.EndOfMessage())
                return False
            case _:
                return False
        return True

    @property
    def is_answered(self) -> bool:
        """Whether the server has said all."""
        return self._client.our_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    def again(self) -> Wanted | None:
        """Once it `is_answered`: what the client wants next, None while it hasn't said so. Raises Refused.

        Raises EOFError where this connection is to be closed.
        """
        if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
            raise EOFError
        self._client.start_next_cycle()
        self._server = self._request = None
        self._answered = False
        return self._hear()

    # Answers

    def refusal(self, why: Refusal) -> bytes:
        """What to tell who gets nothing: empty where an answer has begun."""
        return b"" if self._answered else refusal(why)

    def success(self, bound: object) -> bytes:
        """For a CONNECT."""
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def octets_to_send(self) -> bytes:
        """Nothing: before a request is known there is nothing to say."""
        return b""

    def _tell_server(self, event: h11.Event) -> None:
        assert self._server is not None
        try:
            self.to_server += self._server.send(event) or b""
        except h11.LocalProtocolError:
            raise Refused(Refusal.MALFORMED) from None

    def _tell_client(self, event: h11.Event) -> None:
        self.to_client += self._client.send(event) or b""


def _endpoint(authority: bytes, usual: int | None) -> tuple[Host, int]:
    """Host and port of `host:port`; raises Refused, for a user name before it too. `usual` where no port is given."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Refused(Refusal.MALFORMED)
    port = int(match[3]) if match[3] else usual
    if port is None or not 0 < port < 1 << 16:
        raise Refused(Refusal.MALFORMED)
    try:
        host = host_of((match[1] or match[2]).decode("ascii"))
    except UnicodeDecodeError:
        raise Refused(Refusal.MALFORMED) from None
    if bool(match[1]) != (":" in (match[1] or match[2]).decode("ascii")):
        raise Refused(Refusal.MALFORMED)
    return host, port


def _rewritten(request: h11.Request, authority: bytes, rest: bytes) -> h11.Request:
    """The request as its server is to get it; raises Refused."""
    chunked = bool(_named(request.headers, b"transfer-encoding"))
    if chunked and _named(request.headers, b"content-length"):
        raise Refused(Refusal.MALFORMED)  # RFC 9112 section 6.1: as somebody who smuggles does it
    path = rest if rest.startswith(b"/") else b"/" + rest
    if request.method == b"OPTIONS" and not rest:
        path = b"*"
    headers = [(b"Host", authority)]
    headers += [(name, value) for name, value in _passed_on(request.headers) if name.lower() != b"host"]
    headers += [(b"Transfer-Encoding", b"chunked")] if chunked else []
    headers.append((b"Connection", b"close"))
    return h11.Request(method=request.method, target=path, headers=headers)


def _passed_on(headers: Any) -> Iterable[tuple[bytes, bytes]]:
    """Those that are not for this connection alone."""
    dropped = _HOP_BY_HOP | {
        word.strip().lower()
        for value in _named(headers, b"connection") + _named(headers, b"proxy-connection")
        for word in value.split(b",")
    }
    dropped -= {b"host", b"content-length"}  # nobody can have us drop these by naming them
    if _named(headers, b"transfer-encoding"):
        dropped.add(b"content-length")
    return [(name, value) for name, value in headers.raw_items() if name.lower() not in dropped]


def _named(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _length(headers: Headers) -> bool:
    """Whether a message with these has a body by its Content-Length."""
    return any(value.strip(b" 0") for value in _named(headers, b"content-length"))
