"""The client's side of discovery: PADI, PADO, PADR, PADS (RFC 2516 section 5, RFC 4638).

One `Discovery` is one attempt to open a session. It ends with a result: `Found` or an `End`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from engine.ending import End, EndKind
from engine.settings import DEFAULT_MRU, AcFilter, LineId
from engine.wire import pppoe
from engine.wire.ethernet import BROADCAST, format_mac
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType
from engine.wire.text import printable

PADI_TIMEOUTS = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait after each PADI: doubling, as RFC 2516 section 8 wants it."""
PADR_TIMEOUTS = (1.0, 2.0, 4.0)
MAX_ROUNDS = 2
"""How often an unanswered PADR leads back to a PADI before the attempt is given up."""
HOST_UNIQ_SIZE = 12

_LIMIT_WORDS = (
    "too many",
    "session limit",
    "limit exceeded",
    "limit reached",
    "max session",
    "maximum",
    "no more session",
)


class Stage(Enum):
    """Where an attempt stands."""

    IDLE = "idle"
    PADI_SENT = "PADI sent"
    PADR_SENT = "PADR sent"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """What to ask for."""

    service: str = ""
    ac: AcFilter = AcFilter()
    line_id: LineId = LineId()
    max_payload: int = DEFAULT_MRU
    """Over 1492 asks for RFC 4638."""
    pado_window: float = 0.0
    """Seconds to collect PADOs; 0 takes the first that fits."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One PADO that fits."""

    mac: bytes
    ac_name: str
    services: tuple[str, ...]
    echo: tuple[Tag, ...]
    """Cookie and relay id, to be copied into the PADR unmodified."""
    max_payload: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """An open PPPoE session."""

    session_id: int
    mac: bytes
    """The concentrator's."""
    ac_name: str
    max_payload: int
    """The largest PPP payload both sides agreed to carry: 1492, or more with RFC 4638."""


def refusal(text: str, where: str) -> End:
    """The end of an attempt that an error tag refused; a limit is told from other errors by its words."""
    limited = any(word in text.lower() for word in _LIMIT_WORDS)
    kind = EndKind.TOO_MANY if limited else EndKind.REFUSED
    return End(kind, f'The concentrator refused the session in its {where}: "{text}".')


class Discovery:
    """One attempt to find a concentrator and open a session, without I/O."""

    def __init__(
        self,
        settings: DiscoverySettings,
        entropy: Callable[[int], bytes],
        counters: Counter[str],
    ) -> None:
        self.stage = Stage.IDLE
        self.host_uniq = b""
        self.deadline: float | None = None
        self.result: Found | End | None = None
        self.out: list[tuple[bytes, PppoePacket]] = []
        """(destination MAC, packet) to send, oldest first; whoever sends them empties it."""
        self.offers: list[Offer] = []
        self.chosen: Offer | None = None
        self.padi_at = self.pado_at = self.padr_at = self.pads_at = 0.0
        """When each step of the latest round happened, 0 for not yet."""
        self._settings = settings
        self._entropy = entropy
        self._counters = counters
        self._tries = 0
        self._rounds = 0
        self._padis = 0
        self._started_at = 0.0
        self._refusal: End | None = None
        self._strangers: list[str] = []

    def start(self, now: float) -> None:
        """Send the first PADI."""
        self._started_at = now
        self._begin_round(now)

    def receive(self, source: bytes, packet: PppoePacket, now: float) -> None:
        """Handle a PADO or PADS that carries our Host-Uniq; raises WireError for bad tags.

        The caller has checked the destination and that the source is no multicast address.
        """
        tags = pppoe.decode_tags(packet.payload)
        if pppoe.find(tags, TagType.HOST_UNIQ) != self.host_uniq:
            self._counters["discarded: wrong Host-Uniq"] += 1
        elif packet.code == Code.PADO and self.stage is Stage.PADI_SENT:
            self._pado(source, packet, tags, now)
        elif packet.code == Code.PADS and self.stage is Stage.PADR_SENT:
            self._pads(source, packet, tags, now)
        else:
            self._counters[f"discarded: {_code_name(packet.code)} out of state"] += 1

    def handle_timer(self, now: float) -> None:
        """Do what is due; calling it early does nothing."""
        if self.deadline is None or now < self.deadline:
            return
        if self.stage is Stage.PADI_SENT:
            if self.offers:
                self._request(self._best_offer(), now)
            elif self._tries < len(PADI_TIMEOUTS):
                self._send_padi(now)
            else:
                self._finish(self._refusal or self._no_answer(now))
        elif self.stage is Stage.PADR_SENT:
            if self._tries < len(PADR_TIMEOUTS):
                self._send_padr(now)
            elif self._rounds < MAX_ROUNDS:
                self._begin_round(now)
            else:
                assert self.chosen is not None
                name = self.chosen.ac_name
                self._finish(
                    End(
                        EndKind.NO_ANSWER,
                        f"{name} made an offer but doesn't answer the PADR.",
                    )
                )

    def stop(self) -> None:
        """Give the attempt up without a result."""
        self.stage = Stage.DONE
        self.deadline = None

    # Steps

    def _begin_round(self, now: float) -> None:
        """From the start: broadcast, with a new Host-Uniq and no memory of earlier offers."""
        self._rounds += 1
        self.host_uniq = self._entropy(HOST_UNIQ_SIZE)
        self.offers.clear()
        self.chosen = None
        self._tries = 0
        self.stage = Stage.PADI_SENT
        self._send_padi(now)

    def _send_padi(self, now: float) -> None:
        self.padi_at = now
        self.deadline = now + PADI_TIMEOUTS[self._tries]
        self._tries += 1
        self._padis += 1
        self.out.append((BROADCAST, PppoePacket(Code.PADI, 0, pppoe.encode_tags(self._own_tags()))))

    def _pado(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...], now: float) -> None:
        offer = self._read_offer(source, packet, tags)
        if offer is None:
            return
        self.offers.append(offer)
        if self._settings.pado_window <= 0:
            self._request(offer, now)
        elif len(self.offers) == 1:
            self.deadline = now + self._settings.pado_window

    def _read_offer(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...]) -> Offer | None:
        """The offer, if it is whole and one that we want."""
        error = pppoe.error_text(tags)
        if error is not None:
            self._refusal = refusal(error, "PADO")
            return None
        name = pppoe.find(tags, TagType.AC_NAME)
        services = tuple(tag.value for tag in tags if tag.type == TagType.SERVICE_NAME)
        wanted = self._settings.service.encode()
        if packet.session_id != 0 or name is None or not services or (wanted and wanted not in services):
            self._counters["discarded: incomplete PADO"] += 1
            return None
        ac = self._settings.ac
        if (ac.mac is not None and source != ac.mac) or (ac.name is not None and name != ac.name.encode()):
            stranger = f"{printable(name)} ({format_mac(source)})"
            if stranger not in self._strangers:
                self._strangers = [*self._strangers, stranger][-4:]
            self._counters["discarded: PADO of another concentrator"] += 1
            return None
        if any(offer.mac == source for offer in self.offers):
            return None
        echo = tuple(tag for tag in tags if tag.type in (TagType.AC_COOKIE, TagType.RELAY_SESSION_ID))
        return Offer(
            source,
            printable(name),
            tuple(map(printable, services)),
            echo,
            pppoe.max_payload(tags),
        )

    def _best_offer(self) -> Offer:
        """Of equals, the one that answered first."""
        return self.offers[0]

    def _request(self, offer: Offer, now: float) -> None:
        self.pado_at = now
        self.chosen = offer
        self.stage = Stage.PADR_SENT
        self._tries = 0
        self._send_padr(now)

    def _send_padr(self, now: float) -> None:
        assert self.chosen is not None
        self.padr_at = now
        self.deadline = now + PADR_TIMEOUTS[self._tries]
        self._tries += 1
        tags = [*self._own_tags(), *self.chosen.echo]
        self.out.append((self.chosen.mac, PppoePacket(Code.PADR, 0, pppoe.encode_tags(tags))))

    def _pads(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...], now: float) -> None:
        assert self.chosen is not None
        if source != self.chosen.mac:
            self._counters["discarded: PADS from another concentrator"] += 1
            return
        error = pppoe.error_text(tags)
        if error is not None:
            self._finish(refusal(error, "PADS"))
            return
        if packet.session_id in (0, pppoe.RESERVED_SESSION_ID):
            self._counters["discarded: PADS with a reserved session id"] += 1
            return
        self.pads_at = now
        payload = DEFAULT_MRU
        granted = pppoe.max_payload(tags)
        if self._settings.max_payload > DEFAULT_MRU and self.chosen.max_payload is not None and granted is not None:
            payload = max(
                DEFAULT_MRU,
                min(self._settings.max_payload, self.chosen.max_payload, granted),
            )
        self._finish(Found(packet.session_id, source, self.chosen.ac_name, payload))

    def _own_tags(self) -> list[Tag]:
        """What PADI and PADR have in common: exactly one Service-Name, and who we are."""
        tags = [
            Tag(TagType.SERVICE_NAME, self._settings.service.encode()),
            Tag(TagType.HOST_UNIQ, self.host_uniq),
        ]
        if self._settings.max_payload > DEFAULT_MRU:
            tags.append(
                Tag(
                    TagType.PPP_MAX_PAYLOAD,
                    self._settings.max_payload.to_bytes(2, "big"),
                )
            )
        line = self._settings.line_id
        if line.circuit_id is not None or line.remote_id is not None:
            tags.append(pppoe.line_id_tag(line.circuit_id, line.remote_id))
        return tags

    def _no_answer(self, now: float) -> End:
        waited = f"{self._padis} PADIs in {now - self._started_at:.0f} s"
        if self._strangers:
            others = ", ".join(self._strangers)
            return End(
                EndKind.NO_CONCENTRATOR,
                f"No wanted concentrator answered {waited}; others did: {others}.",
            )
        return End(
            EndKind.NO_CONCENTRATOR,
            f"No answer to {waited}. Is the modem in bridge mode?",
        )

    def _finish(self, result: Found | End) -> None:
        self.result = result
        self.stop()


def _code_name(code: int) -> str:
    try:
        return Code(code).name
    except ValueError:
        return f"code 0x{code:02x}"
