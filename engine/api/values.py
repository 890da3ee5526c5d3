"""What a console may know of an engine: immutable values.

All times are Unix times, taken from one clock that the engine sets at its start and that goes on evenly whatever
becomes of the host's: the time from one to another is right, and `Snapshot.at` is now. A reader needs no clock.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from enum import IntEnum, StrEnum
from itertools import takewhile

from msgspec import Struct

from engine.api.ending import EndKind
from engine.wire.value import Likened


class SessionState(StrEnum):
    """What a session is doing, in the words the operator sees."""

    DOWN = "down"
    DIALLING = "dialling"
    NEGOTIATING = "negotiating"
    AUTHENTICATING = "authenticating"
    GETTING_ADDRESS = "getting address"
    UP = "up"
    HANGING_UP = "hanging up"
    FAILED = "failed"


class SessionView(Likened, frozen=True):
    """One session as it stands. A new object is made only when something in it changes; traffic is in `Snapshot`."""

    APART = ("version",)

    id: int
    """Its key: stays with the session as long as that is there; also its index into `Snapshot.traffic`."""
    name: str
    user: str
    service: str
    autodial: bool
    state: SessionState
    since: float
    """When this state was entered."""
    reason: str = ""
    """Why the session is down or failed: a few words, no full stop."""
    retry_at: float | None = None
    """When it is dialled again, if it is."""
    ipv4: str | None = None
    ipv4_peer: str | None = None
    dns: tuple[str, ...] = ()
    ipv6: str | None = None
    """The link-local address agreed by IPv6CP."""
    ipv6_addresses: tuple[str, ...] = ()
    """Its global addresses, with which programs speak IPv6."""
    ipv6_prefixes: tuple[str, ...] = ()
    """Networks delegated to it (RFC 8415), as in `2001:db8:77::/56`."""
    egress: str = "device"
    """Where its packets go on this host, as it was dialled: `device`, `stack` in user space, or `none` for nowhere."""
    device: str | None = None
    datapath: str | None = None
    """What carries its packets: `afxdp` or `kernel`."""
    session_id: int | None = None
    ac_name: str | None = None
    ac_mac: str | None = None
    local_mac: str | None = None
    vlans: tuple[int, ...] = ()
    """VLAN ids, outer first."""
    mtu: int | None = None
    setup_ms: float | None = None
    """From the first PADI to the address."""
    up_since: float | None = None
    rtt_ms: float | None = None
    """Of the latest Echo-Reply, unless an answer is late."""
    silent_since: float | None = None
    """Since when Echo-Requests have gone unanswered, if the answer is late."""
    flaps: int = 0
    """How often it was lost while it was up, hang-ups by the operator and addresses given back not counted."""
    capturing: bool = False
    queued: bool = False
    """It is down or failed, and will be dialled as soon as the pace of dials lets it."""
    draining: bool = False
    """It is up and about to be dialled for another address: what is running may end, nothing new should begin."""
    netns: str | None = None
    """The network namespace that its device is in, where that is not the host's."""
    mark: int | None = None
    """What bears it leaves by this session."""
    tags: tuple[str, ...] = ()
    """Words that name sessions together."""
    proxy: str | None = None
    """Address and port of its own proxy, as in `127.0.0.1:20001`, where that listens."""
    connections: int = 0
    """Proxied ones that are open."""
    counted: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Added to its numbers in `Snapshot.traffic` they are what it has carried since `counted_since`."""
    counted_since: float | None = None
    """When the operator last had it count from nothing, or when it was added; over redials and restarts."""
    version: int = 0
    """That of the engine's board when this came to be: later views have higher ones."""

    @property
    def ipv6_prefix(self) -> str | None:
        """The first delegated prefix."""
        return self.ipv6_prefixes[0] if self.ipv6_prefixes else None

    @property
    def engine(self) -> str:
        """What its engine is called, where a console looks at several."""
        return ""


TRAFFIC_FIELDS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
"""The numbers `Snapshot.traffic` holds for each session, in this order; bytes are IP bytes, rx is towards this host."""
_NUMBER = 8
"""Octets of each of them."""


def pack_traffic(numbers: array[int]) -> bytes:
    """Numbers of type `Q` as `Snapshot.traffic` holds them."""
    return _little_endian(numbers).tobytes()


def unpack_traffic(octets: bytes) -> array[int]:
    """The reverse, as type `Q`; what is no whole session's at the end is left out."""
    numbers = array("Q")
    numbers.frombytes(memoryview(octets)[: len(octets) - len(octets) % (_NUMBER * len(TRAFFIC_FIELDS))])
    return _little_endian(numbers)


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers


class QueueView(Struct, frozen=True):
    """One queue of the card; all numbers count from the engine's start."""

    index: int
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    drops: tuple[tuple[str, int], ...] = ()
    """Frames lost, by reason; only the reasons that occurred."""
    redirected: int = 0
    """Frames the XDP program handed to the engine."""
    passed: int = 0
    """Frames it left to the kernel."""
    failed: int = 0
    """Frames it wanted to hand over but could not."""
    rx_ring_fill: float = 0.0
    """0.0 to 1.0."""
    tx_ring_fill: float = 0.0
    cpu: float = 0.0
    """CPU seconds used by the queue's thread."""


class ReceiveRules(StrEnum):
    """Whether a card can be told which frames go to which queue (`ethtool -N`)."""

    NONE = "none"
    """Its driver takes no rules."""
    OFF = "off"
    """It does, once they are switched on (`ethtool -K … ntuple on`)."""
    ON = "on"


class CardView(Struct, frozen=True):
    """The card the engine works on."""

    name: str
    mac: str
    mtu: int
    up: bool
    mode: str = ""
    """`native` or `generic`: where the XDP program runs."""
    zero_copy: bool = False
    driver: str = ""
    lab: bool = False
    receive_rules: ReceiveRules = ReceiveRules.NONE
    notice: str = ""
    """One line about the card that the operator should know, or empty."""
    waits: bool = False
    """Whether it is ours, and nothing can be sent before it has a carrier."""
    strips: bool = False
    """Whether it may take VLAN tags off before they can be seen."""
    fixes: str = ""
    """What keeps XDP out of its driver and can be switched off (`commands.FixCard`), as ethtool calls it."""


class Halt(StrEnum):
    """What an operator has stopped for all sessions, until told otherwise."""

    NOTHING = "nothing"
    REDIALS = "redials"
    """Nobody is dialled again by itself."""
    ALL = "all"
    """All sessions are ended, and nobody is dialled."""


class Halted(Struct, frozen=True):
    """What is stopped at present."""

    what: Halt = Halt.NOTHING
    since: float | None = None
    by: str = ""
    """Who did, where that was somebody at the engine's socket."""


class UndoStep(Struct, frozen=True):
    """A command that can be taken back."""

    number: int
    """1, 2, 3 …"""
    at: float
    by: str
    """Who gave it, where that was somebody at the engine's socket."""
    what: str
    """Its words, as in `Hang up`."""
    sessions: int
    """How many it was done to."""
    name: str = ""
    """The session's, of only one."""


class Totals(Struct, frozen=True):
    """What has happened since the engine's start, in numbers that never go back; only the reasons that occurred."""

    dials: int = 0
    """Attempts to open a session."""
    setups: int = 0
    """Those that came to an address."""
    setup_seconds: float = 0.0
    """Seconds that these took together, from the first PADI to the address."""
    failures: tuple[tuple[EndKind, int], ...] = ()
    """Attempts that ended before there was an address, by why they did."""
    ends: tuple[tuple[EndKind, int], ...] = ()
    """Ends of sessions that had one."""
    events: tuple[tuple[Severity, int], ...] = ()


class Snapshot(Struct, frozen=True):
    """Everything at one moment."""

    at: float
    card: CardView
    queues: tuple[QueueView, ...]
    sessions: tuple[SessionView, ...]
    """In the order they were added."""
    traffic: bytes
    """For the session with id n, `TRAFFIC_FIELDS` stand at n*4 … n*4+3 (`unpack_traffic`); they never go back.

    8 octets each, least significant first: 10,000 sessions are 320 KB twice a second, too much to make objects of.
    """
    events: int
    """The sequence number of the latest event."""
    try_line: str = ""
    """A command line that uses a session, ready to paste; empty when no session is up."""
    totals: Totals = Totals()
    halted: Halted = Halted()
    steps: tuple[UndoStep, ...] = ()
    """What can be taken back, the latest last."""
    pace: int = 0
    """Sessions that may be on their way up at once, as things stand: it follows what is answered."""


class Changes(Struct, frozen=True):
    """What became of the sessions since a version."""

    version: int
    """Ask for what comes after this one next time."""
    views: tuple[SessionView, ...]
    """New and changed ones, in the order in which they were added; all of them where `whole`."""
    removed: tuple[int, ...] = ()
    whole: bool = False
    """Whatever a reader knew before is to be forgotten: too much happened in between."""


class Severity(IntEnum):
    """How much an event matters."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Event(Struct, frozen=True):
    """Something that happened, in an operator's words."""

    seq: int
    """1, 2, 3 …"""
    at: float
    severity: Severity
    kind: str
    """A machine's word for it, as in `session-up`."""
    text: str
    """One line, full sentences."""
    session: int | None = None
    name: str = ""
    """The session's name, where it is about one."""
    facts: tuple[tuple[str, str | int | float], ...] = ()
    """What scripts need not read from the text: `FACTS`, those that it tells."""

    @property
    def engine(self) -> str:
        """What the engine is called that tells it, where a console looks at several."""
        return ""


FACTS = (
    *("session_id", "ac_name", "ac_mac", "method", "address", "dns", "ipv6", "ipv6_addresses", "ipv6_prefixes"),
    *("mtu", "reason", "retry_at", "by", "done", "refused"),
)
"""Lists have blanks between; `reason` is an `EndKind` as a word, `retry_at` a Unix time."""
COMMAND = "command"
"""The kind of those events that tell of commands; they are kept apart, so that no flood of others takes them."""
KEPT_EVENTS = 5000
"""How many of the latest events there are to be read."""


def after(events: deque[Event], seq: int) -> tuple[list[Event], int]:
    """Of the events kept, oldest first, those after number `seq`, and how many of those are not there any more.

    Numbers may be left out where events were lost.
    """
    new = list(takewhile(lambda event: event.seq > seq, reversed(events)))[::-1]
    return new, new[-1].seq - seq - len(new) if new else 0


class LadderEntry(Struct, frozen=True):
    """One control frame of a session."""

    at: float
    sent: bool
    summary: str
    """One line, as in `LCP Configure-Request  id 1  MRU 1492, magic 0xaafc326c`."""
    fields: tuple[tuple[str, str], ...]
    """All fields, by name; secrets are left out."""


class Fact(Struct, frozen=True):
    """One negotiated value: what we asked for, what the peer offered, what both agreed to, what was refused."""

    name: str
    asked: str = ""
    offered: str = ""
    agreed: str = ""
    refused: str = ""


class Step(Struct, frozen=True):
    """One step of a session's set-up; `took_ms` is None while it is under way."""

    name: str
    took_ms: float | None


class Connection(Struct, frozen=True):
    """One that goes through a session's proxy or the pool."""

    since: float
    source: str
    """The client's address and port."""
    target: str
    """Host and port, as the client named them."""
    how: str
    """`socks4`, `socks5`, `udp`, `connect` or `http`; `forward` for what came in by `forwards:`."""
    user: str = ""
    up: int = 0
    """Octets to the line so far."""
    down: int = 0


class Talker(Struct, frozen=True):
    """A host with which much was talked through a session's proxy or the pool."""

    host: str
    """As the clients named it."""
    connections: int
    up: int
    """Octets to it."""
    down: int


class AddressSpan(Struct, frozen=True):
    """An address or a prefix that a session had, and when."""

    address: str
    since: float
    until: float | None = None
    """None while it has it, and where that isn't known."""
    known: bool = True
    """Whether it is known when that ended; it isn't where the engine was killed meanwhile."""


class BusyMonth(Struct, frozen=True):
    """How busy a session was in the samples of a month, each of 5 minutes while the engine ran."""

    month: str
    """Of UTC, as in `2026-11`."""
    samples: int
    rx: float
    """The 95th percentile in bits per second: in so many of a hundred samples it was no faster. To 1 %."""
    tx: float


ALL = -1
"""The key of all sessions together, where queues have their numbers."""


class Hour(Struct, frozen=True):
    """What was carried in the last hour: bits per second over each step, oldest first; at most an hour's steps."""

    until: float = 0.0
    """When the latest step ended."""
    step: float = 0.0
    """Seconds."""
    rx: tuple[int, ...] = ()
    tx: tuple[int, ...] = ()


class Ledger(Struct, frozen=True):
    """What is remembered of a session over all its dials, and over the engine's restarts."""

    addresses: tuple[AddressSpan, ...] = ()
    """Oldest first; only the latest ones are kept."""
    proxied: tuple[int, int, int] = (0, 0, 0)
    """Through its proxy and the pool, since `SessionView.counted_since`: connections, octets from the line, to it."""
    months: tuple[BusyMonth, ...] = ()
    """The month before, and this one."""


class Details(Struct, frozen=True):
    """One session at full length."""

    id: int
    facts: tuple[Fact, ...] = ()
    steps: tuple[Step, ...] = ()
    ladder: tuple[LadderEntry, ...] = ()
    """Oldest first; only the latest ones are kept."""
    counters: tuple[tuple[str, int], ...] = ()
    """Control frames that were not heeded, by reason, since the session was added, and packets that its own addresses
    had nothing to do with, since the card was taken last."""
    timers: tuple[tuple[str, float], ...] = ()
    """Running timers: name and when they end."""
    usage: tuple[tuple[str, str], ...] = ()
    """What for, and the command line for it."""
    connections: tuple[Connection, ...] = ()
    """Proxied ones that are open, oldest first; at most `SHOWN_CONNECTIONS`."""
    talkers: tuple[Talker, ...] = ()
    """The busiest hosts of its proxied connections since the proxies' process was started, at most ten. What is routed
    through its device is not taken apart."""
    ledger: Ledger = Ledger()
    """With the latest addresses only."""
    hour: Hour = Hour()


SHOWN_CONNECTIONS = 200
