"""The engine: one background thread that runs every session of one card.

The thread's event loop waits for control frames, timers, netlink and commands; after each of them `_pump` carries what
the fleet has to say to the card, the devices, the journal and the event log. Other threads only read immutable values
and post commands (`engine.api.EngineApi`); the engine never waits for them.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from engine import host, views
from engine.api import (
    TRAFFIC_FIELDS,
    CardView,
    Details,
    Event,
    QueueView,
    SessionState,
    SessionView,
    Severity,
    Snapshot,
)
from engine.datapath import DatapathError
from engine.devices import Devices
from engine.ending import End, EndKind
from engine.eventlog import EventLog
from engine.fleet import Fleet
from engine.ghosts import GhostError, GhostJournal, padt_frame
from engine.host import HostError
from engine.macs import own_mac
from engine.narrate import tell
from engine.pcapng import CaptureError, CaptureFile
from engine.port import Port
from engine.ppp.link import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, MtuVerified
from engine.session import Ended, FourKeys, PppoeOpened, SeenFrame, Session, SessionEvent
from engine.settings import SessionSettings, Settings
from engine.xdp import Loading, XdpError

SWITCH_INTERVAL = 0.0005
"""Seconds between Python's thread switches: the default of 5 ms would delay the engine beside a busy screen."""
TICK = 2.0
"""Seconds between looks at the traffic, which counts as a sign of life."""
FAREWELL = 3.0
"""Seconds that sessions get for an orderly end when the engine stops; then they get a PADT only."""
MAX_SESSIONS = 16384
PPPOE_OVERHEAD = 8
"""Octets of PPPoE's header and PPP's protocol number."""
VLAN_TAG = 4
"""Octets of a VLAN tag; cards have room for one beyond their MTU."""
MAX_ROTATIONS = 10
"""How often in a row an unwanted address is given back."""


class EngineError(Exception):
    """The engine can't run: one line for the operator."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine runs; what it dials is in `Settings`."""

    generic: bool = False
    """Don't try the card's native XDP mode."""
    busy_poll: bool = False
    lab: bool = False
    state_folder: Path | None = None
    """Where open sessions are noted for the next start; None notes nothing."""
    capture: Path | None = None
    """Write every session's control frames to this pcapng file."""
    command_prefix: str = ""
    """What comes before a command line that is to use a session, as for another network namespace."""
    try_url: str = ""
    """Where a session can be tried out."""


@dataclass(slots=True)
class _Record:
    """What the engine itself knows of a session."""

    capture: CaptureFile | None = None
    rotations: int = 0
    rx_packets: int = 0
    keys: FourKeys | None = None
    """Those of the open session, as noted in the journal."""


class Engine:
    """All of it, for one card. Implements `engine.api.EngineApi`."""

    def __init__(
        self,
        ifname: str,
        settings: Settings,
        options: EngineOptions | None = None,
        loading: Loading | None = None,
    ) -> None:
        """Nothing happens before `start`. `loading` is the XDP program being loaded already, to save time."""
        self._ifname = ifname
        self._settings = settings
        self._options = options or EngineOptions()
        self._loading = loading
        self._log = EventLog()
        self._fleet = Fleet(settings.dial, random.random)
        self._records: dict[int, _Record] = {}
        self._numbers: dict[str, int] = {}
        """Sessions by name."""
        self._views: list[SessionView] = []
        self._place_of: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._unwanted = tuple(IPv4Network(network) for network in settings.unwanted_networks)
        self._next_number = 0
        self._card: CardView | None = None
        self._port: Port | None = None
        self._port_lock = threading.Lock()
        """Held while counters are read, so that the port isn't closed under the reader."""
        self._devices: Devices
        self._journal: GhostJournal | None = None
        self._capture_all: CaptureFile | None = None
        self._unsent: deque[bytes] = deque()
        self._unfinished: list[FourKeys] = []
        """Sessions that ended while the card was down: owed a PADT."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="souppp-engine", daemon=True)
        self._ready = threading.Event()
        self._failure: str | None = None
        self._leaving = asyncio.Event()
        self._wall_offset = time.time() - time.monotonic()

    # Life

    def start(self) -> None:
        """Start the thread; it takes the card while the caller does something else."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._thread.start()

    def wait_ready(self) -> None:
        """Return when the card is ours and dialling has begun; raises EngineError if that failed."""
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise EngineError(self._failure)

    def stop(self) -> None:
        """End every session and give the card back; returns when nothing of us is left. A second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        try:
            self._open()
        except (EngineError, HostError, XdpError, DatapathError, GhostError, CaptureError) as error:
            self._failure = str(error)
        except Exception as error:
            self._failure = f"Internal error while starting, please report it: {type(error).__name__}: {error}"
        finally:
            self._ready.set()
        try:
            if self._failure is None:
                await self._leaving.wait()
                await self._say_goodbye()
        finally:
            self._close()

    def _open(self) -> None:
        card = host.card(self._ifname)
        if not card.up:
            raise EngineError(f"{self._ifname} is down: bring it up with `ip link set {self._ifname} up`.")
        self._devices = Devices()
        if self._options.state_folder is not None:
            self._journal = GhostJournal(self._options.state_folder / f"{self._ifname}.ghosts")
        if self._options.capture is not None:
            self._capture_all = CaptureFile(self._options.capture)
        self._attach(card)
        self._watch = host.LinkWatch()
        self._loop.add_reader(self._watch.fileno(), self._guarded, self._link_events)
        now = time.monotonic()
        for settings in self._settings.sessions:
            self._add(settings)
        self._bury_ghosts()
        for number, member in self._fleet:
            if member.session.settings.autodial:
                self._fleet.dial(number, now)
        self._pump()
        self._loop.call_later(TICK, self._tick)

    def _attach(self, card: host.Card) -> None:
        """Take the card: XDP program, sockets, queue threads."""
        loading, self._loading = self._loading, None
        port = Port(card, generic=self._options.generic, busy_poll=self._options.busy_poll, loading=loading)
        with self._port_lock:
            self._port = port
        for _, member in self._fleet:
            # A card that was away may have come back with another address.
            settings = member.session.settings
            member.session.reconfigure(settings, self._own_mac(settings))
        self._show_card(card)
        self._loop.add_reader(port.datapath.control_fd, self._guarded, self._control_frames)
        how = f"{port.mode} mode, {'zero-copy' if port.datapath.zero_copy else 'copy'}, {card.queues} queues"
        self._tell(Severity.INFO, "card-ready", f"{self._ifname} is ready: {how}.")
        if port.notice:
            self._tell(Severity.WARNING, "card-notice", port.notice)

    def _detach(self) -> None:
        """Give the card back."""
        with self._port_lock:
            port, self._port = self._port, None
        if port is not None:
            self._loop.remove_reader(port.datapath.control_fd)
            port.close()

    async def _say_goodbye(self) -> None:
        """Terminate-Request, then PADT, for every session; those that don't answer in time get the PADT alone."""
        now = time.monotonic()
        for number in list(self._fleet.members):
            self._fleet.hang_up(number, now)
        self._pump()
        deadline = now + FAREWELL
        while not self._fleet.idle and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        now = time.monotonic()
        for number in list(self._fleet.members):
            self._fleet.stop(number, End(EndKind.HUNG_UP, "Hung up: the program ends."), now)
        self._pump()
        while self._unsent and time.monotonic() < deadline + 1:
            await asyncio.sleep(0.001)
            self._send([])

    def _close(self) -> None:
        """Undo `_open`, as far as it came."""
        self._detach()
        if self._loading is not None:
            self._loading.close()
        if hasattr(self, "_devices"):
            self._devices.close()
        if hasattr(self, "_watch"):
            self._loop.remove_reader(self._watch.fileno())
            self._watch.close()
        if self._journal is not None:
            self._journal.close()
        for capture in {self._capture_all, *(record.capture for record in self._records.values())}:
            if capture is not None:
                capture.close()

    # What wakes the thread

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Do some work and what it makes necessary. A bug in one session's handling must not stop the others."""
        try:
            work(*arguments)
            self._pump()
        except Exception as error:
            place = f"{type(error).__name__} in {work.__name__}: {error}"
            self._tell(Severity.ERROR, "internal-error", f"Internal error, please report it: {place}")

    def _control_frames(self) -> None:
        if self._port is not None:
            now = time.monotonic()
            for frame in self._port.datapath.receive_control():
                self._fleet.receive_frame(frame, now)

    def _timer_expired(self) -> None:
        self._timer = None
        self._fleet.handle_timer(time.monotonic())

    def _tick(self) -> None:
        """Note which sessions had traffic, and how long their echoes took."""
        self._loop.call_later(TICK, self._tick)
        traffic = self._traffic()
        width = len(TRAFFIC_FIELDS)
        for number, member in self._fleet:
            record = self._records[number]
            received = traffic[number * width]
            if received != record.rx_packets:
                record.rx_packets = received
                member.session.note_traffic()
            if member.session.rtt is not None:
                self._dirty.add(number)
        self._refresh_views()

    def _link_events(self) -> None:
        for event in self._watch.events():
            if event.name == self._ifname:
                self._link_event(event)

    def _link_event(self, event: host.LinkEvent) -> None:
        """The card changed: give it back and take it again where that is needed."""
        now = time.monotonic()
        try:
            card = host.card(self._ifname)
        except HostError:
            self._lose_card(f"{self._ifname} is gone.", now)
            self._detach()
            return
        usable = card.up and card.carrier
        was_usable = self._card is not None and self._card.up
        if self._port is not None and card.queues != self._port.card.queues:
            self._tell(Severity.WARNING, "card-changed", f"{self._ifname} now has {card.queues} queues: starting over.")
            self._lose_card("The card's queues changed.", now)
            self._detach()
            was_usable = False
        if was_usable and not usable:
            self._lose_card(f"{self._ifname} is down." if not card.up else f"{self._ifname} lost its carrier.", now)
        self._show_card(card, up=usable)
        if usable and not was_usable:
            if self._port is None:
                try:
                    self._attach(card)
                except (XdpError, DatapathError, HostError) as error:
                    self._tell(Severity.ERROR, "card-lost", f"{error} Waiting for the card to change.")
                    self._show_card(card, up=False)
                    return
            self._regain_card(now)

    def _lose_card(self, why: str, now: float) -> None:
        self._tell(Severity.ERROR, "card-down", f"{why} Sessions are dialled again when it is back.")
        if self._card is not None:
            self._card = replace(self._card, up=False)
        for number, member in self._fleet:
            if member.session.keys is not None:
                self._unfinished.append(member.session.keys)
            if member.session.state not in (SessionState.DOWN, SessionState.FAILED) or member.wanted:
                self._fleet.stop(number, End(EndKind.CARD_DOWN, why), now)

    def _regain_card(self, now: float) -> None:
        self._tell(Severity.INFO, "card-up", f"{self._ifname} is back.")
        self._send([padt_frame(keys) for keys in self._unfinished])
        if self._journal is not None and self._unfinished:
            self._journal_step(self._journal.closed, self._unfinished)
        self._unfinished = []
        for number, member in self._fleet:
            if member.wanted:
                self._fleet.dial(number, now)

    def _show_card(self, card: host.Card, up: bool | None = None) -> None:
        port = self._port
        self._card = CardView(
            name=self._ifname,
            mac=card.mac.hex(":"),
            mtu=card.mtu,
            up=card.up and card.carrier if up is None else up,
            mode=port.mode if port is not None else "",
            zero_copy=port.datapath.zero_copy if port is not None else False,
            driver=card.driver,
            lab=self._options.lab,
            notice=port.notice if port is not None else "",
        )

    # After each piece of work

    def _pump(self) -> None:
        """Carry the fleet's events and frames where they belong, and set the timer anew."""
        open_now: dict[FourKeys, bool] = {}
        while (item := self._fleet.next_event()) is not None:
            number, event = item
            record = self._records[number]
            if isinstance(event, PppoeOpened):
                record.keys = event.keys
                open_now[event.keys] = True
            elif isinstance(event, Ended) and record.keys is not None:
                if event.end.kind is not EndKind.CARD_DOWN:
                    open_now[record.keys] = False
                record.keys = None
            self._session_event(number, event)
        if self._journal is not None and open_now:
            # On disk before LCP's first packet, so that a crash leaves no ghost unknown. Closed ones go first:
            # a concentrator may hand the same session id out again at once.
            self._journal_step(self._journal.closed, [keys for keys, is_open in open_now.items() if not is_open])
            self._journal_step(self._journal.opened, [keys for keys, is_open in open_now.items() if is_open])
        self._send(self._fleet.frames_to_send(time.monotonic()))
        self._refresh_views()
        self._arm()

    def _journal_step(self, write: Callable[[list[FourKeys]], None], keys: list[FourKeys]) -> None:
        try:
            if keys:
                write(keys)
        except GhostError as error:
            self._tell(Severity.ERROR, "journal", str(error))

    def _arm(self) -> None:
        due = self._fleet.next_timer()
        if self._timer is not None:
            if due == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._guarded, self._timer_expired)

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
        self._dirty.add(number)
        member = self._fleet.members.get(number)
        if member is None:
            return
        now = time.monotonic()
        session = member.session
        redial_in = member.redial_at - now if member.redial_at is not None else None
        story = tell(event, session.ac_name, redial_in)
        if story is not None:
            self._tell(story.severity, story.kind, story.text, number)
        try:
            self._plug(number, session, event)
        except (HostError, DatapathError) as error:
            self._tell(Severity.ERROR, "device", str(error), number)
            self._fleet.end(number, End(EndKind.LOCAL_ERROR, str(error)), now)

    def _plug(self, number: int, session: Session, event: SessionEvent) -> None:
        """Keep the data path and the session's device in step with the session."""
        match event:
            case PppoeOpened(keys) if self._port is not None:
                self._port.plug(number, keys, -1, session.settings.mru)
            case Ipv4Opened(agreed):
                if any(agreed.address in network for network in self._unwanted):
                    self._rotate(number, agreed.address)
                    return
                self._records[number].rotations = 0
                device = self._device(number, session)
                self._devices.set_ipv4(number, agreed.address, agreed.peer, session.mtu or session.settings.mru)
                self._tell(Severity.DEBUG, "device-up", f"{device} has address {agreed.address}.", number)
            case Ipv4Closed():
                self._devices.clear_ipv4(number)
            case Ipv6Opened(agreed):
                self._device(number, session)
                self._devices.set_ipv6(number, agreed.address, session.mtu or session.settings.mru)
            case Ipv6Closed():
                self._devices.clear_ipv6(number)
            case MtuVerified(mtu) if number in self._devices:
                self._devices.set_mtu(number, mtu)
                self._connect(number, session)
            case Ended():
                if self._port is not None:
                    self._port.unplug(number)
                self._devices.remove(number)

    def _device(self, number: int, session: Session) -> str:
        """The session's device, made and connected to the data path if it isn't there yet."""
        if number not in self._devices:
            self._devices.create(number, session.settings.device or f"soup{number}")
            self._connect(number, session)
        return self._devices.name(number)

    def _connect(self, number: int, session: Session) -> None:
        if self._port is not None and session.keys is not None:
            mtu = session.mtu or session.settings.mru
            self._port.plug(number, session.keys, self._devices.fd(number), mtu)

    def _rotate(self, number: int, address: IPv4Address) -> None:
        """Give an unwanted address back, within limits."""
        record = self._records[number]
        record.rotations += 1
        if record.rotations > MAX_ROTATIONS:
            text = f"Keeps getting unwanted addresses, the latest {address}: left down. Dial it again by hand."
            self._tell(Severity.ERROR, "unwanted-address", text, number)
            self._fleet.hang_up(number, time.monotonic())
            return
        text = f"The address {address} is in an unwanted network: given back ({record.rotations} of {MAX_ROTATIONS})."
        self._fleet.end(number, End(EndKind.UNWANTED_ADDRESS, text), time.monotonic())

    # Sessions come and go

    def _add(self, settings: SessionSettings) -> int | None:
        if settings.name in self._numbers:
            self._tell(Severity.ERROR, "duplicate-name", f"There is already a session called {settings.name}.")
            return None
        number = self._free_number()
        if number is None:
            self._tell(Severity.ERROR, "too-many", f"No room for another session: {MAX_SESSIONS} is the limit.")
            return None
        session = self._make_session(settings)
        self._check_size(settings)
        self._records[number] = record = _Record()
        self._fleet.add(number, session, time.monotonic())
        if self._capture_all is not None:
            self._start_capture(number, record, self._capture_all)
        self._numbers[settings.name] = number
        self._place_of[number] = len(self._views)
        self._views = [*self._views, self._view(number)]
        return number

    def _make_session(self, settings: SessionSettings) -> Session:
        return Session(settings, self._own_mac(settings), os.urandom, pado_window=self._settings.dial.pado_window)

    def _own_mac(self, settings: SessionSettings) -> bytes:
        """The session's MAC address, which the card will listen to from now on."""
        assert self._port is not None
        card_mac = self._port.card.mac
        mac = own_mac(settings, card_mac)
        if mac != card_mac:
            self._port.hear_other_macs()
        return mac

    def _check_size(self, settings: SessionSettings) -> None:
        """Warn where the card's MTU is too small for the session's packets, which would vanish without a trace."""
        assert self._card is not None
        needed = settings.mru + PPPOE_OVERHEAD + VLAN_TAG * max(len(settings.vlans) - 1, 0)
        if self._card.mtu < needed:
            text = f"{self._ifname} has an MTU of {self._card.mtu}, but {settings.name} needs {needed}: lower its mru,"
            self._tell(Severity.WARNING, "card-mtu", f"{text} or `ip link set {self._ifname} mtu {needed}`.")

    def _free_number(self) -> int | None:
        """A number is not used again while there are fresh ones: no reader takes one session for another."""
        if self._next_number < MAX_SESSIONS:
            self._next_number += 1
            return self._next_number - 1
        return next((n for n in range(MAX_SESSIONS) if n not in self._records), None)

    def _remove(self, number: int) -> None:
        if number in self._fleet.members:
            name = self._fleet.members[number].session.settings.name
            self._fleet.remove(number, time.monotonic())
            self._pump()
            self._forget(number)
            self._tell(Severity.INFO, "removed", f"Session {name} was removed.")

    def _forget(self, number: int) -> None:
        if self._port is not None:
            self._port.unplug(number)
        self._devices.remove(number)
        del self._records[number]
        self._dirty.discard(number)
        self._numbers = {name: n for name, n in self._numbers.items() if n != number}
        views_left = [view for view in self._views if view.id != number]
        self._place_of = {view.id: place for place, view in enumerate(views_left)}
        self._views = views_left

    def _edit(self, number: int, settings: SessionSettings) -> None:
        member = self._fleet.members.get(number)
        if member is None:
            return
        if self._numbers.get(settings.name, number) != number:
            self._tell(Severity.ERROR, "duplicate-name", f"There is already a session called {settings.name}.")
            return
        mac = self._own_mac(settings) if self._port is not None else member.session.own_mac
        self._numbers = {name: n for name, n in self._numbers.items() if n != number} | {settings.name: number}
        member.session.reconfigure(settings, mac)
        self._dirty.add(number)

    def _bury_ghosts(self) -> None:
        """End the sessions that an earlier run left open at the concentrator."""
        if self._journal is None:
            return
        ghosts = self._journal.ghosts()
        if ghosts:
            self._send([padt_frame(keys) for keys in ghosts])
            self._journal_step(self._journal.closed, ghosts)
            text = f"Ended {len(ghosts)} sessions that an earlier run had left open."
            self._tell(Severity.WARNING, "ghosts", text if len(ghosts) > 1 else text.replace("sessions", "session"))

    # Captures

    def _capture(self, numbers: list[int], path: str | None) -> None:
        capture = None
        if path is not None:
            try:
                capture = CaptureFile(Path(path))
            except CaptureError as error:
                self._tell(Severity.ERROR, "capture", str(error))
                return
        for number in numbers:
            if number in self._records:
                self._start_capture(number, self._records[number], capture)
                self._dirty.add(number)
        text = f"Control frames of {len(numbers)} sessions go to {path}." if path else "Capture stopped."
        self._tell(Severity.INFO, "capture", text)

    def _start_capture(self, number: int, record: _Record, capture: CaptureFile | None) -> None:
        previous, record.capture = record.capture, capture
        session = self._fleet.members[number].session
        name = session.settings.name

        def tap(seen: SeenFrame) -> None:
            if capture is None or capture.full:
                return
            try:
                capture.write(seen.frame, self._wall(seen.at), seen.sent, name)
            except CaptureError as error:
                self._tell(Severity.ERROR, "capture", str(error))
            if capture.full:
                self._tell(Severity.WARNING, "capture", "The capture file has reached its limit and was closed.")

        session.tap = tap if capture is not None else None
        in_use = {other.capture for other in self._records.values()} | {self._capture_all}
        if previous is not None and previous not in in_use:
            previous.close()

    # Views

    def _wall(self, at: float) -> float:
        return at + self._wall_offset

    def _tell(self, severity: Severity, kind: str, text: str, number: int | None = None) -> None:
        member = self._fleet.members.get(number) if number is not None else None
        name = member.session.settings.name if member is not None else ""
        self._log.add(time.time(), severity, kind, text, number, name)

    def _view(self, number: int) -> SessionView:
        device = self._devices.name(number) if number in self._devices else None
        capturing = self._records[number].capture is not None
        return views.session_view(number, self._fleet.members[number], device, capturing)

    def _refresh_views(self) -> None:
        for number in self._dirty:
            if number in self._place_of:
                self._views[self._place_of[number]] = self._view(number)
        self._dirty.clear()

    def _traffic(self) -> array[int]:
        with self._port_lock:
            if self._port is not None:
                return self._port.traffic(self._next_number)
        return array("Q", bytes(8 * len(TRAFFIC_FIELDS) * self._next_number))

    def _queues(self) -> tuple[QueueView, ...]:
        with self._port_lock:
            return self._port.queues() if self._port is not None else ()

    # EngineApi: reads

    def snapshot(self) -> Snapshot:
        """See `EngineApi.snapshot`."""
        assert self._card is not None
        sessions = tuple(self._views)
        up = next((view for view in sessions if view.state is SessionState.UP and view.device), None)
        return Snapshot(
            at=time.monotonic(),
            card=self._card,
            queues=self._queues(),
            sessions=sessions,
            traffic=self._traffic(),
            events=self._log.last,
            try_line=self._try_line(up) if up is not None else "",
        )

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """See `EngineApi.events_since`."""
        return self._log.since(seq)

    def details(self, session: int) -> Details | None:
        """See `EngineApi.details`."""
        member = self._fleet.members.get(session)
        if member is None:
            return None
        view = views.session_view(session, member, None, False)
        if session in self._devices:
            view = replace(view, device=self._devices.name(session))
        return views.details(session, member, time.monotonic(), self._wall, self._usage(view))

    def settings(self, session: int) -> SessionSettings | None:
        """See `EngineApi.settings`."""
        member = self._fleet.members.get(session)
        return member.session.settings if member is not None else None

    def _try_line(self, view: SessionView) -> str:
        url = self._options.try_url or "http://deb.debian.org/"
        return f"{self._options.command_prefix}curl --interface {view.device} {url}"

    def _usage(self, view: SessionView) -> tuple[tuple[str, str], ...]:
        if view.device is None or view.ipv4 is None:
            return ()
        prefix = self._options.command_prefix
        return (
            ("fetch a page through it", self._try_line(view)),
            ("bind to its address", f"{prefix}curl --interface {view.ipv4} {self._options.try_url}".rstrip()),
            ("ping through it", f"{prefix}ping -I {view.device} {view.ipv4_peer or view.ipv4}"),
            ("route a network through it", f"{prefix}ip route add NETWORK dev {view.device}"),
            ("watch its packets", f"{prefix}tcpdump -ni {view.device}"),
        )

    # EngineApi: commands

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._guarded, work, *arguments)

    def _each(self, action: Callable[[int, float], None], numbers: list[int]) -> None:
        now = time.monotonic()
        for number in numbers:
            if number in self._fleet.members:
                action(number, now)
                self._dirty.add(number)

    def dial(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.dial`."""
        self._post(self._each, self._fleet.dial, list(sessions))

    def hang_up(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.hang_up`."""
        self._post(self._each, self._fleet.hang_up, list(sessions))

    def redial(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.redial`."""
        self._post(self._each, self._fleet.redial, list(sessions))

    def add(self, settings: SessionSettings) -> None:
        """See `EngineApi.add`."""
        self._post(self._add_and_dial, settings)

    def _add_and_dial(self, settings: SessionSettings) -> None:
        number = self._add(settings)
        if number is not None and settings.autodial:
            self._fleet.dial(number, time.monotonic())

    def edit(self, session: int, settings: SessionSettings) -> None:
        """See `EngineApi.edit`."""
        self._post(self._edit, session, settings)

    def remove(self, sessions: Iterable[int]) -> None:
        """See `EngineApi.remove`."""
        for number in list(sessions):
            self._post(self._remove, number)

    def clear_ghosts(self) -> None:
        """See `EngineApi.clear_ghosts`."""
        self._post(self._bury_ghosts)

    def capture(self, sessions: Iterable[int], path: str | None) -> None:
        """See `EngineApi.capture`."""
        self._post(self._capture, list(sessions), path)
