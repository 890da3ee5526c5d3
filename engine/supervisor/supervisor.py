"""Runs all sessions of one card on one event loop, which alone may call it (`engine.run.thread` puts it into a thread).

The loop waits for control frames, timers, netlink and commands. After each of them `_pump` carries what the fleet has
to say to the journal, the devices, the event log and the card.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from engine.api.ending import End, EndKind
from engine.api.values import TRAFFIC_FIELDS, CardView, QueueView, SessionState, SessionView, Severity
from engine.card.changes import LinkWatch
from engine.card.facts import Card, read_card
from engine.card.port import Port
from engine.card.xdp import Loading, XdpError
from engine.datapath import DatapathError
from engine.egress.wiring import Wiring
from engine.host.errors import HostError
from engine.ppp.link import Ipv4Opened
from engine.record.captures import Captures
from engine.record.events import EventLog
from engine.record.journal import GhostError, GhostJournal, padt_frame
from engine.record.narrate import tell
from engine.record.pcapng import CaptureError
from engine.record.plural import plural
from engine.sessions.fleet import Fleet, Member
from engine.sessions.macs import own_mac
from engine.sessions.session import Ended, PppoeOpened, Session, SessionEvent
from engine.settings.options import EngineError, EngineOptions
from engine.settings.values import SessionSettings, Settings
from engine.supervisor import views
from engine.supervisor.board import MAX_SESSIONS, Roster
from engine.wire.ethernet import format_mac, parse_mac
from engine.wire.keys import FourKeys

TICK = 2.0
"""Seconds between looks at the traffic, which counts as a sign of life."""
FAREWELL = 3.0
"""Seconds that sessions get for an orderly end when the engine stops; then they get a PADT only."""
MAX_ROTATIONS = 10
"""How often in a row an unwanted address is given back."""
MAX_SAME = 3
"""How often in a row the address that is to be exchanged is given back."""
PPPOE_OVERHEAD = 8
"""Octets of PPPoE's header and PPP's protocol number."""
VLAN_TAG = 4
"""Octets of a VLAN tag; cards have room for one beyond their MTU."""

ENVIRONMENT_ERRORS = (EngineError, HostError, XdpError, DatapathError, GhostError, CaptureError)
"""What may keep a core from opening; each is one line for the operator."""


@dataclass(slots=True)
class _Record:
    """What the core itself knows of a session."""

    rotations: int = 0
    """How often in a row it gave its address back."""
    leaving: IPv4Address | None = None
    """The address that is to be exchanged for another."""
    rx_packets: int = 0
    """As last seen."""
    keys: FourKeys | None = None
    """Those of the open session, as noted in the journal."""


class Core:
    """All of it, for one card. Other threads may read `roster`, `log`, `card`, `traffic` and `queues`."""

    def __init__(
        self,
        ifname: str,
        settings: Settings,
        options: EngineOptions,
        loop: asyncio.AbstractEventLoop,
        loading: Loading | None,
    ) -> None:
        self.fleet = Fleet(settings.dial, random.random)
        self.log = EventLog()
        self.roster = Roster()
        self.card: CardView | None = None
        self._ifname = ifname
        self._settings = settings
        self._options = options
        self._loop = loop
        self._loading = loading
        self._unwanted = tuple(IPv4Network(network) for network in settings.unwanted_networks)
        self._records: dict[int, _Record] = {}
        self._dirty: set[int] = set()
        """Sessions whose view is out of date."""
        self._port: Port | None = None
        self._port_lock = threading.Lock()
        """Held while counters are read, so that the port isn't closed under the reader."""
        self._wiring: Wiring | None = None
        self._watch: LinkWatch | None = None
        self._journal: GhostJournal | None = None
        self._captures: Captures | None = None
        self._unsent: deque[bytes] = deque()
        self._unfinished: list[FourKeys] = []
        """Sessions that ended while the card was down: owed a PADT."""
        self._timer: asyncio.TimerHandle | None = None
        self._wall_offset = time.time() - time.monotonic()

    # Life

    def open(self) -> None:
        """Take the card and begin to dial; raises one of ENVIRONMENT_ERRORS, and `close` is due all the same."""
        card = read_card(self._ifname)
        if not card.up:
            raise EngineError(f"{self._ifname} is down: bring it up with `ip link set {self._ifname} up`.")
        self._wiring = Wiring(lambda: len(self.fleet.members))
        if self._options.state_folder is not None:
            self._journal = GhostJournal(self._options.state_folder / f"{self._ifname}.ghosts")
        self._captures = Captures(self._options.capture, self.wall, self.tell)
        self._attach(card)
        self._watch = LinkWatch()
        self._loop.add_reader(self._watch.fileno(), self.guarded, self._link_events)
        for settings in self._settings.sessions:
            self._add(settings)
        self.clear_ghosts()
        autodial = [number for number, member in self.fleet if member.session.settings.autodial]
        self.guarded(self.each, self.fleet.dial, autodial)
        self._loop.call_later(TICK, self.guarded, self._tick)

    async def say_goodbye(self) -> None:
        """Terminate-Request, then PADT, for every session; those that don't answer in time get the PADT alone."""
        now = time.monotonic()
        for number in list(self.fleet.members):
            self.fleet.hang_up(number, now)
        self._pump()
        deadline = now + FAREWELL
        while not self.fleet.idle and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        now = time.monotonic()
        for number in list(self.fleet.members):
            self.fleet.stop(number, End(EndKind.HUNG_UP, "Hung up: the program ends."), now)
        self._pump()
        while self._unsent and time.monotonic() < deadline + 1:
            await asyncio.sleep(0.001)
            self._send([])

    def close(self) -> None:
        """Undo `open`, as far as it came."""
        self._detach()
        if self._loading is not None:
            self._loading.close()
        if self._wiring is not None:
            self._wiring.close()
        if self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
        if self._journal is not None:
            self._journal.close()
        if self._captures is not None:
            self._captures.close()

    # What wakes the loop

    def guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Do some work and what it makes necessary. A bug in one session's handling must not stop the others."""
        self._attempt(work, *arguments)
        self._attempt(self._pump)

    def _attempt(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:
            place = f"{type(error).__name__} in {work.__name__}: {error}"
            self.tell(Severity.ERROR, "internal-error", f"Internal error, please report it: {place}")

    def _control_frames(self) -> None:
        if self._port is not None:
            now = time.monotonic()
            for frame in self._port.datapath.receive_control():
                self._attempt(self.fleet.receive, frame, now)

    def _timer_expired(self) -> None:
        self._timer = None
        self.fleet.handle_timer(time.monotonic())

    def _tick(self) -> None:
        """Note which sessions had traffic, and how long their echoes took; see whether the card's queues changed."""
        self._loop.call_later(TICK, self.guarded, self._tick)
        traffic = self.traffic()
        width = len(TRAFFIC_FIELDS)
        for number, member in self.fleet:
            record = self._records[number]
            received = traffic[number * width]
            if received != record.rx_packets:
                record.rx_packets = received
                member.session.note_traffic()
            if member.session.rtt is not None:
                self._dirty.add(number)
        self._card_changed()  # ethtool changes the number of queues without a word on rtnetlink

    # The card

    def _attach(self, card: Card) -> None:
        """Take the card: XDP program, sockets, queue threads. Raises XdpError, DatapathError or HostError."""
        assert self._wiring is not None
        loading, self._loading = self._loading, None
        port = Port(
            card,
            self._wiring.hidden,
            generic=self._options.generic,
            busy_poll=self._options.busy_poll,
            loading=loading,
        )
        with self._port_lock:
            self._port = self._wiring.port = port
        self._show_card(card)
        for _, member in self.fleet:
            # A card that was away may have come back with another address.
            settings = member.session.settings
            member.session.reconfigure(settings, self._own_mac(settings))
            port.expect(settings.datapath)
        self._loop.add_reader(port.datapath.control_fd, self.guarded, self._control_frames)
        how = f"{port.mode} mode, {'zero-copy' if port.datapath.zero_copy else 'copy'}, {plural(card.queues, 'queue')}"
        self.tell(Severity.INFO, "card-ready", f"{self._ifname} is ready: {how}.")
        if port.notice:
            self.tell(Severity.WARNING, "card-notice", port.notice)
        tagged = any(settings.vlans for settings in self._settings.sessions)
        if tagged and card.strips_vlan_tags:
            text = f"{self._ifname} may take VLAN tags off before they can be seen. If tagged sessions get no answer:"
            self.tell(Severity.WARNING, "vlan-offload", f"{text} `ethtool -K {self._ifname} rxvlan off`.")

    def _detach(self) -> None:
        """Give the card back."""
        with self._port_lock:
            port, self._port = self._port, None
        if port is not None:
            assert self._wiring is not None
            self._wiring.port = None
            self._loop.remove_reader(port.datapath.control_fd)
            port.close()

    def _link_events(self) -> None:
        assert self._watch is not None
        if any(event.name == self._ifname for event in self._watch.events()):
            self._card_changed()

    def _card_changed(self) -> None:
        """Look at the card again: give it back and take it anew where that is needed."""
        now = time.monotonic()
        try:
            card = read_card(self._ifname)
        except HostError:
            if self._port is not None:
                self._lose_card(f"{self._ifname} is gone.", now)
                self._detach()
            return
        usable = card.up and card.carrier
        was_usable = self.card is not None and self.card.up
        if self._port is not None and _identity(card) != _identity(self._port.card):
            what = f"it now has {plural(card.queues, 'queue')} and the address {format_mac(card.mac)}"
            self._lose_card(f"{self._ifname} has changed: {what}.", now)
            self._detach()
            was_usable = False
        if self.card is not None and card.mtu != self.card.mtu:
            self._tell_mtu(card.mtu)
        if was_usable and not usable:
            self._lose_card(f"{self._ifname} {'lost its carrier' if card.up else 'is down'}.", now)
        self._show_card(card, up=usable)
        if usable and not was_usable:
            if self._port is None:
                try:
                    self._attach(card)
                except (XdpError, DatapathError, HostError) as error:
                    self.tell(Severity.ERROR, "card-lost", f"{error} Waiting for the card to change.")
                    self._show_card(card, up=False)
                    return
            self._regain_card(now)

    def _lose_card(self, why: str, now: float) -> None:
        self.tell(Severity.ERROR, "card-down", f"{why} Sessions are dialled again when it is back.")
        if self.card is not None:
            self.card = replace(self.card, up=False)
        for number, member in self.fleet:
            if member.session.keys is not None:
                self._unfinished.append(member.session.keys)
            on_the_line = member.session.state not in (SessionState.DOWN, SessionState.FAILED)
            if on_the_line or (member.wanted and member.reason != EndKind.CARD_DOWN):
                self.fleet.stop(number, End(EndKind.CARD_DOWN, why), now)

    def _regain_card(self, now: float) -> None:
        self.tell(Severity.INFO, "card-up", f"{self._ifname} is back.")
        self._send([padt_frame(keys) for keys in self._unfinished])
        if self._journal is not None:
            self._journal_step(self._journal.closed, self._unfinished)
        self._unfinished = []
        for number, member in self.fleet:
            if member.wanted:
                self.fleet.dial(number, now)

    def _show_card(self, card: Card, up: bool | None = None) -> None:
        port = self._port
        self.card = CardView(
            name=self._ifname,
            mac=format_mac(card.mac),
            mtu=card.mtu,
            up=card.up and card.carrier if up is None else up,
            mode=port.mode if port is not None else "",
            zero_copy=port.datapath.zero_copy if port is not None else False,
            driver=card.driver,
            lab=self._options.lab,
            receive_rules=card.receive_rules,
            notice=port.notice if port is not None else "",
        )

    # After each piece of work

    def _pump(self) -> None:
        """Carry the fleet's events and frames where they belong, and set the timer anew."""
        open_now: dict[FourKeys, bool] = {}
        while (item := self.fleet.next_event()) is not None:
            number, event = item
            self._note_keys(self._records[number], event, open_now)
            self._attempt(self._session_event, number, event)
        if self._journal is not None:
            # On disk before LCP's first packet, so that a crash leaves no ghost unknown. Closed ones go first:
            # a concentrator may hand the same session id out again at once.
            self._journal_step(self._journal.closed, [keys for keys, is_open in open_now.items() if not is_open])
            self._journal_step(self._journal.opened, [keys for keys, is_open in open_now.items() if is_open])
        self._send(self.fleet.frames_to_send())
        self._refresh_views()
        self._arm()

    @staticmethod
    def _note_keys(record: _Record, event: SessionEvent, open_now: dict[FourKeys, bool]) -> None:
        if isinstance(event, PppoeOpened):
            record.keys = event.keys
            open_now[event.keys] = True
        elif isinstance(event, Ended) and record.keys is not None:
            # While the card is down a PADT reaches no one: the session stays noted until it does.
            if event.end.kind is not EndKind.CARD_DOWN:
                open_now[record.keys] = False
            record.keys = None

    def _journal_step(self, write: Callable[[list[FourKeys]], None], keys: list[FourKeys]) -> None:
        try:
            if keys:
                write(keys)
        except GhostError as error:
            self.tell(Severity.ERROR, "journal", str(error))

    def _arm(self) -> None:
        due = self.fleet.next_timer()
        if self._timer is not None:
            if due == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self.guarded, self._timer_expired)

    def _send(self, frames: list[bytes]) -> None:
        """Hand frames to the card; what its ring has no room for goes a little later, in order."""
        if self._port is None or not (self._unsent or frames):
            self._unsent.clear()
            return
        waiting = [*self._unsent, *frames] if self._unsent else frames
        taken = self._port.datapath.send_control(waiting)
        self._unsent = deque(waiting[taken:])
        if self._unsent:
            self._loop.call_later(0.001, self._send, [])

    def _session_event(self, number: int, event: SessionEvent) -> None:
        """Tell it, and do what it asks for."""
        assert self._wiring is not None
        self._dirty.add(number)
        member = self.fleet.members.get(number)
        if member is None:
            return
        now = time.monotonic()
        redial_in = member.redial_at - now if member.redial_at is not None else None
        story = tell(event, member.session.ac_name, redial_in)
        if story is not None:
            self.tell(story.severity, story.kind, story.text, number)
        if not member.wanted:
            self._records[number].leaving = None
        if isinstance(event, Ipv4Opened):
            if self._is_unwanted(number, event.agreed.address) or self._is_the_same(number, event.agreed.address):
                return
            self._records[number].rotations = 0
        try:
            self._wiring.follow(number, member.session, event)
        except (HostError, DatapathError, XdpError) as error:
            self.tell(Severity.ERROR, "device", str(error), number)
            self.fleet.end(number, End(EndKind.LOCAL_ERROR, str(error)), now)

    def _is_unwanted(self, number: int, address: IPv4Address) -> bool:
        """Whether an address is in an unwanted network, and so is given back, within limits."""
        if not any(address in network for network in self._unwanted):
            return False
        record = self._records[number]
        record.rotations += 1
        now = time.monotonic()
        if record.rotations > MAX_ROTATIONS:
            text = f"Keeps getting unwanted addresses, the latest {address}: left down. Dial it again by hand."
            self.tell(Severity.ERROR, "unwanted-address", text, number)
            record.rotations = 0
            self.fleet.hang_up(number, now)
        else:
            text = f"{address} is in an unwanted network: given back ({record.rotations} of {MAX_ROTATIONS})."
            self.fleet.end(number, End(EndKind.UNWANTED_ADDRESS, text), now)
        return True

    def _is_the_same(self, number: int, address: IPv4Address) -> bool:
        """Whether this is the address that is to be exchanged, and so is given back, within limits; tells the end."""
        record = self._records[number]
        if address == record.leaving and record.rotations < MAX_SAME:
            record.rotations += 1
            end = End(EndKind.HUNG_UP, f"Got {address} again ({record.rotations} of {MAX_SAME}).")
            self.fleet.redial(number, time.monotonic(), end)
            return True
        if address == record.leaving:
            self.tell(Severity.WARNING, "rotated", f"Still {address}: no other was given.", number)
        elif record.leaving is not None:
            self.tell(Severity.INFO, "rotated", f"New address {address}, was {record.leaving}.", number)
        record.leaving = None
        return False

    # Commands

    def rotate(self, number: int, now: float) -> None:
        """Exchange a session's IPv4 address for another; a session without one is just dialled again."""
        ipv4 = self.fleet.members[number].session.ipv4
        self._records[number].leaving = ipv4.address if ipv4 is not None else None
        self.fleet.redial(number, now, End(EndKind.HUNG_UP, "Hung up for another address."))

    def each(self, action: Callable[[int, float], None], numbers: Iterable[int]) -> None:
        """Let the fleet do the same to several sessions."""
        now = time.monotonic()
        for number in numbers:
            if number in self.fleet.members:
                self._dirty.add(number)
                self._attempt(action, number, now)

    def add(self, settings: SessionSettings) -> None:
        """Add a session, and dial it if it is to be dialled at the start."""
        number = self._add(settings)
        if number is not None and settings.autodial:
            self.fleet.dial(number, time.monotonic())

    def _add(self, settings: SessionSettings) -> int | None:
        number = self.roster.free_number()
        if settings.name in self.roster:
            self.tell(Severity.ERROR, "duplicate-name", f"There is already a session called {settings.name}.")
            return None
        if number is None:
            self.tell(Severity.ERROR, "too-many", f"No room for another session: {MAX_SESSIONS} is the limit.")
            return None
        assert self._captures is not None
        self._expect(settings)
        session = Session(settings, self._own_mac(settings), os.urandom, pado_window=self._settings.dial.pado_window)
        self._records[number] = _Record()
        self.fleet.add(number, session, time.monotonic())
        self._captures.joined(number, session)
        self._check_size(settings)
        self.roster.add(self._view(number, self.fleet.members[number]))
        return number

    def edit(self, number: int, settings: SessionSettings) -> None:
        """Replace a session's settings, from its next dial on."""
        if number not in self.fleet.members:
            return
        if self.roster.number_of(settings.name) not in (None, number):
            self.tell(Severity.ERROR, "duplicate-name", f"There is already a session called {settings.name}.")
            return
        self._expect(settings)
        session = self.fleet.members[number].session
        session.reconfigure(settings, self._own_mac(settings))
        self._dirty.add(number)

    def remove(self, number: int) -> None:
        """Hang a session up and forget it."""
        assert self._wiring is not None
        if number not in self.fleet.members:
            return
        name = self.fleet.members[number].session.settings.name
        self.fleet.remove(number, time.monotonic())
        self._pump()
        self._wiring.remove(number)
        self._dirty.discard(number)
        del self._records[number]
        self.roster.remove(number)
        self.tell(Severity.INFO, "removed", f"Session {name} was removed.")

    def clear_ghosts(self) -> None:
        """End the sessions that an earlier run left open at the concentrator."""
        ghosts = self._journal.ghosts() if self._journal is not None else []
        if self._journal is not None and ghosts:
            self._send([padt_frame(keys) for keys in ghosts])
            self._journal_step(self._journal.closed, ghosts)
            self.tell(
                Severity.WARNING, "ghosts", f"Ended {plural(len(ghosts), 'session')} that an earlier run had left open."
            )

    def capture(self, numbers: Iterable[int], path: str | None) -> None:
        """Write these sessions' control frames to a new file, or stop with None."""
        assert self._captures is not None
        sessions = [(n, self.fleet.members[n].session) for n in numbers if n in self.fleet.members]
        self._dirty.update(number for number, _ in sessions)
        if path is None:
            self._captures.stop(sessions)
            self.tell(Severity.INFO, "capture", "Capture stopped.")
            return
        try:
            self._captures.start(sessions, Path(path))
            self.tell(Severity.INFO, "capture", f"Control frames of {plural(len(sessions), 'session')} go to {path}.")
        except CaptureError as error:
            self.tell(Severity.ERROR, "capture", str(error))

    def _expect(self, settings: SessionSettings) -> None:
        if self._port is not None:
            self._port.expect(settings.datapath)

    def _own_mac(self, settings: SessionSettings) -> bytes:
        """The session's MAC address, which the card will listen to from now on."""
        assert self.card is not None
        card_mac = parse_mac(self.card.mac)
        mac = own_mac(settings, card_mac)
        if mac != card_mac and self._port is not None and self._port.hear_other_macs():
            self.card = replace(self.card, notice=self._port.notice)
            text = f"{self._ifname} is in promiscuous mode now, for sessions with MAC addresses of their own."
            self.tell(Severity.INFO, "promiscuous", text)
        return mac

    def _check_size(self, settings: SessionSettings) -> None:
        """Warn where the card's MTU is too small for the session's packets, which would vanish without a trace."""
        assert self.card is not None
        needed = _mtu_needed(settings)
        if self.card.mtu < needed:
            text = f"{self._ifname} has an MTU of {self.card.mtu}, but {settings.name} needs {needed}: lower its mru,"
            self.tell(Severity.WARNING, "card-mtu", f"{text} or `ip link set {self._ifname} mtu {needed}`.")

    def _tell_mtu(self, mtu: int) -> None:
        """The card's MTU was changed."""
        text = f"{self._ifname} has an MTU of {mtu} now."
        needed = [need for _, m in self.fleet if (need := _mtu_needed(m.session.settings)) > mtu]
        if needed:
            remedy = f"`ip link set {self._ifname} mtu {max(needed)}`"
            text += (
                f" That is too small for {plural(len(needed), 'session')}, whose largest packets are lost: {remedy}."
            )
        self.tell(Severity.WARNING if needed else Severity.INFO, "card-mtu", text)

    # What others see

    def wall(self, at: float) -> float:
        """The engine's time as Unix time."""
        return at + self._wall_offset

    def tell(self, severity: Severity, kind: str, text: str, number: int | None = None) -> None:
        """Put an event into the log."""
        member = self.fleet.members.get(number) if number is not None else None
        name = member.session.settings.name if member is not None else ""
        self.log.add(time.time(), severity, kind, text, number, name)

    def _view(self, number: int, member: Member) -> SessionView:
        assert self._wiring is not None
        assert self._captures is not None
        return views.session_view(
            number, member, self._wiring.device(number), self._wiring.path(number), number in self._captures
        )

    def _refresh_views(self) -> None:
        for number in self._dirty:
            member = self.fleet.members.get(number)
            if member is not None:
                self.roster.update(self._view(number, member))
        self._dirty.clear()

    def traffic(self) -> array[int]:
        """As in `Snapshot.traffic`."""
        with self._port_lock:
            if self._port is not None:
                return self._port.traffic(self.roster.numbers)
        return array("Q", bytes(8 * len(TRAFFIC_FIELDS) * self.roster.numbers))

    def queues(self) -> tuple[QueueView, ...]:
        """As in `Snapshot.queues`."""
        with self._port_lock:
            return self._port.queues() if self._port is not None else ()


def _identity(card: Card) -> tuple[int, int, bytes]:
    """What can't change under our feet."""
    return card.index, card.queues, card.mac


def _mtu_needed(settings: SessionSettings) -> int:
    """The card's MTU that a session needs for its largest packets."""
    return settings.mru + PPPOE_OVERHEAD + VLAN_TAG * max(len(settings.vlans) - 1, 0)
