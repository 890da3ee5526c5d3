"""A concentrator that says only what a test tells it to, and a session that it talks to, in virtual time.

peer = Peer()
peer.open_pppoe()                        discovery as it usually goes
peer.open_lcp(auth=CHAP)                 LCP as it usually goes
peer.lcp(Code.ECHO_REQUEST, 7, bytes(4)) one packet of our own making
peer.heard()                             what the session has sent since the last call
peer.sleep(3.0)                          time goes by, timers run
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from engine.api.ending import End
from engine.ppp.automaton import State
from engine.ppp.link import Link
from engine.ppp.negotiator import Timing
from engine.sessions.session import Ended, Session, SessionEvent
from engine.settings.values import AuthMethod, SessionSettings
from engine.wire import auth, control, ethernet, ppp, pppoe
from engine.wire.control import Code, ControlPacket, IpcpOption, Ipv6cpOption, LcpOption, Option
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame, VlanTag
from engine.wire.ppp import Protocol
from engine.wire.pppoe import PppoePacket, Tag, TagType

OWN = bytes.fromhex("020000000001")
AC = bytes.fromhex("02acacac0001")
STRANGER = bytes.fromhex("02bad0bad001")
SID = 0x0011
COOKIE = b"\x00cookie\xff"
PAP = b"\xc0\x23"
CHAP = b"\xc2\x23\x05"
MSCHAPV2 = b"\xc2\x23\x81"
EAP = b"\xc2\x27"
MAGIC = b"\xaa\xbb\xcc\xdd"
ADDRESS = "100.64.0.9"
INSISTENCE = 4
"""How often a method is asked for: each of the better ones is suggested once."""
SETTINGS = SessionSettings(
    "test",
    user="alice",
    password="wonderland",
    auth=(AuthMethod.NONE, AuthMethod.MSCHAPV2, AuthMethod.CHAP, AuthMethod.PAP),
    ipv6=False,
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame that the session sent."""

    at: float
    outer: EthernetFrame
    packet: PppoePacket

    @property
    def tags(self) -> tuple[Tag, ...]:
        return pppoe.decode_tags(self.packet.payload)

    @property
    def protocol(self) -> int:
        return ppp.decode(self.packet.payload)[0]

    @property
    def information(self) -> bytes:
        return ppp.decode(self.packet.payload)[1]

    @property
    def control(self) -> ControlPacket:
        return control.decode(self.information)

    @property
    def in_session(self) -> bool:
        return self.outer.ethertype == ETH_PPPOE_SESSION


class Peer:
    """The concentrator, the session and the clock."""

    def __init__(
        self,
        settings: SessionSettings = SETTINGS,
        *,
        vlans: tuple[VlanTag, ...] | None = None,
        pado_window: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.now = 100.0
        self.vlans = settings.vlans if vlans is None else vlans
        self.sid = SID
        self.session = Session(
            settings, OWN, random.Random(seed).randbytes, timing=Timing(first_restart=1.0), pado_window=pado_window
        )
        self.events: list[SessionEvent] = []
        self.packets6: list[bytes] = []
        """The IPv6 packets that the session itself sent: they are no control packets of PPP."""
        self._heard: list[Heard] = []
        self._history: list[Heard] = []

    # Time and what the session does

    def sleep(self, seconds: float) -> None:
        """Let time go by; timers run when they are due."""
        until = self.now + seconds
        while True:
            self._collect()
            due = self.session.next_timer()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
        self.now = until
        self._collect()

    def dial(self) -> None:
        self.session.dial(self.now)
        self._collect()

    def hang_up(self) -> None:
        self.session.hang_up(self.now)
        self._collect()

    def _collect(self) -> None:
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        for frame in self.session.frames_to_send():
            outer = ethernet.decode(frame)
            heard = Heard(self.now, outer, pppoe.decode(outer.payload))
            assert outer.src == OWN
            if heard.in_session and heard.protocol == Protocol.IPV6:
                self.packets6.append(heard.information)
                continue
            self._heard.append(heard)
            self._history.append(heard)

    def heard(self) -> list[Heard]:
        """What the session sent since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def heard_of(self, protocol: int, code: int | None = None) -> list[ControlPacket]:
        """The control packets of one protocol among them."""
        return [
            heard.control
            for heard in self.heard()
            if heard.in_session and heard.protocol == protocol and code in (None, heard.control.code)
        ]

    def latest(self, protocol: int, code: int) -> ControlPacket:
        """The latest such packet of all that were ever sent."""
        for heard in reversed(self._history):
            if heard.in_session and heard.protocol == protocol and heard.control.code == code:
                return heard.control
        raise AssertionError(f"no packet with code {code} of protocol {protocol:#x}")

    @property
    def ends(self) -> list[End]:
        """Every end so far."""
        return [event.end for event in self.events if isinstance(event, Ended)]

    @property
    def link(self) -> Link:
        assert self.session._link is not None
        return self.session._link

    @property
    def lcp_state(self) -> State:
        return self.link.lcp_state

    def discarded(self, reason: str) -> int:
        return self.session.discards()[f"discarded: {reason}"]

    # What the concentrator says

    def frame(self, frame: bytes) -> None:
        """Any octets at all."""
        self.session.receive(frame, self.now)
        self._collect()

    def say(
        self,
        ethertype: int,
        packet: PppoePacket,
        *,
        src: bytes = AC,
        dst: bytes = OWN,
        vlans: tuple[VlanTag, ...] | None = None,
        padding: bytes = b"",
    ) -> None:
        here = self.vlans if vlans is None else vlans
        self.frame(ethernet.encode(EthernetFrame(dst, src, ethertype, pppoe.encode(packet) + padding, here)))

    def discovery(self, code: int, tags: Iterable[Tag], sid: int = 0, *, src: bytes = AC, dst: bytes = OWN) -> None:
        self.say(ETH_PPPOE_DISCOVERY, PppoePacket(code, sid, pppoe.encode_tags(tags)), src=src, dst=dst)

    def ppp(self, payload: bytes, *, sid: int | None = None, src: bytes = AC, padding: bytes = b"") -> None:
        packet = PppoePacket(pppoe.Code.SESSION, self.sid if sid is None else sid, payload)
        self.say(ETH_PPPOE_SESSION, packet, src=src, padding=padding)

    def control(self, protocol: int, code: int, identifier: int, data: bytes = b"") -> None:
        self.ppp(ppp.encode(protocol, control.encode(ControlPacket(code, identifier, data))))

    def lcp(self, code: int, identifier: int, data: bytes = b"") -> None:
        self.control(Protocol.LCP, code, identifier, data)

    def request(self, protocol: int, *options: Option, identifier: int = 1) -> None:
        """A Configure-Request."""
        self.control(protocol, Code.CONFIGURE_REQUEST, identifier, control.encode_options(options))

    def answer(self, protocol: int, code: int, *options: Option) -> None:
        """An answer to the session's latest Configure-Request; an Ack repeats its options."""
        latest = self.latest(protocol, Code.CONFIGURE_REQUEST)
        data = latest.data if code == Code.CONFIGURE_ACK else control.encode_options(options)
        self.control(protocol, code, latest.identifier, data)

    def padt(self, *tags: Tag, sid: int | None = None, src: bytes = AC) -> None:
        self.discovery(pppoe.Code.PADT, tags, self.sid if sid is None else sid, src=src)

    # Discovery as it usually goes

    def host_uniq(self) -> Tag:
        """Of the latest PADI or PADR."""
        for heard in reversed(self._history):
            if not heard.in_session and heard.packet.code in (pppoe.Code.PADI, pppoe.Code.PADR):
                return Tag(TagType.HOST_UNIQ, pppoe.find(heard.tags, TagType.HOST_UNIQ) or b"")
        raise AssertionError("nothing was asked")

    def offer_tags(self, name: str = "ac1", service: str | None = None, *more: Tag) -> list[Tag]:
        wanted = self.session.settings.service if service is None else service
        return [
            Tag(TagType.AC_NAME, name.encode()),
            Tag(TagType.SERVICE_NAME, wanted.encode()),
            Tag(TagType.AC_COOKIE, COOKIE),
            *more,
            self.host_uniq(),
        ]

    def pado(self, *more: Tag, name: str = "ac1", service: str | None = None, src: bytes = AC) -> None:
        self.discovery(pppoe.Code.PADO, self.offer_tags(name, service, *more), src=src)

    def pads(self, *more: Tag, sid: int | None = None, src: bytes = AC) -> None:
        service = Tag(TagType.SERVICE_NAME, self.session.settings.service.encode())
        self.discovery(pppoe.Code.PADS, [service, *more, self.host_uniq()], self.sid if sid is None else sid, src=src)

    def to_padr(self) -> None:
        self.dial()
        self.pado()

    def open_pppoe(self, *more: Tag) -> None:
        self.dial()
        self.pado(*more)
        self.pads(*more)

    # PPP as it usually goes

    def lcp_options(self, auth: bytes | None = None, mru: int = 1492) -> list[Option]:
        options = [Option(LcpOption.MRU, mru.to_bytes(2, "big"))]
        if auth is not None:
            options.append(Option(LcpOption.AUTHENTICATION, auth))
        return [*options, Option(LcpOption.MAGIC, MAGIC)]

    def open_lcp(self, auth: bytes | None = None, mru: int = 1492) -> None:
        """From an open PPPoE session to an open LCP, or through LCP once more; `auth` is insisted on."""
        if self.session.place is None:
            self.open_pppoe()
        for identifier in range(0x31, 0x31 + INSISTENCE):
            before = len(self._history)
            self.request(Protocol.LCP, *self.lcp_options(auth, mru), identifier=identifier)
            if all(not it.in_session or it.control.code != Code.CONFIGURE_NAK for it in self._history[before:]):
                break
        self.answer(Protocol.LCP, Code.CONFIGURE_ACK)
        assert self.lcp_state is State.OPENED

    def challenge(self, identifier: int = 1, value: bytes = bytes(range(16))) -> None:
        data = auth.encode_chap_value(value, b"ac1")
        self.control(Protocol.CHAP, auth.ChapCode.CHALLENGE, identifier, data)

    def open_network(self, auth: AuthMethod | None = None) -> None:
        """As far as the network protocols."""
        if auth is AuthMethod.PAP:
            self.open_lcp(PAP)
            self.control(Protocol.PAP, 2, self.latest(Protocol.PAP, 1).identifier, b"\0")
        elif auth is AuthMethod.CHAP:
            self.open_lcp(CHAP)
            self.challenge()
            self.control(Protocol.CHAP, 3, 1, b"hello")
        else:
            self.open_lcp()

    def open_ipcp(self, address: str = ADDRESS, own: str | None = "100.64.0.1") -> None:
        """Give an address; without `own`, the concentrator has none to name."""
        options = [Option(IpcpOption.IP_ADDRESS, IPv4Address(own).packed)] if own is not None else []
        self.request(Protocol.IPCP, *options, identifier=0x41)
        naks = [
            Option(kind, IPv4Address(value).packed)
            for kind, value in (
                (IpcpOption.IP_ADDRESS, address),
                (IpcpOption.PRIMARY_DNS, "9.9.9.9"),
                (IpcpOption.SECONDARY_DNS, "1.1.1.1"),
            )
        ]
        self.answer(Protocol.IPCP, Code.CONFIGURE_NAK, *naks)
        self.answer(Protocol.IPCP, Code.CONFIGURE_ACK)

    def open_ipv6cp(self, identifier: bytes = b"\2ac\0\0ac1") -> None:
        self.request(Protocol.IPV6CP, Option(Ipv6cpOption.INTERFACE_IDENTIFIER, identifier), identifier=0x51)
        self.answer(Protocol.IPV6CP, Code.CONFIGURE_ACK)

    def up(self, auth: AuthMethod | None = None) -> None:
        """All the way, and forget what was said on it."""
        self.open_network(auth)
        self.open_ipcp()
        self.heard()
        self.events.clear()
