"""The card as the loop has it: what a supervisor may ask of it, and the counters that other threads read."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from engine.api.values import TRAFFIC_FIELDS, QueueView, Severity
from engine.card.facts import Card, card_name_at, carrier_at, read_card
from engine.card.objection import joining
from engine.card.offloads import STRIPPING, Offloads, words
from engine.card.port import Port
from engine.card.xdp import Loading
from engine.egress.carriers import Carriers
from engine.egress.device import DeviceEgress
from engine.host.errors import HostError
from engine.run.counting import added, joined
from engine.settings.options import EngineOptions
from engine.settings.values import DatapathChoice, XdpMode
from engine.supervisor.handed import Taken
from engine.wire.place import Place

GONE = "is gone"
RETRY = 0.001
"""Seconds until frames that the card's ring had no room for are offered to it again."""


class CardLine:
    """Implements `engine.supervisor.handed.Line`. All but `traffic` and `queues` belong to the loop's thread."""

    def __init__(
        self,
        name: str,
        options: EngineOptions,
        xdp: XdpMode,
        egress: DeviceEgress,
        loop: asyncio.AbstractEventLoop,
        control_frames: Callable[[], None],
        loading: Loading | None,
        tagged: Callable[[], bool],
        tell: Callable[[Severity, str, str], None],
    ) -> None:
        """`control_frames` is called when there are some to `receive`; `loading` is the program on its way already.

        `tagged` says whether any session has VLAN tags; `tell` takes what has become of the card's offloads.
        """
        self.name = name
        """What the card is called, as far as that is known."""
        self.index: int | None = None
        """The card's, while it is ours: it is the same whatever it is called."""
        self.how_it_went = GONE
        """What is said of it when it is there no more."""
        self.hear: Callable[[], object] = bool
        """Takes in the kernel's latest news of links, which may say how it went."""
        self._options = options
        self._egress = egress
        self._loop = loop
        self._control_frames = control_frames
        self._loading = loading
        self._tagged = tagged
        self._tell = tell
        self._fix = options.fix_card
        self._xdp = xdp
        self._offloads = Offloads(name, self._note())
        self._port: Port | None = None
        self._lock = threading.Lock()
        """Held while counters are read, so that the port isn't closed under the reader."""
        self._unsent: deque[bytes] = deque()
        self._traffic_before = array("Q")
        self._queues_before: tuple[QueueView, ...] = ()
        """What was counted while we had the card earlier: counters never go back."""
        self._counted = False
        """Whether that is anything."""

    def _note(self) -> Path | None:
        folder = self._options.state_folder
        return folder / f"{self.name}.offloads" if folder is not None else None

    def look(self) -> Card:
        """See `Line.look`."""
        if self.index is None:
            return read_card(self.name)
        name = card_name_at(self.index, self.name)
        if name is None:
            self.hear()
            raise HostError(f"{self.name} {self.how_it_went}.")
        if name != self.name:
            self.name = name
            self._offloads.rename(name, self._note())
            if self._port is not None:
                self._port.rename(name)
        return read_card(name)

    def carrier(self) -> int | None:
        """See `engine.card.facts.carrier_at`; any thread. None without a card."""
        index = self.index
        return carrier_at(index) if index is not None else None

    def grow(self, card: Card) -> None:
        """See `Line.grow`."""
        if self._port is not None:
            with self._lock:
                self._port.grow(card)

    @property
    def bare(self) -> bool:
        """Whether the card is ours, and has lost our program."""
        return self._port is not None and self._port.program.taken_off

    def mend(self) -> bool:
        """See `Line.mend`."""
        if self._port is None or not self.bare:
            return False
        self._port.program.put_back(self.name)
        return True

    def take(self, card: Card) -> Taken:
        """See `Line.take`."""
        self.index, self.how_it_went = None, GONE
        self._recover()
        if self._fix and self._tagged():
            self._switch_off(STRIPPING)
        with self._offloads.watched() as gone:
            port = self._open(card)
            if self._fix and (in_the_way := joining(port.objection, self.name)):
                port.close()
                self._switch_off(in_the_way)
                port = self._open(card)
        if gone:
            text = f"Went off on {self.name} with the XDP program, and is put back at the end: {words(gone)}."
            self._tell(Severity.INFO, "offload", text)
        with self._lock:
            self._port = port
            self._egress.carriers = Carriers(port, self._egress.hidden)
        self.index = card.index
        self.hear()  # of this one, whatever it may be called, from now on
        self._loop.add_reader(port.datapath.control_fd, self._control_frames)
        fixes = words(joining(port.objection, self.name))
        return Taken(port.mode, port.datapath.zero_copy, port.card.queues, port.notice, fixes)

    def fix(self) -> bool:
        """See `Line.fix`."""
        self._fix = True
        self._switch_off(STRIPPING)
        return self._port is not None and bool(joining(self._port.objection, self.name))

    def copy(self) -> bool:
        """See `Line.copy`."""
        if self._xdp is XdpMode.AUTO:
            self._xdp = XdpMode.COPY
        return self._xdp is not XdpMode.ZERO_COPY

    def _open(self, card: Card) -> Port:
        loading, self._loading = self._loading, None
        return Port(
            card,
            xdp=self._xdp,
            busy_poll=self._options.busy_poll,
            loading=loading,
        )

    def _switch_off(self, features: Iterable[str]) -> None:
        """Switch off what is in the way; that it can't be is told, and no reason not to go on."""
        try:
            gone = self._offloads.switch_off(features)
        except HostError as error:
            self._tell(Severity.WARNING, "offload", str(error))
            return
        if gone:
            text = f"Switched off on {self.name}, and put back at the end: {words(gone)}."
            self._tell(Severity.INFO, "offload", text)

    def _recover(self) -> None:
        """What an earlier run that was killed has left off is on again now, or at our end where it is to be off."""
        left, self._offloads.left_off = self._offloads.left_off, []
        if left and not self._fix:
            self._restore("On again on {}, where an earlier run that was killed had left it off: {}.")

    def _restore(self, text: str) -> None:
        try:
            if back := self._offloads.restore():
                self._tell(Severity.INFO, "offload", text.format(self.name, words(back)))
        except HostError as error:
            self._tell(Severity.WARNING, "offload", str(error))

    def close(self) -> None:
        """Give the card back as it was."""
        try:
            self.give_back()
        finally:
            self._restore("On again on {}: {}.")

    def give_back(self) -> None:
        """See `Line.give_back`."""
        self.let_go()()

    def let_go(self) -> Callable[[], None]:
        """The same, but for what waits for workers and for the kernel: that the caller does, in whatever thread."""
        self.index = None
        if self._port is None:
            return lambda: None
        self._loop.remove_reader(self._port.datapath.control_fd)
        self._unsent.clear()
        self._egress.forgo()
        return self._close_port

    def _close_port(self) -> None:
        # The last step comes first, each whatever becomes of the others; after the block.
        with ExitStack() as steps, self._lock:
            port, self._port = self._port, None
            carriers, self._egress.carriers = self._egress.carriers, None
            assert port is not None
            assert carriers is not None
            steps.callback(port.close)
            steps.callback(carriers.close)
            steps.callback(port.datapath.close)
            keys = len(self._traffic_before) // len(TRAFFIC_FIELDS)
            self._traffic_before = added(carriers.traffic(keys), self._traffic_before)
            self._queues_before = joined(carriers.queues(), self._queues_before)
            self._counted = True

    def hear_all(self) -> bool:
        """See `Line.hear_all`."""
        return self._port is not None and self._port.hear_all()

    def expect(self, wanted: DatapathChoice) -> None:
        """See `Line.expect`."""
        if self._egress.carriers is not None:
            self._egress.carriers.expect(wanted)

    def make_known(self, key: int, place: Place, mru: int) -> None:
        """See `Line.make_known`."""
        if self._egress.carriers is not None:
            self._egress.carriers.make_known(key, place, mru)

    def count_from(self, traffic: bytes) -> None:
        """Go on from what was counted in an earlier process; as `Snapshot.traffic`."""
        self._traffic_before = array("Q", traffic)
        self._counted = bool(traffic)

    def forget(self, key: int) -> None:
        """See `Line.forget`."""
        if self._egress.carriers is not None:
            self._egress.carriers.unplug(key)

    def receive(self) -> list[bytes]:
        """Control frames that have come, as many as fit one batch; none without a card."""
        return list(self._port.datapath.receive_control()) if self._port is not None else []

    def send(self, frames: list[bytes]) -> None:
        """Hand frames to the card; what its ring has no room for goes a little later, in order."""
        if self._port is None or not (self._unsent or frames):
            return
        waiting = [*self._unsent, *frames] if self._unsent else frames
        taken = self._port.datapath.send_control(waiting)
        self._unsent = deque(waiting[taken:])
        if self._unsent:
            self._loop.call_later(RETRY, self.send, [])

    def frames_taken(self) -> int:
        """See `Line.frames_taken`."""
        return self._port.datapath.control_taken() if self._port is not None else 0

    def traffic(self, keys: int) -> array[int]:
        """As in `Snapshot.traffic`, of the sessions with keys below this; any thread."""
        with self._lock:
            missing = keys * len(TRAFFIC_FIELDS) - len(self._traffic_before)
            self._traffic_before.extend([0] * missing)
            before = self._traffic_before[: keys * len(TRAFFIC_FIELDS)]
            now = self._egress.counters(keys)
        return added(now, before) if self._counted else now

    def queues(self) -> tuple[QueueView, ...]:
        """As in `Snapshot.queues`; any thread."""
        with self._lock:
            carriers = self._egress.carriers
            return joined(carriers.queues(), self._queues_before) if carriers is not None else ()
