"""One PPPoE session from dial to end: discovery, then a PPP link, in one sans-IO machine.

    session.dial(now)                      and later hang_up(now)
    session.receive(frame, now)            every Ethernet frame that may be for this session
    session.frames_to_send()               Ethernet frames to put on the line
    session.next_timer(), handle_timer(now)
    session.next_event()                   what happened; handle events before sending frames

The machine can be dialled again after each `Ended`; when to do that is the fleet's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from engine.api.ending import WISHED, End, EndKind, dismissal
from engine.api.values import SessionState
from engine.ipv6.host import NOTHING, Ipv6Config, Ipv6Configured, Ipv6Host, Ipv6Remark
from engine.ipv6.identifiers import Identity
from engine.ipv6.settled import SettledIpv6
from engine.ppp.authentication import Authentication, client_for
from engine.ppp.facts import Facts, NegotiatedFact
from engine.ppp.ipcp import IpcpClient, Ipv4Agreed
from engine.ppp.ipv6cp import Ipv6Agreed
from engine.ppp.judge import AddressJudge
from engine.ppp.lcp import LcpWishes
from engine.ppp.link import Link
from engine.ppp.link_events import (
    Authenticated,
    Ipv4Closed,
    Ipv4Opened,
    Ipv6Closed,
    Ipv6Opened,
    LinkEnded,
    LinkEvent,
    LinkNews,
    Notice,
    PasswordInClear,
    PhaseChanged,
    ProtocolMissing,
    RoundTrip,
)
from engine.ppp.negotiator import Timing
from engine.ppp.phases import Phase
from engine.pppoe.client import STEM_SIZE, Discovery, DiscoverySettings, Found, Stage
from engine.sessions import policy
from engine.sessions.proofs import Pair, Proofs
from engine.sessions.settled import SettledSession
from engine.sessions.states import IDLE, SETTING_UP, TABLE, Step
from engine.settings.limits import MAX_MRU
from engine.settings.values import AuthMethod, SessionSettings
from engine.wire import ethernet, ppp, pppoe
from engine.wire.errors import WireError
from engine.wire.ethernet import (
    ETH_PPPOE_DISCOVERY,
    ETH_PPPOE_SESSION,
    EthernetFrame,
)
from engine.wire.place import Place
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket, TagType
from engine.wire.value import Veiled

LADDER = 100
"""Control frames kept for the details screen."""
ECHOES = 10
"""Echoes kept for it, apart from the rest: a session that has been up for long would show nothing else."""
ASKED = 8
"""Concentrators that are remembered for having been asked."""
FORGIVEN = 600.0
"""Seconds after which a concentrator that refused or didn't answer is as good as any other."""
SETUP_LIMIT = 120.0
"""Seconds from the PADS, or from the loss of the address, to an address: each step has its timers, but a peer can
answer for ever and never agree."""


class StateChanged(Struct, frozen=True):
    """The session entered another state; `reason` says why it is down or failed."""

    state: SessionState
    reason: str = ""


class PppoeOpened(Struct, frozen=True):
    """A PADS opened the session. Whoever keeps a record of open sessions must write it before sending frames."""

    place: Place
    lacks: str = ""
    """Which tag the concentrator's offer should have had and hadn't, in words; mostly empty."""
    resumed: bool = False
    """Whether another process had opened it, and this one goes on."""


class SentInClear(Struct, frozen=True):
    """A password goes to a concentrator in clear, for the first time."""

    peer_mac: bytes
    ac_name: str


class Ended(Struct, frozen=True):
    """The attempt or session is over."""

    end: End


SessionEvent = LinkNews | Ipv6Configured | StateChanged | PppoeOpened | SentInClear | Ended


class SeenFrame(Veiled, frozen=True):
    """A control frame that was sent or received, kept as it was."""

    VEILED = ("frame",)

    at: float
    """In the engine's time: when it came, or when it was made."""
    sent: bool
    frame: bytes


class ClientSide:
    """The client's `Side` of a link."""

    def __init__(
        self,
        settings: SessionSettings,
        max_payload: int,
        entropy: Callable[[int], bytes],
        facts: Facts,
        judge: AddressJudge,
        done_before: AuthMethod | None,
        suggest: bool,
    ) -> None:
        """See `LcpWishes` for the last two."""
        self.judge = judge
        methods = settings.auth if settings.user else ()
        self.lcp = LcpWishes(min(settings.mru, max_payload), methods, done_before, suggest)
        self.ipv6 = settings.ipv6
        self._settings = settings
        self._entropy = entropy
        self._facts = facts

    def prove(self, method: AuthMethod) -> Authentication:
        """Prove ourselves with the user name and password of the settings."""
        password = self._settings.password or ""  # None comes no further than the rule book
        return client_for(method, self._settings.user, password, self._entropy)

    def check(self, method: AuthMethod) -> Authentication:
        """Never asked: a client demands no proof of a concentrator."""
        raise LookupError(method)

    def ipcp(self, user: bytes) -> IpcpClient:
        """Ask for an address."""
        return IpcpClient(self._facts, self.judge)


_PHASE_STEPS = {
    Phase.ESTABLISH: "LCP",
    Phase.AUTHENTICATE: "authentication",
    Phase.NETWORK: "IPCP",
}


class Session:
    """One session of the operator's, dialled and hung up any number of times."""

    __slots__ = (  # with so many attributes a dictionary of them takes four times as much
        "_asked",
        "_concentrator",
        "_discovery",
        "_echoes",
        "_entropy",
        "_events",
        "_failed",
        "_give_up_at",
        "_header",
        "_host",
        "_kept6",
        "_ladder",
        "_link",
        "_no_ipv4",
        "_out",
        "_pado_window",
        "_pending",
        "_secret",
        "_timing",
        "_was_up",
        "ac_name",
        "counters",
        "facts",
        "has_ipv6",
        "ipv4",
        "ipv6",
        "judge",
        "own_mac",
        "place",
        "proofs",
        "room",
        "settings",
        "state",
        "stem",
        "steps",
        "tap",
    )

    def __init__(
        self,
        settings: SessionSettings,
        own_mac: bytes,
        entropy: Callable[[int], bytes],
        *,
        timing: Timing | None = None,
        pado_window: float = 0.0,
        secret: bytes = b"",
    ) -> None:
        """`secret` is this host's, by which its IPv6 addresses are always the same; without one they are for once."""
        self.settings = settings
        self.own_mac = own_mac
        self.stem = entropy(STEM_SIZE)
        """How every Host-Uniq of this session begins, by which PADO and PADS find it; one that is set has no stem."""
        self.state = SessionState.DOWN
        self.room = MAX_MRU
        """The longest IP packet that the card has room for, in octets."""
        self.has_ipv6 = True
        """Whether the host can do anything with IPv6."""
        self.place: Place | None = None
        """Set from the PADS to the end."""
        self._header = b""
        """What its frames in this place begin with, up to PPPoE's LENGTH."""
        self.ac_name: str | None = None
        self.ipv4: Ipv4Agreed | None = None
        self.ipv6: Ipv6Agreed | None = None
        self._host: Ipv6Host | None = None
        """What hears the router, while IPv6 is open."""
        self._kept6: SettledIpv6 | None = None
        """What another process had, until IPv6 goes on."""
        self.judge: AddressJudge = policy.Judge()
        """Says which addresses the session may have."""
        self.proofs = Proofs()
        """What is known of concentrators' authentication."""
        self.facts = Facts()
        self.counters: Counter[str] = Counter()
        self._ladder: list[SeenFrame] = []
        self._echoes: list[SeenFrame] = []
        self.tap: Callable[[SeenFrame], None] | None = None
        """Called with each control frame as it passes; for captures."""
        self.steps: dict[str, tuple[float, float | None]] = {}
        """When each step of the set-up began and ended."""
        self._entropy = entropy
        self._secret = secret or entropy(32)
        self._timing = timing or Timing()
        self._pado_window = pado_window
        self._discovery: Discovery | None = None
        self._link: Link | None = None
        self._concentrator: Pair = b"", ""
        """That of the present link."""
        self._asked: tuple[bytes, ...] = ()
        """MAC addresses of the concentrators that got a PADR lately."""
        self._failed: dict[bytes, float] = {}
        """When concentrators kept a dial from opening a session, by MAC address; they are asked last for FORGIVEN."""
        self._was_up = False
        self._no_ipv4: str | None = None
        """Why IPv4 did not come up, once that is known."""
        self._give_up_at: float | None = None
        self._pending: tuple[SessionSettings, bytes] | None = None
        self._out: list[SeenFrame] = []
        self._events: list[SessionEvent] = []

    # What the owner does

    def dial(self, now: float) -> None:
        """Start discovery; does nothing unless the session is down or failed."""
        if self.state not in IDLE:
            return
        settings = self.settings
        self.facts.clear()
        self.steps.clear()
        self.ac_name = self.ipv4 = self.ipv6 = None
        self._was_up = False
        self._discovery = Discovery(
            DiscoverySettings(
                settings.service,
                settings.ac,
                settings.line_id,
                self.mru,
                settings.host_uniq,
                self._pado_window,
            ),
            self.stem,
            {mac: at for mac, at in self._failed.items() if now - at < FORGIVEN},
            self._entropy,
            self.counters,
        )
        self._advance(Step.DIAL, now)
        self._begin_step("PADI → PADO", now)
        self._discovery.start(now)
        self._settle(now)

    @property
    def settled(self) -> SettledSession | None:
        """What another process needs to go on with this session; None while it is not up."""
        link = self._link.settled if self._link is not None else None
        if self.state is not SessionState.UP or self.place is None or link is None:
            return None
        facts = tuple((name, fact.texts) for name, fact in self.facts.by_name.items())
        steps = tuple((name, *when) for name, when in self.steps.items())
        return SettledSession(
            self.settings.user,
            self.settings.service,
            self.place,
            self.ac_name or "",
            link,
            facts,
            steps,
            self._host.settled if self._host is not None else None,
        )

    def resumes(self, settled: SettledSession) -> bool:
        """Whether a session of these settings can go on with what another process had up."""
        place, settings = settled.place, self.settings
        same = (settings.user, settings.service, settings.vlans) == (settled.user, settled.service, place.vlans)
        return self.state in IDLE and same and place.own_mac == self.own_mac

    def resume(self, settled: SettledSession, now: float) -> None:
        """Go on with what another process had up; `resumes` must have said yes."""
        self.facts.clear()
        self.facts.by_name.update((name, NegotiatedFact(*texts)) for name, texts in settled.facts)
        self.state = SessionState.NEGOTIATING  # as if a PADS had come; that it is up, the link tells
        self.ac_name = settled.ac_name
        self._settle_in(settled.place)
        self._events.append(PppoeOpened(settled.place, resumed=True))
        self._link = self._new_link(settled.place.peer_mac, settled.ac_name, settled.link.mru)
        self._link.resume(settled.link, now)
        self._kept6 = settled.ipv6
        self._settle(now)
        self._kept6 = None
        self.steps = {name: (began, ended) for name, began, ended in settled.steps}

    def refuse(self, now: float, end: End) -> None:
        """It can't be dialled: fail without a frame; does nothing unless the session is down or failed."""
        if self.state in IDLE:
            self._advance(Step.REFUSED, now, str(end.kind))
            self._events.append(Ended(end))

    def hang_up(self, now: float, end: End | None = None) -> None:
        """End the session: a Terminate-Request, then a PADT; a dial that is under way is given up."""
        end = end or End(EndKind.HUNG_UP, "Hung up by you.")
        if self._link is not None:
            if self._host is not None:
                self._host.release(now)
                self._settle_host(self._host, now)
            self._link.terminate(now, end)
            self._settle(now)
        elif self.state is SessionState.FAILED:
            self._advance(Step.HUNG_UP, now, str(end.kind))
        elif self.state is not SessionState.DOWN:
            self._finish(end, now)

    def reconfigure(self, settings: SessionSettings, own_mac: bytes) -> None:
        """Take other settings: at once while nothing is on the line, otherwise when the present attempt has ended."""
        self._pending = settings, own_mac
        if self.state in IDLE:
            self._take_pending()

    @property
    def next_settings(self) -> SessionSettings:
        """Those of the next dial: the latest given, whether they are in force yet or not."""
        return self.settings if self._pending is None else self._pending[0]

    def stop(self, now: float, end: End) -> None:
        """End at once, with a PADT but without waiting for anyone: the card is gone, or the program has to leave."""
        if self._link is not None:
            self._link.stop(now, end)
            self._settle(now)
        else:
            self.hang_up(now, end)

    def lose(self, now: float, end: End) -> None:
        """The concentrator has no such session any more: end at once, without another frame of this session."""
        if self._link is not None and self.place is not None:
            self.take_back(self.place.peer_mac, self.place.session_id)
            self.place = None
            self._link.stop(now, end)
            self._settle(now)

    def take_back(self, peer_mac: bytes, session_id: int) -> None:
        """A session is over at its concentrator, or another one's by now: what hasn't gone out of it yet stays here."""
        self._out = [seen for seen in self._out if _session_of(seen.frame) != (peer_mac, session_id)]

    def receive(self, frame: bytes, now: float) -> None:
        """Handle one Ethernet frame; what is malformed or not for this session is counted and otherwise ignored."""
        try:
            outer = ethernet.decode(frame)
            self.receive_decoded(outer, pppoe.decode(outer.payload), frame, now)
        except WireError as error:
            self.counters[f"discarded: {error}"] += 1

    def receive_decoded(self, outer: EthernetFrame, packet: PppoePacket, frame: bytes, now: float) -> None:
        """Handle one frame that was decoded already; raises WireError for bad tags."""
        if not self._is_for_us(outer):
            self.counters["discarded: not for this session"] += 1
        elif outer.ethertype == ETH_PPPOE_SESSION:
            self._session_packet(outer, packet, frame, now)
        elif outer.ethertype != ETH_PPPOE_DISCOVERY:
            self.counters["discarded: not PPPoE"] += 1
        elif packet.code == Code.PADT:
            self._padt(outer, packet, frame, now)
        elif packet.code in (Code.PADO, Code.PADS):
            self._offer_or_session(outer, packet, frame, now)
        else:
            self.counters["discarded: unexpected discovery code"] += 1

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first; shorter than 60 octets where there is little to say."""
        out, self._out = self._out, []
        for seen in out:
            self._record(seen, echo=pppoe.is_echo(seen.frame))
        return [seen.frame for seen in out]

    def note_sent(self, frame: bytes, now: float) -> None:
        """A frame of this session has gone out that others kept until it could."""
        self._record(SeenFrame(now, True, frame))

    def drop_frames(self) -> None:
        """There is no line to put them on: nobody is to be shown as sent what never left."""
        self._out = []

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        if self._link is None:
            return self._discovery.next_timer() if self._discovery is not None else None
        due = self._link.next_timer()
        if self._give_up_at is not None and (due is None or self._give_up_at < due):
            due = self._give_up_at
        if self._host is not None and (at := self._host.next_timer()) is not None and (due is None or at < due):
            due = at
        return due

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            text = f"Neither up nor refused after {SETUP_LIMIT:.0f} s."
            self.hang_up(now, End(EndKind.NOT_CONVERGING, text))
        if (link := self._link) is not None:
            link.handle_timer(now)
            if self._host is not None:
                self._host.handle_timer(now)
            self._settle_link(link, now)
        elif self._discovery is not None:
            self._discovery.handle_timer(now)
            self._settle(now)

    def next_event(self) -> SessionEvent | None:
        """What happened, oldest first; None when there is nothing more."""
        return self._events.pop(0) if self._events else None

    def ask_full_size(self, now: float) -> int:
        """See `Link.ask_full_size`."""
        if self._link is None:
            return 0
        octets = self._link.ask_full_size(now)
        self._settle(now)
        return octets

    def ask(self, now: float) -> None:
        """See `Link.ask`."""
        if self._link is not None:
            self._link.ask(now)
            self._settle(now)

    def note_traffic(self, now: float) -> bool:
        """Data arrived on the data path: the concentrator is alive. Returns whether that was in doubt."""
        if self._link is None or not self._link.note_traffic():
            return False
        self._settle(now)
        return True

    @property
    def ipv6_config(self) -> Ipv6Config:
        """Its global addresses, delegated prefixes and the like."""
        return self._host.config if self._host is not None else NOTHING

    @property
    def lack(self) -> str:
        """What an open session does without although it was wanted, and why; mostly empty."""
        is_lacking = self.state is SessionState.UP and self._no_ipv4 is not None
        return f"without IPv4: {self._no_ipv4}" if is_lacking else ""

    @property
    def mru(self) -> int:
        """The longest IP packet that it may have, as far as settings and card are concerned."""
        return min(self.settings.mru, self.room)

    @property
    def mtu(self) -> int | None:
        """The longest IP packet the session carries, None before the network protocols' phase."""
        if self._link is None or self._link.phase is not Phase.NETWORK:
            return None
        return min(self._link.mtu, self.mru)

    @property
    def silent_since(self) -> float | None:
        """See `Link.silent_since`."""
        return self._link.silent_since if self._link is not None else None

    @property
    def rtt(self) -> float | None:
        """Seconds that the latest answered echo took, None before the first of this link."""
        return self._link.rtt if self._link is not None else None

    def timers(self, now: float) -> list[tuple[str, float]]:
        """Running timers: name and the seconds left."""
        if self._link is not None:
            limit = [("set-up limit", self._give_up_at - now)] if self._give_up_at is not None else []
            return self._link.timers(now) + limit
        deadline = self._discovery.next_timer() if self._discovery is not None else None
        return [("discovery", deadline - now)] if deadline is not None else []

    def discards(self) -> Counter[str]:
        """Control frames that were not heeded, by reason, over the session's whole life."""
        return self.counters + self._link.counters if self._link is not None else Counter(self.counters)

    def ladder(self) -> list[SeenFrame]:
        """The latest control frames, oldest first."""
        return sorted([*self._ladder, *self._echoes], key=lambda seen: seen.at)

    def awaits(self, code: int, source: bytes) -> bool:
        """Whether a PADO or PADS from that MAC address is what discovery waits for."""
        return self._discovery is not None and self._discovery.awaits(code, source)

    # Frames in

    def _is_for_us(self, outer: EthernetFrame) -> bool:
        """Whether it comes from one host, to us, on our VLANs: a promiscuous card hears its neighbours' frames too."""
        return (
            outer.dst == self.own_mac
            and not ethernet.is_multicast(outer.src)
            and (
                outer.vlans == self.settings.vlans
                or ethernet.vlan_ids(outer.vlans) == ethernet.vlan_ids(self.settings.vlans)
            )
        )

    def _session_packet(self, outer: EthernetFrame, packet: PppoePacket, frame: bytes, now: float) -> None:
        if packet.code != Code.SESSION:
            self.counters["discarded: wrong EtherType for its code"] += 1
        elif self._link is None or not self._matches(outer, packet):
            self.counters["discarded: unknown session id"] += 1
        else:
            self.receive_packet(packet.payload, frame, now)

    def receive_packet(self, payload: bytes, frame: bytes, now: float) -> bool:
        """Handle one PPP packet of this session; the caller has seen that its frame is from and for our place.

        Returns whether it was an echo that `Link.receive_echo` takes: then there is a reply among the frames to send or
        one event more, a RoundTrip, and nothing else has changed.
        """
        link = self._link
        assert link is not None
        is_echo = payload[:3] in pppoe.ECHOES
        if is_echo and (told := link.receive_echo(payload, now)) is not None:
            self._record(SeenFrame(now, False, frame), echo=True)
            if isinstance(told, bytes):
                self._send_in_session(told, now)
            else:
                self._events.append(told)
            return True
        self._record(SeenFrame(now, False, frame), echo=is_echo)
        if self._host is None or not self._is_for_host(self._host, link, payload, now):
            link.receive(payload, now)
        self._settle_link(link, now)
        return False

    def _is_for_host(self, host: Ipv6Host, link: Link, payload: bytes, now: float) -> bool:
        """Whether it is an IPv6 packet; heeded then."""
        try:
            protocol, information = ppp.decode(payload)
        except WireError:  # which the link counts
            return False
        if protocol != Protocol.IPV6:
            return False
        link.note_traffic()
        try:
            host.receive(information, now)
        except WireError as error:
            self.counters[f"discarded IPv6: {error}"] += 1
        return True

    def _offer_or_session(self, outer: EthernetFrame, packet: PppoePacket, frame: bytes, now: float) -> None:
        """A PADO or PADS: Host-Uniq says whether it is ours, and whether it belongs to this round of discovery.

        A concentrator must return that tag (RFC 2516 appendix A). From one that doesn't, the fleet says whose it is.
        A late PADS opens a session at the concentrator all the same, which is given back.
        """
        discovery = self._discovery
        try:
            tags = pppoe.decode_tags(packet.payload)
        except WireError as error:
            if discovery is not None:
                discovery.cannot_use(outer.src, packet.code, (), f"is malformed ({error})")
            raise
        returned = pppoe.find(tags, TagType.HOST_UNIQ)
        latest = discovery.host_uniq if discovery is not None else b""
        if returned is not None and returned != latest and not returned.startswith(self.stem):
            self.counters["discarded: wrong Host-Uniq"] += 1
            if discovery is not None:
                discovery.cannot_use(outer.src, packet.code, tags, "has another Host-Uniq than ours")
            return
        self._record(SeenFrame(now, False, frame))
        if discovery is not None and discovery.stage is not Stage.DONE and returned in (None, latest):
            discovery.receive(outer.src, packet, tags, now)
            self._settle(now)
        else:
            self.counters["discarded: late PADO or PADS"] += 1
        if packet.code == Code.PADS and outer.src in self._asked:
            self._give_back(outer, packet, now)

    def _matches(self, outer: EthernetFrame, packet: PppoePacket) -> bool:
        place = self.place
        return place is not None and (outer.src, packet.session_id) == (place.peer_mac, place.session_id)

    def _padt(self, outer: EthernetFrame, packet: PppoePacket, frame: bytes, now: float) -> None:
        """The session is over: not one more frame goes out, not even a Terminate-Ack (RFC 2516 section 5.5)."""
        if not self._matches(outer, packet):
            self.counters["discarded: PADT of another session"] += 1
            self.take_back(outer.src, packet.session_id)
            return
        try:
            said = pppoe.error_text(pppoe.decode_tags(packet.payload)) or ""
        except WireError:  # the session is over, however badly that is said
            said = ""
        self._record(SeenFrame(now, False, frame))
        self.lose(now, dismissal("PADT", said, self.state is SessionState.AUTHENTICATING))

    def _give_back(self, outer: EthernetFrame, packet: PppoePacket, now: float) -> None:
        """A session opened for a PADR of ours that we didn't take, or don't want any more, would stay as a ghost."""
        if packet.session_id not in (0, pppoe.RESERVED_SESSION_ID) and not self._matches(outer, packet):
            self._send(outer.src, ETH_PPPOE_DISCOVERY, PppoePacket(Code.PADT, packet.session_id, b""), now)

    # Between the parts

    def _settle(self, now: float) -> None:
        """Move packets and results between discovery, link and owner until nothing is left to move."""
        if self._discovery is not None and self._link is None:
            self._settle_discovery(self._discovery, now)
        if self._link is not None:
            self._settle_link(self._link, now)

    def _settle_discovery(self, discovery: Discovery, now: float) -> None:
        for destination, packet in discovery.packets_to_send():
            self._send(destination, ETH_PPPOE_DISCOVERY, packet, now)
        if discovery.chosen is not None and "PADR → PADS" not in self.steps:
            self._begin_step("PADR → PADS", now)
            self.ac_name = discovery.chosen.ac_name
        if discovery.chosen is not None and discovery.chosen.mac not in self._asked:
            self._asked = (*self._asked, discovery.chosen.mac)[-ASKED:]
        result = discovery.next_event()
        if isinstance(result, End):
            if discovery.chosen is not None:
                self._failed[discovery.chosen.mac] = now
            self._finish(result, now)
        elif result is not None:
            self._failed.pop(result.mac, None)
            self._open_link(result, now)

    def _open_link(self, found: Found, now: float) -> None:
        """Begin with PPP (RFC 2516 section 6); `PppoeOpened` comes before the first frame of it."""
        place = Place(self.own_mac, found.mac, found.session_id, self.settings.vlans)
        self._settle_in(place)
        self.ac_name = found.ac_name
        self._events.append(PppoeOpened(place, found.lacks))
        self.facts.note("PPPoE payload", "asked", self.mru)
        self.facts.note("PPPoE payload", "agreed", found.max_payload)
        self._link = self._new_link(found.mac, found.ac_name, min(self.mru, found.max_payload))
        self._link.start(now)

    def _settle_in(self, place: Place) -> None:
        self.place = place
        self._header = pppoe.session_header(place.peer_mac, place.own_mac, place.session_id, place.vlans)

    def _new_link(self, mac: bytes, ac_name: str, mru: int) -> Link:
        """The link with a concentrator, over which packets of `mru` octets go at most."""
        self._concentrator = mac, ac_name
        side = ClientSide(
            self.settings,
            mru,
            self._entropy,
            self.facts,
            self.judge,
            self.proofs.done_before(self._concentrator, self.settings.user),
            self.proofs.takes_suggestions(self._concentrator),
        )
        side.ipv6 &= self.has_ipv6
        return Link(side, self._entropy, self.facts, self._timing, self.settings.keepalive)

    def _settle_link(self, link: Link, now: float) -> None:
        for payload in link.packets_to_send():  # before a PADT, which the end of the link may ask for
            self._send_in_session(payload, now)
        while (event := link.next_event()) is not None:
            self._link_event(event, now)
        if self._host is not None:
            self._settle_host(self._host, now)

    def _settle_host(self, host: Ipv6Host, now: float) -> None:
        while (event := host.next_event()) is not None:
            self._events.append(Notice(event.text) if isinstance(event, Ipv6Remark) else event)
        for packet in host.packets_to_send():
            self._send_in_session(ppp.encode(Protocol.IPV6, packet), now)

    def _send_in_session(self, payload: bytes, now: float) -> None:
        if self.place is not None:
            self._out.append(SeenFrame(now, True, pppoe.behind(self._header, payload)))

    def _link_event(self, event: LinkEvent, now: float) -> None:
        match event:
            case RoundTrip():  # the most frequent of them
                self._events.append(event)
                return
            case PhaseChanged(phase):
                self._no_ipv4 = None
                if phase is not Phase.DEAD:  # what that means, LinkEnded says
                    self._advance(Step(phase.value), now)
                if phase in _PHASE_STEPS:
                    self._begin_step(_PHASE_STEPS[phase], now)
                return
            case LinkEnded(end):
                if end.kind is EndKind.NO_BETTER:
                    self.proofs.gave_up(self._concentrator)
                self._finish(end, now)
                return
            case PasswordInClear():
                if self.proofs.first_in_clear(self._concentrator):
                    self._events.append(SentInClear(*self._concentrator))
                return
            case Authenticated(method):
                self.proofs.note(self._concentrator, self.settings.user, method)
            case Ipv4Opened(ipv4):
                self.ipv4 = ipv4
                self._no_ipv4 = None
            case Ipv4Closed():
                self.ipv4 = None
            case Ipv6Opened(ipv6):
                self.ipv6 = ipv6
                identity = Identity(self._secret, self.settings.name)
                self._host = Ipv6Host(
                    ipv6.address,
                    identity,
                    self._entropy,
                    self.judge,
                    now,
                    dhcp=self.settings.dhcpv6,
                    prefix=self.settings.wanted_prefix,
                )
                if self._kept6 is not None:
                    self._host.resume(self._kept6, now)
                    self._kept6 = None
            case Ipv6Closed():
                self.ipv6 = self._host = None
            case ProtocolMissing(Protocol.IPCP, why):
                self._no_ipv4 = why
        self._events.append(event)
        self._up_or_not(now)

    def _up_or_not(self, now: float) -> None:
        """A session is up with an IPv4 address, or with IPv6 alone where IPv4 will not come."""
        usable = self.ipv4 is not None or (self.ipv6 is not None and self._no_ipv4 is not None)
        if usable and self.state is SessionState.GETTING_ADDRESS:
            self._was_up = True
            self._end_step(now)
            self._advance(Step.ADDRESS, now)
        elif self.state is SessionState.UP and not usable:
            self._advance(Step.NO_ADDRESS, now)

    def _finish(self, end: End, now: float) -> None:
        """Say goodbye on the line, where there is still someone to say it to, and report the end.

        The PADT comes after the link's own Terminate-Request, and after it nothing more (RFC 2516 section 5.5).
        """
        if self.place is not None:
            self._send(
                self.place.peer_mac,
                ETH_PPPOE_DISCOVERY,
                PppoePacket(Code.PADT, self.place.session_id, b""),
                now,
            )
        if self._link is not None:
            self.counters += self._link.counters
        self._end_step(now)
        self.place = self._link = self._host = None
        self.ipv4 = self.ipv6 = None
        if self._discovery is not None:
            self._discovery.stop()
        self._advance(Step.HUNG_UP if end.kind in WISHED else Step.FAILED, now, str(end.kind))
        self._events.append(Ended(replace(end, was_up=self._was_up)))
        self._take_pending()

    def _take_pending(self) -> None:
        """Settings and MAC change together, and never under a session: its frames would no longer match."""
        if self._pending is not None:
            self.settings, self.own_mac = self._pending
            self._pending = None

    def _advance(self, step: Step, now: float, reason: str = "") -> None:
        state = TABLE.get((self.state, step))
        if state is None:
            return
        self.state = state
        self._events.append(StateChanged(state, reason))
        if state not in SETTING_UP:
            self._give_up_at = None
        elif self._give_up_at is None:
            self._give_up_at = now + SETUP_LIMIT

    def _begin_step(self, name: str, now: float) -> None:
        self._end_step(now)
        self.steps.pop(name, None)
        self.steps[name] = now, None

    def _end_step(self, now: float) -> None:
        if self.steps:
            name, (began, ended) = next(reversed(self.steps.items()))
            if ended is None:
                self.steps[name] = began, now

    def _record(self, seen: SeenFrame, *, echo: bool = False) -> None:
        kept, most = (self._echoes, ECHOES) if echo else (self._ladder, LADDER)
        if len(kept) >= most:
            del kept[0]
        kept.append(seen)
        if self.tap is not None:
            self.tap(seen)

    def _send(self, destination: bytes, ethertype: int, packet: PppoePacket, now: float) -> None:
        frame = EthernetFrame(
            destination,
            self.own_mac,
            ethertype,
            pppoe.encode(packet),
            self.settings.vlans,
        )
        self._out.append(SeenFrame(now, True, ethernet.encode(frame)))


def _session_of(frame: bytes) -> tuple[bytes, int]:
    """Concentrator and session id of a frame of our own making."""
    outer = ethernet.decode(frame)
    return outer.dst, pppoe.decode(outer.payload).session_id
