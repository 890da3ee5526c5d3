"""All sessions of one card, without I/O: who gets which frame, who is dialled when.

A `Fleet` gives each frame to the one session it is for, runs every session's timers, paces dialling over all of them
(a rate, and a bound on how many may be on their way at once) and dials again what ended. No session waits for
another one's answer: a dead one only counts among the outstanding dials until its own timers end it, or until others
that were dialled later are let in. And while nobody is let in, the first one that is tells the others that asked in
vain meanwhile: they are dialled without waiting any longer.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import islice

from msgspec import Struct

from engine.api.ending import WISHED, End, EndKind
from engine.api.values import Halt, SessionState
from engine.host.errors import Trouble
from engine.ipv6.host import Ipv6Configured
from engine.ppp.judge import Address
from engine.ppp.link_events import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, RoundTrip
from engine.pppoe.client import PADI_TIMEOUTS, ROUND_SIZE, STEM_SIZE
from engine.sessions import obstacle, policy
from engine.sessions.alarms import Alarms
from engine.sessions.obstacle import SOON, Obstacle, Obstacles
from engine.sessions.pace import Pace
from engine.sessions.policy import Claim, InUse, WayTo, Whose
from engine.sessions.proofs import Proofs
from engine.sessions.redial import is_failure, is_loss, pause
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.sessions.settled import KeptMember
from engine.sessions.states import IDLE, ON_THE_WAY, SETTING_UP
from engine.settings.values import DialSettings
from engine.wire import ethernet, pppoe
from engine.wire.errors import WireError
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame
from engine.wire.place import Place
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

BY_YOU = End(EndKind.HUNG_UP, "Hung up by you.")
ALL_STOPPED = End(EndKind.ALL_STOPPED, "Hung up: all sessions were stopped.")
SHARE = 32
"""Sessions that something is done to in one go, so that whoever waits behind it waits for milliseconds only."""
DIALS = 8
"""Of these that are dialled in one go."""
STOOD_STILL = 2.0
"""Seconds without any call while something was due, after which the process must have been stopped."""
GRACE = 0.5
"""Seconds to hear what has come meanwhile, before anyone is judged by what is due."""
PASSED = 3.0
"""Seconds without an answer, two PADIs, after which a dial holds up nobody, if one that began later was let in."""
ASKING = sum(PADI_TIMEOUTS[:-1])
"""Seconds from the first PADI of a dial to its last."""
EARLY = 0.25
"""Seconds that a frame may come before the PADS that opens its session: each may have a queue of its own."""
MANY_EARLY = 256
"""Such frames that are kept."""
Match = tuple[bytes, bytes, tuple[int, ...], int]
"""Own MAC, concentrator's MAC, VLAN ids, session id: what a session frame is matched by, whatever its priority."""


Spot = tuple[bytes, tuple[int, ...]]
"""Own MAC and VLAN ids: all that tells sessions apart by a frame of discovery without a Host-Uniq."""


def _match(outer: EthernetFrame, packet: PppoePacket) -> Match:
    return outer.dst, outer.src, ethernet.vlan_ids(outer.vlans), packet.session_id


_HOST_UNIQ = pppoe.encode_tags([Tag(TagType.HOST_UNIQ, bytes(STEM_SIZE + ROUND_SIZE))])[: -(STEM_SIZE + ROUND_SIZE)]
"""How the tag begins in every answer to one of ours: type and length."""


class Member(Struct):
    """A session and what the fleet knows of it."""

    session: Session
    wanted: bool = False
    """Whether it is to be up: dialled again when it ends."""
    redial_at: float | None = None
    """When it is put in the queue again, None if that is not planned."""
    asked: bool = False
    """Whether the dial that it waits for is the operator's wish, and not only one more after an end."""
    waits: bool = False
    """It is dialled as soon as that is no longer stopped."""
    redial_now: bool = False
    """Dial again as soon as the hang-up that is under way has finished."""
    dialled_at: float = -math.inf
    """When it was dialled last."""
    failures: int = 0
    """Failures since it was last stable: see `engine.sessions.redial.is_failure`."""
    unheard: bool = False
    """Whether no concentrator answered when it failed last."""
    losses: int = 0
    """How often the other side took it away while it was up, since then."""
    flaps: int = 0
    """How often it was up and then ended without our wish, ever."""
    up_since: float | None = None
    state: SessionState = SessionState.DOWN
    """The latest that it told of."""
    since: float = 0.0
    """When it entered the state it is in."""
    reason: str = ""
    """Why it is in that state, if there is something to say."""
    match: Match | None = None
    left: Match | None = None
    """The same of its latest session that is over."""
    asks_from: Spot | None = None
    """Where it asks from while it is in discovery."""


class Fleet:
    """All sessions of one card."""

    def __init__(
        self,
        dial: DialSettings,
        chance: Callable[[], float],
        obstacles: Obstacles = obstacle.none,
        way_to: WayTo = policy.nowhere,
        proofs: Proofs | None = None,
        claim: Claim = lambda _: "",
    ) -> None:
        """`chance` gives a number from 0 to 1; `obstacles` is asked right before each dial.

        `way_to` says how the host itself reaches an address, which decides whether a session may have it. `proofs` is
        what is known of concentrators' authentication. `claim` says what of the host's speaks against a delegated
        network.
        """
        self.members: dict[int, Member] = {}
        self.counters: Counter[str] = Counter()
        """Frames for no session, by reason."""
        self._dial = dial
        self._chance = chance
        self._obstacles = obstacles
        self._way_to = way_to
        self._claim = claim
        self._proofs = proofs or Proofs()
        self._in_use = InUse()
        self._held = False
        self._line = True
        """Whether anything can be sent; without it nobody is dialled either."""
        self.halt = Halt.NOTHING
        """What is stopped for all of them, see `stop_all`."""
        self._by_match: dict[Match, int] = {}
        self._by_header: dict[bytes, int] = {}
        """The same of those without VLAN tags, by what their frames begin with: these need not be taken apart."""
        self._parting: dict[Match, int] = {}
        """Members that no frame matches any more, and whose farewell has not gone out yet."""
        self._left: dict[Match, int] = {}
        """Members whose latest session was there and is over: its PADT may be sent when the line is back only."""
        self._by_stem: dict[bytes, int] = {}
        """By the stem of a session's Host-Uniq."""
        self._called_at: float | None = None
        self._grace_until: float | None = None
        self._stood_still = 0.0
        self._early: deque[tuple[float, Match, bytes]] = deque()
        """Frames that came before their PADS, if there is one to come, and until when they are kept."""
        self._asking: dict[Spot, dict[int, None]] = {}
        """Members in discovery by where they ask from, in the order in which they began."""
        self._unasked: set[tuple[Spot, bytes]] = set()
        """Where nobody waits for a PADS, and from whom, as far as that was looked for since anybody in discovery moved:
        to look anew for each frame of a storm would cost as much as there are dials on their way."""
        self._alarms = Alarms(self._due)
        self.newly_queued: set[int] = set()
        """Those that began to wait for their dial, or for that dialling goes on; whoever shows that takes them out."""
        self._queue: OrderedDict[int, None] = OrderedDict()
        self._retries: OrderedDict[int, None] = OrderedDict()
        """Those whose last dial failed. A quarter of `max_outstanding` is not for them, so that others needn't wait."""
        self._outstanding: set[int] = set()
        """Those on their way that count."""
        self._looking: dict[int, None] = {}
        """Those of them that look for a concentrator, the earliest first."""
        self._found_at = -math.inf
        """When a concentrator last let one in."""
        self._silence = -math.inf, -math.inf
        """The latest time in which it let nobody in for longer than a session asks: from when, and until when."""
        self._let_in_from = -math.inf
        """The latest that one of those that were let in was dialled."""
        self._in_vain: dict[int, None] = {}
        """Those that pause because no concentrator answered, when nobody was let in while they asked."""
        self._next_dial = 0.0
        self.pace = Pace()
        self._talking: dict[int, None] = {}
        """Members that may have frames to send. They keep them until asked, so that a PADT can still take them back."""
        self._out: list[bytes] = []
        """What members that are gone had to send."""
        self._events: deque[tuple[int, SessionEvent]] = deque()
        self._happened = 0

    # Members and wishes

    def add(self, key: int, session: Session, now: float) -> None:
        """Take a session in, down, under a key that no other has."""
        self.members[key] = Member(session, since=now)
        session.judge = policy.Judge(self._way_to, partial(self._holder, key), partial(self._claims, key))
        session.proofs = self._proofs
        self._by_stem[session.stem] = key

    def remove(self, key: int, now: float) -> None:
        """End a session at once, with a PADT only, and forget it. What it has to send and tell comes all the same."""
        member = self.members[key]
        member.wanted = False
        self._unqueue(key, member)
        member.session.stop(now, End(EndKind.HUNG_UP, "Removed."))
        self._after(key, member, now)
        self._collect(member.session)
        self._talking.pop(key, None)
        self._parting = {match: who for match, who in self._parting.items() if who != key}
        self._forget_left(key, member)
        del self._by_stem[member.session.stem]
        del self.members[key]
        self._in_vain.pop(key, None)
        self._alarms.arm(key)

    def _holder(self, key: int, address: Address, whose: Whose) -> str:
        """The name of another session that has an address, or an empty one."""
        holder = self._in_use.holder(address, whose, key)
        return self.members[holder].session.settings.name if holder is not None else ""

    def _claims(self, key: int, network: IPv6Network) -> str:
        """What speaks against a network that is delegated to a session: another session's, or something of the host."""
        holder = self._in_use.has_delegated(network, key)
        if holder is not None:
            return f"has something of session {self.members[holder].session.settings.name}"
        return self._claim(network)

    def dial(self, key: int, now: float) -> None:
        """Bring a session up, and keep it up, as the operator wishes."""
        self.members[key].asked = True
        self.dial_again(key, now)

    def dial_again(self, key: int, now: float) -> None:
        """The same of our own accord."""
        member = self.members[key]
        member.wanted = True
        if member.session.state in IDLE:
            self._enqueue(key, member, self._queue, now)
        elif member.session.state is SessionState.HANGING_UP and not self._is_stopped(member):
            member.redial_now = True
        elif member.session.state is SessionState.HANGING_UP:
            member.waits = True

    def is_queued(self, key: int) -> bool:
        """Whether a session waits for its dial, which rate and bound put off."""
        return key in self._queue or key in self._retries

    def keep(self) -> list[KeptMember]:
        """All members, for another process that goes on with them."""
        return [
            KeptMember(
                key,
                member.session.settings.name,
                member.wanted,
                member.failures,
                member.losses,
                member.flaps,
                member.since,
                member.up_since,
                member.session.settled,
            )
            for key, member in self.members.items()
        ]

    def resume(self, key: int, kept: KeptMember, now: float) -> bool:
        """Take a member for what it was in another process; whether it goes on with the session that it had there."""
        member, settled = self.members[key], kept.session
        goes_on = settled is not None and member.session.resumes(settled)
        if settled is not None and goes_on:
            member.session.resume(settled, now)
            self._after(key, member, now)
        member.wanted = kept.wanted
        member.failures, member.losses, member.flaps = kept.failures, kept.losses, kept.flaps
        if member.session.state is SessionState.UP:
            member.since, member.up_since = kept.since, kept.up_since
        return goes_on

    def hold(self, *, line: bool = False) -> None:
        """Dial nobody from now on. Without a `line` nothing can be sent either."""
        self._held, self._line = True, line

    def release(self, now: float) -> None:
        """The line is up: dial whoever waits for that."""
        self._held, self._line = False, True
        self._start_dials(now)

    def wait_for_turn(self, key: int, now: float) -> None:
        """The line is up, for which this session waited in its queue; it was perhaps lost with the line since."""
        member = self.members[key]
        if member.reason != EndKind.CARD_DOWN:
            return
        if self.is_queued(key):
            member.reason = ""
        elif member.wanted:
            self.dial_again(key, now)

    def stop_all(self, halt: Halt, now: float) -> list[int]:
        """Dial nobody, or nobody again; with `Halt.NOTHING` go on with those that wait. Returns whom that concerns.

        Sessions that are open are left to `cut`.
        """
        self.halt, concerned = halt, []
        for key, member in self.members.items():
            if not self._is_stopped(member):
                if member.waits:
                    concerned.append(key)
            elif self.is_queued(key) or member.redial_at is not None or member.redial_now:
                self._unqueue(key, member)
                member.waits = True
                concerned.append(key)
            elif halt is Halt.ALL and member.session.state not in (*IDLE, SessionState.HANGING_UP):
                concerned.append(key)
        return concerned

    def go_on(self, key: int, now: float) -> None:
        """Dial a session that waits, if nothing is stopped any more."""
        member = self.members[key]
        if not member.waits or self._is_stopped(member):
            return
        member.waits = False
        if member.session.state in IDLE:
            self._enqueue(key, member, self._retries if member.failures else self._queue, now)
        else:
            member.redial_now = True

    def cut(self, key: int, now: float) -> None:
        """End a session because all are stopped; it is dialled when that is taken back, if it was to be up."""
        member = self.members[key]
        if self.halt is Halt.ALL and member.session.state not in IDLE:
            waits = member.waits or member.wanted
            if member.session.state is not SessionState.HANGING_UP:
                self._end(key, member, ALL_STOPPED, now)
            member.waits = waits

    def _is_stopped(self, member: Member) -> bool:
        return self.halt is Halt.ALL or (self.halt is Halt.REDIALS and not member.asked)

    def hang_up(self, key: int, now: float, end: End = BY_YOU) -> None:
        """Take a session down, and leave it down."""
        member = self.members[key]
        member.wanted = False
        self._end(key, member, end, now)

    def redial(self, key: int, now: float, end: End | None = None) -> None:
        """Take a session down where needed, and bring it up again."""
        member = self.members[key]
        member.wanted = member.asked = True
        if member.session.state in IDLE:
            self._enqueue(key, member, self._queue, now)
        else:
            self._end(key, member, end or End(EndKind.HUNG_UP, "Redialled by you."), now, redial=True)

    def end(self, key: int, end: End, now: float) -> None:
        """Take a session down for a reason of ours; whether and when it is dialled again is up to its rule."""
        self.members[key].session.hang_up(now, end)
        self._after(key, self.members[key], now)

    def stop(self, key: int, end: End, now: float) -> None:
        """End a session at once, with a PADT only."""
        member = self.members[key]
        self._unqueue(key, member)
        member.session.stop(now, end)
        self._after(key, member, now)

    def ask(self, key: int, now: float) -> None:
        """See `Session.ask`."""
        self.members[key].session.ask(now)
        self._after(key, self.members[key], now)

    def note_traffic(self, keys: Iterable[int], now: float) -> None:
        """See `Session.note_traffic`, for each of these that is there."""
        for key in keys:
            member = self.members.get(key)
            if member is not None and member.session.note_traffic(now):
                self._after(key, member, now)

    def ask_full_size(self, key: int, now: float) -> int:
        """See `Link.ask_full_size`."""
        octets = self.members[key].session.ask_full_size(now)
        self._after(key, self.members[key], now)
        return octets

    def _end(self, key: int, member: Member, end: End, now: float, redial: bool = False) -> None:
        waited = self.is_queued(key) or member.waits
        self._unqueue(key, member)
        member.redial_now = redial
        member.failures = member.losses = 0
        member.session.hang_up(now, end)
        self._after(key, member, now)
        if waited and member.session.state is SessionState.DOWN:
            member.reason = str(end.kind)  # it waits for nothing any more

    def _enqueue(self, key: int, member: Member, queue: OrderedDict[int, None], now: float) -> None:
        self._unqueue(key, member)
        self.newly_queued.add(key)
        if self._is_stopped(member):
            member.waits = True
            return
        queue[key] = None
        if self._held or member.reason == EndKind.CARD_DOWN:
            member.reason = str(EndKind.CARD_DOWN) if self._held else ""
        self._start_dials(now, 1)

    def _unqueue(self, key: int, member: Member) -> None:
        self._queue.pop(key, None)
        self._retries.pop(key, None)
        member.redial_now = member.waits = False
        member.redial_at = None
        self._in_vain.pop(key, None)

    def _start_dials(self, now: float, most: int = DIALS) -> None:
        """Dial from the queues as far as rate and bound allow; as long as others wait, `next_timer` is in the past."""
        self._pass_over(now)
        for _ in range(most):
            if not self._may_dial() or now < self._next_dial or self._full_until(now) is not None:
                return
            queue = self._queue or self._retries
            key, _ = queue.popitem(last=False)
            member = self.members[key]
            if not self._is_clear(key, member, queue, now):
                continue
            # Up to a tenth of a second's worth may go out together: timers are no finer than that under load.
            self._next_dial = max(self._next_dial, now - 0.1) + 1.0 / self._dial.rate
            self.pace.begun(key, now)
            member.session.dial(now)
            self._after(key, member, now)

    def _full_until(self, now: float) -> float | None:
        return self.pace.full_until(now, len(self._outstanding))

    def _is_clear(self, key: int, member: Member, queue: OrderedDict[int, None], now: float) -> bool:
        """Whether nothing is in a session's way; else it waits or fails, without a frame on the line."""
        try:
            found = self._taken_networks(key, member.session) or self._obstacles(key, member.session)
        except Trouble as error:
            member.session.refuse(now, End(EndKind.LOCAL_ERROR, str(error)))
            self._after(key, member, now)
            return False
        if found is None:
            return True
        if found.for_all:  # it has the first turn again
            queue[key] = None
            queue.move_to_end(key, last=False)
            self._next_dial = now + SOON
        elif found.passing:
            member.redial_at = now + SOON
            self._alarms.arm(key)
        else:
            member.session.refuse(now, End(EndKind.NOT_POSSIBLE, found.text))
            self._after(key, member, now)
        return False

    def _taken_networks(self, key: int, session: Session) -> Obstacle | None:
        """A network that is to be this session's and is another one's, or has something of its."""
        overlap = self._in_use.overlap(key, policy.routed(session.settings))
        if overlap is None:
            return None
        network, other, what = overlap
        name = self.members[other].session.settings.name
        said = "it belongs" if what == network else f"{what} belongs"
        return Obstacle(f"The network {network} can't be this session's: {said} to session {name}. Change `networks:`.")

    def _waits(self) -> bool:
        """Whether anybody waits for the dial, and for nothing but its turn."""
        return not self._held and bool(self._queue or self._retries)

    def _may_dial(self) -> bool:
        bound = self._dial.max_outstanding
        if not self._queue:
            bound -= bound // 4
        return self._waits() and len(self._outstanding) < bound

    # Frames and time

    def receive(self, frame: bytes, now: float) -> None:
        """Give one Ethernet frame to the session it is for; what is for none is counted and otherwise ignored."""
        self._note_call(now)
        key = self._by_header.get(frame[: pppoe.UNTAGGED])
        if key is not None and (payload := pppoe.untagged(frame)) is not None:
            member = self.members[key]
            if member.session.receive_packet(payload, frame, now):
                self._after_echo(key, member.session)
            else:
                self._after(key, member, now)
            return
        try:
            outer = ethernet.decode(frame)
            packet = pppoe.decode(outer.payload)
            key = self._addressee(outer, packet)
            if key is None:
                if not self._is_early(outer, packet, frame, now):
                    self.counters["discarded: for no session"] += 1
                return
            member = self.members[key]
            member.session.receive_decoded(outer, packet, frame, now)
        except WireError as error:
            self.counters[f"discarded: {error}"] += 1
            return
        self._after(key, member, now)
        if packet.code == Code.PADS and self._by_match.get(_match(outer, packet), key) != key:
            # An old PADS once more: its session is another member's by now, who is not to lose it to a PADT.
            member.session.take_back(outer.src, packet.session_id)
        elif packet.code == Code.PADS:
            for early in self._due_now(_match(outer, packet), now):
                self.receive(early, now)

    def _is_early(self, outer: EthernetFrame, packet: PppoePacket, frame: bytes, now: float) -> bool:
        """Whether a session that is not open may be about to be: somebody waits for a PADS from there.

        A concentrator sends its first Configure-Request right behind the PADS, and another queue may be quicker.
        """
        if outer.ethertype != ETH_PPPOE_SESSION:
            return False
        self._forget_early(now)
        spot = outer.dst, ethernet.vlan_ids(outer.vlans)
        if len(self._early) == MANY_EARLY or (spot, outer.src) in self._unasked:
            return False
        if not any(self.members[key].session.awaits(Code.PADS, outer.src) for key in self._asking.get(spot, ())):
            self._unasked.add((spot, outer.src))
            return False
        self._early.append((now + EARLY, _match(outer, packet), frame))
        return True

    def _due_now(self, match: Match, now: float) -> list[bytes]:
        """The frames that came before the PADS of the session that they are for, in order."""
        self._forget_early(now)
        found = [frame for _, whose, frame in self._early if whose == match]
        if found:
            self._early = deque(one for one in self._early if one[1] != match)
        return found

    def _forget_early(self, now: float) -> None:
        while self._early and self._early[0][0] < now:
            self._early.popleft()
            self.counters["discarded: for no session"] += 1

    def _addressee(self, outer: EthernetFrame, packet: PppoePacket) -> int | None:
        """A frame in a session, or its PADT, goes by its place; an answer in discovery by Host-Uniq or by turns."""
        discovery = outer.ethertype == ETH_PPPOE_DISCOVERY
        if discovery and packet.code in (Code.PADO, Code.PADS):
            key = self._by_host_uniq(packet.payload)
            return self._by_turn(outer, packet.code) if key is None else key
        padt = discovery and packet.code == Code.PADT
        if padt or outer.ethertype == ETH_PPPOE_SESSION:
            match = _match(outer, packet)
            return self._by_match.get(match, self._parting.get(match) if padt else None)
        return None

    def _by_host_uniq(self, tags: bytes) -> int | None:
        """Found without taking the tags apart: a flood of frames full of them would cost too much. The session does.

        What only looks like the tag, inside another one, is met by going on to the next: its stem is nobody's.
        """
        at = tags.find(_HOST_UNIQ)
        while at >= 0:
            stem = tags[at + len(_HOST_UNIQ) : at + len(_HOST_UNIQ) + STEM_SIZE]
            if stem in self._by_stem:
                return self._by_stem[stem]
            at = tags.find(_HOST_UNIQ, at + 1)
        return None

    def _by_turn(self, outer: EthernetFrame, code: int) -> int | None:
        """Whose an answer without our Host-Uniq is: of those who ask from there, the first has the turn."""
        asking = self._asking.get((outer.dst, ethernet.vlan_ids(outer.vlans)))
        first = next(iter(asking), None) if asking else None
        return first if first is not None and self.members[first].session.awaits(code, outer.src) else None

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        due = self._next_due()
        return due if due is None or self._grace_until is None else max(due, self._grace_until)

    def _next_due(self) -> float | None:
        at_alarm, due = self._alarms.next(), None
        if self._may_dial():
            # Who is dialled next waits for the rate, and for one of those on their way.
            due = max(self._next_dial, self._full_until(self._called_at or 0.0) or 0.0)
        elif self._waits():
            due = self._passes_at()
        return min((at for at in (at_alarm, due) if at is not None), default=None)

    def stood_still(self) -> float:
        """For how many seconds the process was stopped, as noticed since the last call; mostly 0."""
        seconds, self._stood_still = self._stood_still, 0.0
        return seconds

    def _note_call(self, now: float) -> None:
        """See whether we were called as soon as something was due: a stopped process wakes up late.

        Nobody is judged then before what has come meanwhile is heard.
        """
        before, self._called_at = self._called_at, now
        if before is None or now - before <= STOOD_STILL:
            return
        due = self._next_due()
        if due is not None and now - max(before, due) > STOOD_STILL:
            self._stood_still += now - max(before, due)
            self._grace_until = now + GRACE

    def handle_timer(self, now: float, heard: float | None = None) -> None:
        """Do what is due by now, for SHARE sessions at most: as long as others wait, `next_timer` is in the past.

        Calling it early does nothing. Where frames wait that have come, `heard` is the time before which none of them
        did: nobody is judged by what is due later, as the answer may be among them, and few are dialled.
        """
        self._note_call(now)
        heard = now if heard is None else heard
        self.pace.behind = heard < now
        if self._grace_until is not None and now < self._grace_until:
            return
        self._grace_until = None
        for key in islice(self._alarms.expired(heard), SHARE):
            member = self.members[key]
            if member.redial_at is not None and member.redial_at <= now:
                self._enqueue(key, member, self._retries if member.failures else self._queue, now)
            member.session.handle_timer(now)
            self._after(key, member, now)
        self._start_dials(now)

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first; none while that is down.

        If a session raises something it isn't asked again, and the next call gives what the others have to say.
        """
        talking = iter(self._talking)
        try:
            for key in talking:
                self._collect(self.members[key].session)
        finally:
            self._talking = dict.fromkeys(talking)
        self._parting.clear()
        out, self._out = self._out, []
        return out

    def note_padt(self, place: Place, padt: bytes, now: float) -> None:
        """A PADT is sent that was owed for want of a line: whose session it was shows it among its frames."""
        key = self._left.get((place.own_mac, place.peer_mac, ethernet.vlan_ids(place.vlans), place.session_id))
        if key is not None:
            self.members[key].session.note_sent(padt, now)

    def _forget_left(self, key: int, member: Member) -> None:
        if member.left is not None and self._left.get(member.left) == key:
            del self._left[member.left]

    def _collect(self, session: Session) -> None:
        if self._line:
            self._out += session.frames_to_send()
        else:
            session.drop_frames()

    def happened(self) -> int:
        """How many events there have been so far, but for round trips, with which nobody has work."""
        return self._happened

    def next_event(self) -> tuple[int, SessionEvent] | None:
        """What happened to which session, oldest first; handle events before sending frames."""
        return self._events.popleft() if self._events else None

    @property
    def at_once(self) -> int:
        """How many sessions may be on their way up at once, as things stand; any thread."""
        return min(int(self.pace.window), self._dial.max_outstanding)

    @property
    def idle(self) -> bool:
        """Whether every session is down or waiting, so that nothing more will be sent for it."""
        return all(m.session.state in IDLE for m in reversed(self.members.values()))  # the last are hung up last

    # After each step of a session

    def _after(self, key: int, member: Member, now: float) -> None:
        """Take in what a session did: its events, frames and timers."""
        if member.asks_from is not None:
            self._unasked.clear()
        while (event := member.session.next_event()) is not None:
            self._note_event(key, member, event, now)
        self._talking[key] = None
        self._alarms.arm(key)

    def _after_echo(self, key: int, session: Session) -> None:
        """The same where that was an echo: a round-trip time is told, or there is a reply, and timers are put off."""
        event = session.next_event()
        if event is not None:
            self._events.append((key, event))
        else:
            self._talking[key] = None

    def _note_event(self, key: int, member: Member, event: SessionEvent, now: float) -> None:
        match event:
            case StateChanged(state, reason):
                member.since, member.reason = now, reason
                self._note_pace(key, member, state, now)
                if state in ON_THE_WAY:
                    self._outstanding.add(key)
                else:
                    self._outstanding.discard(key)
                self._looking.pop(key, None)
                if state is SessionState.DIALLING:
                    member.dialled_at = now
                    self._looking[key] = None
                    self._in_vain.pop(key, None)
                self._note_asking(key, member, state is SessionState.DIALLING)
                if state is SessionState.UP:
                    member.up_since = now
            case PppoeOpened(place, resumed=resumed):
                if not resumed:
                    self._let_in(member, now)
                self._in_use.note_routed(key, policy.routed(member.session.settings))
                self._settle_in(key, member, place, now)
            case Ipv4Opened(agreed) | Ipv6Opened(agreed):
                self._in_use.note(key, agreed)
            case Ipv6Configured(config):
                self._in_use.note_global(key, config.addresses)
                self._in_use.note_delegated(key, config.prefixes)
            case Ipv4Closed():
                self._in_use.forget(key, IPv4Address)
            case Ipv6Closed():
                self._forget_ipv6(key)
            case Ended(end):
                self._in_use.note_routed(key, ())
                self._in_use.forget(key, IPv4Address)
                self._forget_ipv6(key)
                self._ended(key, member, end, now)
        self._events.append((key, event))
        self._happened += not isinstance(event, RoundTrip)

    def _note_pace(self, key: int, member: Member, state: SessionState, now: float) -> None:
        match state:
            case SessionState.UP:
                self.pace.up(key, now)
            case SessionState.NEGOTIATING if member.state in SETTING_UP:
                self.pace.began_anew(key)
            case _ if state in ON_THE_WAY:
                self.pace.got_further(key, now)
            case _:
                self.pace.ended(key)
        member.state = state

    def _let_in(self, member: Member, now: float) -> None:
        """A concentrator has opened a session: who asked in vain need not wait any longer."""
        if now - self._found_at > ASKING:
            self._silence = self._found_at, now
        self._found_at, self._let_in_from = now, max(self._let_in_from, member.dialled_at)
        for key in [*islice(self._in_vain, SHARE)]:
            del self._in_vain[key]
            self.members[key].redial_at = now
            self._alarms.arm(key)

    def _note_unheard(self, key: int, member: Member, now: float) -> None:
        """It pauses as no concentrator answered: for no longer than all others have no answer either."""
        silent_from, silent_until = self._silence
        if self._found_at < member.dialled_at:
            self._in_vain[key] = None
        elif silent_from < member.dialled_at and member.dialled_at + ASKING <= silent_until:
            member.redial_at = now

    def _passes_at(self) -> float | None:
        """When the first of those that look for a concentrator doesn't count any more, if one was let in since."""
        at = next((self.members[key].dialled_at for key in self._looking), math.inf)
        return at + PASSED if at <= self._let_in_from else None

    def _pass_over(self, now: float) -> None:
        while (at := self._passes_at()) is not None and at <= now:
            key = next(iter(self._looking))
            del self._looking[key]
            self._outstanding.discard(key)

    def _forget_ipv6(self, key: int) -> None:
        self._in_use.forget(key, IPv6Address)
        self._in_use.note_global(key, ())
        self._in_use.note_delegated(key, ())

    def _note_asking(self, key: int, member: Member, asks: bool) -> None:
        if member.asks_from is not None:
            asking = self._asking[member.asks_from]
            del asking[key]
            if not asking:
                del self._asking[member.asks_from]
        session = member.session
        member.asks_from = (session.own_mac, ethernet.vlan_ids(session.settings.vlans)) if asks else None
        if member.asks_from is not None:
            self._asking.setdefault(member.asks_from, {})[key] = None

    def _settle_in(self, key: int, member: Member, place: Place, now: float) -> None:
        """A session's frames reach it from now on. Whom they reached is gone, or its id would not be given out anew."""
        match = place.own_mac, place.peer_mac, ethernet.vlan_ids(place.vlans), place.session_id
        former = self._by_match.get(match)
        if former is not None:
            text = "The concentrator gave this session's id away: it must have lost the session."
            self.members[former].session.lose(now, End(EndKind.PEER_ENDED, text))
            self._after(former, self.members[former], now)
        member.match = match
        self._by_match[match] = key
        if not place.vlans:
            self._by_header[pppoe.session_header(place.own_mac, place.peer_mac, place.session_id)] = key
        self._parting.pop(match, None)
        self._left.pop(match, None)

    def _ended(self, key: int, member: Member, end: End, now: float) -> None:
        if member.match is not None:
            own_mac, peer_mac, vlan_ids, session_id = member.match
            del self._by_match[member.match]
            if not vlan_ids:
                self._by_header.pop(pppoe.session_header(own_mac, peer_mac, session_id), None)
            self._parting[member.match] = key
            self._forget_left(key, member)
            self._left[member.match] = key
            member.left, member.match = member.match, None
        if member.up_since is not None and now - member.up_since >= self._dial.retry_max:
            member.failures = member.losses = 0
        member.losses += is_loss(end)
        if is_failure(end):
            before, member.unheard = member.unheard, end.kind is EndKind.NO_CONCENTRATOR
            # However long none answered: what one says then it has not said before.
            member.failures = 1 if before and not member.unheard else member.failures + 1
        member.flaps += end.was_up and end.kind not in WISHED | {EndKind.UNWANTED_ADDRESS}
        member.up_since = None
        if member.redial_now:
            member.redial_now = False
            member.redial_at = now
        elif member.wanted and not member.waits:
            member.asked = False
            wait = pause(end, member.losses, member.failures, self._dial, self._chance())
            member.waits = wait is not None and self._is_stopped(member)
            member.redial_at = None if wait is None or member.waits else now + wait
            if end.kind is EndKind.NO_CONCENTRATOR and member.redial_at is not None:
                self._note_unheard(key, member, now)

    def _due(self, key: int) -> float | None:
        member = self.members.get(key)
        if member is None:
            return None
        timer = member.session.next_timer()
        if member.redial_at is None:
            return timer
        return member.redial_at if timer is None else min(timer, member.redial_at)

    def __iter__(self) -> Iterator[tuple[int, Member]]:
        return iter(self.members.items())
