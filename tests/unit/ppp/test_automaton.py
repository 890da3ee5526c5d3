"""RFC 1661 section 4.1, all 160 cells: against the RFC's own text, and driven through a Negotiator.

The file beside this one is the RFC's table as it stands there (W. Simpson, July 1994; its distribution is unlimited).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.ppp.automaton import TABLE, TIMER_STATES, Action, Event, State
from engine.ppp.negotiator import NEVER, Discard, Judgement, Negotiator, Signal, Timing, Verdict
from engine.wire import control
from engine.wire.control import Code, ControlPacket, LcpOption, Option
from engine.wire.ppp import Protocol

ORDER = "Up Down Open Close TO+ TO- RCR+ RCR- RCA RCN RTR RTA RUC RXJ+ RXJ- RXR"
EVENTS = ORDER.split()


def read_table(text: str) -> list[tuple[State, Event, str]]:
    """State, event and cell of all the table's cells. It has a column for each state, and a line for each event."""
    found = []
    states: list[State] = []
    for line in text.splitlines():
        event, _, rest = line.partition("|")
        row = rest.split()
        if event.strip() in EVENTS:
            found += [(state, Event(event.strip()), cell) for state, cell in zip(states, row, strict=True)]
        elif row and all(cell.isdigit() for cell in row):
            states = [State(int(cell)) for cell in row]
    return found


ALL_CELLS = read_table(Path(__file__).with_name("rfc1661-section-4.1.txt").read_text())
cells = pytest.mark.parametrize(
    ("state", "event", "cell"), ALL_CELLS, ids=[f"{state.name}-{event.value}" for state, event, _ in ALL_CELLS]
)


def split(cell: str) -> tuple[tuple[str, ...], State, str]:
    """(actions, next state, footnote) of a cell that is no dash."""
    found = re.fullmatch(r"(?:(.*)/)?(\d)([rpx]?)", cell)
    assert found is not None
    return tuple(filter(None, (found[1] or "").split(","))), State(int(found[2])), found[3]


def test_there_are_160_cells() -> None:
    assert len(ALL_CELLS) == len(State) * len(Event) == 160
    assert [event.value for event in Event] == EVENTS


@cells
def test_the_table(state: State, event: Event, cell: str) -> None:
    if cell == "-":
        assert (state, event) not in TABLE
        return
    transition = TABLE[state, event]
    assert (tuple(action.value for action in transition.actions), transition.state, transition.footnote) == split(cell)


def test_the_timer_runs_only_where_it_can_expire() -> None:
    with_timeouts = {state for state, event, cell in ALL_CELLS if event is Event.TO_PLUS and cell != "-"}
    assert with_timeouts == TIMER_STATES
    assert {State.CLOSING, State.STOPPING, State.REQ_SENT, State.ACK_RCVD, State.ACK_SENT} == TIMER_STATES


def test_only_three_actions_start_the_timer() -> None:
    """Every way into a state with a timer starts it, or comes from a state where it runs already."""
    starters = {Action.SCR, Action.STR, Action.ZRC}
    for (state, _), transition in TABLE.items():
        if transition.state in TIMER_STATES and state not in TIMER_STATES:
            assert starters & set(transition.actions), (state, transition)


# The same cells, seen from outside: a Negotiator is brought into the state, the event happens to it, and what comes
# out is what the cell's actions say.

GOOD = Option(LcpOption.MRU, b"\x05\xd4")
BAD = Option(LcpOption.PFC)
PACKETS = {
    "scr": Code.CONFIGURE_REQUEST,
    "sca": Code.CONFIGURE_ACK,
    "scn": Code.CONFIGURE_REJECT,
    "str": Code.TERMINATE_REQUEST,
    "sta": Code.TERMINATE_ACK,
    "scj": Code.CODE_REJECT,
}
UNKNOWN_CODE = 77
RESTART = 3.0


@dataclass
class Simple:
    """Asks for one option and accepts the same."""

    agreed: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.agreed.clear()

    def request(self) -> list[Option]:
        return [GOOD]

    def judge(self, option: Option) -> Judgement:
        return (Verdict.ACK, option) if option.type == GOOD.type else (Verdict.REJECT, option)

    def missing(self, options: Sequence[Option]) -> list[Option]:
        return []

    def peer_agreed(self, options: Sequence[Option]) -> None:
        self.agreed.append("peer's")

    def ours_agreed(self, options: Sequence[Option]) -> None:
        self.agreed.append("ours")

    def naked(self, options: Sequence[Option]) -> None:
        pass

    def rejected(self, options: Sequence[Option]) -> None:
        pass


class Driven:
    """A Negotiator whose peer is the test."""

    def __init__(self, tries: int = 5) -> None:
        timing = Timing(first_restart=RESTART, restart=RESTART, max_configure=tries, max_terminate=tries)
        self.out: list[tuple[int, ControlPacket]] = []
        self.said: list[tuple[int, Signal]] = []
        extensions = {Code.ECHO_REQUEST: lambda packet, now: None}
        self.machine = Negotiator(Protocol.LCP, Simple(), timing, self.out, self.said, extensions)
        self.now = 0.0
        self.requests: list[ControlPacket] = []

    def take(self) -> list[ControlPacket]:
        packets = [packet for _, packet in self.out]
        self.out.clear()
        self.requests += [packet for packet in packets if packet.code == Code.CONFIGURE_REQUEST]
        return packets

    def signals(self) -> list[Signal]:
        signals = [signal for _, signal in self.said]
        self.said.clear()
        return signals

    def receive(self, code: int, identifier: int = 200, data: bytes = b"") -> None:
        self.machine.receive(control.encode(ControlPacket(code, identifier, data)), self.now)

    def request(self, *options: Option) -> None:
        self.receive(Code.CONFIGURE_REQUEST, 99, control.encode_options(options))

    def answer(self, code: int) -> None:
        """To the latest request, or to none where none was sent."""
        self.take()
        latest = self.requests[-1] if self.requests else ControlPacket(0, 1, control.encode_options([GOOD]))
        self.receive(code, latest.identifier, latest.data)

    def expire(self) -> None:
        assert self.machine.deadline != NEVER
        self.now = self.machine.deadline
        self.machine.handle_timer(self.now)

    def to(self, state: State) -> Driven:
        """By the shortest way, with time enough gone by that no packet passes for a duplicate."""
        recipes: dict[State, Callable[[], object]] = {
            State.INITIAL: lambda: None,
            State.STARTING: lambda: self.machine.open(self.now),
            State.CLOSED: lambda: self.machine.up(self.now),
            State.STOPPED: lambda: (self.to(State.REQ_SENT), self.machine.protocol_rejected(self.now)),
            State.CLOSING: lambda: (self.to(State.REQ_SENT), self.machine.close(self.now)),
            State.STOPPING: lambda: (self.to(State.OPENED), self.receive(Code.CODE_REJECT, 5, b"\x01")),
            State.REQ_SENT: lambda: (self.to(State.STARTING), self.machine.up(self.now)),
            State.ACK_RCVD: lambda: (self.to(State.REQ_SENT), self.answer(Code.CONFIGURE_ACK)),
            State.ACK_SENT: lambda: (self.to(State.REQ_SENT), self.request(GOOD)),
            State.OPENED: lambda: (self.to(State.ACK_SENT), self.answer(Code.CONFIGURE_ACK)),
        }
        recipes[state]()
        assert self.machine.state is state
        self.take()
        self.signals()
        if state is State.OPENED:
            self.now += RESTART + 0.1
        return self


HAPPENINGS: dict[Event, Callable[[Driven], None]] = {
    Event.UP: lambda it: it.machine.up(it.now),
    Event.DOWN: lambda it: it.machine.down(it.now),
    Event.OPEN: lambda it: it.machine.open(it.now),
    Event.CLOSE: lambda it: it.machine.close(it.now),
    Event.TO_PLUS: Driven.expire,
    Event.TO_MINUS: Driven.expire,
    Event.RCR_PLUS: lambda it: it.request(GOOD),
    Event.RCR_MINUS: lambda it: it.request(GOOD, BAD),
    Event.RCA: lambda it: it.answer(Code.CONFIGURE_ACK),
    Event.RCN: lambda it: it.answer(Code.CONFIGURE_REJECT),
    Event.RTR: lambda it: it.receive(Code.TERMINATE_REQUEST),
    Event.RTA: lambda it: it.receive(Code.TERMINATE_ACK),
    Event.RUC: lambda it: it.receive(UNKNOWN_CODE),
    Event.RXJ_PLUS: lambda it: it.receive(Code.CODE_REJECT, data=bytes((Code.ECHO_REQUEST,))),
    Event.RXJ_MINUS: lambda it: it.receive(Code.CODE_REJECT, data=bytes((Code.CONFIGURE_NAK,))),
    Event.RXR: lambda it: it.receive(Code.ECHO_REQUEST, data=bytes(4)),
}
BY_OWNER = (Event.UP, Event.DOWN, Event.OPEN, Event.CLOSE)
BY_TIMER = (Event.TO_PLUS, Event.TO_MINUS)


@cells
def test_the_negotiator(state: State, event: Event, cell: str) -> None:
    # The counters are at zero when TO- is due, and above it otherwise.
    driven = Driven(tries=0 if event is Event.TO_MINUS else 5).to(state)
    if cell == "-":
        if event in BY_TIMER:
            assert driven.machine.deadline == NEVER
        elif event in BY_OWNER:
            HAPPENINGS[event](driven)
        else:
            with pytest.raises(Discard):
                HAPPENINGS[event](driven)
        assert (driven.machine.state, driven.take(), driven.signals()) == (state, [], [])
        return
    before = driven.machine.deadline
    HAPPENINGS[event](driven)
    actions, following, _ = split(cell)
    assert driven.machine.state is following
    sent = driven.take()
    assert [packet.code for packet in sent] == [PACKETS[action] for action in actions if action in PACKETS]
    signals = {Signal.UP: "tlu", Signal.DOWN: "tld", Signal.STARTED: "tls", Signal.FINISHED: "tlf"}
    assert [signals[signal] for signal in driven.signals()] == [
        action for action in actions if action in signals.values()
    ]
    if following not in TIMER_STATES:
        assert driven.machine.deadline == NEVER
    elif {"scr", "str", "zrc"} & set(actions):
        assert driven.machine.deadline != NEVER
        assert driven.machine.deadline > driven.now
    else:
        assert driven.machine.deadline == before


def test_a_terminate_ack_has_the_requests_identifier() -> None:
    driven = Driven().to(State.OPENED)
    driven.receive(Code.TERMINATE_REQUEST, 42)
    assert driven.take() == [ControlPacket(Code.TERMINATE_ACK, 42)]


def test_an_ack_a_nak_and_a_reject_have_the_requests_identifier() -> None:
    driven = Driven().to(State.REQ_SENT)
    driven.request(GOOD)
    driven.request(GOOD, BAD)
    assert [packet.identifier for packet in driven.take()] == [99, 99]


def test_after_max_configure_requests_the_layer_finishes() -> None:
    driven = Driven(tries=10).to(State.REQ_SENT)
    while driven.machine.deadline != NEVER:
        driven.expire()
    assert len(driven.requests) + len(driven.take()) == 10
    assert driven.machine.state is State.STOPPED
    assert driven.signals() == [Signal.FINISHED]


def test_after_max_terminate_requests_the_layer_finishes() -> None:
    driven = Driven(tries=2).to(State.OPENED)
    driven.machine.close(driven.now)
    while driven.machine.deadline != NEVER:
        driven.expire()
    assert [packet.code for packet in driven.take()] == [Code.TERMINATE_REQUEST] * 2
    assert driven.machine.state is State.CLOSED


def test_a_duplicated_ack_does_not_flap_an_open_layer() -> None:
    driven = Driven().to(State.ACK_SENT)
    driven.answer(Code.CONFIGURE_ACK)
    assert driven.signals() == [Signal.UP]
    driven.now += RESTART
    with pytest.raises(Discard):
        driven.answer(Code.CONFIGURE_ACK)
    assert (driven.machine.state, driven.signals()) == (State.OPENED, [])


def test_a_repeated_request_is_acknowledged_again_without_flapping() -> None:
    driven = Driven().to(State.ACK_RCVD)
    driven.request(GOOD)
    driven.now += RESTART
    driven.request(GOOD)
    assert [packet.code for packet in driven.take()] == [Code.CONFIGURE_ACK] * 2
    assert (driven.machine.state, driven.signals()) == (State.OPENED, [Signal.UP])


def test_the_same_request_later_on_is_a_new_negotiation() -> None:
    driven = Driven().to(State.ACK_RCVD)
    driven.request(GOOD)
    driven.take()
    driven.signals()
    driven.now += RESTART + 0.1
    driven.request(GOOD)
    assert (driven.machine.state, driven.signals()) == (State.ACK_SENT, [Signal.DOWN])


def test_another_request_is_a_new_negotiation_at_once() -> None:
    driven = Driven().to(State.ACK_RCVD)
    driven.request(GOOD)
    driven.take()
    driven.receive(Code.CONFIGURE_REQUEST, 100, control.encode_options([GOOD]))
    assert driven.machine.state is State.ACK_SENT
