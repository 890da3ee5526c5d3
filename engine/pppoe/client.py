"""The client's side of discovery: PADI, PADO, PADR, PADS (RFC 2516 section 5, RFC 4638).

One `Discovery` is one attempt to open a session. Unless it is stopped it ends with a result: `Found` or an `End`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from engine.api.ending import End, EndKind, refusal
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
SECOND_CHOICE = 0.5
"""Seconds for which the offer of a concentrator that failed us waits for another one's."""

ECHOED = (TagType.AC_COOKIE, TagType.RELAY_SESSION_ID)
"""Tags of a PADO that the PADR returns unmodified (RFC 2516 appendix A)."""
MAX_DISCOVERY_PAYLOAD = 1500 - pppoe.HEADER
"""The longest discovery payload that fits every Ethernet."""


class Stage(Enum):
    """Where an attempt stands."""

    IDLE = "idle"
    PADI_SENT = "PADI sent"
    PADR_SENT = "PADR sent"
    DONE = "done"


class DiscoverySettings(Struct, frozen=True):
    """What to ask for."""

    service: str = ""
    ac: AcFilter = AcFilter()
    line_id: LineId = LineId()
    max_payload: int = DEFAULT_MRU
    """Over 1492 asks for RFC 4638."""
    host_uniq: bytes = b""
    """Host-Uniq as the provider wants it, byte for byte; empty takes one of ours, new in each round."""
    pado_window: float = 0.0
    """Seconds to collect PADOs; 0 takes the first that fits and hasn't failed us, and so does a filter by MAC."""


class Offer(Struct, frozen=True):
    """One PADO that fits."""

    mac: bytes
    ac_name: str
    exact_service: bool
    """Whether it names the very service asked for; an empty wish is also met by any other."""
    echo: tuple[Tag, ...]
    """Cookie and relay id, to be copied into the PADR unmodified."""
    max_payload: int | None
    lacks: str
    """Which tag it should have and hasn't, in words; mostly empty."""

    @property
    def shown(self) -> str:
        """The concentrator for people: its name, or its MAC address where it has none."""
        return self.ac_name or format_mac(self.mac)


class Found(Struct, frozen=True):
    """An open PPPoE session."""

    session_id: int
    mac: bytes
    """The concentrator's."""
    ac_name: str
    max_payload: int
    """The largest PPP payload both sides agreed to carry: 1492, or more with RFC 4638."""
    lacks: str
    """See `Offer.lacks`."""


def _shown(name: str, mac: bytes) -> str:
    return f"{name} ({format_mac(mac)})" if name else format_mac(mac)


def _is_named(name: bytes, wanted: str) -> bool:
    """Whether an AC-Name is the one wanted, which may have been copied from a screen that shows no NUL and no blank."""
    return wanted.strip("\0 ") == name.decode("utf-8", "replace").strip("\0 ") or printable(name) == wanted


class Discovery:
    """One attempt to find a concentrator and open a session, without I/O."""

    def __init__(
        self,
        settings: DiscoverySettings,
        stem: bytes,
        failed: Mapping[bytes, float],
        entropy: Callable[[int], bytes],
        counters: Counter[str],
    ) -> None:
        self.stage = Stage.IDLE
        self.host_uniq = b""
        """The session's stem and what is new in each round, or what the settings say."""
        self.offers: list[Offer] = []
        self.chosen: Offer | None = None
        self._deadline: float | None = None
        self._result: Found | End | None = None
        self._out: list[tuple[bytes, PppoePacket]] = []
        self._settings = settings
        self._stem = stem
        self._failed = dict(failed)
        """When concentrators refused us, or were deaf to a PADR, by MAC address: the latest is the last choice."""
        self._entropy = entropy
        self._counters = counters
        self._tries = 0
        self._rounds = 0
        self._padis = 0
        self._started_at = 0.0
        self._refusal: End | None = None
        self._passed_over: list[str] = []
        """Concentrators whose offer can't be used, and why."""
        self._spoilt = ""
        """Why the PADS of the one that was chosen can't be used."""

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
            if packet.code == Code.PADO and self.stage is Stage.PADR_SENT:  # it can be asked next time
                self._keep(self._read_offer(source, packet, tags))
            self._counters[f"discarded: {Code(packet.code).name} out of state"] += 1

    def cannot_use(self, source: bytes, code: int, tags: tuple[Tag, ...], why: str) -> None:
        """An answer came that is malformed, or to what we didn't ask: whoever sent it is not silent."""
        if not self.awaits(code, source):
            return
        if code == Code.PADO:
            self._pass_over(source, pppoe.find(tags, TagType.AC_NAME) or b"", f"its PADO {why}")
        else:
            self._spoilt = why

    def awaits(self, code: int, source: bytes) -> bool:
        """Whether an answer of that code, from that MAC address, is one that this attempt could be waiting for."""
        if code == Code.PADO:
            return self.stage is Stage.PADI_SENT
        return self.stage is Stage.PADR_SENT and self.chosen is not None and self.chosen.mac == source

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
                what = f"its PADS {self._spoilt}" if self._spoilt else f"doesn't answer the PADR {self._asked()}"
                self._finish(End(EndKind.NO_ANSWER, f"{self.chosen.shown} made an offer but {what}."))

    def stop(self) -> None:
        """Give the attempt up without a result."""
        self.stage = Stage.DONE
        self._deadline = None

    # Steps

    def _begin_round(self, now: float) -> None:
        """From the start: broadcast, with a new Host-Uniq and no memory of earlier offers."""
        self._rounds += 1
        self.host_uniq = self._settings.host_uniq or self._stem + self._entropy(ROUND_SIZE)
        self.offers.clear()
        if self.chosen is not None:
            self._failed[self.chosen.mac] = now
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
        offer = self._keep(self._read_offer(source, packet, tags))
        if offer is None:
            return
        window = self._settings.pado_window if self._settings.ac.mac is None else 0.0
        if window <= 0 and offer.mac not in self._failed:
            self._request(offer, now)
        elif len(self.offers) == 1:
            self._deadline = now + (window or SECOND_CHOICE)

    def _keep(self, offer: Offer | None) -> Offer | None:
        """Remember an offer, if it is a new one, and there is room."""
        if offer is None:
            return None
        known = any((offer.mac, offer.ac_name) == (other.mac, other.ac_name) for other in self.offers)
        if known or len(self.offers) == MAX_OFFERS:
            self._counters["discarded: surplus PADO"] += 1
            return None
        self.offers.append(offer)
        return offer

    def _read_offer(self, source: bytes, packet: PppoePacket, tags: tuple[Tag, ...]) -> Offer | None:
        """The offer, if it is one that we want and can use (RFC 2516 section 5.2).

        An offer must name the concentrator and a service. Those that leave one out mean it well, and are taken.
        """
        name = pppoe.find(tags, TagType.AC_NAME) or b""
        ac = self._settings.ac
        if (ac.name is not None and name and not _is_named(name, ac.name)) or (ac.mac is not None and source != ac.mac):
            self._pass_over(source, name)
            return None
        error = pppoe.error_text(tags)
        if error is not None:
            self._refusal = refusal(error, "PADO")
            return None
        if packet.session_id != 0:
            self._pass_over(source, name, "its PADO has a session id")
            return None
        services = tuple(tag.value for tag in tags if tag.type == TagType.SERVICE_NAME)
        wanted = self._settings.service.encode()
        if wanted and services and wanted not in services:
            offered = ", ".join(f'"{printable(service)}"' for service in services[:3])
            self._pass_over(source, name, f'without the service "{self._settings.service}", but {offered}')
            return None
        echo = tuple(tag for tag in tags if tag.type in ECHOED)
        if len(pppoe.encode_tags((*self._own_tags(), *echo))) > MAX_DISCOVERY_PAYLOAD:
            self._pass_over(source, name, "its PADO is too long to answer")
            return None
        missing = [] if name else ["AC-Name"]
        missing += [] if services else ["Service-Name"]
        return Offer(
            source, printable(name), wanted in services, echo, pppoe.max_payload(tags), " and no ".join(missing)
        )

    def _pass_over(self, source: bytes, name: bytes, why: str = "") -> None:
        """Remember a concentrator whose offer can't be used: the operator may have misspelt what is wanted."""
        told = _shown(printable(name), source) + (f", {why}" if why else "")
        if told not in self._passed_over:
            self._passed_over = [*self._passed_over, told][-4:]
        self._counters["discarded: PADO that can't be used"] += 1

    def _best_offer(self) -> Offer:
        """One that hasn't failed us or did so longest ago, exactly the service, then the payload; else the first."""
        wanted = self._settings.max_payload

        def rank(offer: Offer) -> tuple[float, bool, bool]:
            enough = wanted > DEFAULT_MRU and (offer.max_payload or 0) >= wanted
            return -self._failed.get(offer.mac, -inf), offer.exact_service, enough

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
            # A refusal should say why in an error tag; without one it is a refusal all the same.
            told = f"its PADS has session id {packet.session_id:#x}, and no reason"
            self._finish(End(EndKind.REFUSED, f"{self.chosen.shown} refused the session: {told}."))
            return
        # More than 1492 only if both PADO and PADS carry the tag (RFC 4638 section 4).
        payload = DEFAULT_MRU
        granted = pppoe.max_payload(tags)
        if self._settings.max_payload > DEFAULT_MRU and self.chosen.max_payload is not None and granted is not None:
            payload = max(
                DEFAULT_MRU,
                min(self._settings.max_payload, self.chosen.max_payload, granted),
            )
        self._finish(Found(packet.session_id, source, self.chosen.ac_name, payload, self.chosen.lacks))

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
        if self._passed_over:
            others = "; ".join(self._passed_over)
            return End(EndKind.NONE_WANTED, f"No wanted concentrator answered {waited}; others did: {others}.")
        return End(
            EndKind.NO_CONCENTRATOR,
            f"No answer to {waited}. Is the modem in bridge mode?",
        )

    def _asked(self) -> str:
        """What the PADR asks for, in words."""
        service, host_uniq = self._settings.service, self._settings.host_uniq
        what = f'for the service "{service}"' if service else "for any service"
        return f"{what}, with the Host-Uniq 0x{host_uniq.hex()}" if host_uniq else what

    def _finish(self, result: Found | End) -> None:
        chosen = self.chosen
        if isinstance(result, End) and chosen is not None and any(each.mac != chosen.mac for each in self.offers):
            result = replace(result, text=f"{result.text} Another concentrator on this line is asked first next time.")
        self._result = result
        self.stop()
