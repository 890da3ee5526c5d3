"""HTTP as a proxy speaks it: what is asked for, what goes out in its place, and that nothing is smuggled past it."""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Address, IPv6Address

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.proxy.asked import How, Refusal, Refused, Wanted
from engine.proxy.http import LONGEST_HEAD, Http, refusal

KEPT = LONGEST_HEAD + 65_536


def anybody(name: str, password: bytes | None) -> bool:
    return True


def app(name: str, password: bytes | None) -> bool:
    return (name, password) == ("app", b"sesame")


def machine(check=anybody, open_to_all: bool = True) -> Http:  # type: ignore[no-untyped-def]
    return Http(check, open_to_all=open_to_all)


def why(octets: bytes, it: Http | None = None) -> Refusal:
    it = it or machine()
    with pytest.raises(Refused) as raised:
        it.receive(octets)
    return raised.value.why


def request(first: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([first, *headers, "", ""]).encode() + body


def test_connect_and_what_is_said_behind_it() -> None:
    it = machine()
    octets = request("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443")
    assert it.receive(octets[:20]) is None
    assert it.receive(octets[20:] + b"\x16\x03") == Wanted(How.CONNECT, "example.org", 443)
    assert it.rest == b"\x16\x03"
    assert it.success(None).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("[2001:db8::1]:443", IPv6Address("2001:db8::1")),
        ("192.0.2.1:443", IPv4Address("192.0.2.1")),
        ("[::ffff:127.0.0.1]:443", IPv4Address("127.0.0.1")),
    ],
)
def test_connect_to_addresses(target: str, host: object) -> None:
    wanted = machine().receive(request(f"CONNECT {target} HTTP/1.1", "Host: x"))
    assert wanted is not None
    assert (wanted.host, wanted.port) == (host, 443)


@pytest.mark.parametrize(
    "octets",
    [
        request("CONNECT example.org HTTP/1.1", "Host: x"),
        request("CONNECT example.org:0 HTTP/1.1", "Host: x"),
        request("CONNECT example.org:70000 HTTP/1.1", "Host: x"),
        request("CONNECT me@example.org:443 HTTP/1.1", "Host: x"),
        request("CONNECT [::1:443 HTTP/1.1", "Host: x"),
        request("CONNECT [fe80::1%eth0]:443 HTTP/1.1", "Host: x"),
        request("CONNECT http://example.org:443 HTTP/1.1", "Host: x"),
        request("CONNECT example.org:443 HTTP/1.1", "Host: x", "Content-Length: 5", body=b"hello"),
        request("GET / HTTP/1.1", "Host: example.org"),
        request("GET http://me:pw@example.org/ HTTP/1.1", "Host: example.org"),
        request("GET http:///x HTTP/1.1", "Host: x"),
        request("GET http://a/ HTTP/1.1", "Host: a", "Host: b"),
        request("GET http://a/ HTTP/1.1"),
        request("GET http://a/ HTTP/1.1", "Host : a"),
        request("GET http://a/ HTTP/2.1", "Host: a"),
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        # what somebody sends who means to be understood otherwise further on
        request(
            "POST http://a/ HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\nX"
        ),
        request("POST http://a/ HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 6", body=b"12345"),
        request("POST http://a/ HTTP/1.1", "Host: a", "Content-Length: +5", body=b"12345"),
    ],
)
def test_what_is_malformed(octets: bytes) -> None:
    it = machine()
    assert why(octets, it) is Refusal.MALFORMED
    assert it.refusal(Refusal.MALFORMED).startswith(b"HTTP/1.1 400 ")


def test_what_is_not_supported_or_too_long() -> None:
    assert why(request("GET ftp://a/ HTTP/1.1", "Host: a")) is Refusal.NOT_SUPPORTED
    assert (
        why(request("POST http://a/ HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked")) is Refusal.NOT_SUPPORTED
    )
    it = machine()
    assert why(b"GET http://a/ HTTP/1.1\r\nX: " + b"a" * (LONGEST_HEAD + 1), it) is Refusal.TOO_LONG
    assert it.refusal(Refusal.TOO_LONG).startswith(b"HTTP/1.1 431 ")


def test_who_needs_a_password() -> None:
    it = machine(app, open_to_all=False)
    assert why(request("CONNECT a:1 HTTP/1.1", "Host: a"), it) is Refusal.NOT_ALLOWED
    assert b"\r\nProxy-Authenticate: Basic " in it.refusal(Refusal.NOT_ALLOWED)
    for proof in ("Basic " + base64.b64encode(b"app:wrong").decode(), "Basic %%%", "Bearer x", "Basic"):
        it = machine(app, open_to_all=False)
        octets = request("CONNECT a:1 HTTP/1.1", "Host: a", f"Proxy-Authorization: {proof}")
        assert why(octets, it) is Refusal.NOT_ALLOWED
    right = "Basic " + base64.b64encode(b"app:sesame").decode()
    wanted = machine(app, open_to_all=False).receive(
        request("CONNECT a:1 HTTP/1.1", "Host: a", f"Proxy-Authorization: {right}")
    )
    assert wanted is not None
    assert (wanted.user, wanted.password) == ("app", b"sesame")


def sent(it: Http) -> bytes:
    octets = bytes(it.to_server)
    it.to_server.clear()
    return octets


def got(it: Http) -> bytes:
    octets = bytes(it.to_client)
    it.to_client.clear()
    return octets


def test_a_plain_request_goes_out_as_its_server_is_to_get_it() -> None:
    it = machine()
    wanted = it.receive(
        request(
            "GET http://example.org:8080/a?b HTTP/1.1",
            "Host: elsewhere.example",
            "Accept: */*",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic YTpi",
            "Connection: X-Secret, close",
            "X-Secret: 1",
            "Upgrade: websocket",
        )
    )
    assert wanted == Wanted(How.HTTP, "example.org", 8080, "a", b"b")
    it.begin()
    assert sent(it) == b"GET /a?b HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"


def test_two_requests_on_one_connection_are_two_to_two_servers() -> None:
    """The second is no octet of the first, however it is sent: that is how requests are smuggled."""
    it = machine()
    first = request("POST http://a/ HTTP/1.1", "Host: a", "Content-Length: 4", body=b"body")
    second = request("GET http://b/ HTTP/1.1", "Host: b")
    assert it.receive(first + second) == Wanted(How.HTTP, "a", 80)
    it.begin()
    assert sent(it).endswith(b"\r\n\r\nbody")
    assert not it.hears_client
    it.receive_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\nok")
    assert it.is_answered
    assert got(it) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert it.again() == Wanted(How.HTTP, "b", 80)
    it.begin()
    assert sent(it).startswith(b"GET / HTTP/1.1\r\nHost: b\r\n")


def test_a_body_in_chunks_comes_out_in_chunks_of_ours() -> None:
    it = machine()
    head = request("POST http://a/x HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
    assert it.receive(head + b"3;ext=1\r\nabc\r\n") is not None
    it.begin()
    assert it.hears_client
    assert it.receive(b"2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n") is None
    out = sent(it)
    assert out.count(b"Transfer-Encoding: chunked") == 1
    assert out.endswith(b"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nall", b"3\r\nall\r\n0\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n3\r\nall\r\n0\r\n\r\n",
            b"3\r\nall\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", b"\r\n\r\n"),
    ],
)
def test_an_answer_has_one_length(answer: bytes, told: bytes) -> None:
    it = machine()
    it.receive(request("GET http://a/ HTTP/1.1", "Host: a"))
    it.begin()
    it.receive_server(answer)
    if not it.is_answered:
        it.receive_server(b"")
    assert it.is_answered
    octets = got(it)
    assert octets.endswith(told)
    assert not (b"Transfer-Encoding" in octets and b"Content-Length" in octets)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b""]
)
def test_a_server_that_makes_no_sense(answer: bytes) -> None:
    it = machine()
    it.receive(request("GET http://a/ HTTP/1.1", "Host: a"))
    it.begin()
    with pytest.raises(Refused):
        it.receive_server(answer)
    assert it.refusal(Refusal.UNREACHABLE).startswith(b"HTTP/1.1 502 ")


def test_an_old_client_is_left_when_it_is_answered() -> None:
    it = machine()
    it.receive(request("GET http://a/ HTTP/1.0"))
    it.begin()
    it.receive_server(b"HTTP/1.1 200 OK\r\n\r\nall")
    it.receive_server(b"")
    assert got(it).endswith(b"\r\n\r\nall")
    with pytest.raises(EOFError):
        it.again()


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"GET http://a/ HTTP/1.1\r\n",
                b"CONNECT a:1 HTTP/1.1\r\n",
                b"Host: a\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n",
                b" folded\r\n",
            ]
        ),
        st.binary(max_size=40),
    ),
    max_size=30,
)


@given(LINES, LINES)
def test_no_octets_from_either_side_do_harm(client: list[bytes], server: list[bytes]) -> None:
    """What goes out is requests that h11 takes for whole, one with each connection, to the server that was judged."""
    it = machine()
    try:
        for octets in client:
            wanted = it.receive(octets)
            if wanted is not None and wanted.how is How.CONNECT:
                return
            if wanted is not None:
                it.begin()
                break
        else:
            return
        for octets in server:
            it.receive_server(octets)
    except Refused as refusal:
        assert len(it.refusal(refusal.why)) < 1000  # noqa: PT017
    out = h11.Connection(h11.SERVER)
    out.receive_data(bytes(it.to_server))
    requests = 0
    while not isinstance(event := out.next_event(), type) and not isinstance(event, h11.ConnectionClosed):
        requests += isinstance(event, h11.Request)
    assert requests <= 1
    assert len(it.to_server) + len(it.to_client) < KEPT


@pytest.mark.parametrize("why", list(Refusal))
def test_each_refusal_has_a_status_and_says_why(why: Refusal) -> None:
    head, _, text = refusal(why).partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 [45][0-9]{2} [A-Z]", head)
    assert text.decode() == f"souppp: {why}\n"
