"""The DHCPv6 client against a server of ours, and against servers that lie (RFC 8415)."""

from __future__ import annotations

import contextlib
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ipv6.dhcp import IAID, MOST
from engine.ipv6.host import Ipv6Host
from engine.ipv6.settled import SettledIpv6
from engine.settings.values import Dhcpv6
from engine.wire import dhcpv6, ipv6
from engine.wire.dhcpv6 import Association, Message, MessageType, Offered, Option, OptionCode, Status
from engine.wire.errors import WireError
from engine.wire.ipv6 import Datagram

from .line import BLOCK, DNS, IDENTITY, OURS, ROUTERS, SERVER, Line
from .test_router import ODD

NA, PD = OptionCode.IA_NA, OptionCode.IA_PD
ADDRESS, PREFIX = IPv6Address("3fff:64:7::d"), IPv6Network("3fff:64:7:100::/56")
REPLY, ADVERTISE = MessageType.REPLY, MessageType.ADVERTISE
RAPID = Option(OptionCode.RAPID_COMMIT)
DAY = 86_400


def types(messages: list[Message]) -> list[str]:
    return [MessageType(each.type).name for each in messages]


def bound(rapid: bool = True) -> Line:
    line = Line(Dhcpv6.ALWAYS, 56, rapid=rapid)
    line.sleep(5.0)
    assert ADDRESS in line.config.addresses
    assert line.config.prefixes == (PREFIX,)
    return line


def asking(kind: OptionCode = PD) -> tuple[Line, Message]:
    """A line where nobody answers, and the Solicit."""
    line = Line(Dhcpv6.ALWAYS if kind is NA else Dhcpv6.AUTO, 56 if kind is PD else None, silent=True)
    line.sleep(3.5)
    solicit = line.messages[0]
    assert solicit.type == MessageType.SOLICIT
    return line, solicit


def ia(*offered: Offered, kind: OptionCode = PD, t1: int = 0, t2: int = 0, status: int = 0, iaid: int = IAID) -> Option:
    return dhcpv6.association_option(Association(kind, iaid, t1, t2, offered, status))


def test_with_rapid_commit_two_messages_are_enough() -> None:
    line = bound()
    solicit = line.messages
    assert types(solicit) == ["SOLICIT"]
    assert solicit[0].find(OptionCode.CLIENT_ID) == IDENTITY.duid
    assert [(each.kind, each.offered) for each in dhcpv6.associations(solicit[0])] == [
        (NA, ()),
        (PD, (Offered(IPv6Network("::/56")),)),
    ]
    assert line.config.dns == (DNS,)


def test_servers_that_no_other_host_can_be_are_none_and_take_no_place() -> None:
    line, solicit = asking()
    servers = b"".join(each.packed for each in (*ODD, DNS))
    told = Option(OptionCode.DNS_SERVERS, servers)
    line.answer(MessageType.REPLY, solicit, RAPID, told, ia(Offered(PREFIX, DAY, DAY)))
    assert (line.config.prefixes, line.config.dns) == ((PREFIX,), (DNS,))


def test_without_it_takes_four() -> None:
    solicit, request = bound(rapid=False).messages
    assert types([solicit, request]) == ["SOLICIT", "REQUEST"]
    assert request.find(OptionCode.SERVER_ID) == SERVER
    assert solicit.transaction != request.transaction
    assert {each.kind: each.offered[0].network for each in dhcpv6.associations(request)} == {
        NA: IPv6Network(ADDRESS),
        PD: PREFIX,
    }


def test_it_renews_rebinds_and_begins_anew() -> None:
    line = bound()
    line.messages.clear()
    line.sleep(1801)
    assert types(line.messages) == ["RENEW"]
    line.silent = True
    line.sleep(3600)
    said = [(at, dhcpv6.decode(ipv6.decode_udp(each).payload)) for at, each in line.said if each.next_header == 17]
    renewals = [at for at, each in said if each.type == MessageType.RENEW]
    assert types([each for _, each in said])[-1] == "REBIND"
    assert 9.0 <= renewals[1] - renewals[0] <= 11.0
    assert all(b - a <= 660 for a, b in pairwise(renewals))
    assert {each.find(OptionCode.SERVER_ID) for _, each in said if each.type == MessageType.REBIND} == {None}
    assert len({each.transaction for _, each in said}) == 2
    line.said.clear()
    line.sleep(7200)
    assert ADDRESS not in line.config.addresses
    assert line.config.prefixes == ()
    assert types(line.messages)[-1] == "SOLICIT"
    line.silent = False
    line.sleep(3700)
    assert line.config.prefixes == (PREFIX,)


def test_it_gives_back_what_it_has() -> None:
    line = bound()
    line.host.release(line.now)
    line.settle()
    assert line.server.released == 1
    (release,) = [each for each in line.messages if each.type == MessageType.RELEASE]
    assert {each.offered[0].network for each in dhcpv6.associations(release)} == {IPv6Network(ADDRESS), PREFIX}
    line.sleep(DAY)
    assert line.messages == []


def test_a_solicit_is_sent_again_with_its_randomness_and_its_time() -> None:
    line = Line(Dhcpv6.ALWAYS, silent=True)
    line.sleep(2 * 3600)
    said = [(at, dhcpv6.decode(ipv6.decode_udp(each).payload)) for at, each in line.said if each.next_header == 17]
    pauses = [b - a for (a, _), (b, _) in pairwise(said)]
    assert 1.0 <= pauses[0] <= 1.1
    assert all(1.9 * a <= b <= 2.1 * a for a, b in pairwise(pauses[:10]))
    assert len({each.transaction for _, each in said}) == 1
    elapsed = [int.from_bytes(each.find(OptionCode.ELAPSED_TIME) or b"", "big") for _, each in said]
    assert elapsed[0] == 0
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] == 0xFFFF


def test_a_request_is_given_up_after_ten() -> None:
    line, solicit = asking()
    line.answer(ADVERTISE, solicit, ia(Offered(PREFIX, 100, 100)))
    line.sleep(600)
    said = types(line.messages)
    assert said.count("REQUEST") == 10
    assert said[-1] == "SOLICIT"


def test_the_best_offer_is_taken() -> None:
    line = Line(prefix=56, silent=True)
    line.sleep(3.01)
    (solicit,) = line.messages
    for preference, server in ((1, b"a"), (9, b"b"), (3, b"c")):
        worth = Option(OptionCode.PREFERENCE, bytes((preference,)))
        line.answer(ADVERTISE, solicit, ia(Offered(PREFIX, 100, 100)), worth, server=server)
    assert line.messages == []
    line.sleep(1.5)
    assert line.messages[0].find(OptionCode.SERVER_ID) == b"b"


def test_nothing_better_can_come_than_a_preference_of_255() -> None:
    line = Line(prefix=56, silent=True)
    line.sleep(3.01)
    line.answer(ADVERTISE, line.messages[0], ia(Offered(PREFIX, 100, 100)), Option(OptionCode.PREFERENCE, b"\xff"))
    line.sleep(0.01)
    assert types(line.messages) == ["REQUEST"]


def test_by_itself_it_asks_for_an_address_only_where_the_router_says_so() -> None:
    line = Line()
    line.sleep(10.0)
    assert line.messages == []
    line.advertise(line.router.told.__class__(managed=True))
    line.sleep(1.0)
    assert ADDRESS in line.config.addresses
    line.said.clear()
    for _ in range(1000):
        line.advertise(line.router.told.__class__(managed=False))
        line.advertise(line.router.told.__class__(managed=True))
    line.sleep(0.1)
    assert line.messages == [], "whatever a router says, nobody is flooded"


def test_other_things_alone_are_asked_for_too() -> None:
    line = Line()
    line.router.told = line.router.told.__class__(other=True)
    line.sleep(1.0)
    assert types(line.messages) == ["INFORMATION_REQUEST"]
    assert line.config.dns == (DNS,)
    line.sleep(DAY + 1)
    assert types(line.messages) == ["INFORMATION_REQUEST"]


def test_never_is_never() -> None:
    line = Line(Dhcpv6.NEVER, 56)
    line.router.told = line.router.told.__class__(managed=True, other=True)
    line.sleep(DAY)
    assert line.messages == []


def test_a_server_that_knows_us_not_is_asked_anew() -> None:
    line = bound()
    line.silent = True
    line.sleep(1801)
    (renew,) = [each for each in line.messages if each.type == MessageType.RENEW]
    line.answer(REPLY, renew, ia(status=Status.NO_BINDING))
    line.sleep(0.1)
    (request,) = line.messages
    assert request.type == MessageType.REQUEST
    assert PREFIX in {each.offered[0].network for each in dhcpv6.associations(request)}


def test_a_server_with_nothing_left_is_asked_ever_more_rarely() -> None:
    line, solicit = asking()
    line.answer(ADVERTISE, solicit, ia(status=Status.NO_PREFIX_AVAIL))
    assert line.remarks == ["The DHCPv6 server gives nothing: no prefix is left."]
    for _ in range(5):
        line.answer(ADVERTISE, solicit, ia(status=Status.NO_PREFIX_AVAIL))
    assert len(line.remarks) == 1
    line.answer(REPLY, solicit, RAPID, ia(status=Status.NO_PREFIX_AVAIL))
    line.sleep(1.0)
    assert line.messages == []
    line.sleep(4.0)
    assert types(line.messages)[:1] == ["SOLICIT"]


def test_a_server_may_make_us_wait_longer() -> None:
    line, solicit = asking()
    line.answer(ADVERTISE, solicit, Option(OptionCode.SOL_MAX_RT, (60).to_bytes(4, "big")))
    line.said.clear()
    line.sleep(1200)
    assert len(line.messages) > 15
    line.answer(ADVERTISE, solicit, Option(OptionCode.SOL_MAX_RT, b"\0\0\0\1"))
    line.sleep(600)
    assert len(line.messages) < 15, "but not at once"


LIES = {
    "T1 behind T2": ia(Offered(PREFIX, 100, 100), t1=80, t2=50),
    "preferred longer than valid": ia(Offered(PREFIX, 101, 100)),
    "no lifetime": ia(Offered(PREFIX, 0, 0)),
    "a lifetime of nothing": ia(Offered(PREFIX, 1, 1)),
    "another IAID": ia(Offered(PREFIX, 100, 100), iaid=IAID + 1),
    "what nobody asked for": ia(Offered(IPv6Network(ADDRESS), 100, 100), kind=NA),
    "a status of its own": ia(Offered(PREFIX, 100, 100), status=Status.UNSPEC_FAIL),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_comes_of(lie: str) -> None:
    line, solicit = asking()
    line.answer(REPLY, solicit, RAPID, LIES[lie])
    assert line.config.prefixes == ()
    assert ADDRESS not in line.config.addresses


def test_who_we_are_and_what_was_asked_must_be_right() -> None:
    line, solicit = asking()
    right = (Option(OptionCode.CLIENT_ID, IDENTITY.duid), Option(OptionCode.SERVER_ID, SERVER), RAPID)
    given = ia(Offered(PREFIX, 100, 100))
    other = Option(OptionCode.CLIENT_ID, b"\0\4" + bytes(16))
    wrong = [
        Message(REPLY, bytes(3), (*right, given)),
        Message(REPLY, solicit.transaction, (other, *right[1:], given)),
        Message(REPLY, solicit.transaction, (*right[1:], given)),
        Message(REPLY, solicit.transaction, (right[0], RAPID, given)),
        Message(REPLY, solicit.transaction, (*right[:2], given)),
        Message(MessageType.SOLICIT, solicit.transaction, (*right, given)),
        Message(MessageType.RECONFIGURE, solicit.transaction, (*right, given)),
        Message(MessageType.RECONFIGURE, bytes(3), (*right, Option(19, b"\5"))),
    ]
    for message in wrong:
        with pytest.raises(WireError):
            line.say(message)
    assert line.config.prefixes == ()
    line.say(Message(REPLY, solicit.transaction, (*right, given)))
    assert line.config.prefixes == (PREFIX,)


def test_a_thousand_prefixes_take_the_room_of_a_few() -> None:
    line, solicit = asking()
    given = [Offered(IPv6Network((0x3FFF << 112 | number << 72, 56)), 100, 100) for number in range(1000)]
    line.answer(REPLY, solicit, RAPID, ia(*given))
    assert len(line.config.prefixes) == MOST


def test_a_refused_prefix_is_told_of() -> None:
    line, solicit = asking()
    line.ledger.refused[PREFIX] = "has 3fff:64:7:101::1 in it, this host's own address on lan0"
    line.answer(REPLY, solicit, RAPID, ia(Offered(PREFIX, 100, 100)))
    assert line.config.prefixes == ()
    assert line.remarks == [f"The delegated prefix {PREFIX} isn't taken: it {line.ledger.refused[PREFIX]}."]


def test_a_server_takes_a_prefix_back_with_a_renewal() -> None:
    line = bound()
    line.silent = True
    line.sleep(1801)
    (renew,) = [each for each in line.messages if each.type == MessageType.RENEW]
    other = IPv6Network("3fff:64:9:100::/56")
    line.answer(REPLY, renew, ia(Offered(PREFIX, 0, 0), Offered(other, 100, 200)))
    assert line.config.prefixes == (other,)


def test_it_is_not_renewed_without_end_whatever_a_server_says() -> None:
    line, solicit = asking()
    line.answer(REPLY, solicit, RAPID, ia(Offered(PREFIX, 10, 10), t1=1, t2=1))
    line.said.clear()
    line.silent = True
    line.sleep(60)
    assert len(line.messages) < 12


def test_another_process_goes_on() -> None:
    line = bound()
    line.sleep(100.0)
    settled = msgspec.msgpack.decode(msgspec.msgpack.encode(line.host.settled), type=SettledIpv6)
    after = Line(Dhcpv6.ALWAYS, 56)
    after.now = line.now
    after.host = Ipv6Host(OURS, IDENTITY, line.entropy, after.ledger, line.now, dhcp=Dhcpv6.ALWAYS, prefix=56)
    after.host.resume(settled, line.now)
    after.settle()
    assert after.config == line.config
    assert after.host.settled == line.host.settled
    assert after.said == []
    assert after.ledger.asked == []
    after.sleep(1801)
    assert types(after.messages) == ["RENEW"]
    assert after.host.next_timer() == pytest.approx(after.host.next_timer())


OCTETS = st.binary(max_size=80)
OPTIONS = st.builds(Option, st.integers(0, 90), OCTETS) | st.builds(
    lambda offered, kind, t1, t2: ia(*offered, kind=kind, t1=t1, t2=t2),
    st.lists(
        st.builds(
            Offered,
            st.builds(
                lambda high, length: IPv6Network((high << 64, length), False),
                st.integers(0, 2**64 - 1),
                st.integers(0, 128),
            ),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
        ),
        max_size=6,
    ),
    st.sampled_from([NA, PD]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)


@given(
    st.lists(
        st.tuples(st.sampled_from([*MessageType]), st.lists(OPTIONS, max_size=4), st.integers(0, 20000)), max_size=8
    )
)
def test_no_server_harms_it(answers: list[tuple[MessageType, list[Option], int]]) -> None:
    """Whatever answers come, with the right ids: a few leases at most, a few messages, and it goes on."""
    line = Line(Dhcpv6.ALWAYS, 0, silent=True)
    line.sleep(0.1)
    asked = line.messages[0]
    for kind, options, pause in answers:
        before = line.now
        with contextlib.suppress(WireError):
            line.answer(kind, asked, RAPID, *options)
        line.sleep(float(pause))
        said = line.messages
        asked = said[-1] if said else asked
        assert len(said) <= 15 + (line.now - before) / 2
        assert len(line.config.prefixes) <= MOST
        assert len(line.config.addresses) <= 2 * MOST
        assert (due := line.host.next_timer()) is None or due >= line.now


@given(OCTETS, st.booleans())
def test_no_octets_harm_it(octets: bytes, udp: bool) -> None:
    line, _ = asking()
    packet = octets
    if udp:
        packet = ipv6.encode_udp(ROUTERS, OURS, Datagram(547, 546, octets))
    with pytest.raises(WireError):
        line.host.receive(packet, line.now)
    assert BLOCK.version == 6
