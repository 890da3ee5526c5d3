"""A world for a supervisor: a card, a host and a disk that do as a test says, and the lab's concentrator on the line.

Nothing of the engine is replaced but what the supervisor is handed: the machines, the fleet, the journal's order and
the concentrator are the real ones, and time is a number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path

from msgspec.structs import replace

from engine.api.commands import Command, Reply, Request
from engine.api.values import Event, ReceiveRules, SessionState, SessionView
from engine.card.facts import Card
from engine.datapath import DatapathError
from engine.egress.protocol import Addresses
from engine.host.errors import HostError, Trouble, Unseen
from engine.lab.concentrator import Concentrator, LabSettings
from engine.lab.line import Segment
from engine.ppp.judge import Address
from engine.record.counters import Account
from engine.sessions.obstacle import Obstacle
from engine.sessions.policy import Way
from engine.sessions.proofs import Proofs
from engine.sessions.session import Session
from engine.sessions.states import ON_THE_WAY
from engine.settings.values import DatapathChoice, DialSettings, Marks, SessionSettings, Settings
from engine.supervisor import dispatch
from engine.supervisor.card_watch import CardWatch
from engine.supervisor.handed import Taken
from engine.supervisor.hooks import HookRunner
from engine.supervisor.supervisor import Supervisor
from engine.wire.place import Place

OURS = bytes.fromhex("020000000001")
AC = bytes.fromhex("02acacac0001")
CARD = Card("eth9", 7, OURS, 1500, True, True, 2, 2, "virtual", False, ReceiveRules.NONE)
QUICK = DialSettings(rate=10_000.0, max_outstanding=10_000, retry_min=1.0, retry_max=8.0)
EPOCH = 1_800_000_000.0


class VirtualCard:
    """Implements `Line`; `card` is what there is to see, None for nothing."""

    def __init__(self) -> None:
        self.card: Card | None = CARD
        self.hidden = ""
        """Why nobody can look at it."""
        self.taken: Card | None = None
        self.refusals: list[Trouble] = []
        """What the next takes fail with."""
        self.times_taken = 0
        self.promiscuous = False
        self.expected: list[DatapathChoice] = []
        self.handed = 0
        """Frames it was handed since it was taken, of which it takes all but the `kept` last ones."""
        self.kept = 0
        self.in_the_way = ""
        """What keeps XDP out of the driver."""
        self.resets = False
        """Whether its link goes down when it is taken."""
        self.known: dict[int, Place] = {}
        self.adds_queues = 0
        """How many it has more with a program on it."""
        self.grown: list[int] = []
        self.bare = False
        """Whether somebody has taken our program off it."""
        self.zero_copy = True
        self.insists = False
        """Whether the operator wants zero-copy or nothing."""
        self.deaf = False
        """Whether it can't be made promiscuous."""
        self.stuck = False
        """Whether the next giving back goes wrong."""
        self.room: Callable[[], int] = lambda: 2048
        """The longest frame that comes in, in octets."""

    def look(self) -> Card:
        if self.hidden:
            raise Unseen(self.hidden)
        if self.card is None:
            raise HostError("There is no card eth9 here." if self.taken is None else "eth9 is gone.")
        return self.card

    def take(self, card: Card) -> Taken:
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken = card
        self.times_taken += 1
        self.handed = 0
        self.promiscuous = False
        if self.resets:
            self.set_carrier(False)
        if self.in_the_way:
            return Taken("generic", False, card.queues, f"{self.in_the_way} is on.", self.in_the_way)
        if self.adds_queues:
            self.change(rx_queues=card.queues + self.adds_queues, tx_queues=card.queues + self.adds_queues)
        return Taken("native", self.zero_copy, self.card.queues if self.card is not None else 0)

    def grow(self, card: Card) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.grown.append(card.queues)

    def mend(self) -> bool:
        if self.refusals:
            raise self.refusals.pop(0)
        was, self.bare = self.bare, False
        return was

    def give_back(self) -> None:
        self.taken = None
        if self.stuck:
            self.stuck = False
            raise OSError("no such thing")

    def fix(self) -> bool:
        self.change(strips_vlan_tags=False)
        fixable, self.in_the_way = self.in_the_way, ""
        return bool(fixable)

    def copy(self) -> bool:
        self.zero_copy = self.insists
        return not self.insists

    def frames_taken(self) -> int:
        return self.handed - self.kept

    def set_carrier(self, carrier: bool) -> None:
        assert self.card is not None
        self.change(carrier=carrier, carrier_changes=self.card.carrier_changes + (self.card.carrier != carrier))

    def hear_all(self) -> bool:
        if self.taken is None or self.promiscuous:
            return False
        if self.deaf:
            raise HostError("The card can't be made promiscuous.")
        self.promiscuous = True
        return True

    def make_known(self, key: int, place: Place, mru: int) -> None:
        self.known[key] = place

    def forget(self, key: int) -> None:
        self.known.pop(key, None)

    def expect(self, wanted: DatapathChoice) -> None:
        self.expected.append(wanted)

    def change(self, **what: object) -> None:
        self.card = replace(self.card or CARD, **what)  # type: ignore[arg-type]


class VirtualEgress:
    """Implements `Egress`: a device for each session; `fails` names the method that goes wrong the next time."""

    def __init__(self) -> None:
        self.devices: dict[int, str] = {}
        self.prepared: dict[int, int] = {}
        """MTUs, by key."""
        self.addresses: dict[int, Addresses] = {}
        self.mtus: dict[int, int] = {}
        self.fails = ""
        self.obstacles: dict[int, Obstacle] = {}
        self.ways: dict[Address, Way] = {}
        self.claims: dict[IPv6Network, str] = {}
        self.has_ipv6 = True
        self.marks: dict[int, int] = {}
        self.lost: dict[int, dict[str, int]] = {}
        """Packets that a session's own addresses had nothing to do with, by its key."""

    def obstacle(self, key: int, session: Session) -> Obstacle | None:
        return self.obstacles.get(key)

    def way_to(self, address: Address) -> Way | None:
        return self.ways.get(address)

    def forget(self, key: int) -> None:
        self.marks.pop(key, None)

    def hold_marks(self, marks: Iterable[int]) -> None:
        pass

    def set_mark(self, key: int, mark: int | None) -> None:
        self.marks.pop(key, None)
        if mark is not None:
            self.marks[key] = mark

    def claim(self, network: IPv6Network) -> str:
        return self.claims.get(network, "")

    def prepare(self, key: int, settings: SessionSettings, mtu: int) -> None:
        if key not in self.devices:
            self.prepared.setdefault(key, mtu)

    def open(self, key: int, settings: SessionSettings, place: Place, mtu: int) -> None:
        self._step("open")
        self.prepared.pop(key, None)
        self.devices[key] = f"soup{key}"
        self.mtus[key] = mtu

    def set_addresses(self, key: int, addresses: Addresses, mtu: int) -> None:
        self._step("set_addresses")
        self.addresses[key] = addresses

    def set_mtu(self, key: int, mtu: int) -> None:
        self._step("set_mtu")
        self.mtus[key] = mtu

    def close(self, key: int) -> None:
        self.prepared.pop(key, None)
        self._step("close")
        self.devices.pop(key, None)
        self.addresses.pop(key, None)

    def disinherit(self) -> None:
        pass

    def device(self, key: int) -> str | None:
        return self.devices.get(key)

    def netns(self, key: int) -> str | None:
        return None

    def path(self, key: int) -> DatapathChoice | None:
        return DatapathChoice.AFXDP if key in self.devices else None

    def strays(self, key: int) -> dict[str, int]:
        return self.lost.get(key, {})

    def counters(self, keys: int) -> list[int]:
        return [0] * 4 * keys

    def _step(self, name: str) -> None:
        if self.fails == name:
            self.fails = ""
            raise DatapathError(f"cannot {name}")


@dataclass
class VirtualDisk:
    """Implements `Journal`; `full` makes it fail."""

    noted: dict[Place, None] = field(default_factory=dict)
    left: list[Place] = field(default_factory=list)
    full: bool = False
    card: str = "eth9"
    written: list[tuple[str, Place]] = field(default_factory=list)
    owed: dict[Place, None] = field(default_factory=dict)
    """What could not be written, and is by whatever can."""

    def ghosts(self) -> list[Place]:
        return self.left

    def opened(self, sessions: list[Place]) -> None:
        self.owed.update(dict.fromkeys(sessions))
        self._write("+", sessions)
        self.noted.update(self.owed)
        self.owed.clear()
        self.left = [ghost for ghost in self.left if ghost not in sessions]

    def closed(self, sessions: list[Place], *, last: bool = False) -> None:
        if not last or {*self.noted} - {*sessions}:
            self._write("-", sessions)
        for keys in sessions:
            self.noted.pop(keys, None)
            if keys in self.left:
                self.left = [ghost for ghost in self.left if ghost != keys]

    def rename(self, card: str) -> None:
        self.card = card

    def _write(self, sign: str, sessions: list[Place]) -> None:
        if self.full:
            raise HostError("No space left on device.")
        self.written += [(sign, keys) for keys in sessions]


class VirtualCaptures:
    """Implements `Captures`."""

    def __init__(self) -> None:
        self.files: dict[int, Path] = {}
        self.refuses = False

    def __contains__(self, key: int) -> bool:
        return key in self.files

    def joined(self, key: int, session: Session) -> None:
        pass

    def start(self, sessions: Iterable[tuple[int, Session]], path: Path) -> None:
        if self.refuses:
            raise HostError(f"{path}: No such file or directory.")
        self.files.update((key, path) for key, _ in sessions)

    def stop(self, sessions: Iterable[tuple[int, Session]]) -> None:
        for key, _ in sessions:
            self.files.pop(key, None)


class Cable:
    """In the place of the fleet on the lab's `Segment`: a cable that passes frames while the card has a carrier."""

    def __init__(self, supervisor: Supervisor, card: VirtualCard) -> None:
        self._supervisor = supervisor
        self._card = card
        self.stopped = False
        """Whether the process is: its timers wait, and so do frames."""
        self._waiting: list[bytes] = []

    @property
    def _connected(self) -> bool:
        card = self._card.card
        return self._card.taken is not None and card is not None and card.up and card.carrier

    def receive(self, frame: bytes, now: float) -> None:
        if self._connected and len(frame) <= self._card.room():
            if self.stopped:
                self._waiting.append(frame)
            else:
                self._supervisor.receive([frame], now)

    def handle_timer(self, now: float) -> None:
        """A process that goes on finds its timers due before what has come is handed over."""
        if not self.stopped:
            self._supervisor.handle_timer(now)
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._supervisor.receive(waiting, now)

    def next_timer(self) -> float | None:
        return None if self.stopped else self._supervisor.next_timer()

    def frames_to_send(self) -> list[bytes]:
        if self.stopped:
            return []
        frames = self._supervisor.frames_to_send()
        self._card.handed += len(frames)
        return frames if self._connected else []


class World:
    """A supervisor and all that it is handed."""

    def __init__(
        self,
        sessions: Iterable[SessionSettings] = (),
        dial: DialSettings = QUICK,
        lab: LabSettings | None = None,
        *,
        unwanted: tuple[str, ...] = (),
        ghosts: Iterable[Place] = (),
        journal: bool = True,
        proofs: Proofs | None = None,
        hooks: HookRunner | None = None,
        marks: Marks | None = None,
        accounts: Mapping[str, Account] | None = None,
    ) -> None:
        self.traffic: list[int] = []
        """What the data path has counted, as in `Snapshot.traffic`."""
        chance = random.Random(7)
        self.card, self.egress, self.captures = VirtualCard(), VirtualEgress(), VirtualCaptures()
        self.disk = VirtualDisk(left=list(ghosts))
        self.supervisor = Supervisor(
            Settings(tuple(sessions), dial, unwanted, marks=marks),
            CardWatch("eth9", self.card),
            self.card,
            self.egress,
            self.captures,
            self.disk if journal else None,
            entropy=chance.randbytes,
            chance=chance.random,
            wall_offset=EPOCH,
            usage=lambda view: (("fetch", f"curl {view.device}"),),
            proofs=proofs,
            hooks=hooks,
            traffic=lambda: [*self.traffic],
            accounts=accounts or {},
        )
        self.concentrator = Concentrator(lab or LabSettings(any_account=True, any_password="lab"), AC, chance.randbytes)
        self.cable = Cable(self.supervisor, self.card)
        self.segment = Segment(self.cable, [self.concentrator], chance)
        self.requests = 0

    @property
    def now(self) -> float:
        return self.segment.now

    def open(self) -> World:
        self.supervisor.open(self.now)
        self.run(0.0)
        return self

    def run(self, seconds: float) -> None:
        self.segment.run(self.now + seconds)

    def do(self, command: Command) -> Reply:
        self.requests += 1
        reply = dispatch.do(self.supervisor, Request(self.requests, command), self.now)
        assert reply.id == self.requests
        return reply

    def look(self) -> None:
        self.supervisor.look_at_card(self.now)
        self.run(0.0)

    def view(self, key: int = 0) -> SessionView:
        return next(view for view in self.supervisor.board.views if view.id == key)

    def state(self, key: int = 0) -> SessionState:
        """Where a session stands. A step on its way shows a moment later, all else at once."""
        state, view = self.supervisor.fleet.members[key].session.state, self.supervisor.board.view(key)
        assert state in ON_THE_WAY or (view is not None and view.state is state)
        return state

    def states(self) -> set[SessionState]:
        return {self.state(key) for key in self.supervisor.fleet.members}

    def until(self, look: Callable[[], object], seconds: float = 60.0, step: float = 0.01) -> None:
        """Let time go by until there is something to see."""
        end = self.now + seconds
        while not look():
            assert self.now < end, self.story()
            self.run(step)

    def events(self, kind: str, key: int | None = None) -> list[Event]:
        found, _ = self.supervisor.log.since(0)
        return [event for event in found if event.kind == kind and key in (None, event.session)]

    def story(self) -> str:
        return "\n".join(f"{e.at - EPOCH:9.3f} {e.name} {e.kind}: {e.text}" for e in self.supervisor.log.since(0)[0])


def session(name: str, **settings: object) -> SessionSettings:
    """A session that the lab's concentrator takes, dialled at the start."""
    usual: dict[str, object] = {"user": "anyone", "password": "lab", "autodial": True}
    return SessionSettings(name, **{**usual, **settings})  # type: ignore[arg-type]
