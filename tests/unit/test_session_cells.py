"""RFC 1661's table once more, through a whole session: what LCP, IPCP and IPv6CP put on the line in each state.

The cells that a peer, the clock or the operator can reach; `ppp/test_automaton.py` has all 160, for the automaton.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from engine.ppp.automaton import State
from engine.wire.control import Code, IpcpOption, Ipv6cpOption, LcpOption, Option
from engine.wire.ppp import Protocol

from .peer import MAGIC, SETTINGS, Peer
from .ppp.test_automaton import ALL_CELLS, split

LCP, IPCP, IPV6CP = Protocol.LCP, Protocol.IPCP, Protocol.IPV6CP
SENT = {
    Code.CONFIGURE_REQUEST: "scr",
    Code.CONFIGURE_ACK: "sca",
    Code.CONFIGURE_NAK: "scn",
    Code.CONFIGURE_REJECT: "scn",
    Code.TERMINATE_REQUEST: "str",
    Code.TERMINATE_ACK: "sta",
    Code.CODE_REJECT: "scj",
    Code.ECHO_REPLY: "ser",
}
GOOD = {
    LCP: Option(LcpOption.MAGIC, MAGIC),
    IPCP: Option(IpcpOption.IP_ADDRESS, b"\x64\x40\0\1"),
    IPV6CP: Option(Ipv6cpOption.INTERFACE_IDENTIFIER, b"\2ac\0\0ac1"),
}
WISH = {
    LCP: Option(LcpOption.MRU, b"\x05\x78"),
    IPCP: Option(IpcpOption.IP_ADDRESS, b"\x64\x40\0\x09"),
    IPV6CP: Option(Ipv6cpOption.INTERFACE_IDENTIFIER, b"suggests"),
}
BAD = Option(99)


def request(peer: Peer, number: int, *options: Option) -> None:
    peer.request(number, *options, identifier=0x31)


HAPPENINGS: dict[str, Callable[[Peer, int], None]] = {
    "RCR+": lambda peer, number: request(peer, number, GOOD[number]),
    "RCR-": lambda peer, number: request(peer, number, GOOD[number], BAD),
    "RCA": lambda peer, number: peer.answer(number, Code.CONFIGURE_ACK),
    "RCN": lambda peer, number: peer.answer(number, Code.CONFIGURE_NAK, WISH[number]),
    "RTR": lambda peer, number: peer.control(number, Code.TERMINATE_REQUEST, 77),
    "RTA": lambda peer, number: peer.control(number, Code.TERMINATE_ACK, 77),
    "RUC": lambda peer, number: peer.control(number, 99, 1),
    "RXJ+": lambda peer, number: peer.control(number, Code.CODE_REJECT, 1, b"\x63\1\0\4"),
    "RXJ-": lambda peer, number: peer.control(number, Code.CODE_REJECT, 1, b"\1\1\0\4"),
    "RXR": lambda peer, number: peer.control(number, Code.ECHO_REQUEST, 1, MAGIC),
    "TO+": lambda peer, number: peer.sleep(1.0),
    "Close": lambda peer, number: peer.hang_up(),
}
ONLY_LCP = ("RXR", "Close")
STATES = (State.REQ_SENT, State.ACK_RCVD, State.ACK_SENT, State.OPENED, State.CLOSING, State.STOPPING)


def brought_to(number: int, state: State) -> Peer:
    """A session whose control protocol is in that state, and nothing of it so recent as to pass for a duplicate."""
    peer = Peer(replace(SETTINGS, ipv6=number == IPV6CP))
    if number == LCP:
        peer.open_pppoe()
    else:
        peer.open_network()
    if number == IPCP:
        peer.answer(number, Code.CONFIGURE_NAK, WISH[number])  # without an address it would not stay open
    if state in (State.ACK_SENT, State.OPENED, State.CLOSING, State.STOPPING):
        request(peer, number, GOOD[number])
    if state in (State.ACK_RCVD, State.OPENED, State.CLOSING, State.STOPPING):
        peer.answer(number, Code.CONFIGURE_ACK)
    if state is State.OPENED:
        peer.now += 3.5
    elif state is State.CLOSING:
        peer.hang_up()
    elif state is State.STOPPING:
        peer.control(number, Code.CODE_REJECT, 9, b"\1\1\0\4")
    peer.heard()
    assert state_of(peer, number) is state
    return peer


def state_of(peer: Peer, number: int) -> State | None:
    """The state of a control protocol, None once the session is over or ends."""
    link = peer.session._link
    if link is None:
        return None
    if number == LCP:
        return link.lcp_state
    return link._ncps[number].state if number in link._ncps else None


CASES = [
    pytest.param(number, state, event.value, cell, id=f"{number.name}-{state.name}-{event.value}")
    for number in (LCP, IPCP, IPV6CP)
    for state, event, cell in ALL_CELLS
    if state in STATES and event.value in HAPPENINGS and cell != "-"
    if number == LCP or (event.value not in ONLY_LCP and state not in (State.CLOSING, State.STOPPING))
]


@pytest.mark.parametrize(("number", "state", "event", "cell"), CASES)
def test_the_cell(number: Protocol, state: State, event: str, cell: str) -> None:
    peer = brought_to(number, state)
    HAPPENINGS[event](peer, number)
    actions, following, _ = split(cell)
    heard = [heard for heard in peer.heard() if heard.in_session and heard.protocol == number]
    assert [SENT[Code(one.control.code)] for one in heard] == [action for action in actions if action in SENT.values()]
    if following in (State.STOPPED, State.CLOSED) and number != IPV6CP:
        assert state_of(peer, number) is None, "the session ends without LCP, and without any network protocol"
    else:
        assert state_of(peer, number) is following
