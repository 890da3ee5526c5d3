"""A PPPoE access concentrator without I/O: discovery for all clients and one PPP link per session.

It is the peer of `engine.sessions.fleet`: what that sends, this answers. `engine.lab.server` puts it on a real card.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec import Struct

from engine.api.ending import End, EndKind
from engine.lab.dhcpv6 import LabDhcpServer
from engine.lab.impostor import credulous
from engine.lab.router import LabRouter, block_of, usual
from engine.ppp.authentication import Authentication, authenticator_for
from engine.ppp.facts import Facts
from engine.ppp.ipcp import IpcpConcentrator, Ipv4Grant
from engine.ppp.judge import AddressJudge, AnyAddress
from engine.ppp.lcp import LcpWishes
from engine.ppp.link import Link
from engine.ppp.link_events import Ipv6Closed, Ipv6Opened, LinkEnded, LinkEvent
from engine.ppp.negotiator import Timing
from engine.pppoe.concentrator import (
    ConcentratorDiscovery,
    ConcentratorSettings,
    Granted,
    Peer,
)
from engine.sessions.alarms import Alarms
from engine.settings.values import AuthMethod, KeepaliveSettings
from engine.wire import ethernet, ppp, pppoe
from engine.wire.control import Option
from engine.wire.errors import WireError
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame
from engine.wire.ppp import Protocol
from engine.wire.pppoe import Code, PppoePacket
from engine.wire.value import Veiled


class LabSettings(Veiled, frozen=True):
    """What the lab's concentrator does."""

    VEILED = ("accounts", "any_password")

    discovery: ConcentratorSettings = ConcentratorSettings()
    accounts: tuple[tuple[str, str], ...] = ()
    """(user, password)."""
    any_account: bool = False
    """Take any user whose password is `any_password`."""
    any_password: str = "lab"
    refusal: str = "Login incorrect"
    """What is said to a wrong user name or password."""
    auth: tuple[AuthMethod, ...] = (
        AuthMethod.CHAP,
        AuthMethod.PAP,
        AuthMethod.MSCHAPV2,
    )
    """Methods accepted, the one asked for first in front; none for no authentication."""
    impostor: bool = False
    """It knows no password, takes any proof and can give none."""
    withholding: bool = False
    """It lets clients in and answers nothing of IPCP: they wait for an address."""
    network: str = "100.64.0.0/16"
    """Addresses for clients; the first one is the concentrator's."""
    dns: tuple[str, ...] = ("100.64.0.53", "100.64.0.54")
    ipv6: bool = True
    ipv6_network: str = "3fff:64::/32"
    """Of this each subscriber has a /48; the first is the concentrator's."""
    dns6: tuple[str, ...] = ("3fff:64::53",)
    odd_options: tuple[Option, ...] = ()
    """LCP options that make no sense on Ethernet, asked for to try a client."""
    keepalive: KeepaliveSettings = KeepaliveSettings(interval=20.0)


class AddressPool:
    """Addresses of one network; those given back are used again last."""

    def __init__(self, network: str) -> None:
        hosts = IPv4Network(network).hosts()
        self.own = next(hosts)
        self._fresh = hosts
        self._returned: deque[IPv4Address] = deque()

    def take(self) -> IPv4Address | None:
        """A free address, None if there is none left."""
        fresh = next(self._fresh, None)
        return fresh if fresh is not None else self._returned.popleft() if self._returned else None

    def give_back(self, address: IPv4Address) -> None:
        """Free an address."""
        self._returned.append(address)


class ConcentratorSide:
    """The concentrator's `Side` of one link."""

    def __init__(
        self,
        settings: LabSettings,
        max_payload: int,
        grant: Ipv4Grant,
        entropy: Callable[[int], bytes],
    ):
        self.judge: AddressJudge = AnyAddress()
        demand = tuple(method for method in settings.auth if method is not AuthMethod.NONE)
        self.lcp = LcpWishes(max_payload, demand=demand, odd=settings.odd_options)
        self.ipv6 = settings.ipv6
        self._settings = settings
        self._accounts = {user.encode(): password for user, password in settings.accounts}
        self._grant = grant
        self._entropy = entropy

    def prove(self, method: AuthMethod) -> Authentication:
        """A concentrator proves itself to no one."""
        raise LookupError(method)

    def check(self, method: AuthMethod) -> Authentication:
        """Check the client against the accounts."""
        name, refusal = self._settings.discovery.name, self._settings.refusal
        if self._settings.impostor:
            return credulous(method, name, self._entropy)
        return authenticator_for(method, name, self._password_of, self._entropy, refusal)

    def ipcp(self, user: bytes) -> IpcpConcentrator:
        """Give the client its address."""
        return IpcpConcentrator(self._grant)

    def _password_of(self, user: bytes) -> str | None:
        known = self._accounts.get(user)
        return known if known is not None or not self._settings.any_account else self._settings.any_password


class Subscriber(Struct):
    """One open session at the concentrator."""

    peer: Peer
    link: Link
    grant: Ipv4Grant
    block: IPv6Network
    """Its part of the lab's IPv6 network."""
    header: bytes
    """What the frames to it begin with."""
    router: LabRouter | None = None
    """While IPv6CP is open."""


class SubscriberEvent(Struct, frozen=True):
    """Something that happened to one session."""

    session_id: int
    peer: Peer
    grant: Ipv4Grant
    block: IPv6Network
    event: LinkEvent
    mtu: int


class Concentrator:
    """The whole concentrator, without I/O."""

    def __init__(
        self,
        settings: LabSettings,
        mac: bytes,
        entropy: Callable[[int], bytes],
        timing: Timing | None = None,
    ) -> None:
        self.settings = settings
        self.mac = mac
        self.subscribers: dict[int, Subscriber] = {}
        self.counters: Counter[str] = Counter()
        self._entropy = entropy
        self._timing = timing or Timing()
        self._dns = tuple(IPv4Address(server) for server in settings.dns)
        self._events: deque[SubscriberEvent] = deque()
        self.restart()

    def restart(self) -> None:
        """Come up with no memory of any session and no word about it, as after a power failure; frames are lost too."""
        self.subscribers.clear()
        self._by_header: dict[bytes, int] = {}
        """Sessions without VLAN tags, by what their frames to us begin with."""
        self.discovery = ConcentratorDiscovery(self.settings.discovery, self._entropy)
        self.pool = AddressPool(self.settings.network)
        self._alarms = Alarms(self._due)
        self._out: list[bytes] = []

    def receive(self, frame: bytes, now: float) -> None:
        """Handle one Ethernet frame from the line; what is malformed or for no session is counted at most."""
        try:
            session_id = self._by_header.get(frame[: pppoe.UNTAGGED])
            if session_id is not None and (payload := pppoe.untagged(frame)) is not None:
                self._ppp(session_id, self.subscribers[session_id], payload, now)
                return
            if frame[:6] not in (self.mac, ethernet.BROADCAST):
                return
            outer = ethernet.decode(frame)
            if ethernet.is_multicast(outer.src):
                return
            packet = pppoe.decode(outer.payload)
            peer = Peer(outer.src, outer.vlans)
            if outer.ethertype == ETH_PPPOE_SESSION:
                self._session_packet(peer, packet, now)
            elif outer.ethertype != ETH_PPPOE_DISCOVERY:
                return
            elif packet.code == Code.PADT:
                self._padt(peer, packet, now)
            else:
                self._discovery_packet(peer, packet, now)
        except WireError as error:
            self.counters[f"discarded: {error}"] += 1

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first."""
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        return self._alarms.next()

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now."""
        for session_id in self._alarms.expired(now):
            subscriber = self.subscribers[session_id]
            subscriber.link.handle_timer(now)
            self._after(session_id, subscriber, now)

    def next_event(self) -> SubscriberEvent | None:
        """What happened, oldest first; None when there is nothing more."""
        return self._events.popleft() if self._events else None

    def hang_up(self, session_id: int, now: float, text: str = "Hung up by the concentrator.") -> None:
        """End a session with a Terminate-Request and a PADT."""
        subscriber = self.subscribers[session_id]
        subscriber.link.terminate(now, End(EndKind.HUNG_UP, text))
        self._after(session_id, subscriber, now)

    def challenge(self, session_id: int, now: float) -> None:
        """Demand another proof of an open session's client (RFC 1994 section 4.1)."""
        subscriber = self.subscribers[session_id]
        subscriber.link.challenge(now)
        self._after(session_id, subscriber, now)

    def renegotiate(self, session_id: int, now: float, demand: tuple[AuthMethod, ...] | None = None) -> None:
        """Start an open session's LCP all over; `demand` are methods to ask for in place of the usual ones."""
        subscriber = self.subscribers[session_id]
        subscriber.link.renegotiate(now, demand)
        self._after(session_id, subscriber, now)

    def cut(self, session_id: int, now: float) -> None:
        """End a session with a PADT and nothing else."""
        subscriber = self.subscribers[session_id]
        subscriber.link.stop(now, End(EndKind.HUNG_UP, "Cut off by the concentrator."))
        self._after(session_id, subscriber, now)

    def drop(self, session_id: int, now: float) -> None:
        """Forget a session without a word: its client has to find out by itself."""
        subscriber = self.subscribers[session_id]
        subscriber.link.stop(now, End(EndKind.HUNG_UP, "Dropped by the concentrator."))
        self._after(session_id, subscriber, now, said_goodbye=True)

    def say(self, session_id: int, payload: bytes) -> None:
        """Put a PPP packet of one's own making on a session's line."""
        self._out.append(pppoe.behind(self.subscribers[session_id].header, payload))

    def note_traffic(self, session_id: int) -> None:
        """Data arrived from that client."""
        if session_id in self.subscribers:
            self.subscribers[session_id].link.note_traffic()

    def _discovery_packet(self, peer: Peer, packet: PppoePacket, now: float) -> None:
        answer, granted = self.discovery.receive(peer, packet)
        if answer is not None:
            self._send(peer, ETH_PPPOE_DISCOVERY, answer)
        if granted is not None:
            self._open(granted, now)

    def _open(self, granted: Granted, now: float) -> None:
        address = self.pool.take() or IPv4Address(0)
        grant = Ipv4Grant(self.pool.own, address, self._dns)
        side = ConcentratorSide(self.settings, granted.max_payload, grant, self._entropy)
        link = Link(side, self._entropy, Facts(), self._timing, self.settings.keepalive)
        number = int(address) - int(IPv4Network(self.settings.network)[0]) if int(address) else 0
        block = block_of(IPv6Network(self.settings.ipv6_network), number)
        peer, session_id = granted.peer, granted.session_id
        header = pppoe.session_header(peer.mac, self.mac, session_id, peer.vlans)
        subscriber = self.subscribers[session_id] = Subscriber(peer, link, grant, block, header)
        if not peer.vlans:
            self._by_header[pppoe.session_header(self.mac, peer.mac, session_id)] = session_id
        link.start(now)
        self._after(granted.session_id, subscriber, now)

    def _session_packet(self, peer: Peer, packet: PppoePacket, now: float) -> None:
        subscriber = self.subscribers.get(packet.session_id)
        if subscriber is None or not subscriber.peer.is_at(peer) or packet.code != Code.SESSION:
            self.counters["discarded: unknown session"] += 1
            return
        self._ppp(packet.session_id, subscriber, packet.payload, now)

    def _ppp(self, session_id: int, subscriber: Subscriber, payload: bytes, now: float) -> None:
        if self.settings.withholding and ppp.decode(payload)[0] == Protocol.IPCP:
            return
        if subscriber.router is None or not self._is_for_router(subscriber.router, payload):
            subscriber.link.receive(payload, now)
        self._after(session_id, subscriber, now)

    @staticmethod
    def _is_for_router(router: LabRouter, payload: bytes) -> bool:
        """Whether it is an IPv6 packet; heeded then. Raises WireError."""
        protocol, information = ppp.decode(payload)
        if protocol != Protocol.IPV6:
            return False
        router.receive(information)
        return True

    def _padt(self, peer: Peer, packet: PppoePacket, now: float) -> None:
        subscriber = self.subscribers.get(packet.session_id)
        if subscriber is not None and subscriber.peer.is_at(peer):
            subscriber.link.stop(now, End(EndKind.PEER_ENDED, "The client ended the session (PADT)."))
            self._after(packet.session_id, subscriber, now, said_goodbye=True)

    def _after(
        self,
        session_id: int,
        subscriber: Subscriber,
        now: float,
        said_goodbye: bool = False,
    ) -> None:
        link = subscriber.link
        for payload in link.packets_to_send():
            self._out.append(pppoe.behind(subscriber.header, payload))
        while (event := link.next_event()) is not None:
            about = session_id, subscriber.peer, subscriber.grant, subscriber.block
            self._events.append(SubscriberEvent(*about, event, link.mtu))
            if isinstance(event, Ipv6Opened):
                dns = tuple(map(IPv6Address, self.settings.dns6))
                dhcp = LabDhcpServer(subscriber.block, b"\0\3\0\1" + self.mac, dns)
                subscriber.router = LabRouter(event.agreed.address, usual(subscriber.block, dns), dhcp)
            elif isinstance(event, Ipv6Closed | LinkEnded):
                subscriber.router = None
            if isinstance(event, LinkEnded):
                self._forget(session_id, subscriber, said_goodbye)
        for packet in subscriber.router.packets_to_send() if subscriber.router is not None else ():
            self.say(session_id, ppp.encode(Protocol.IPV6, packet))
        self._alarms.arm(session_id)

    def _due(self, session_id: int) -> float | None:
        subscriber = self.subscribers.get(session_id)
        return subscriber.link.next_timer() if subscriber is not None else None

    def _forget(self, session_id: int, subscriber: Subscriber, said_goodbye: bool) -> None:
        if not said_goodbye:
            self._send(
                subscriber.peer,
                ETH_PPPOE_DISCOVERY,
                PppoePacket(Code.PADT, session_id, b""),
            )
        del self.subscribers[session_id]
        self._by_header.pop(pppoe.session_header(self.mac, subscriber.peer.mac, session_id), None)
        self.discovery.forget(session_id)
        if int(subscriber.grant.client):
            self.pool.give_back(subscriber.grant.client)

    def _send(self, peer: Peer, ethertype: int, packet: PppoePacket) -> None:
        frame = EthernetFrame(peer.mac, self.mac, ethertype, pppoe.encode(packet), peer.vlans)
        self._out.append(ethernet.encode(frame))
