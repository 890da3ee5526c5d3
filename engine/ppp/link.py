"""PPP over one PPPoE session: LCP, then authentication, then the network protocols (RFC 1661 section 3).

A `Link` knows nothing of Ethernet or PPPoE: PPP packets go in and out. The same link serves a client and a
concentrator; what differs is in the `Side` it is made with. Which phase follows which is in `phases.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol as Interface

from msgspec.structs import replace

from engine.api.ending import WISHED, End, EndKind, dismissal
from engine.ppp.authentication import Authentication, Result
from engine.ppp.automaton import State
from engine.ppp.echoes import Echoes
from engine.ppp.facts import Facts
from engine.ppp.ipcp import Ipv4Agreed
from engine.ppp.ipv6cp import Ipv6cpOptions
from engine.ppp.judge import AddressJudge
from engine.ppp.lcp import LcpOptions, LcpWishes
from engine.ppp.link_events import (
    Authenticated,
    Ipv4Closed,
    Ipv4Opened,
    Ipv6Closed,
    Ipv6Opened,
    LinkEnded,
    LinkEvent,
    Notice,
    PasswordInClear,
    PhaseChanged,
    ProtocolMissing,
    RoundTrip,
)
from engine.ppp.negotiator import (
    NEVER,
    Discard,
    Extension,
    Failure,
    Negotiator,
    OptionHandler,
    Signal,
    Timing,
)
from engine.ppp.phases import PHASES, Occasion, Phase
from engine.ppp.settled import Settled, SettledLink
from engine.settings.values import DEFAULT_MRU, AuthMethod, KeepaliveSettings
from engine.wire import control, ppp
from engine.wire.control import Code, ControlPacket
from engine.wire.errors import WireError
from engine.wire.ppp import Protocol
from engine.wire.text import printable

AUTH_PROTOCOLS = (Protocol.PAP, Protocol.CHAP, Protocol.EAP)
NCPS = (Protocol.IPCP, Protocol.IPV6CP)
CONTROLLED_BY: dict[int, int] = {Protocol.IPV4: Protocol.IPCP, Protocol.IPV6: Protocol.IPV6CP}
REJECT_PAUSE = 0.1
"""Seconds between Protocol-Rejects: who sends what we have no use for may send much of it."""
REOPEN, MAX_REOPEN = 30.0, 600.0
"""Seconds after which a network protocol that failed beside another one is tried again; doubled each time."""
MOST_ANEW, ANEW_WITHIN = 30, 60.0
"""As often as that layers may open within so many seconds: LCP and all above it ten times. A peer that goes on and on
would change this host's addresses, routes and rules as fast as it can send."""
LOOPED_BACK = "We hear our own packets: the line is looped back."
BY_THE_PEER = (EndKind.PEER_ENDED, EndKind.REFUSED, EndKind.TOO_MANY)
"""Ends in which the other side has the last word, which is no news where there was a reason already."""


class IpcpHandler(OptionHandler, Interface):
    """IPCP's options, of either side."""

    remarks: list[str]
    """For the operator; whoever tells them empties it."""
    refusal: str
    """Why the link can't go on with the address that the peer insists on, in a sentence; mostly empty."""

    def agreed(self) -> Ipv4Agreed | None:
        """The addresses settled, None if none are usable; `refusal` may say why."""


class Side(Interface):
    """What a client and a concentrator do differently."""

    lcp: LcpWishes
    ipv6: bool
    judge: AddressJudge

    def prove(self, method: AuthMethod) -> Authentication:
        """The machine that proves us to the peer."""

    def check(self, method: AuthMethod) -> Authentication:
        """The machine that checks the peer."""

    def ipcp(self, user: bytes) -> IpcpHandler | None:
        """IPCP's options for a peer that proved itself as `user`; None refuses it an address."""


def _refused(method: AuthMethod, result: Result) -> End:
    said = f': "{result.message}"' if result.message else ""
    return End(EndKind.WRONG_PASSWORD, f"The password was refused ({method}){said}.")


class Link:
    """One PPP link, without I/O."""

    __slots__ = (  # with so many attributes a dictionary of them takes four times as much
        "_anew",
        "_anew_since",
        "_announced",
        "_auths",
        "_awaited",
        "_denied",
        "_echoes",
        "_end",
        "_entropy",
        "_events",
        "_facts",
        "_had_network",
        "_ipcp",
        "_ipv6cp",
        "_lcp",
        "_missing",
        "_ncps",
        "_options",
        "_others_at",
        "_out",
        "_pauses",
        "_peer_user",
        "_reject_at",
        "_reopen_at",
        "_side",
        "_signals",
        "_timing",
        "_unproven",
        "_useless",
        "counters",
        "phase",
    )

    def __init__(
        self,
        side: Side,
        entropy: Callable[[int], bytes],
        facts: Facts,
        timing: Timing,
        keepalive: KeepaliveSettings,
    ) -> None:
        self.phase = Phase.DEAD
        self.counters: Counter[str] = Counter()
        """Packets that were discarded or are odd, by what is wrong with them."""
        self._side = side
        self._entropy = entropy
        self._facts = facts
        self._timing = timing
        self._options = LcpOptions(side.lcp, entropy, facts)
        extensions: dict[int, Extension] = {
            Code.PROTOCOL_REJECT: self._protocol_reject,
            Code.DISCARD_REQUEST: self._ignore,
            Code.IDENTIFICATION: self._identification,
            Code.TIME_REMAINING: self._ignore,
        }
        self._out: list[tuple[int, ControlPacket]] = []
        """For the peer, with the numbers of their protocols."""
        self._signals: list[tuple[int, Signal]] = []
        """What the control protocols have said and nobody has heard yet."""
        self._events: list[LinkEvent] = []
        self._lcp = self._negotiator(Protocol.LCP, self._options, extensions)
        self._echoes = Echoes(self._lcp, self._options, keepalive, self._out, self._events, self.counters)
        self._ncps: dict[int, Negotiator] = {}
        self._useless: dict[int, str] = {}
        """Network protocols that we close although they opened, and why."""
        self._reopen_at: dict[int, float] = {}
        """When those that failed are tried again."""
        self._missing: dict[int, str] = {}
        """Why they failed."""
        self._pauses: dict[int, float] = {}
        """Seconds that each of them waits next time."""
        self._ipcp: IpcpHandler | None = None
        self._ipv6cp: Ipv6cpOptions | None = None
        self._auths: dict[int, tuple[AuthMethod, Authentication]] = {}
        self._awaited: dict[int, tuple[AuthMethod, Authentication]] = {}
        """Those that a Terminate-Request cut short: the verdict may come behind it, and is the better reason."""
        self._unproven: set[int] = set()
        self._denied: tuple[AuthMethod, str | None] | None = None
        """What the peer last said of our proof, if that was no but try again."""
        self._peer_user = b""
        self._end: End | None = None
        self._reject_at = 0.0
        """When the next Protocol-Reject may be sent."""
        self._others_at = NEVER
        """When the first of the timers is due that aren't the keepalive's, as of the last step that may set one."""
        self._had_network = False
        """Since LCP was last opened."""
        self._announced: set[int] = set()
        """Network protocols that were said to be open."""
        self._anew, self._anew_since = 0, 0.0
        """How many layers have opened since then."""

    def _negotiator(
        self, number: int, handler: OptionHandler, extensions: dict[int, Extension] | None = None
    ) -> Negotiator:
        return Negotiator(number, handler, self._timing, self._out, self._signals, extensions)

    # What the lower layer and the owner do

    def start(self, now: float) -> None:
        """The PPPoE session is open: begin with LCP."""
        self._advance(Occasion.UP)
        self._lcp.open(now)
        self._lcp.up(now)
        self._settle(now)

    @property
    def settled(self) -> SettledLink | None:
        """What another process needs to go on with this link; None while it is not up, or somebody wants its end.

        A network protocol that is being negotiated is not told of: it is negotiated anew. So is one that is open
        without an option of ours, as then nothing tells what we have instead.
        """
        lcp = self._lcp.settled
        if self.phase is not Phase.NETWORK or self._end is not None or lcp is None:
            return None
        is_open = [(number, ncp.settled) for number, ncp in self._ncps.items() if number in self._announced]
        told = tuple((number, settled) for number, settled in is_open if settled is not None and settled.ours)
        missing = tuple((number, self._missing[number]) for number in self._reopen_at)
        echoes = self._echoes
        return SettledLink(self._side.lcp.mru, echoes.path_mtu, lcp, told, missing, echoes.rtt) if told else None

    def resume(self, settled: SettledLink, now: float) -> None:
        """Go on with a link that another process had up: nothing is negotiated, and nobody asked for a proof.

        The peer may challenge us as before (RFC 1994 section 4.1). Our first Echo-Request goes out within an interval,
        by chance: many links are resumed at once.
        """
        self._advance(Occasion.UP)
        self._lcp.resume(settled.lcp)
        self._signals.clear()  # that it is up
        self._lcp_opened(now)
        self._echoes.resume(settled.path_mtu, settled.rtt, self._entropy(1)[0] / 256, now)
        method = self._options.authenticate_with
        if method is not None:
            self._add_authentication(method, self._side.prove(method))
            self._options.proven(method)
        self._network(now, settled)
        self._settle(now)

    def terminate(self, now: float, end: End) -> None:
        """End the link in an orderly way; LinkEnded follows when the peer agrees, or has been asked often enough."""
        if self.phase is Phase.DEAD:
            return
        if self._end is None or (end.kind in WISHED and self._end.kind is not EndKind.HUNG_UP):
            self._end = end  # who was hung up by hand is so, whatever ends all others meanwhile
        self._advance(Occasion.CLOSING)
        self._lcp.close(now)
        self._settle(now)
        if self._lcp.state <= State.CLOSED:
            self._finish()

    def stop(self, now: float, end: End) -> None:
        """The PPPoE session is gone: end at once, without another frame."""
        if self.phase is Phase.DEAD:
            return
        first = self._end
        more = first is None or (first.kind is EndKind.PEER_ENDED and not self._lcp.terminated)
        if more or end.kind not in BY_THE_PEER:
            self._end = self._explained(end)
        self._finish()
        self._out.clear()

    def receive(self, packet: bytes, now: float) -> None:
        """Handle one PPP packet; what is malformed or out of place is counted and otherwise ignored."""
        if self.phase is Phase.DEAD:
            self.counters["discarded: link is down"] += 1
            return
        try:
            protocol, information = ppp.decode(packet)
            self._dispatch(protocol, information, now)
            self._echoes.hear()
        except (WireError, Discard) as error:
            self.counters[f"discarded: {error}"] += 1
        self._settle(now)

    def receive_echo(self, packet: bytes, now: float) -> RoundTrip | bytes | None:
        """See `Echoes.receive_short`; no timer of the link's is due earlier by it."""
        return self._echoes.receive_short(packet, now) if self.phase is Phase.NETWORK else None

    def note_traffic(self) -> bool:
        """Data arrived: the peer is alive, whatever became of its Echo-Replies. Returns whether that was news."""
        return self._echoes.hear()

    def ask(self, now: float) -> None:
        """Send the next Echo-Request now: there is reason to doubt that the peer is still there."""
        self._give_up(self._echoes.ask(now), now)
        self._settle(now)

    def ask_full_size(self, now: float) -> int:
        """Send an Echo-Request as long as the peer's MRU and ours allow, if LCP is open; RoundTrip tells of the answer.

        Returns its octets, or 0.
        """
        if self._lcp.state is not State.OPENED:
            return 0
        self._echoes.ask_full_size(now)
        return self._echoes.full_size

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        if self.phase is Phase.DEAD:
            return None
        due = self._echoes.next_timer()
        if self._others_at < due:
            due = self._others_at
        return None if due == NEVER else due

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        if self.phase is Phase.DEAD:
            return
        if now >= self._others_at:
            self._handle_others(now)
        self._give_up(self._echoes.handle_timer(now), now)

    def _handle_others(self, now: float) -> None:
        """The timers that run while something is negotiated or tried."""
        for negotiator in (self._lcp, *self._ncps.values()):
            if now >= negotiator.deadline:
                negotiator.handle_timer(now)
        for number in [number for number, at in self._reopen_at.items() if now >= at]:
            self._reopen(number, now)
        for number, auth in [(number, auth) for number, (_, auth) in self._auths.items() if now >= auth.deadline]:
            auth.handle_timer(now)
            self._heed(number, now)
        if now >= self._echoes.probe_at:
            self._echoes.probe(now)
        self._settle(now)

    def packets_to_send(self) -> list[bytes]:
        """PPP packets for the peer, oldest first."""
        if not self._out:
            return []
        out = [ppp.encode(protocol, control.encode(packet)) for protocol, packet in self._out]
        self._out.clear()
        return out

    def next_event(self) -> LinkEvent | None:
        """What happened, oldest first; None when there is nothing more."""
        return self._events.pop(0) if self._events else None

    @property
    def mtu(self) -> int:
        """The longest IP packet the link carries either way; over 1492 only when a full-size echo has proven it."""
        return self._echoes.mtu

    @property
    def rtt(self) -> float | None:
        """See `Echoes.rtt`."""
        return self._echoes.rtt

    @property
    def silent_since(self) -> float | None:
        """See `Echoes.silent_since`."""
        return self._echoes.silent_since

    @property
    def lcp_state(self) -> State:
        """LCP's state."""
        return self._lcp.state

    def challenge(self, now: float) -> None:
        """Demand another proof of the peer while the link is up (RFC 1994 section 4.1)."""
        for number, (_, auth) in self._auths.copy().items():
            if auth.protocol == Protocol.CHAP and self.phase is Phase.NETWORK:
                auth.start(now)
                self._heed(number, now)
        self._settle(now)

    def renegotiate(self, now: float, demand: tuple[AuthMethod, ...] | None = None) -> None:
        """Start LCP all over, as a concentrator does when it hands a line to another one, which may `demand` others."""
        if demand is not None:
            self._options.wishes = replace(self._options.wishes, demand=demand)
        self._lcp.down(now)
        self._settle(now)
        self._lcp.up(now)
        self._settle(now)

    def timers(self, now: float) -> list[tuple[str, float]]:
        """Running timers: name and the seconds left."""
        named = [
            ("LCP restart", self._lcp.deadline),
            ("next echo", self._echoes.at),
            ("full-size echo", self._echoes.probe_at),
        ]
        named += [(f"{Protocol(number).name} restart", ncp.deadline) for number, ncp in self._ncps.items()]
        named += [(f"{Protocol(number).name} again", at) for number, at in self._reopen_at.items()]
        named += [(f"{Protocol(number).name} patience", auth.deadline) for number, (_, auth) in self._auths.items()]
        return [(name, deadline - now) for name, deadline in named if deadline != NEVER]

    # Packets in

    def _dispatch(self, protocol: int, information: bytes, now: float) -> None:
        """One packet to its protocol; what each phase lets through is in RFC 1661 sections 3.4 to 3.7."""
        if protocol == Protocol.LCP:
            self._lcp.receive(information, now)
            if self._options.looped_back >= self._timing.max_failure:
                self._fail(EndKind.LOOPED_BACK, LOOPED_BACK, now)
            elif self._options.insisted >= self._timing.max_failure and (end := self._no_method()):
                self.terminate(now, end)
        elif protocol in AUTH_PROTOCOLS:
            if protocol in self._awaited:
                self._late_verdict(*self._awaited[protocol], information, now)
                return
            if protocol not in self._auths:
                raise Discard("authentication that was not negotiated")
            method, auth = self._auths[protocol]
            auth.receive(information, now)
            self._denied = method, auth.denied
            self._heed(protocol, now)
        elif protocol in NCPS and self.phase is not Phase.NETWORK:
            raise Discard("network protocol before authentication is finished")
        elif protocol in self._ncps:
            if protocol in self._reopen_at and information[:1] == bytes((Code.CONFIGURE_REQUEST,)):
                if self._too_often(now):
                    raise Discard("Configure-Request of a protocol that fails again and again")
                self._reopen(protocol, now)
            self._ncps[protocol].receive(information, now)
            self._heed_ipcp(now)
        elif self.phase is Phase.NETWORK and CONTROLLED_BY.get(protocol) in self._ncps:
            raise Discard("IP packet while its protocol is not open")
        elif self.phase is Phase.NETWORK:
            self.counters["unknown protocol"] += 1
            if now < self._reject_at:
                return
            self._reject_at = now + REJECT_PAUSE
            room = max(self._options.peer_mru - 6, 0)  # four octets of header, two of the protocol's number (5.7)
            data = protocol.to_bytes(2, "big") + information[:room]
            reject = ControlPacket(Code.PROTOCOL_REJECT, self._lcp.next_identifier(), data)
            self._out.append((Protocol.LCP, reject))
        else:
            raise Discard("unknown protocol before authentication is finished")

    def _late_verdict(self, method: AuthMethod, auth: Authentication, information: bytes, now: float) -> None:
        """A Failure behind the Terminate-Request that it is the reason for (RFC 1994 section 4.2)."""
        auth.receive(information, now)
        result = auth.next_event()
        if result is not None and not result.ok:
            self._end = _refused(method, result)

    # LCP's own codes

    def _protocol_reject(self, packet: ControlPacket, now: float) -> None:
        """The peer doesn't speak a protocol; of LCP itself that is fatal (RFC 1661 sections 4.3 and 5.7)."""
        if self._lcp.state is not State.OPENED or len(packet.data) < 2:
            raise Discard("unexpected Protocol-Reject")
        rejected = int.from_bytes(packet.data[:2], "big")
        if rejected == Protocol.LCP:
            self._lcp.protocol_rejected(now)
        elif rejected in self._ncps:
            self._silence(self._ncps[rejected], now)
        elif rejected in self._unproven:
            self._fail(
                EndKind.AUTH_METHOD,
                "The concentrator rejects the authentication protocol it asked for.",
                now,
            )

    def _silence(self, ncp: Negotiator, now: float) -> None:
        """Not one more packet of it (RFC 1661 section 5.7): its Terminate-Request counts as sent, and as rejected."""
        before = len(self._out)
        ncp.protocol_rejected(now)
        if ncp.state is State.STOPPING:
            ncp.protocol_rejected(now)
        del self._out[before:]

    def _identification(self, packet: ControlPacket, now: float) -> None:
        """Only for the operator to see (RFC 1570 section 1.1)."""
        text = printable(packet.data[4:])
        if text:
            self._facts.note("identification", "offered", text)

    def _ignore(self, packet: ControlPacket, now: float) -> None:
        """Discard-Request and Time-Remaining need no answer (RFC 1661 section 5.9, RFC 1570 section 1.2)."""

    # Layers up and down

    def _settle(self, now: float) -> None:
        """Carry signals from layer to layer until nothing moves; then look what is due next."""
        while self._signals:
            number, signal = self._signals.pop(0)
            if number == Protocol.LCP:
                self._lcp_signal(signal, now)
            elif number in self._ncps:
                self._ncp_signal(number, self._ncps[number], signal, now)
        due = min(self._lcp.deadline, self._echoes.probe_at)
        for at in self._reopen_at.values():
            due = min(at, due)
        for ncp in self._ncps.values():
            if ncp.deadline < due:
                due = ncp.deadline
        for _, auth in self._auths.values():
            if auth.deadline < due:
                due = auth.deadline
        self._others_at = due

    def _heed(self, number: int, now: float) -> None:
        """Take in what an authentication has to say after each of its steps."""
        if number not in self._auths:  # the verdict of another one has ended them all
            return
        method, auth = self._auths[number]
        self._out += [(number, packet) for packet in auth.packets_to_send()]
        if (result := auth.next_event()) is not None:
            self._authentication_decided(number, method, result, now)

    def _lcp_signal(self, signal: Signal, now: float) -> None:
        match signal:
            case Signal.UP:
                self._lcp_up(now)
            case Signal.DOWN:
                self._lcp_down(now)
            case Signal.FINISHED:
                self._finish()
            case Signal.STARTED:
                pass

    def _lcp_up(self, now: float) -> None:
        """Begin authentication, or the network protocols where nobody has to prove anything (RFC 1661 section 3.5)."""
        options = self._options
        self._lcp_opened(now)
        if self._never_settles(now):
            return
        if options.wishes.demand and options.demanded is None:
            self._fail(EndKind.AUTH_METHOD, "The client refuses to authenticate.", now)
            return
        if options.authenticate_with is None and options.must_be_asked:
            self.terminate(now, self._no_method() or self._nothing_asked())
            return
        self._auths.clear()
        if options.authenticate_with is not None:
            self._add_authentication(options.authenticate_with, self._side.prove(options.authenticate_with))
            if options.authenticate_with is AuthMethod.PAP:
                self._events.append(PasswordInClear())
        if options.demanded is not None:
            self._add_authentication(options.demanded, self._side.check(options.demanded))
        self._unproven = set(self._auths)
        if self._unproven:
            self._advance(Occasion.PROVE)
            for number, (_, auth) in self._auths.copy().items():
                auth.start(now)
                self._heed(number, now)
        else:
            self._network(now)

    def _lcp_opened(self, now: float) -> None:
        """Begin with what LCP itself does while it is open."""
        self._lcp.max_packet = self._options.peer_mru
        self._echoes.begin(now)

    def _add_authentication(self, method: AuthMethod, auth: Authentication) -> None:
        self._auths[auth.protocol] = (method, auth)

    def _lcp_down(self, now: float) -> None:
        """LCP is not open any more: it is negotiated anew, unless somebody wants the end (RFC 1661 section 3.7)."""
        self._echoes.end()
        self._echoes.path_mtu = self._lcp.max_packet = DEFAULT_MRU
        auths = dict(self._auths)
        self._drop_upper_layers()
        if self.phase is Phase.TERMINATE:
            return
        if self._lcp.state is not State.STOPPING:
            self._had_network = False
            self._advance(Occasion.RENEGOTIATE)
            return
        if self._end is None and self._lcp.failure is None:
            proving = self.phase is Phase.AUTHENTICATE
            self._end = self._explained(dismissal("Terminate-Request", printable(self._lcp.terminated), proving))
            self._awaited = auths if proving else {}
        self._advance(Occasion.CLOSING)

    def _drop_upper_layers(self) -> None:
        """Without LCP there is no authentication and no network protocol, and nothing more is said in their name."""
        for number in self._ncps:
            self._closed(number)
        self._ncps.clear()
        self._reopen_at.clear()
        self._useless.clear()
        self._auths.clear()

    def _authentication_decided(self, number: int, method: AuthMethod, result: Result, now: float) -> None:
        if not result.ok:
            if result.timed_out:
                self._fail(
                    EndKind.NO_ANSWER,
                    f"Authentication by {method} was never finished: {result.message}.",
                    now,
                )
            else:
                self.terminate(now, _refused(method, result))
            return
        self._peer_user = result.user or self._peer_user
        if method is self._options.authenticate_with:
            self._options.proven(method)
        if number in self._unproven:  # that a later proof was taken too is no news
            self._events.append(Authenticated(method, result.message, result.user))
        self._unproven.discard(number)
        if not self._unproven and self.phase is Phase.AUTHENTICATE:
            self._network(now)

    def _network(self, now: float, settled: SettledLink | None = None) -> None:
        """Begin with the network control protocols (RFC 1661 section 3.6), or go on with those that are `settled`."""
        self._advance(Occasion.PROVEN)
        self._echoes.magic = self._options.magic
        self._ipcp = self._side.ipcp(self._peer_user)
        if self._ipcp is not None:
            self._ncps[Protocol.IPCP] = self._negotiator(Protocol.IPCP, self._ipcp)
        if self._side.ipv6:
            self._ipv6cp = Ipv6cpOptions(self._entropy, self._facts, self._side.judge)
            self._ncps[Protocol.IPV6CP] = self._negotiator(Protocol.IPV6CP, self._ipv6cp)
        had: dict[int, Settled] = dict(settled.open) if settled is not None else {}
        missing: dict[int, str] = dict(settled.missing) if settled is not None else {}
        for number, ncp in self._ncps.items():
            ncp.max_packet = self._options.peer_mru
            if number in had:
                ncp.resume(had[number])
            elif number in missing:
                self._miss(number, missing[number], now + REOPEN)
            else:
                ncp.open(now)
                ncp.up(now)

    def _miss(self, number: int, why: str, until: float) -> None:
        """Do without a network protocol for a while."""
        self._missing[number], self._reopen_at[number] = why, until
        self._events.append(ProtocolMissing(Protocol(number), why))

    def _ncp_signal(self, number: int, ncp: Negotiator, signal: Signal, now: float) -> None:
        match signal:
            case Signal.UP:
                self._opened(number, now)
            case Signal.DOWN:
                self._closed(number)
            case Signal.FINISHED if number in self._reopen_at:
                pass  # it was rejected once more: that it is missing is no news
            case Signal.FINISHED if self.phase is Phase.NETWORK and ncp.state < State.REQ_SENT:
                name = "IPv4" if number == Protocol.IPCP else "IPv6"
                why = self._useless.pop(number, None) or ncp.failure or "the concentrator closed it"
                if self._has_other(number):
                    rejected = ncp.failure is Failure.PROTOCOL_REJECTED  # which asks for silence (section 5.7)
                    pause = MAX_REOPEN if rejected else self._pauses.get(number, REOPEN)
                    self._miss(number, why, now + pause)
                    self._pauses[number] = min(2 * pause, MAX_REOPEN)
                else:
                    self._fail(
                        EndKind.NO_ADDRESS,
                        f"No network protocol is left; {name}: {why}.",
                        now,
                    )

    def _has_other(self, number: int) -> bool:
        """Whether another network protocol than this is open or on its way."""
        return any(ncp.state >= State.REQ_SENT for other, ncp in self._ncps.items() if other != number)

    def _reopen(self, number: int, now: float) -> None:
        """Negotiate a network protocol that failed once more, from the start."""
        del self._reopen_at[number]
        ncp = self._ncps[number]
        ncp.down(now)
        ncp.open(now)
        ncp.up(now)

    def _opened(self, number: int, now: float) -> None:
        if number == Protocol.IPCP and self._ipcp is not None:
            ipv4 = self._ipcp.agreed()
            if ipv4 is not None:
                self._announce(number, Ipv4Opened(ipv4), now)
            elif self._ipcp.refusal:
                self._fail(EndKind.ADDRESS_REFUSED, self._ipcp.refusal, now)
            elif self._has_other(number):
                self._useless[number] = "the concentrator gave no usable address"
                self._ncps[number].close(now)
            else:
                self._fail(EndKind.NO_ADDRESS, "The concentrator gave no usable IPv4 address.", now)
        elif number == Protocol.IPV6CP and self._ipv6cp is not None:
            ipv6 = self._ipv6cp.agreed()
            if ipv6 is not None:
                self._announce(number, Ipv6Opened(ipv6), now)

    def _heed_ipcp(self, now: float) -> None:
        """Tell what IPCP has to say; give up where it does."""
        if self._ipcp is not None:
            self._events += map(Notice, self._ipcp.remarks)
            self._ipcp.remarks.clear()
            if self._ipcp.refusal:
                self._fail(EndKind.ADDRESS_REFUSED, self._ipcp.refusal, now)

    def _too_often(self, now: float) -> bool:
        """Note that a layer opens, and whether that comes too often."""
        if now - self._anew_since >= ANEW_WITHIN:
            self._anew, self._anew_since = 0, now
        self._anew += 1
        return self._anew > MOST_ANEW

    def _never_settles(self, now: float) -> bool:
        """The same; the end of the link then."""
        too_often = self._too_often(now)
        if too_often:
            text = f"The concentrator negotiates again and again: {MOST_ANEW} layers within {ANEW_WITHIN:.0f} s."
            self._fail(EndKind.NOT_CONVERGING, text, now)
        return too_often

    def _announce(self, number: int, event: LinkEvent, now: float) -> None:
        if self._never_settles(now):
            return
        self._had_network = True
        self._announced.add(number)
        self._events.append(event)

    def _closed(self, number: int) -> None:
        if number in self._announced:
            self._announced.remove(number)
            self._events.append(Ipv4Closed() if number == Protocol.IPCP else Ipv6Closed())

    def _fail(self, kind: EndKind, text: str, now: float) -> None:
        self.terminate(now, End(kind, text))

    def _give_up(self, why: str, now: float) -> None:
        """The peer is silent, if there is a reason to say so."""
        if why:
            self._fail(EndKind.ECHO_TIMEOUT, why, now)

    def _finish(self) -> None:
        if self.phase is not Phase.DEAD:
            self._echoes.end()
            self._drop_upper_layers()
            self._advance(Occasion.DOWN)
            self._events.append(LinkEnded(self._end or self._why_finished()))
            self._lcp.extensions = {}  # they hold this link, which nobody but a search for garbage would then find

    def _why_finished(self) -> End:
        """The reason for an end that LCP came to by itself."""
        if self._options.looped_back > 1:
            return End(EndKind.LOOPED_BACK, LOOPED_BACK)
        match self._lcp.failure:
            case None:
                return self._explained(End(EndKind.PEER_ENDED, "The concentrator ended the session."))
            case Failure.NO_ANSWER:
                silent = "The concentrator opened the session but doesn't answer LCP."
                return self._no_method() or End(EndKind.NO_ANSWER, silent)
            case failure:
                return End(EndKind.NOT_CONVERGING, f"LCP ended: {failure}.")

    def _explained(self, end: End) -> End:
        """A concentrator that ends a link after it refused our proof, or we its method, does so for that reason."""
        if end.kind not in (EndKind.PEER_ENDED, EndKind.REFUSED):
            return end
        method, denied = self._denied or ("", None)
        if denied is not None:
            return End(EndKind.WRONG_PASSWORD, f'The password was refused ({method}): "{denied}".')
        return end if self._had_network else self._no_method() or end

    def _no_method(self) -> End | None:
        """Why no authentication was agreed on, if LCP came so far."""
        options = self._options
        if options.too_weak is not None:
            return self._weaker(options.too_weak)
        if options.refused_auth:
            text = f"The concentrator insists on {options.refused_auth}, which is not allowed or not known."
            return End(EndKind.AUTH_METHOD, text)
        if options.passed_over:
            text = f"The concentrator gave up when it was asked for better than {options.passed_over}."
            return End(EndKind.NO_BETTER, f"{text} It is not asked again.")
        return None

    def _weaker(self, wanted: AuthMethod) -> End:
        """The end of a link with a peer that has once done better."""
        wants = "no authentication" if wanted is AuthMethod.NONE else wanted
        before = self._options.done_before
        text = f"The concentrator asks for {wants} now and did {before} with this account before: refused."
        return End(EndKind.WEAKER, f"{text} If it is right to do so, set `auth: [{wanted}]` for this session.")

    def _nothing_asked(self) -> End:
        """The end of a link with a peer that wants no proof, where it must."""
        if self._options.done_before is not None:
            return self._weaker(AuthMethod.NONE)
        text = "The concentrator asks for no authentication: refused. `none` in `auth` would allow that."
        return End(EndKind.AUTH_METHOD, text)

    def _advance(self, occasion: Occasion) -> None:
        phase = PHASES.get((self.phase, occasion), self.phase)
        if phase is not self.phase:
            self.phase = phase
            self._events.append(PhaseChanged(phase))
