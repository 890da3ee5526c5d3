"""The concentrator's side of discovery: answers PADI with PADO and PADR with PADS (RFC 2516 section 5, RFC 4638).

Nothing is kept for a client before its PADR: the cookie says by itself that we made the offer (section 9).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from engine.settings.values import DEFAULT_MRU
from engine.wire import pppoe
from engine.wire.ethernet import VlanTag, vlan_ids
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

ECHOED = (TagType.HOST_UNIQ, TagType.RELAY_SESSION_ID)
"""Tags that every answer returns unmodified (RFC 2516 appendix A)."""
COOKIE_SIZE = 16


class ConcentratorSettings(Struct, frozen=True):
    """What a concentrator offers."""

    name: str = "souppp-lab"
    services: tuple[str, ...] = ()
    """Service names offered besides the empty one; with none, any service asked for is granted."""
    max_sessions: int = 65534
    max_sessions_per_mac: int = 65534
    max_payload: int = DEFAULT_MRU
    """Over 1492 grants RFC 4638 to those who ask."""


class Refusal(Struct, frozen=True):
    """What a concentrator says that has had enough (RFC 2516 appendix A)."""

    code: Code
    """PADO or PADS."""
    tag: TagType
    """One of the error tags."""
    text: str


class Peer(Struct, frozen=True):
    """Where a client is: session ids are the concentrator's, but frames must come from the client's own place."""

    mac: bytes
    vlans: tuple[VlanTag, ...] = ()

    def is_at(self, other: Peer) -> bool:
        """Whether both are the same place, whatever the priority of their frames."""
        return self.mac == other.mac and vlan_ids(self.vlans) == vlan_ids(other.vlans)


class Granted(Struct, frozen=True):
    """A session that a PADS has just opened."""

    session_id: int
    peer: Peer
    service: str
    max_payload: int


class ConcentratorDiscovery:
    """Discovery for all clients, without I/O."""

    def __init__(self, settings: ConcentratorSettings, entropy: Callable[[int], bytes]) -> None:
        self.counters: Counter[str] = Counter()
        self.sessions: dict[int, Peer] = {}
        self.refusal: Refusal | None = None
        """While this is set, every PADI (code PADO) or every PADR with its cookie (code PADS) is refused with it."""
        self._settings = settings
        self._secret = entropy(32)
        self._per_mac: Counter[bytes] = Counter()
        self._next_id = 1
        self._answered: dict[bytes, PppoePacket] = {}
        self._request_of: dict[int, bytes] = {}

    def receive(self, peer: Peer, packet: PppoePacket) -> tuple[PppoePacket | None, Granted | None]:
        """Handle a PADI or PADR: the answer, if any, and the session it opens, if it does. Raises WireError.

        What else comes is ignored: PADT is the session's business, and PADO and PADS are for clients.
        """
        tags = pppoe.decode_tags(packet.payload)
        services = [tag.value for tag in tags if tag.type == TagType.SERVICE_NAME]
        if packet.session_id != 0 or len(services) != 1:
            self.counters["discarded: malformed request"] += 1
            return None, None
        known = (
            not services[0]
            or not self._settings.services
            or services[0].decode("utf-8", "replace") in self._settings.services
        )
        if packet.code == Code.PADI:
            return self._answer_padi(peer, tags, services[0], known), None
        if packet.code != Code.PADR:
            return None, None
        if not hmac.compare_digest(pppoe.find(tags, TagType.AC_COOKIE) or b"", self._cookie(peer)):
            self.counters["discarded: wrong cookie"] += 1
            return None, None
        if self.refusal is not None and self.refusal.code == Code.PADS:
            return self._refuse(tags, self.refusal.tag, self.refusal.text), None
        if not known:
            return self._refuse(tags, TagType.SERVICE_NAME_ERROR, "No such service here"), None
        return self._grant(peer, packet, tags, services[0])

    def forget(self, session_id: int) -> None:
        """The session is over: its id may be given out again."""
        peer = self.sessions.pop(session_id, None)
        if peer is not None:
            self._per_mac[peer.mac] -= 1
            self._answered.pop(self._request_of.pop(session_id), None)

    def _answer_padi(self, peer: Peer, tags: tuple[Tag, ...], service: bytes, known: bool) -> PppoePacket | None:
        if self.refusal is not None and self.refusal.code == Code.PADO:
            return self._refuse(tags, self.refusal.tag, self.refusal.text, Code.PADO)
        return self._offer(peer, tags, service) if known else None

    def _offer(self, peer: Peer, tags: tuple[Tag, ...], service: bytes) -> PppoePacket:
        """The PADO (RFC 2516 section 5.2): the service asked for, as it was asked for, then the others on offer."""
        offered = [
            service,
            *(name.encode() for name in self._settings.services if name.encode() != service),
        ]
        answer = [Tag(TagType.AC_NAME, self._settings.name.encode())]
        answer += [Tag(TagType.SERVICE_NAME, name) for name in offered]
        answer += [Tag(TagType.AC_COOKIE, self._cookie(peer)), *self._echo(tags)]
        return PppoePacket(Code.PADO, 0, pppoe.encode_tags(answer))

    def _grant(
        self, peer: Peer, packet: PppoePacket, tags: tuple[Tag, ...], service: bytes
    ) -> tuple[PppoePacket, Granted | None]:
        """The PADS (RFC 2516 section 5.4); a PADR that comes twice, as after a lost PADS, opens one session only."""
        request = peer.mac + packet.payload
        repeated = self._answered.get(request)
        if repeated is not None:
            return repeated, None
        if len(self.sessions) >= self._settings.max_sessions:
            return self._refuse(tags, TagType.AC_SYSTEM_ERROR, "Too many sessions on this concentrator"), None
        if self._per_mac[peer.mac] >= self._settings.max_sessions_per_mac:
            return self._refuse(tags, TagType.AC_SYSTEM_ERROR, "Too many sessions for this MAC address"), None
        session_id = self._free_id()
        self.sessions[session_id] = peer
        self._per_mac[peer.mac] += 1
        answer = [
            Tag(TagType.SERVICE_NAME, service),
            Tag(TagType.AC_NAME, self._settings.name.encode()),
        ]
        pads = PppoePacket(Code.PADS, session_id, pppoe.encode_tags([*answer, *self._echo(tags)]))
        self._answered[request] = pads
        self._request_of[session_id] = request
        wanted = pppoe.max_payload(tags) or DEFAULT_MRU
        payload = max(DEFAULT_MRU, min(wanted, self._settings.max_payload))
        return pads, Granted(session_id, peer, service.decode("utf-8", "replace"), payload)

    def _refuse(self, tags: tuple[Tag, ...], kind: TagType, text: str, code: Code = Code.PADS) -> PppoePacket:
        service = pppoe.find(tags, TagType.SERVICE_NAME) or b""
        answer = [
            Tag(TagType.SERVICE_NAME, service),
            Tag(TagType.AC_NAME, self._settings.name.encode()),
            Tag(kind, text.encode()),
            *self._echo(tags),
        ]
        return PppoePacket(code, 0, pppoe.encode_tags(answer))

    def _echo(self, tags: tuple[Tag, ...]) -> list[Tag]:
        echoed = [tag for tag in tags if tag.type in ECHOED]
        if self._settings.max_payload > DEFAULT_MRU and (wanted := pppoe.max_payload(tags)) is not None:
            echoed.append(
                Tag(
                    TagType.PPP_MAX_PAYLOAD,
                    min(wanted, self._settings.max_payload).to_bytes(2, "big"),
                )
            )
        return echoed

    def _cookie(self, peer: Peer) -> bytes:
        """What only we can make of where a client is (RFC 2516 section 9)."""
        place = peer.mac + b"".join(vid.to_bytes(2, "big") for vid in vlan_ids(peer.vlans))
        return hmac.digest(self._secret, place, hashlib.sha256)[:COOKIE_SIZE]

    def _free_id(self) -> int:
        """The next id not in use; ids go round before one is used again, so that a late frame hits no one."""
        while self._next_id in self.sessions:
            self._next_id = self._next_id % 0xFFFE + 1
        session_id, self._next_id = self._next_id, self._next_id % 0xFFFE + 1
        return session_id
