"""What is asked of a DNS server, and what is made of its answers; dnspython writes these, and reads those."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.proxy.questions import Kind, NotAName, Reply, Unfit, name_of, question, read

NAME = name_of("www.example.com")
ASKED = question(NAME, Kind.A, 0x1234, 0b1010_1010)


def answer(*records: str, authority: tuple[str, ...] = (), asked: bytes = ASKED, rcode: str = "NOERROR") -> bytes:
    response = dns.message.make_response(dns.message.from_wire(asked))
    response.set_rcode(dns.rcode.from_text(rcode))
    for section, lines in ((response.answer, records), (response.authority, authority)):
        for line in lines:
            name, ttl, class_, type_, *rest = line.split(maxsplit=4)
            section.append(dns.rrset.from_text(name, int(ttl), class_, type_, *rest))
    return response.to_wire(max_size=65535)


def said(octets: bytes, kind: Kind = Kind.A) -> Reply | Unfit:
    return read(octets, ASKED, NAME, kind)


def test_a_question_is_what_dnspython_reads() -> None:
    message = dns.message.from_wire(ASKED)
    assert (message.id, message.flags, message.payload) == (0x1234, dns.flags.RD, 1232)
    assert message.question == [dns.rrset.from_text("www.example.com.", 0, "IN", "A")]
    assert str(message.question[0].name) != "www.example.com."
    assert dns.message.from_wire(question(NAME, Kind.AAAA, 1, 0, options=False)).edns == -1


def test_addresses_are_those_at_the_end_of_the_aliases() -> None:
    octets = answer(
        "www.example.com. 300 IN CNAME a.example.net.",
        "b.example.net. 200 IN A 192.0.2.1",
        "a.example.net. 100 IN CNAME b.example.net.",
        "b.example.net. 200 IN A 192.0.2.2",
        "other.example.net. 1 IN A 192.0.2.3",
    )
    assert said(octets) == Reply((IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")), 100.0)


def test_ipv6() -> None:
    asked = question(NAME, Kind.AAAA, 7, 0)
    octets = answer("www.example.com. 9 IN AAAA 2001:db8::1", "www.example.com. 9 IN A 192.0.2.1", asked=asked)
    assert read(octets, asked, NAME, Kind.AAAA) == Reply((IPv6Address("2001:db8::1"),), 9.0)


SOA = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 30"


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (answer(authority=(SOA,), rcode="NXDOMAIN"), Reply((), 30.0, exists=False)),
        (answer(authority=(SOA,)), Reply((), 30.0)),
        (answer(authority=(SOA.replace(" 30", " 9999999").replace(" 60 ", " 9999999 "),)), Reply((), 900.0)),
        (answer(), Reply((), 0.0)),
        (answer("www.example.com. 5 IN CNAME nowhere.example.com.", authority=(SOA,)), Reply((), 5.0)),
        (answer("www.example.com. 4000000000 IN A 192.0.2.1"), Reply((IPv4Address("192.0.2.1"),), 0.0)),
        (answer("www.example.com. 900000 IN A 192.0.2.1"), Reply((IPv4Address("192.0.2.1"),), 86400.0)),
    ],
)
def test_how_long_something_is_believed(octets: bytes, reply: Reply) -> None:
    assert said(octets) == reply


def changed(octets: bytes, at: int, to: bytes) -> bytes:
    return octets[:at] + to + octets[at + len(to) :]


GOOD = answer("www.example.com. 300 IN A 192.0.2.1")
LOOP = changed(GOOD, len(ASKED) - 11, b"\xc0" + bytes([len(ASKED) - 11]))
"""The record's owner is a name that leads to itself."""


@pytest.mark.parametrize(
    ("octets", "unfit"),
    [
        (b"", Unfit.STRANGE),
        (GOOD[:11], Unfit.STRANGE),
        (changed(GOOD, 0, b"\x12\x35"), Unfit.STRANGE),
        (ASKED, Unfit.STRANGE),
        (answer(asked=question(name_of("www.example.org"), Kind.A, 0x1234, 0)), Unfit.STRANGE),
        (answer(asked=question(NAME, Kind.AAAA, 0x1234, 0b1010_1010)), Unfit.STRANGE),
        (answer(asked=question(NAME, Kind.A, 0x1234, 0)), Unfit.SPELLED),
        (changed(GOOD, 2, bytes([GOOD[2] | 2])), Unfit.TRUNCATED),
        (answer(rcode="SERVFAIL"), Unfit.FAILED),
        (answer(rcode="REFUSED"), Unfit.FAILED),
        (answer(rcode="FORMERR"), Unfit.OLD),
        (b"\x12\x34\x81\x01" + bytes(8), Unfit.OLD),
        (GOOD[:-20], Unfit.MALFORMED),
        (changed(GOOD, 6, b"\xff\xff"), Unfit.MALFORMED),
        (LOOP, Unfit.MALFORMED),
        (answer("www.example.com. 300 IN CNAME www.example.com."), Unfit.MALFORMED),
        (
            answer(
                "www.example.com. 300 IN CNAME 0.example.com.",
                *(f"{n}.example.com. 300 IN CNAME {n + 1}.example.com." for n in range(17)),
            ),
            Unfit.MALFORMED,
        ),
        (answer(*(f"{n}.example.com. 300 IN A 192.0.2.1" for n in range(2001))), Unfit.MALFORMED),
    ],
)
def test_what_says_nothing_of_the_name(octets: bytes, unfit: Unfit) -> None:
    assert said(octets) is unfit


def test_by_tcp_the_spelling_is_free() -> None:
    octets = answer("www.example.com. 3 IN A 192.0.2.1", asked=question(NAME, Kind.A, 0x1234, 0))
    assert read(octets, ASKED, NAME, Kind.A, exact=False) == Reply((IPv4Address("192.0.2.1"),), 3.0)


def test_a_huge_answer_gives_a_few_addresses() -> None:
    octets = answer(*(f"www.example.com. 300 IN A 198.18.{n // 256}.{n % 256}" for n in range(1500)))
    reply = said(octets)
    assert isinstance(reply, Reply)
    assert len(reply.addresses) == 32


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(GOOD)))
def test_whatever_comes_is_an_answer_or_unfit(changes: list[tuple[int, int]], length: int) -> None:
    octets = bytearray(GOOD)
    for at, value in changes:
        octets[at] = value
    assert isinstance(said(bytes(octets[:length])), Reply | Unfit)


@given(st.binary(max_size=200))
def test_whatever_follows_the_question_is_an_answer_or_unfit(rest: bytes) -> None:
    octets = changed(ASKED, 2, b"\x80\0\0\1\0\4\0\4\0\0")[: len(ASKED) - 11] + rest
    assert isinstance(said(octets), Reply | Unfit)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a..b", "localhost", "db.localhost.", "printer.local", "x" * 64 + ".com", "a." * 130, "\ud800.com"],
)
def test_what_no_server_is_asked_for(text: str) -> None:
    with pytest.raises(NotAName):
        name_of(text)


def test_names_are_as_dns_writes_them() -> None:
    assert name_of("WWW.Example.com.") == name_of("www.example.com") == b"\3www\7example\3com\0"
    assert name_of("bücher.example") == b"\x0dxn--bcher-kva\7example\0"
