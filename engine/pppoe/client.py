"""The client's side of discovery: PADI, PADO, PADR, PADS (RFC 2516 section 5, RFC 4638).

One `Discovery` is one attempt to open a session. Unless it is stopped it ends with a result: `Found` or an `End`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from engine.api.ending import End, EndKind
from engine.settings.values import DEFAULT_MRU, AcFilter, LineId
from engine.wire import pppoe
from engine.wire.ethernet import BROADCAST, format_mac
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType
from engine.wire.text import printable

PADI_TIMEOUTS = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait after each PADI: doubling, as RFC 2516 section 8 wants it."""
PADR_TIMEOUTS = (1.0, 2.0, 4.0)
"""The same after each PADR."""
MAX_ROUNDS = 2
"""Rounds of an attempt: an unanswered PADR leads back to a PADI (RFC 2516 section 8), but not after the last."""
STEM_SIZE = 8
"""Octets of the part of Host-Uniq that stays with a session, its stem, so that even a late answer finds its way."""
ROUND_SIZE = 4
"""Octets of the part that is new in each round."""
MAX_OFFERS = 16
"""PADOs kept while the window is open; more than this is a flood."""

ECHOED = (TagType.AC_COOKIE, TagType.RELAY_SESSION_ID)
"""Tags of a PADO that the PADR returns unmodified (RFC 2516 appendix A)."""
MAX_DISCOVERY_PAYLOAD = 1500 - pppoe.HEADER
"""The longest discovery payload that fits every Ethernet."""

# No error tag has a code for it, so that the text has to tell.
_LIMIT_WORDS = (
    "too many",
    "session limit",
    "limit exceeded",
    "limit reached",
    "max session",
    "maximum",
    "no more session",
    "no client slots",  # rp-pppoe
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
    """Seconds to collect PADOs; 0 takes the first that fits, and so does a filter that only one can fit."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One PADO that fits."""

    mac: bytes
    ac_name: str
    exact_service: bool
    """Whether it names the very service asked for; an empty wish is also met by any other."""
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


def speaks_of_limit(text: str) -> bool:
    """Whether an error tag's text is about too many sessions; there is no other way to tell that from other errors."""
    return any(word in text.lower() for word in _LIMIT_WORDS)


def refusal(text: str, where: str) -> End:
    """The end of an attempt that an error tag in a PADO or PADS refused."""
    kind = EndKind.TOO_MANY if speaks_of_limit(text) else EndKind.REFUSED
    return End(kind, f'The concentrator refused the session in its {where}: "{text}".')


def dismissal(text: str | None, authenticating: bool) -> End:
    """The end of a session by a PADT, with the text of its error tag if it has one.

    While it is `authenticating`, a PADT is a refusal: it may overtake the one in words, on another queue of the card.
    """
    said = f': "{text}"' if text else ""
    if text and speaks_of_limit(text):
        return End(EndKind.TOO_MANY, f"The concentrator ended the session (PADT){said}.")
    if authenticating:
        asked = "The concentrator ended the session during authentication"
        return End(EndKind.REFUSED, f"{asked} (PADT){said}. Are user name and password right?")
    return End(EndKind.PEER_ENDED, f"The concentrator ended the session (PADT){said}.")


class Discovery:
    """One attempt to find a concentrator and open a session, without I/O."""

    def __init__(
        self,
        settings: DiscoverySettings,
        stem: bytes,
        avoid: bytes | None,
        entropy: Callable[[int], bytes],
        counters: Counter[str],
    ) -> None:
        self.stage = Stage.IDLE
        self.host_uniq = b""
        """The session's stem, and what is new in each round."""
        self.offers: list[Offer] = []
        self.chosen: Offer | None = None
        self._deadline: float | None = None
        self._result: Found | End | None = None
        self._out: list[tuple[bytes, PppoePacket]] = []
        self._settings = settings
        self._stem = stem
        self._avoid = avoid
        """The concentrator that refused us last, or didn't answer a PADR: taken only if it is the only one."""
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

    def receive(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...], now: float) -> None:
        """Handle a PADO or PADS; the caller has checked both addresses, and that Host-Uniq is this round's."""
        if packet.code == Code.PADO and self.stage is Stage.PADI_SENT:
            self._pado(source, packet, tags, now)
        elif packet.code == Code.PADS and self.stage is Stage.PADR_SENT:
            self._pads(source, packet, tags, now)
        else:
            self._counters[f"discarded: {Code(packet.code).name} out of state"] += 1

    def packets_to_send(self) -> list[tuple[bytes, PppoePacket]]:
        """Packets with the MAC address each is for, oldest first."""
        out, self._out = self._out, []
        return out

    def next_event(self) -> Found | End | None:
        """What came of the attempt, once."""
        result, self._result = self._result, None
        return result

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        if self._deadline is None or now < self._deadline:
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
        self._deadline = None

    # Steps

    def _begin_round(self, now: float) -> None:
        """From the start: broadcast, with a new Host-Uniq and no memory of earlier offers."""
        self._rounds += 1
        self.host_uniq = self._stem + self._entropy(ROUND_SIZE)
        self.offers.clear()
        if self.chosen is not None:
            self._avoid = self.chosen.mac
        self.chosen = None
        self._tries = 0
        self.stage = Stage.PADI_SENT
        self._send_padi(now)

    def _send_padi(self, now: float) -> None:
        """RFC 2516 section 5.1. Its limit of 1,484 octets is never near: all that goes in is limited to 500."""
        self._deadline = now + PADI_TIMEOUTS[self._tries]
        self._tries += 1
        self._padis += 1
        self._out.append((BROADCAST, PppoePacket(Code.PADI, 0, pppoe.encode_tags(self._own_tags()))))

    def _pado(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...], now: float) -> None:
        """Take the offer, at once or when the window closes (RFC 2516 sections 5.2 and 5.3)."""
        offer = self._read_offer(source, packet, tags)
        if offer is None:
            return
        self.offers.append(offer)
        if self._settings.pado_window <= 0 or self._settings.ac.mac is not None:
            self._request(offer, now)
        elif len(self.offers) == 1:
            self._deadline = now + self._settings.pado_window

    def _read_offer(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...]) -> Offer | None:
        """The offer, if it is whole and one that we want."""
        name = pppoe.find(tags, TagType.AC_NAME)
        ac = self._settings.ac
        unwanted_name = ac.name is not None and name is not None and name != ac.name.encode()
        if unwanted_name or (ac.mac is not None and source != ac.mac):
            self._pass_over(source, name)
            return None
        error = pppoe.error_text(tags)
        if error is not None:
            self._refusal = refusal(error, "PADO")
            return None
        services = tuple(tag.value for tag in tags if tag.type == TagType.SERVICE_NAME)
        wanted = self._settings.service.encode()
        if packet.session_id != 0 or name is None or not services:
            self._counters["discarded: incomplete PADO"] += 1
            return None
        if wanted and wanted not in services:
            self._pass_over(source, name)
            return None
        echo = tuple(tag for tag in tags if tag.type in ECHOED)
        if len(pppoe.encode_tags((*self._own_tags(), *echo))) > MAX_DISCOVERY_PAYLOAD:
            self._counters["discarded: PADO too long to answer"] += 1
            return None
        shown = printable(name)
        known = any(offer.mac == source and offer.ac_name == shown for offer in self.offers)
        if known or len(self.offers) == MAX_OFFERS:
            self._counters["discarded: surplus PADO"] += 1
            return None
        return Offer(source, shown, wanted in services, echo, pppoe.max_payload(tags))

    def _pass_over(self, source: bytes, name: bytes | None) -> None:
        """Remember a concentrator that is not wanted, or lacks the service: the operator may have misspelt it."""
        stranger = f"{printable(name or b'')} ({format_mac(source)})"
        if stranger not in self._strangers:
            self._strangers = [*self._strangers, stranger][-4:]
        self._counters["discarded: PADO of another concentrator"] += 1

    def _best_offer(self) -> Offer:
        """One that did not refuse us, exactly the service, then the payload asked for; of equals, the first."""
        wanted = self._settings.max_payload

        def rank(offer: Offer) -> tuple[bool, bool, bool]:
            enough = wanted > DEFAULT_MRU and (offer.max_payload or 0) >= wanted
            return offer.mac != self._avoid, offer.exact_service, enough

        return max(self.offers, key=rank)

    def _request(self, offer: Offer, now: float) -> None:
        self.chosen = offer
        self.stage = Stage.PADR_SENT
        self._tries = 0
        self._send_padr(now)

    def _send_padr(self, now: float) -> None:
        assert self.chosen is not None
        self._deadline = now + PADR_TIMEOUTS[self._tries]
        self._tries += 1
        tags = [*self._own_tags(), *self.chosen.echo]
        self._out.append((self.chosen.mac, PppoePacket(Code.PADR, 0, pppoe.encode_tags(tags))))

    def _pads(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...], now: float) -> None:
        """Take the session, or the refusal (RFC 2516 section 5.4)."""
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
        # More than 1492 only if both PADO and PADS carry the tag (RFC 4638 section 4).
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
            service = f' with the service "{self._settings.service}"' if self._settings.service else ""
            return End(
                EndKind.NONE_WANTED,
                f"No wanted concentrator{service} answered {waited}; others did: {others}.",
            )
        return End(
            EndKind.NO_CONCENTRATOR,
            f"No answer to {waited}. Is the modem in bridge mode?",
        )

    def _finish(self, result: Found | End) -> None:
        self._result = result
        self.stop()
