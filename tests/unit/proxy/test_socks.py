"""SOCKS 4, 4a and 5: what each message means, however it is cut, and that no octets whatever are more than refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.proxy.asked import How, Refusal, Refused, Wanted
from engine.proxy.socks import Socks4, Socks5

LONGEST = 2048
"""More than any request there is."""


def anybody(name: str, password: bytes | None) -> bool:
    return True


def app(name: str, password: bytes | None) -> bool:
    return (name, password) == ("app", b"sesame")


def socks5(check=anybody, open_to_all: bool = True) -> Socks5:  # type: ignore[no-untyped-def]
    return Socks5(check, open_to_all=open_to_all)


GREETING = b"\x05\x01\x00"
TO_IPV4 = b"\x05\x01\x00\x01\xc6\x33\x64\x07\x01\xbb"
TO_NAME = b"\x05\x01\x00\x03\x0bexample.org\x00\x50"
TO_IPV6 = b"\x05\x01\x00\x04" + IPv6Address("2001:db8::1").packed + b"\x00\x50"
MAPPED = b"\x05\x01\x00\x04" + IPv6Address("::ffff:127.0.0.1").packed + b"\x00\x50"


@pytest.mark.parametrize(
    ("request_", "host", "port"),
    [
        (TO_IPV4, IPv4Address("198.51.100.7"), 443),
        (TO_NAME, "example.org", 80),
        (TO_IPV6, IPv6Address("2001:db8::1"), 80),
        (MAPPED, IPv4Address("127.0.0.1"), 80),
    ],
)
def test_a_connect_of_socks_5_in_one_piece_with_what_follows(request_: bytes, host: object, port: int) -> None:
    machine = socks5()
    assert machine.receive(GREETING + request_ + b"GET /") == Wanted(How.SOCKS5, host, port)  # type: ignore[arg-type]
    assert (machine.octets_to_send(), machine.rest) == (b"\x05\x00", b"GET /")
    assert machine.success((IPv4Address("192.0.2.1"), 256)) == b"\x05\x00\x00\x01\xc0\x00\x02\x01\x01\x00"
    assert machine.refusal(Refusal.DOWN) == b"\x05\x03\x00\x01" + bytes(6)


@given(st.lists(st.integers(1, 5)))
def test_it_means_the_same_however_it_is_cut(lengths: list[int]) -> None:
    whole = b"\x05\x02\x00\x02" + b"\x01\x03app\x06sesame" + TO_NAME + b"rest"
    machine = socks5(app, open_to_all=False)
    said = b""
    wanted = None
    while whole and wanted is None:
        length = lengths.pop() if lengths else 1
        wanted, whole = machine.receive(whole[:length]), whole[length:]
        said += machine.octets_to_send()
    assert wanted == Wanted(How.SOCKS5, "example.org", 80, "app", b"sesame")
    assert said == b"\x05\x02\x01\x00"
    assert machine.rest + whole == b"rest"
    assert "sesame" not in repr(wanted)


def refused(machine: Socks4 | Socks5, octets: bytes) -> Refusal:
    with pytest.raises(Refused) as raised:
        machine.receive(octets)
    return raised.value.why


@pytest.mark.parametrize(
    ("octets", "why", "told"),
    [
        (b"\x05\x01\x01", Refusal.NOT_ALLOWED, b"\x05\xff"),
        (GREETING + b"\x05\x02\x00\x01" + bytes(6), Refusal.NOT_SUPPORTED, b"\x05\x00\x05\x07"),
        (GREETING + b"\x05\x01\x00\x02" + bytes(6), Refusal.ADDRESS_TYPE, b"\x05\x00\x05\x08"),
        (GREETING + b"\x05\x01\x00\x01" + bytes(6), Refusal.MALFORMED, b"\x05\x00\x05\x01"),
        (GREETING + b"\x05\x01\x00\x03\x00\x00\x50", Refusal.MALFORMED, b"\x05\x00\x05\x01"),
        (GREETING + b"\x05\x01\x00\x03\x03a\r\n\x00\x50", Refusal.MALFORMED, b"\x05\x00\x05\x01"),
        (GREETING + b"\x04\x01\x00\x01" + bytes(6), Refusal.MALFORMED, b"\x05\x00"),
    ],
)
def test_what_socks_5_refuses(octets: bytes, why: Refusal, told: bytes) -> None:
    machine = socks5()
    assert refused(machine, octets) is why
    assert (machine.octets_to_send() + machine.refusal(why))[: len(told)] == told


def test_who_needs_a_password_gets_nothing_without_the_right_one() -> None:
    machine = socks5(app, open_to_all=False)
    assert refused(machine, GREETING) is Refusal.NOT_ALLOWED
    assert machine.octets_to_send() == b"\x05\xff"
    machine = socks5(app, open_to_all=False)
    assert refused(machine, b"\x05\x01\x02\x01\x03app\x05wrong" + TO_NAME) is Refusal.NOT_ALLOWED
    assert machine.octets_to_send() == b"\x05\x02\x01\x01"


def test_socks_4_and_4a() -> None:
    machine = Socks4(anybody, open_to_all=True)
    assert machine.receive(b"\x04\x01\x00\x50\xc6\x33\x64\x07app") is None
    assert machine.receive(b"\x00rest") == Wanted(How.SOCKS4, IPv4Address("198.51.100.7"), 80, "app")
    assert machine.rest == b"rest"
    assert machine.success((IPv4Address(0), 0)) == b"\x00\x5a" + bytes(6)
    assert machine.refusal(Refusal.DOWN) == b"\x00\x5b" + bytes(6)
    machine = Socks4(anybody, open_to_all=True)
    assert machine.receive(b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.org\x00") == Wanted(
        How.SOCKS4, "example.org", 80
    )
    assert refused(Socks4(app, open_to_all=False), b"\x04\x01\x00\x50\xc6\x33\x64\x07app\x00") is Refusal.NOT_ALLOWED
    assert refused(Socks4(anybody, open_to_all=True), b"\x04\x01\x00\x50" + b"a" * 300) is Refusal.TOO_LONG
    assert refused(Socks4(anybody, open_to_all=True), b"\x04\x02\x00\x50\xc6\x33\x64\x07\x00") is Refusal.NOT_SUPPORTED


@given(st.sampled_from([b"\x04", GREETING, b"\x05\x01\x02", b"\x05"]), st.lists(st.binary(max_size=300), max_size=20))
def test_no_octets_do_harm(start: bytes, pieces: list[bytes]) -> None:
    machine = Socks4(anybody, open_to_all=True) if start == b"\x04" else socks5()
    kept, why = 0, None
    for piece in [start, *pieces]:
        try:
            if machine.receive(piece) is not None:
                break
        except Refused as refusal:
            why = refusal.why
            break
        kept = max(kept, len(machine.rest))
    assert kept < LONGEST
    assert why is None or len(machine.octets_to_send() + machine.refusal(why)) < 32
