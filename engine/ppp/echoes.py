"""The echoes of one link: keepalives, answers to the peer's, and a check that full-size packets get through.

RFC 1661 section 5.8, and for the check RFC 4638 section 5.2.
"""

from __future__ import annotations

from collections import Counter
from math import floor

from engine.ppp.automaton import State
from engine.ppp.lcp import LcpOptions
from engine.ppp.link_events import LinkEvent, MtuVerified, Notice, RoundTrip, Silence
from engine.ppp.negotiator import NEVER, Discard, Negotiator
from engine.settings.values import DEFAULT_MRU, KeepaliveSettings
from engine.wire import ppp
from engine.wire.control import Code, ControlPacket
from engine.wire.ppp import Protocol

PROBE_TRIES = 3
PROBE_WAIT = 1.0
"""Seconds between full-size Echo-Requests (RFC 4638 section 5.2)."""
HEADER = 4
"""Octets of an echo packet before its magic number."""
BEAT = 1 / 8
"""Seconds: Echo-Requests go out on the beat, those of thousands of links many at a time, as each wake-up has its price:
what a sleeping processor has forgotten by then. A power of two, so that every beat is an exact number."""
SHORT = 64
"""Octets of a PPP packet with an echo that is a keepalive, and not large to try the path."""
LATE = 3.0
"""Seconds after which an Echo-Request that has no answer is told as that."""
REMEMBERED = 60.0
"""Seconds for which a reply is still taken for one."""
_REPLY = ppp.encode(Protocol.LCP, bytes((Code.ECHO_REPLY,)))


def _on_the_beat(now: float, wait: float) -> float:
    """The beat nearest to the end of that wait, and later than now: who is asked a moment late isn't always later."""
    return max(floor((now + wait) / BEAT + 0.5), floor(now / BEAT) + 1) * BEAT


class Echoes:
    """Those of one link, from when LCP is open."""

    __slots__ = (
        "_asked_at",
        "_counters",
        "_events",
        "_keepalive",
        "_late_at",
        "_lcp",
        "_loop_noticed",
        "_misses",
        "_options",
        "_out",
        "_probe_ids",
        "_probes",
        "_sent",
        "at",
        "magic",
        "path_mtu",
        "probe_at",
        "rtt",
        "silent_since",
    )

    def __init__(
        self,
        lcp: Negotiator,
        options: LcpOptions,
        keepalive: KeepaliveSettings,
        out: list[tuple[int, ControlPacket]],
        events: list[LinkEvent],
        counters: Counter[str],
    ) -> None:
        """What is to be sent is appended to `out`, with its protocol's number, and what happened to `events`."""
        self.rtt: float | None = None
        """Seconds between an Echo-Request and its reply, of the latest pair; None before the first."""
        self.silent_since: float | None = None
        """When the first of the Echo-Requests was sent that the peer owes an answer to, if it is late."""
        self.at = self.probe_at = NEVER
        """When the next keepalive is due, and the next try of a full-size packet."""
        self.path_mtu = DEFAULT_MRU
        """The longest packet that has come through, or that every Ethernet carries."""
        self.magic = b""
        """Our number in short echoes, as of the network phase: it is of the negotiation before."""
        self._lcp = lcp
        self._options = options
        self._keepalive = keepalive
        self._out = out
        self._events = events
        self._counters = counters
        self._misses = 0
        self._asked_at = 0.0
        self._late_at = NEVER
        self._sent: dict[int, tuple[float, int]] = {}
        """When, and of how many octets, by identifier."""
        self._loop_noticed = False
        self._probes = 0
        self._probe_ids: set[int] = set()
        lcp.extensions |= {Code.ECHO_REQUEST: self._request, Code.ECHO_REPLY: self._reply}

    # What the link does

    def begin(self, now: float) -> None:
        """LCP is open."""
        self.hear()
        self._sent.clear()
        self._loop_noticed = False
        if self._keepalive.interval > 0:
            self.at = _on_the_beat(now, self._keepalive.interval)
        if self.full_size > DEFAULT_MRU:
            self._probes = 0
            self._probe_ids.clear()
            self.probe_at = now

    def resume(self, path_mtu: int, rtt: float | None, chance: float, now: float) -> None:
        """It has been open for long: the first keepalive is due within an interval, by `chance` from 0 to 1."""
        self.probe_at = NEVER
        self.path_mtu, self.rtt = path_mtu, rtt
        if self.at != NEVER:
            self.at = _on_the_beat(now, self._keepalive.interval * chance)

    def end(self) -> None:
        """LCP is not open any more."""
        self.at = self.probe_at = self._late_at = NEVER

    def hear(self) -> bool:
        """The peer has been heard; returns whether that was news."""
        self._misses = 0
        self._late_at = NEVER
        if self.silent_since is None:
            return False
        self.silent_since = None
        self._events.append(Silence(None))
        return True

    @property
    def full_size(self) -> int:
        """Octets of the longest packet that both sides take."""
        return min(self._options.mru, self._options.peer_mru)

    @property
    def mtu(self) -> int:
        """See `Link.mtu`."""
        return min(self._options.wishes.mru, self.full_size, self.path_mtu)

    # Keepalives

    def next_timer(self) -> float:
        """When `handle_timer` is to be called next, NEVER for not at all."""
        return self.at if self.at < self._late_at else self._late_at

    def handle_timer(self, now: float) -> str:
        """Do what is due by now; returns why the peer is given up, mostly nothing."""
        if now >= self._late_at:
            self._late_at = NEVER
            self.silent_since = self._asked_at
            self._events.append(Silence(self._asked_at))
        return self._keep_alive(now) if now >= self.at else ""

    def ask(self, now: float) -> str:
        """Send the next keepalive now, if there is one to come; returns the same."""
        if not now < self.at != NEVER:
            return ""
        self.at = now
        return self._keep_alive(now)

    def _keep_alive(self, now: float) -> str:
        was_there = self.at == NEVER or now - self.at < LATE  # a stopped process can't have heard an answer
        if self._misses >= self._keepalive.failures and was_there:
            self.at = NEVER
            waited = self._keepalive.failures * self._keepalive.interval
            return f"No answer to {self._keepalive.failures} Echo-Requests in {waited:.0f} s."
        self._misses += 1
        if self._misses == 1:
            self._asked_at, self._late_at = now, now + LATE
        if self._sent:
            self._sent = {k: (at, size) for k, (at, size) in self._sent.items() if now - at < REMEMBERED}
        self._ask(b"", now)
        self.at = _on_the_beat(now, self._keepalive.interval)
        return ""

    def _ask(self, padding: bytes, now: float) -> int:
        """Send an Echo-Request; returns its identifier."""
        data = self._options.magic + padding
        identifier = self._lcp.next_identifier()
        self._out.append((Protocol.LCP, ControlPacket(Code.ECHO_REQUEST, identifier, data)))
        self._sent[identifier] = now, len(data) + HEADER
        return identifier

    # The check of the path

    def ask_full_size(self, now: float) -> int:
        """Send a full-size Echo-Request; returns its identifier."""
        return self._ask(bytes(self.full_size - HEADER - len(self._options.magic)), now)

    def probe(self, now: float) -> None:
        """Ask for a full-size echo, or settle for what every Ethernet carries."""
        if self._probes == PROBE_TRIES:
            self.probe_at = NEVER
            self._events.append(Notice(f"Packets of {self.full_size} octets don't get through; using {self.mtu}."))
            self._events.append(MtuVerified(self.mtu))
            return
        self._probes += 1
        self._probe_ids.add(self.ask_full_size(now))
        self.probe_at = now + PROBE_WAIT

    # The peer's

    def receive_short(self, packet: bytes, now: float) -> RoundTrip | bytes | None:
        """Handle a PPP packet that begins as an LCP echo, if it is a short one that means what it says.

        Links that are up hear little else, so nothing is asked here that is settled in the network phase, where LCP is
        open. Gives what a reply tells, or the reply to a request; None where all of LCP has to look at it.
        """
        length = packet[4] << 8 | packet[5] if len(packet) > 5 else 0
        is_plain = HEADER + len(self.magic) <= length <= len(packet) - 2 <= SHORT
        if not is_plain or self.silent_since is not None or packet[6:10] == self.magic:  # our own number, or none
            return None
        told: RoundTrip | bytes
        if packet[2] == Code.ECHO_REQUEST:
            told = _REPLY + packet[3:6] + self.magic + packet[10 : length + 2]
        elif (sent := self._sent.pop(packet[3], None)) is not None:
            at, asked = sent
            self.rtt = now - at
            told = RoundTrip(self.rtt, asked, length)
        else:
            return None
        self._misses = 0
        self._late_at = NEVER
        return told

    def _request(self, packet: ControlPacket, now: float) -> None:
        """Answered only while LCP is open, with our own magic number (RFC 1661 section 5.8)."""
        if self._lcp.state is not State.OPENED:
            raise Discard("Echo-Request while LCP is not open")
        if self._is_own_magic(packet.data[:4]):
            if not self._loop_noticed:
                self._loop_noticed = True
                self._events.append(Notice("An Echo-Request carries our own magic number: the line is looped back."))
            raise Discard("looped back")
        data = self._options.magic + packet.data[4:]
        room = self._options.peer_mru - HEADER
        self._out.append((Protocol.LCP, ControlPacket(Code.ECHO_REPLY, packet.identifier, data[:room])))

    def _reply(self, packet: ControlPacket, now: float) -> None:
        """A sign of life, a round-trip time, and of a full-size echo a proof of the path (RFC 1661 section 5.8)."""
        if self._lcp.state is not State.OPENED:
            raise Discard("Echo-Reply while LCP is not open")
        # Our own number in it is no loop: LCP has found another one there. It is a request sent back as it was.
        if self._is_own_magic(packet.data[:4]):
            self._counters["Echo-Replies with our own magic number"] += 1
        self.hear()  # whatever it answers
        sent = self._sent.pop(packet.identifier, None)
        if sent is None:
            raise Discard("Echo-Reply to nothing we sent")
        at, asked = sent
        answered = len(packet.data) + HEADER
        self.rtt = now - at
        self._events.append(RoundTrip(self.rtt, asked, answered))
        probing = self.probe_at != NEVER and packet.identifier in self._probe_ids
        if probing and answered == self.full_size:
            self.probe_at = NEVER
            self.path_mtu = self.full_size
            self._events.append(MtuVerified(self.mtu))

    def _is_own_magic(self, magic: bytes) -> bool:
        return any(magic) and magic == self._options.magic
