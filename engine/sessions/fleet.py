"""All sessions of one card, without I/O: who gets which frame, who is dialled when.

A `Fleet` gives each frame to the one session it is for, runs every session's timers, paces dialling over all of them
(a rate, and a bound on how many may be on their way at once) and dials again what ended. No session waits for
another one's answer: a dead one only holds its place among the outstanding dials until its own timers end it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from engine.api.ending import End, EndKind
from engine.api.values import SessionState
from engine.ppp.judge import Address
from engine.ppp.link import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened
from engine.pppoe.client import KEY_SIZE, ROUND_SIZE
from engine.sessions import obstacle, policy
from engine.sessions.alarms import Alarms
from engine.sessions.obstacle import SOON, Obstacles
from engine.sessions.policy import InUse, WayTo, Whose
from engine.sessions.redial import is_loss, pause
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent, StateChanged
from engine.sessions.states import IDLE, ON_THE_WAY
from engine.settings.values import DialSettings
from engine.wire import ethernet, pppoe
from engine.wire.errors import WireError
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, ETH_PPPOE_SESSION, EthernetFrame
from engine.wire.keys import FourKeys
from engine.wire.pppoe import Code, PppoePacket, Tag, TagType

Place = tuple[bytes, bytes, tuple[int, ...], int]
"""Own MAC, concentrator's MAC, VLAN ids, session id: what a session frame is matched by."""


def _place(outer: EthernetFrame, packet: PppoePacket) -> Place:
    return outer.dst, outer.src, ethernet.vlan_ids(outer.vlans), packet.session_id


_HOST_UNIQ = pppoe.encode_tags([Tag(TagType.HOST_UNIQ, bytes(KEY_SIZE + ROUND_SIZE))])[: -(KEY_SIZE + ROUND_SIZE)]
"""How the tag begins in every answer to one of ours: type and length."""


@dataclass(slots=True)
class Member:
    """A session and what the fleet knows of it."""

    session: Session
    wanted: bool = False
    """Whether it is to be up: dialled again when it ends."""
    queued: bool = False
    redial_at: float | None = None
    redial_now: bool = False
    """Dial again as soon as the hang-up that is under way has finished."""
    failures: int = 0
    """Ends since it was last stable, those not counted that only took away a session that was up."""
    losses: int = 0
    """Those."""
    flaps: int = 0
    up_since: float | None = None
    since: float = 0.0
    reason: str = ""
    place: Place | None = None


class Fleet:
    """All sessions of one card."""

    def __init__(
        self,
        dial: DialSettings,
        chance: Callable[[], float],
        obstacles: Obstacles = obstacle.none,
        way_to: WayTo = policy.nowhere,
    ) -> None:
        """`chance` gives a number from 0 to 1; `obstacles` is asked right before each dial.

        `way_to` says how the host itself reaches an address, which decides whether a session may have it.
        """
        self.members: dict[int, Member] = {}
        self.counters: Counter[str] = Counter()
        """Frames for no session, by reason."""
        self._dial = dial
        self._chance = chance
        self._obstacles = obstacles
        self._way_to = way_to
        self._in_use = InUse()
        self._held = False
        self._by_place: dict[Place, int] = {}
        self._parting: dict[Place, int] = {}
        """Members that have just left their place, and whose farewell has not gone out yet."""
        self._by_key: dict[bytes, int] = {}
        """By how a session's Host-Uniq begins."""
        self._alarms = Alarms(self._due)
        self._queue: OrderedDict[int, None] = OrderedDict()
        self._retries: OrderedDict[int, None] = OrderedDict()
        """Those whose last dial failed. A quarter of the places is not for them, so that they never delay others."""
        self._outstanding: set[int] = set()
        self._next_dial = 0.0
        self._talking: dict[int, None] = {}
        """Members that may have frames to send. They keep them until asked, so that a PADT can still take them back."""
        self._out: list[bytes] = []
        """What members that are gone had to send."""
        self._events: deque[tuple[int, SessionEvent]] = deque()

    # Members and wishes

    def add(self, number: int, session: Session, now: float) -> None:
        """Take a session in, down."""
        self.members[number] = Member(session, since=now)
        session.judge = policy.Judge(self._way_to, partial(self._holder, number))
        self._by_key[session.key] = number

    def remove(self, number: int, now: float) -> None:
        """End a session at once and forget it."""
        member = self.members[number]
        member.wanted = False
        self._unqueue(number, member)
        member.session.stop(now, End(EndKind.HUNG_UP, "Removed."))
        self._after(number, member, now)
        self._out += member.session.frames_to_send()
        self._talking.pop(number, None)
        self._parting = {place: who for place, who in self._parting.items() if who != number}
        del self._by_key[member.session.key]
        del self.members[number]
        self._alarms.arm(number)

    def _holder(self, number: int, address: Address, whose: Whose) -> str:
        """The name of another session that has an address, or an empty one."""
        holder = self._in_use.holder(address, whose, number)
        return self.members[holder].session.settings.name if holder is not None else ""

    def dial(self, number: int, now: float) -> None:
        """Bring a session up, and keep it up."""
        member = self.members[number]
        member.wanted = True
        if member.session.state in IDLE:
            self._enqueue(number, member, self._queue, now)
        elif member.session.state is SessionState.HANGING_UP:
            member.redial_now = True

    def hold(self) -> None:
        """Dial nobody from now on: the line is down."""
        self._held = True

    def release(self, now: float) -> None:
        """The line is up: dial whoever waits for that."""
        self._held = False
        self._start_dials(now)

    def hang_up(self, number: int, now: float) -> None:
        """Take a session down, and leave it down."""
        member = self.members[number]
        member.wanted = False
        self._end(number, member, End(EndKind.HUNG_UP, "Hung up by you."), now)

    def redial(self, number: int, now: float, end: End | None = None) -> None:
        """Take a session down where needed, and bring it up again."""
        member = self.members[number]
        member.wanted = True
        if member.session.state in IDLE:
            self._enqueue(number, member, self._queue, now)
        else:
            self._end(number, member, end or End(EndKind.HUNG_UP, "Redialled by you."), now, redial=True)

    def end(self, number: int, end: End, now: float) -> None:
        """Take a session down for a reason of ours; whether and when it is dialled again is up to its rule."""
        self.members[number].session.hang_up(now, end)
        self._after(number, self.members[number], now)

    def stop(self, number: int, end: End, now: float) -> None:
        """End a session at once, with a PADT only."""
        member = self.members[number]
        self._unqueue(number, member)
        member.session.stop(now, end)
        self._after(number, member, now)

    def ask_full_size(self, number: int, now: float) -> int:
        """See `Link.ask_full_size`."""
        octets = self.members[number].session.ask_full_size(now)
        self._after(number, self.members[number], now)
        return octets

    def _end(self, number: int, member: Member, end: End, now: float, redial: bool = False) -> None:
        self._unqueue(number, member)
        member.redial_now = redial
        member.failures = member.losses = 0
        member.session.hang_up(now, end)
        self._after(number, member, now)

    def _enqueue(self, number: int, member: Member, queue: OrderedDict[int, None], now: float) -> None:
        self._unqueue(number, member)
        member.queued = True
        queue[number] = None
        if self._held:
            member.reason = str(EndKind.CARD_DOWN)
        self._start_dials(now)

    def _unqueue(self, number: int, member: Member) -> None:
        self._queue.pop(number, None)
        self._retries.pop(number, None)
        member.queued = member.redial_now = False
        member.redial_at = None

    def _start_dials(self, now: float) -> None:
        """Dial from the queues as far as rate and bound allow."""
        while self._may_dial() and now >= self._next_dial:
            number, _ = (self._queue or self._retries).popitem(last=False)
            member = self.members[number]
            member.queued = False
            if not self._is_clear(number, member, now):
                continue
            # Up to a tenth of a second's worth may go out together: timers are no finer than that under load.
            self._next_dial = max(self._next_dial, now - 0.1) + 1.0 / self._dial.rate
            member.session.dial(now)
            self._after(number, member, now)

    def _is_clear(self, number: int, member: Member, now: float) -> bool:
        """Whether nothing is in a session's way; else it waits or fails, without a frame on the line."""
        found = self._obstacles(number, member.session)
        if found is None:
            return True
        if found.passing:
            member.redial_at = now + SOON
            self._alarms.arm(number)
        else:
            member.session.refuse(now, End(EndKind.NOT_POSSIBLE, found.text))
            self._after(number, member, now)
        return False

    def _may_dial(self) -> bool:
        if self._held:
            return False
        places = self._dial.max_outstanding
        if not self._queue:
            places -= places // 4
        return bool(self._queue or self._retries) and len(self._outstanding) < places

    # Frames and time

    def receive(self, frame: bytes, now: float) -> None:
        """Give one Ethernet frame to the session it is for; what is for none is counted and otherwise ignored."""
        try:
            outer = ethernet.decode(frame)
            packet = pppoe.decode(outer.payload)
            number = self._addressee(outer, packet)
            if number is None:
                self.counters["discarded: for no session"] += 1
                return
            member = self.members[number]
            member.session.receive_decoded(outer, packet, frame, now)
        except WireError as error:
            self.counters[f"discarded: {error}"] += 1
            return
        self._after(number, member, now)
        if packet.code == Code.PADS and self._by_place.get(_place(outer, packet), number) != number:
            # An old PADS once more: its session is another member's by now, who is not to lose it to a PADT.
            member.session.take_back(outer.src, packet.session_id)

    def _addressee(self, outer: EthernetFrame, packet: PppoePacket) -> int | None:
        """A frame in a session, or its PADT, goes by the four keys; an answer in discovery by its Host-Uniq."""
        discovery = outer.ethertype == ETH_PPPOE_DISCOVERY
        if discovery and packet.code in (Code.PADO, Code.PADS):
            return self._by_host_uniq(packet.payload)
        padt = discovery and packet.code == Code.PADT
        if padt or outer.ethertype == ETH_PPPOE_SESSION:
            place = _place(outer, packet)
            return self._by_place.get(place, self._parting.get(place) if padt else None)
        return None

    def _by_host_uniq(self, tags: bytes) -> int | None:
        """Found without taking the tags apart: a flood of frames full of them would cost too much. The session does."""
        at = tags.find(_HOST_UNIQ)
        while at >= 0:
            key = tags[at + len(_HOST_UNIQ) : at + len(_HOST_UNIQ) + KEY_SIZE]
            if key in self._by_key:
                return self._by_key[key]
            at = tags.find(_HOST_UNIQ, at + 1)
        return None

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        at_alarm = self._alarms.next()
        if self._may_dial():
            return self._next_dial if at_alarm is None else min(at_alarm, self._next_dial)
        return at_alarm

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        for number in self._alarms.expired(now):
            member = self.members[number]
            if member.redial_at is not None and member.redial_at <= now:
                self._enqueue(number, member, self._retries if member.failures else self._queue, now)
            member.session.handle_timer(now)
            self._after(number, member, now)
        self._start_dials(now)

    def frames_to_send(self) -> list[bytes]:
        """Ethernet frames to put on the line, oldest first."""
        out, self._out = self._out, []
        for number in self._talking:
            out += self.members[number].session.frames_to_send()
        self._talking.clear()
        self._parting.clear()
        return out

    def next_event(self) -> tuple[int, SessionEvent] | None:
        """What happened to which session, oldest first; handle events before sending frames."""
        return self._events.popleft() if self._events else None

    @property
    def idle(self) -> bool:
        """Whether every session is down or waiting, so that nothing more will be sent for it."""
        return all(m.session.state in IDLE for m in self.members.values())

    # After each step of a session

    def _after(self, number: int, member: Member, now: float) -> None:
        """Take in what a session did: its events, frames and timers."""
        while (event := member.session.next_event()) is not None:
            self._note_event(number, member, event, now)
        self._talking[number] = None
        self._alarms.arm(number)

    def _note_event(self, number: int, member: Member, event: SessionEvent, now: float) -> None:
        match event:
            case StateChanged(state, reason):
                member.since, member.reason = now, reason
                if state in ON_THE_WAY:
                    self._outstanding.add(number)
                else:
                    self._outstanding.discard(number)
                if state is SessionState.UP:
                    member.up_since = now
            case PppoeOpened(keys):
                self._settle_in(number, member, keys, now)
            case Ipv4Opened(agreed) | Ipv6Opened(agreed):
                self._in_use.note(number, agreed)
            case Ipv4Closed():
                self._in_use.forget(number, IPv4Address)
            case Ipv6Closed():
                self._in_use.forget(number, IPv6Address)
            case Ended(end):
                self._in_use.forget(number, IPv4Address, IPv6Address)
                self._ended(number, member, end, now)
        self._events.append((number, event))

    def _settle_in(self, number: int, member: Member, keys: FourKeys, now: float) -> None:
        """Give a session its place. Who had it before is gone: the concentrator forgot it, or it would not grant it."""
        place = keys.own_mac, keys.peer_mac, ethernet.vlan_ids(keys.vlans), keys.session_id
        former = self._by_place.get(place)
        if former is not None:
            text = "The concentrator gave this session's number away: it must have lost the session."
            self.members[former].session.lose(now, End(EndKind.PEER_ENDED, text))
            self._after(former, self.members[former], now)
        member.place = place
        self._by_place[place] = number
        self._parting.pop(place, None)

    def _ended(self, number: int, member: Member, end: End, now: float) -> None:
        if member.place is not None:
            del self._by_place[member.place]
            self._parting[member.place] = number
            member.place = None
        if member.up_since is not None and now - member.up_since >= self._dial.retry_max:
            member.failures = member.losses = 0
        if is_loss(end):
            member.losses += 1
        else:
            member.failures += 1
        member.flaps += end.was_up and end.kind not in (EndKind.HUNG_UP, EndKind.UNWANTED_ADDRESS)
        member.up_since = None
        if member.redial_now:
            member.redial_now = False
            member.redial_at = now
        elif member.wanted:
            wait = pause(end, member.losses, member.failures, self._dial, self._chance())
            member.redial_at = None if wait is None else now + wait

    def _due(self, number: int) -> float | None:
        member = self.members.get(number)
        if member is None:
            return None
        timer = member.session.next_timer()
        if timer is None or member.redial_at is None:
            return member.redial_at if timer is None else timer
        return min(timer, member.redial_at)

    def __iter__(self) -> Iterator[tuple[int, Member]]:
        return iter(self.members.items())
