"""An engine that acts: any number of made-up sessions with traffic, events and walks from dial to address.

It implements `EngineApi`. All it does follows from its arguments and from the times given to `step`, so a
test sees the same each time. `python -m tests.console.scripted --sessions 2000` runs the console on it in real time;
that is also the load of the console's benchmark.
"""

from __future__ import annotations

import argparse
import heapq
import math
import struct
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from engine.api.commands import (
    Add,
    ClearGhosts,
    Command,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Redial,
    Refused,
    Remove,
    Reply,
    ResetCounters,
    Rotate,
    StartCapture,
    Stop,
    StopCapture,
    Watch,
)
from engine.api.messages import ClientView
from engine.api.values import (
    ALL,
    AddressSpan,
    CardView,
    Details,
    Event,
    Fact,
    Halt,
    Halted,
    Hour,
    LadderEntry,
    Ledger,
    QueueView,
    SessionState,
    SessionView,
    Severity,
    Snapshot,
    Step,
    pack_traffic,
)
from engine.host.promptness import prompt_interpreter, prompt_thread
from engine.settings.values import SessionSettings
from souppp_tui.model.several import Attached, Several

EPOCH = 1_700_000_000.0
"""The wall clock when the engine's own clock shows 0."""
WALK = (
    (SessionState.DIALLING, 0.2),
    (SessionState.NEGOTIATING, 0.2),
    (SessionState.AUTHENTICATING, 0.4),
    (SessionState.GETTING_ADDRESS, 0.2),
    (SessionState.UP, 0.0),
)
"""A dial: each state and how long it lasts."""
KEPT = 2000
"""Events that are kept."""
GONE = "There is no such session any more."
"""As `engine.supervisor.dispatch` has it, which would bring half the engine along."""
HOSTILE_AC = "bras\x1b[2J-[red]3\u202e"
"""What a concentrator might call itself."""


class ScriptedEngine:
    """See the module. `busy` sessions carry traffic, over `spread` queues; every `failing`-th has a wrong password."""

    def __init__(
        self,
        sessions: int,
        *,
        queues: int = 2,
        busy: int = 50,
        spread: int | None = None,
        failing: int = 0,
        up: bool = True,
        at: float = 100_000.0,
        epoch: float = EPOCH,
        card: CardView | None = None,
    ) -> None:
        self.now = at
        self.epoch = epoch
        self.busy, self.failing = busy, failing
        self.spread = spread or queues
        self.commands: list[Command] = []
        """What the console asked for, oldest first."""
        self.command_times: list[float] = []
        self.refuses = ""
        """Why nothing is done; empty if all is."""
        self.dumb = False
        self.lost = ""
        """Whether replies wait for `answer`."""
        self.ghosts = 0
        self.halted = Halted()
        self._unanswered: list[tuple[Future[Reply], Reply]] = []
        self.crash = (math.inf, "")
        self._lock = threading.RLock()
        self._settings: dict[int, SessionSettings] = {}
        self._views: dict[int, SessionView] = {}
        self._next_id = 0
        self._snapshot: Snapshot
        self._published = at
        self._due: list[tuple[float, int, int]] = []
        self._walks: dict[int, int] = {}
        self._events: list[Event] = []
        self._traffic = array("Q")
        self._queues = [[0, 0, 0, 0] for _ in range(queues)]
        self._card = card or CardView("eth0", "02:00:00:00:00:01", 1500, True, "native", True, "ixgbe")
        self._ticks = 0
        for number in range(sessions):
            self._new(
                SessionSettings(f"home-{number + 1:04d}", f"user{number + 1}@example.net", "secret", autodial=True)
            )
        if up:
            for session in list(self._views):
                self._open(session, self.wall - 1000 - 60 * session, quiet=True)
        self._publish()

    @property
    def wall(self) -> float:
        """The Unix time, which goes on evenly with the engine's own."""
        return self.epoch + self.now

    # -- reads

    def snapshot(self) -> Snapshot:
        """The latest step's."""
        at, _password = self.crash
        if self.now > at:
            raise RuntimeError("the scripted engine was told to crash")
        return self._snapshot

    def events_since(self, seq: int) -> tuple[Sequence[Event], int]:
        """Those still kept."""
        with self._lock:
            first = self._events[0].seq if self._events else 1
            return [event for event in self._events if event.seq > seq], max(0, first - seq - 1)

    def details(self, session: int) -> Details | None:
        """A plausible negotiation."""
        with self._lock:
            view = self._views.get(session)
        if view is None:
            return None
        at = view.since
        ladder = tuple(
            LadderEntry(at + place * 0.0031, sent, summary, fields)
            for place, (sent, summary, fields) in enumerate(_LADDER)
        )
        facts = (
            Fact("MRU", "1492", "1492", "1492"),
            Fact("authentication", "mschapv2 chap pap", "CHAP-MD5", "CHAP-MD5"),
            Fact("magic number", "0xaafc326c", "0x975f5133", "both"),
            Fact("compression", "", "VJ", "", "VJ"),
            Fact("address", "0.0.0.0", "", view.ipv4 or ""),
            Fact("name servers", "0.0.0.0", "", " ".join(view.dns)),
        )
        steps = (
            Step("PADI → PADO", 0.6),
            Step("PADR → PADS", 10.3),
            Step("LCP", 4.1),
            Step("CHAP", 22.4 if view.up_since is not None else None),
        )
        usage = (
            ("web request", f"curl --interface {view.device} http://example.net/"),
            ("route", f"ip route add 192.0.2.0/24 dev {view.device}"),
        )
        return Details(
            session,
            facts,
            steps,
            ladder,
            (("Echo-Requests sent", 412 + self._ticks), ("Echo-Replies received", 412), ("frames discarded", 3)),
            (("next Echo-Request", self.wall + 7.5),) if view.up_since is not None else (),
            usage if view.device else (),
            hour=_WAVE,
        )

    def settings(self, session: int) -> SessionSettings | None:
        """As given."""
        return self._settings.get(session)

    @property
    def breaks(self) -> tuple[int, ...]:
        """See `EngineApi.breaks`."""
        return ()

    @property
    def clients(self) -> tuple[ClientView, ...]:
        """Nobody."""
        return ()

    def all_settings(self) -> Mapping[int, SessionSettings]:
        """As given."""
        return self._settings.copy()

    def hours(self) -> Mapping[int, Hour]:
        """A wave."""
        return {ALL: _WAVE, **dict.fromkeys(range(len(self._queues)), _WAVE)}

    def ledgers(self, sessions: Sequence[int] | None = None) -> Mapping[int, Ledger]:
        """Each had another address before."""
        views = [view for view in self.snapshot().sessions if sessions is None or view.id in sessions]
        before = AddressSpan("203.0.113.77", self.wall - 7200.0, self.wall - 3600.0)
        return {view.id: Ledger((before,)) for view in views if view.ipv4}

    # -- commands

    def submit(self, command: Command) -> Future[Reply]:
        """Act, and reply at once unless `dumb`."""
        self.command_times.append(time.monotonic())
        with self._lock:
            self.commands.append(command)
            done, refused = ([], [Refused(0, self.refuses)]) if self.refuses else self._carry_out(command)
        reply = Reply(len(self.commands), tuple(done), tuple(refused), self.ghosts)
        self._unanswered.append((Future[Reply](), reply))
        future, _ = self._unanswered[-1]
        if not self.dumb:
            self.answer()
        return future

    def answer(self) -> None:
        """Reply to all that has no reply yet."""
        while self._unanswered:
            future, reply = self._unanswered.pop(0)
            future.set_result(reply)

    def _carry_out(self, command: Command) -> tuple[list[int], list[Refused]]:
        """What the real one does, as far as a console sees it."""
        match command:
            case Add(settings):
                if any(view.name == settings.name for view in self._views.values()):
                    return [], [Refused(None, f"There is already a session called {settings.name}.")]
                return [self._new(settings)], []
            case Edit(key, settings):
                act = partial(self._edit, settings=settings)
                wanted: tuple[int, ...] = (key,)
            case Stop(what):
                self.halted = Halted(what, self.wall if what is not Halt.NOTHING else None)
                for view in [*self._views.values()] if what is Halt.ALL else ():
                    self._rest(view.id, SessionState.DOWN, "hung up: all sessions were stopped")
                return [], []
            case FixCard() | ClearGhosts() | Watch():
                if isinstance(command, FixCard):
                    self._card = replace(self._card, strips=False, fixes="")
                return [], []
            case _:
                act, wanted = getattr(self, _ACTS[type(command)]), command.keys
        done = [session for session in wanted if session in self._views]
        for session in done:
            act(session)
        return done, [Refused(session, GONE) for session in wanted if session not in done]

    def _edit(self, session: int, settings: SessionSettings) -> None:
        self._settings[session] = settings
        self._views[session] = replace(self._views[session], name=settings.name, user=settings.user)

    def _forget(self, session: int) -> None:
        del self._views[session], self._settings[session]
        self._walks.pop(session, None)

    def _capture(self, session: int) -> None:
        self._views[session] = replace(self._views[session], capturing=True)

    def _no_capture(self, session: int) -> None:
        self._views[session] = replace(self._views[session], capturing=False)

    def _reset(self, session: int) -> None:
        self._views[session] = replace(self._views[session], counted_since=self.wall)

    # -- the play

    def step(self, now: float) -> None:
        """Let everything happen that is due until `now`, and publish it."""
        with self._lock:
            since = self._published
            while self._due and self._due[0][0] <= now:
                at, session, place = heapq.heappop(self._due)
                if self._walks.get(session) == place:
                    self.now = at
                    self._advance(session, place)
            self.now = now
            self._ticks += 1
            self._flow(now - since)
            self._publish()

    def advance(self, seconds: float, steps: int = 1) -> None:
        """Some steps of this length."""
        for _ in range(steps):
            self.step(self.now + seconds)

    def emit(self, text: str, severity: Severity = Severity.INFO, session: int | None = None) -> None:
        """An event of the test's own."""
        with self._lock:
            self._say(severity, "test", text, session)

    def change(self, session: int, **fields: object) -> None:
        """Change a session's view by hand."""
        with self._lock:
            self._views[session] = replace(self._views[session], **fields)  # type: ignore[arg-type]
            self._publish()

    def _new(self, settings: SessionSettings) -> int:
        session, self._next_id = self._next_id, self._next_id + 1
        self._settings[session] = settings
        self._views[session] = SessionView(
            session,
            settings.name,
            settings.user,
            settings.service,
            settings.autodial,
            SessionState.DOWN,
            self.wall,
            vlans=tuple(tag.vid for tag in settings.vlans),
        )
        self._traffic.extend((0, 0, 0, 0))
        return session

    def _dial(self, session: int) -> None:
        if self._views[session].state in (SessionState.DOWN, SessionState.FAILED):
            self._advance(session, 0)

    def _redial(self, session: int) -> None:
        self._advance(session, 0)

    def _advance(self, session: int, place: int) -> None:
        state, lasts = WALK[place]
        wrong = self.failing and session % self.failing == self.failing - 1
        if state is SessionState.GETTING_ADDRESS and wrong:
            name = self._views[session].name
            self._rest(session, SessionState.FAILED, "wrong password", self.wall + 42)
            self._say(
                Severity.WARNING,
                "auth-failed",
                'bras-2 refused the password: "Login incorrect". Trying again in 42 s.',
                session,
                name,
            )
            return
        if state is SessionState.UP:
            self._open(session, self.wall)
            return
        self._views[session] = replace(
            self._cleared(session), state=state, since=self.wall, reason="", retry_at=None, session_id=None
        )
        self._walks[session] = place + 1
        heapq.heappush(self._due, (self.now + lasts, session, place + 1))

    def _open(self, session: int, at: float, quiet: bool = False) -> None:
        self._walks.pop(session, None)
        self._views[session] = replace(
            self._views[session],
            state=SessionState.UP,
            since=at,
            up_since=at,
            reason="",
            retry_at=None,
            ipv4=f"100.64.{session >> 8}.{session & 255}",
            ipv4_peer="100.64.255.254",
            dns=("192.0.2.53",),
            ipv6=f"fe80::{session + 1:x}",
            ipv6_prefixes=(f"2001:db8:{session:x}::/56",),
            device=f"soup{session}",
            session_id=0x1A0 + session & 0xFFFF,
            ac_name=f"bras-{session % 3 + 1}",
            ac_mac="02:ac:00:00:00:01",
            local_mac="02:00:00:00:00:01",
            mtu=1492,
            setup_ms=37.4,
            rtt_ms=1.2 + session % 7 / 10,
        )
        if not quiet:
            text = f"Session {0x1A0 + session & 0xFFFF:04x} opened with bras-{session % 3 + 1} on queue {session % 2}."
            self._say(Severity.INFO, "session-up", text, session)

    def _cleared(self, session: int) -> SessionView:
        was = self._views[session]
        return SessionView(
            session, was.name, was.user, was.service, was.autodial, was.state, was.since, flaps=was.flaps
        )

    def _rest(self, session: int, state: SessionState, reason: str, retry_at: float | None = None) -> None:
        self._walks.pop(session, None)
        self._views[session] = replace(
            self._cleared(session), state=state, since=self.wall, reason=reason, retry_at=retry_at, session_id=None
        )

    def _hang_up(self, session: int) -> None:
        self._rest(session, SessionState.DOWN, "hung up by you")
        self._say(Severity.INFO, "session-down", "Hung up by you.", session)

    def _say(self, severity: Severity, kind: str, text: str, session: int | None = None, name: str = "") -> None:
        seq = self._events[-1].seq + 1 if self._events else 1
        view = self._views.get(session) if session is not None else None
        self._events.append(Event(seq, self.wall, severity, kind, text, session, name or (view.name if view else "")))
        del self._events[:-KEPT]

    def _flow(self, seconds: float) -> None:
        traffic = array("Q", self._traffic)
        for session in range(min(self.busy, len(traffic) // 4)):
            view = self._views.get(session)
            if view is None or view.up_since is None:
                continue
            packets = int(seconds * (1000 + 37 * session % 900 + 400 * ((self._ticks + session) % 5)))
            for field, amount in enumerate((packets, packets * 1200, packets // 3, packets // 3 * 240)):
                traffic[session * 4 + field] += amount
                self._queues[session % self.spread][field] += amount
        self._traffic = traffic

    def _publish(self) -> None:
        self._published = self.now
        queues = tuple(
            QueueView(index, rx, rx_bytes, tx, tx_bytes, (), rx, 12, 0, 0.12, 0.03, self.now / 10)
            for index, (rx, rx_bytes, tx, tx_bytes) in enumerate(self._queues)
        )
        up = next((view for view in self._views.values() if view.up_since is not None), None)
        self._snapshot = Snapshot(
            self.wall,
            self._card,
            queues,
            tuple(self._views.values()),
            pack_traffic(self._traffic),
            self._events[-1].seq if self._events else 0,
            f"curl --interface {up.device} http://example.net/" if up else "",
            halted=self.halted,
        )


_ACTS: dict[type[Command], str] = {
    Dial: "_dial",
    HangUp: "_hang_up",
    Redial: "_redial",
    Rotate: "_redial",  # the same address comes again
    Remove: "_forget",
    StartCapture: "_capture",
    StopCapture: "_no_capture",
    ResetCounters: "_reset",
}
_WAVE = Hour(
    EPOCH, 30.0, *(tuple(round(most * (1 + math.sin(step / 9))) for step in range(120)) for most in (2e7, 5e6))
)
_LADDER: tuple[tuple[bool, str, tuple[tuple[str, str], ...]], ...] = (
    (True, 'PADI  service ""', (("code", "PADI (0x09)"), ("Host-Uniq", "1c3e52aa"), ("Service-Name", '""'))),
    (False, "PADO  bras-2, cookie 20 B", (("code", "PADO (0x07)"), ("AC-Name", "bras-2"), ("AC-Cookie", "20 octets"))),
    (True, "PADR  bras-2", (("code", "PADR (0x19)"),)),
    (False, "PADS  session 01b0", (("code", "PADS (0x65)"), ("session", "01b0"))),
    (
        True,
        "LCP Configure-Request  id 1  MRU 1492, magic 0xaafc326c",
        (("code", "Configure-Request (1)"), ("identifier", "1"), ("MRU", "1492"), ("Magic-Number", "0xaafc326c")),
    ),
    (
        False,
        "LCP Configure-Request  id 1  CHAP-MD5, MRU 1492, magic 0x975f5133",
        (("code", "Configure-Request (1)"), ("Authentication-Protocol", "CHAP-MD5"), ("MRU", "1492")),
    ),
    (True, "LCP Configure-Ack  id 1", (("code", "Configure-Ack (2)"), ("identifier", "1"))),
    (False, "LCP Configure-Ack  id 1", (("code", "Configure-Ack (2)"), ("identifier", "1"))),
    (False, "CHAP Challenge  id 7  bras-2", (("code", "Challenge (1)"), ("name", "bras-2"))),
    (True, "CHAP Response  id 7", (("code", "Response (2)"), ("identifier", "7"))),
    (False, "CHAP Success  id 7", (("code", "Success (3)"),)),
    (True, "IPCP Configure-Request  id 1  address 0.0.0.0", (("code", "Configure-Request (1)"),)),
    (False, "IPCP Configure-Nak  id 1  address 100.64.0.0", (("code", "Configure-Nak (3)"),)),
)


def note_wakeups(pipe: Path) -> None:
    """Be woken as the engine's thread is by frames: by whoever writes the monotonic time; note how late it was."""
    prompt_interpreter()
    prompt_thread()
    with pipe.open("rb", buffering=0) as wakeups, Path(f"{pipe}.late").open("w", encoding="ascii") as late:
        while moment := wakeups.read(8):
            late.write(f"{time.monotonic() - struct.unpack('d', moment)[0]!r}\n")


def main() -> None:
    """The console on a scripted engine, or on several, in real time."""
    from souppp_tui.app.console import ConsoleError, run
    from souppp_tui.desk.options import ConsoleOptions
    from souppp_tui.terminal.leaving import Leaving

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--engines", type=int, default=1, help="so many, each with its share of the sessions")
    parser.add_argument("--queues", type=int, default=2)
    parser.add_argument("--busy", type=int, default=50)
    parser.add_argument("--failing", type=int, default=0)
    parser.add_argument("--down", action="store_true")
    parser.add_argument("--theme", default="auto")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--commands", type=Path, help="write each command's monotonic time here at the end")
    parser.add_argument("--wakeups", type=Path, metavar="PIPE", help="take times from here, and write back how late")
    parser.add_argument("--crash", metavar="SECRET", help="fail after two seconds, with this among the values at hand")
    parser.add_argument("--hz", type=float, default=2.0)
    parser.add_argument("--period", type=float, default=0.5, help="seconds between two looks; 0: none but for keys")
    args = parser.parse_args()
    now = time.monotonic()
    engines = [
        ScriptedEngine(
            args.sessions // args.engines,
            queues=args.queues,
            busy=args.busy // args.engines,
            failing=args.failing,
            up=not args.down,
            at=now,
            epoch=time.time() - now,
        )
        for _ in range(args.engines)
    ]
    several = Several([Attached(f"host-{place}", engine) for place, engine in enumerate(engines)])
    over = threading.Event()
    if args.crash:
        engines[0].crash = (now + 2, args.crash)

    def play() -> None:
        while not over.wait(1 / args.hz):
            for engine in engines:
                engine.step(time.monotonic())

    thread = threading.Thread(target=play, name="scripted-engine", daemon=True)
    thread.start()
    if args.wakeups:
        threading.Thread(target=note_wakeups, args=(args.wakeups,), daemon=True).start()
    try:
        leaving = Leaving()
        leaving.heed_signals()
        shown = several if args.engines > 1 else engines[0]
        run(shown, ConsoleOptions(theme=args.theme, read_only=args.read_only, period=args.period), leaving=leaving)
    except ConsoleError as error:
        sys.exit(str(error))
    finally:
        over.set()
        thread.join()
        if args.commands:
            args.commands.write_text(
                "".join(f"{at!r}\n" for at in sorted(at for engine in engines for at in engine.command_times))
            )


if __name__ == "__main__":
    main()
