"""Carries out what the automaton says: packets, the Restart timer, counters, and the bargaining over options.

One `Negotiator` is one control protocol (LCP, IPCP, IPv6CP) of one link. What its options mean is left to an
`OptionHandler`; everything that is the same for all control protocols is here (RFC 1661 sections 4.3 to 5.6).

    up(now), open(now), receive(packet, now), handle_timer(now); `deadline` is when the latter is due

Packets for the peer and signals for the neighbours go to the lists that it is made with, where those of a whole link
stand in order: nobody has to ask each protocol for its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, StrEnum
from math import inf
from typing import Protocol

from msgspec import Struct

from engine.ppp.automaton import TABLE, TIMER_STATES, Action, Event, State
from engine.ppp.settled import Settled
from engine.settings.values import DEFAULT_MRU
from engine.wire import control
from engine.wire.control import Code, ControlPacket, Option


class Timing(Struct, frozen=True):
    """Timers and bounds (RFC 1661 section 4.6)."""

    first_restart: float = 0.25
    """The first Restart timer. A concentrator is often not ready right after its PADS, and 3 s would be lost."""
    restart: float = 3.0
    """What the Restart timer grows to, doubling each time."""
    max_configure: int = 10
    terminate: float = 1.0
    """The Restart timer of Terminate-Requests."""
    max_terminate: int = 2
    max_failure: int = 5
    """Naks sent before they become Rejects; of the peer's Naks and Rejects, twice as many of each are taken."""


MAX_REPEATS = 10
"""How often a Configure-Request that comes again unchanged gets the same Nak or Reject; then it is judged anew."""
MAX_REFUSED = 16
"""How many such requests are remembered."""


class Verdict(Enum):
    """What we think of one option of the peer."""

    ACK = "ack"
    NAK = "nak"
    REJECT = "reject"


Judgement = tuple[Verdict, Option]
"""The verdict and, with NAK, the option we would accept; otherwise the option itself."""


class OptionHandler(Protocol):
    """What one control protocol's options mean."""

    def reset(self) -> None:
        """A negotiation starts afresh: forget what was agreed, and ask for everything again."""

    def resume(self, options: Sequence[Option]) -> None:
        """Go on as if these had been our latest Configure-Request; `ours_agreed` and `peer_agreed` follow."""

    def request(self) -> list[Option]:
        """The options of our next Configure-Request."""

    def judge(self, option: Option) -> Judgement:
        """Our view of one option of the peer's Configure-Request."""

    def missing(self, options: Sequence[Option]) -> list[Option]:
        """Options that the peer left out and should ask for; they go into a Nak."""

    def peer_agreed(self, options: Sequence[Option]) -> None:
        """We acknowledged the peer's options."""

    def ours_agreed(self, options: Sequence[Option]) -> None:
        """The peer acknowledged ours."""

    def naked(self, options: Sequence[Option]) -> None:
        """The peer would rather have these values."""

    def rejected(self, options: Sequence[Option]) -> None:
        """The peer will not talk about these options."""


class Signal(Enum):
    """What a layer tells its neighbours (RFC 1661 section 4.4)."""

    UP = "this-layer-up"
    DOWN = "this-layer-down"
    STARTED = "this-layer-started"
    FINISHED = "this-layer-finished"


class Failure(StrEnum):
    """Why a layer finished without having been asked to."""

    NO_ANSWER = "no answer to Configure-Requests"
    ENDLESS_NAKS = "the peer's Configure-Naks never end"
    PROTOCOL_REJECTED = "the peer rejects the protocol"
    CODE_REJECTED = "the peer rejects a code that it must know"


class Discard(Exception):
    """The packet being handled is to be silently discarded; says why, for the counters."""


Extension = Callable[[ControlPacket, float], None]
"""Handles one extra code (LCP's 8 to 13) while the layer is neither Initial nor Starting."""
NEVER = inf
"""The deadline of a timer that isn't running."""


class Negotiator:
    """One control protocol of one link."""

    def __init__(
        self,
        protocol: int,
        handler: OptionHandler,
        timing: Timing,
        out: list[tuple[int, ControlPacket]],
        signals: list[tuple[int, Signal]],
        extensions: dict[int, Extension] | None = None,
    ) -> None:
        """What goes to `out` and `signals` bears the protocol's number."""
        self.protocol = protocol
        self.handler = handler
        self.timing = timing
        self.extensions = extensions or {}
        self.state = State.INITIAL
        self.terminated = b""
        """What the peer's latest Terminate-Request says (RFC 1661 section 5.5)."""
        self.failure: Failure | None = None
        """With Signal.FINISHED: what went wrong, None after an orderly end."""
        self.max_packet = DEFAULT_MRU
        """The longest packet the peer takes; rejects are cut to it."""
        self.deadline = NEVER
        """When the Restart timer expires."""
        self._out = out
        self._signals = signals
        self._identifier = 0
        self._identifier_of_request = 0
        self._restart_count = 0
        self._sent_in_row = 0
        self._naks_sent = 0
        self._refusals: Counter[Callable[..., None]] = Counter()
        """The peer's Naks and Rejects of this negotiation, each by what takes them."""
        self._fruitless = 0
        """Naks in a row that suggest nothing but what we have asked for."""
        self._postponed = False
        """Whether the latest request is answered, and the next one waits for the Restart timer."""
        self._request: tuple[Option, ...] = ()
        self._awaiting_answer = False
        self._answered_at = 0.0
        self._acked: ControlPacket | None = None
        self._acked_at = 0.0
        self._refused: dict[ControlPacket, ControlPacket] = {}
        """Requests of this negotiation that were answered with a Nak or Reject, and these answers."""
        self._repeats: Counter[ControlPacket] = Counter()
        """How often each of them came once more."""

    # What the neighbours do

    def up(self, now: float) -> None:
        """The lower layer is up."""
        self._run(Event.UP, now)

    def down(self, now: float) -> None:
        """The lower layer is down."""
        self._run(Event.DOWN, now)

    def open(self, now: float) -> None:
        """The layer may come up."""
        self._run(Event.OPEN, now)

    def close(self, now: float) -> None:
        """The layer is to go down, with a Terminate-Request where one is due."""
        self._run(Event.CLOSE, now)

    @property
    def settled(self) -> Settled | None:
        """What another process needs to go on from here; None unless the layer is open."""
        if self.state is not State.OPENED or self._acked is None:
            return None
        peers = control.decode_options(self._acked.data)
        return Settled(self._request, tuple(peers), self._identifier_of_request, self._identifier, self._sent_in_row)

    def resume(self, settled: Settled) -> None:
        """Be open from the start, with what another process had settled."""
        self.state = State.OPENED
        self._restart_count = self.timing.max_configure  # as the Ack left it
        self._sent_in_row = settled.sent
        self._identifier, self._identifier_of_request = settled.identifier, settled.asked
        self._request = settled.ours
        self._acked = ControlPacket(Code.CONFIGURE_ACK, 0, control.encode_options(settled.peers))
        self.handler.resume(settled.ours)
        self.handler.peer_agreed(settled.peers)
        self.handler.ours_agreed(settled.ours)
        self._signals.append((self.protocol, Signal.UP))

    def next_identifier(self) -> int:
        """A fresh identifier: requests, echoes and rejects of one protocol share the sequence."""
        self._identifier = (self._identifier + 1) & 0xFF
        return self._identifier

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        if now >= self.deadline:
            self.deadline = NEVER
            if self._restart_count <= 0 and self.state not in (State.CLOSING, State.STOPPING):
                self.failure = Failure.NO_ANSWER
            self._run(Event.TO_PLUS if self._restart_count > 0 else Event.TO_MINUS, now)

    def protocol_rejected(self, now: float) -> None:
        """The peer answered with a Protocol-Reject: it doesn't speak this protocol (RFC 1661 section 5.7)."""
        self.failure = Failure.PROTOCOL_REJECTED
        self._run(Event.RXJ_MINUS, now)

    def receive(self, data: bytes, now: float) -> None:
        """Handle one packet of this protocol; raises WireError or Discard when it is to be ignored.

        Code 8 and up are a protocol's own `extensions`; what is neither known nor an extension is RUC.
        """
        packet = control.decode(data)
        if self.state in (State.INITIAL, State.STARTING):  # the table has dashes there: the lower layer is down
            raise Discard("layer not up")
        receive = _RECEIVERS.get(packet.code)
        if receive is not None:
            receive(self, packet, now)
        elif packet.code in self.extensions:
            self.extensions[packet.code](packet, now)
        else:
            self._run(Event.RUC, now, packet)

    # Packets, by code

    def _configure_request(self, packet: ControlPacket, now: float) -> None:
        """RCR+ or RCR- (RFC 1661 section 5.1)."""
        options = control.decode_options(packet.data)
        if self._is_repeated(packet, now):
            self._send(Code.CONFIGURE_ACK, packet.identifier, packet.data)
            return
        if self._acked is not None and packet in self._refused and now - self._acked_at <= self.timing.restart:
            raise Discard("Configure-Request from before the one acknowledged")
        if self.state is State.OPENED or self.state is State.STOPPED:
            self._start_afresh()
        if self.state in (State.CLOSING, State.STOPPING, State.CLOSED):
            # No cell of these answers the options: judging them would only note what was never negotiated.
            self._run(Event.RCR_MINUS, now, packet)
            return
        if packet in self._refused and self._repeats[packet] < MAX_REPEATS:
            # The very same once more has crossed our answer, and is no word about it.
            self._repeats[packet] += 1
            self._run(Event.RCR_MINUS, now, self._refused[packet])
            return
        answer = self._answer(packet, options)
        if answer.code != Code.CONFIGURE_ACK and len(self._refused) < MAX_REFUSED:
            self._refused[packet] = answer
        if answer.code == Code.CONFIGURE_ACK:
            self.handler.peer_agreed(options)
            self._acked, self._acked_at = packet, now
            self._run(Event.RCR_PLUS, now, answer)
        else:
            self._run(Event.RCR_MINUS, now, answer)

    def _is_repeated(self, packet: ControlPacket, now: float) -> bool:
        """The very request that was just acknowledged, once more: a retransmission that crossed our Ack.

        Answering it again without a new negotiation keeps a duplicated frame from taking the link down.
        """
        return self.state is State.OPENED and packet == self._acked and now - self._acked_at <= self.timing.restart

    def _answer(self, packet: ControlPacket, options: Sequence[Option]) -> ControlPacket:
        """The Ack, Nak or Reject that a Configure-Request deserves (RFC 1661 sections 5.2 to 5.4).

        Reject goes first, never mixed with Nak. After Max-Failure Naks what would be one more is rejected, and what the
        peer left out is no longer asked for (section 4.6).
        """
        judgements: list[Judgement] = []
        seen: set[int] = set()
        for option in options:
            repeated = option.type in seen
            seen.add(option.type)
            judgements.append((Verdict.REJECT, option) if repeated else self.handler.judge(option))
        if self._naks_sent >= self.timing.max_failure:
            judgements = [
                (Verdict.REJECT, option) if verdict is Verdict.NAK else (verdict, wish)
                for option, (verdict, wish) in zip(options, judgements, strict=True)
            ]
        rejects = [wish for verdict, wish in judgements if verdict is Verdict.REJECT]
        if rejects:
            return ControlPacket(
                Code.CONFIGURE_REJECT,
                packet.identifier,
                control.encode_options(rejects),
            )
        naks = [wish for verdict, wish in judgements if verdict is Verdict.NAK]
        if self._naks_sent < self.timing.max_failure:
            naks += self.handler.missing(options)
        if naks:
            self._naks_sent += 1
            return ControlPacket(Code.CONFIGURE_NAK, packet.identifier, control.encode_options(naks))
        self._naks_sent = 0
        return ControlPacket(Code.CONFIGURE_ACK, packet.identifier, packet.data)

    def _configure_ack(self, packet: ControlPacket, now: float) -> None:
        """RCA (RFC 1661 section 5.2), unless it is an Ack that arrives twice: the table would renegotiate for that."""
        options = control.decode_options(packet.data)
        if self._is_answer(packet):
            if options != self._request:
                raise Discard("Configure-Ack of other options")
            if self.state is State.OPENED and now - self._answered_at <= self.timing.restart:
                raise Discard("duplicated Configure-Ack")
            self._awaiting_answer = False
            self._answered_at = now
            self._refusals.clear()
            self.handler.ours_agreed(options)
        self._run(Event.RCA, now)

    def _configure_nak(self, packet: ControlPacket, now: float) -> None:
        """RCN (RFC 1661 section 5.3); a Nak may name options that we never sent."""
        options = control.decode_options(packet.data)
        if self._is_answer(packet):
            self._bargain(self.handler.naked, options, now)
        else:
            self._run(Event.RCN, now)

    def _configure_reject(self, packet: ControlPacket, now: float) -> None:
        """RCN (RFC 1661 section 5.4): of the options sent, unmodified and in their order, or it is discarded."""
        options = control.decode_options(packet.data)
        if self._is_answer(packet):
            ours = iter(self._request)  # `in` uses it up as far as it has to look, so the order counts as well
            if not options or not all(option in ours for option in options):
                raise Discard("Configure-Reject of options not sent")
            self._bargain(self.handler.rejected, options, now)
        else:
            self._run(Event.RCN, now)

    def _bargain(
        self,
        take: Callable[[Sequence[Option]], None],
        options: Sequence[Option],
        now: float,
    ) -> None:
        """Take the peer's Nak or Reject, as long as it may still lead somewhere: the RFC bounds only our own Naks."""
        self._awaiting_answer = False
        self._refusals[take] += 1
        if self._refusals[take] > 2 * self.timing.max_failure:
            self.failure = Failure.ENDLESS_NAKS
            self._run(Event.CLOSE, now)
            return
        take(options)
        repeated = take == self.handler.naked and all(option in self._request for option in options)
        self._fruitless = self._fruitless + 1 if repeated else 0
        self._run(Event.RCN, now)

    def _is_answer(self, packet: ControlPacket) -> bool:
        """Whether this answers our latest request; false in the states that have none, where the table alone decides.

        Raises Discard if it answers another request (RFC 1661 sections 5.2 to 5.4).
        """
        if self.state < State.REQ_SENT:
            return False
        if packet.identifier != self._identifier_of_request:
            raise Discard("wrong identifier")
        if self._postponed:
            raise Discard("another answer to the same request")
        return True

    def _terminate_request(self, packet: ControlPacket, now: float) -> None:
        """RTR (RFC 1661 section 5.5)."""
        self.terminated = packet.data
        self._run(Event.RTR, now, packet)

    def _terminate_ack(self, packet: ControlPacket, now: float) -> None:
        """RTA (RFC 1661 section 5.5); one that nobody asked for counts as well."""
        self._run(Event.RTA, now)

    def _code_reject(self, packet: ControlPacket, now: float) -> None:
        """RXJ+ or RXJ- (RFC 1661 section 5.6): without one of the first seven codes no link can be negotiated."""
        if not packet.data:
            raise Discard("empty Code-Reject")
        fatal = Code.CONFIGURE_REQUEST <= packet.data[0] <= Code.CODE_REJECT
        if fatal:
            self.failure = Failure.CODE_REJECTED
        self._run(Event.RXJ_MINUS if fatal else Event.RXJ_PLUS, now)

    # The automaton's actions

    def _run(self, event: Event, now: float, packet: ControlPacket | None = None) -> None:
        """Look up the table's cell and carry it out; what the table calls illegal is ignored."""
        transition = TABLE.get((self.state, event))
        if transition is None:
            return
        previous, self.state = self.state, transition.state
        if self.state not in TIMER_STATES:
            self.deadline = NEVER
        for action in transition.actions:
            if (signal := _SIGNALS.get(action)) is not None:
                self._signals.append((self.protocol, signal))
            else:
                self._act(action, event, previous, now, packet)

    def _act(
        self,
        action: Action,
        event: Event,
        previous: State,
        now: float,
        packet: ControlPacket | None,
    ) -> None:
        """Carry out one action that is no signal (RFC 1661 section 4.4)."""
        match action:
            case Action.SCR:
                self._send_configure_request(event, previous, now)
            case Action.SCA | Action.SCN:
                assert packet is not None
                self._out.append((self.protocol, packet))
            case Action.STR:
                self._send(Code.TERMINATE_REQUEST, self.next_identifier(), b"")
                self._restart_count -= 1
                self.deadline = now + self.timing.terminate
            case Action.STA:
                identifier = packet.identifier if packet is not None and event is Event.RTR else self.next_identifier()
                self._send(Code.TERMINATE_ACK, identifier, b"")
            case Action.SCJ:
                assert packet is not None
                rejected = control.encode(packet)[: self.max_packet - 4]
                self._send(Code.CODE_REJECT, self.next_identifier(), rejected)
            case Action.IRC:
                closing = self.state in (State.CLOSING, State.STOPPING)
                self._restart_count = self.timing.max_terminate if closing else self.timing.max_configure
                # After an Ack requests stay slow: a peer that acknowledges but never asks for anything itself would
                # else be asked every 250 ms for ever.
                # So they do after Naks that suggest nothing new.
                if event is not Event.RCA and not (event is Event.RCN and self._fruitless > 1):
                    self._sent_in_row = 0
            case Action.ZRC:
                self._restart_count = 0
                self.deadline = now + self.timing.restart
            case _:
                pass  # ser is never due: LCP's extension answers echoes, as it knows the magic number, and runs no RXR

    def _send_configure_request(self, event: Event, previous: State, now: float) -> None:
        """scr: a new request, or the latest once more where its answer is still out."""
        if event in (Event.UP, Event.OPEN):
            self._start_afresh()
        if event is not Event.TO_PLUS or not self._awaiting_answer:
            # A retransmission keeps its identifier, so that a late answer to an earlier copy still counts.
            if previous is State.OPENED and event is Event.RTA:
                self._start_afresh()
            if event is Event.RCN and self._fruitless > 1:
                self._postponed = True
                self._start_restart_timer(now)
                return
            self._postponed = False
            self._identifier_of_request = self.next_identifier()
            self._request = tuple(self.handler.request())
            self._awaiting_answer = True
        self._send(
            Code.CONFIGURE_REQUEST,
            self._identifier_of_request,
            control.encode_options(self._request),
        )
        self._restart_count -= 1
        self._start_restart_timer(now)

    def _start_restart_timer(self, now: float) -> None:
        """For an answer; or for the next request, where Naks suggest nothing new: at once, it would get the same."""
        self.deadline = now + min(self.timing.first_restart * 2**self._sent_in_row, self.timing.restart)
        self._sent_in_row += 1

    def _start_afresh(self) -> None:
        """A new negotiation: nothing is agreed, refused or counted yet."""
        self.handler.reset()
        self.failure = None
        self._naks_sent = self._sent_in_row = self._fruitless = 0
        self._postponed = False
        self._refusals.clear()
        self._restart_count = self.timing.max_configure
        self._awaiting_answer = False
        self._acked = None
        self._refused.clear()
        self._repeats.clear()

    def _send(self, code: int, identifier: int, data: bytes) -> None:
        self._out.append((self.protocol, ControlPacket(code, identifier, data)))


_SIGNALS = {
    Action.TLU: Signal.UP,
    Action.TLD: Signal.DOWN,
    Action.TLS: Signal.STARTED,
    Action.TLF: Signal.FINISHED,
}

_RECEIVERS: dict[int, Callable[[Negotiator, ControlPacket, float], None]] = {
    Code.CONFIGURE_REQUEST: Negotiator._configure_request,
    Code.CONFIGURE_ACK: Negotiator._configure_ack,
    Code.CONFIGURE_NAK: Negotiator._configure_nak,
    Code.CONFIGURE_REJECT: Negotiator._configure_reject,
    Code.TERMINATE_REQUEST: Negotiator._terminate_request,
    Code.TERMINATE_ACK: Negotiator._terminate_ack,
    Code.CODE_REJECT: Negotiator._code_reject,
}
