"""The loop: waits for frames, timers, netlink and commands, and moves octets between them and the supervisor.

It runs on an event loop of asyncio, in one thread, and decides nothing: who is told what when is the supervisor's
business. After each call of the supervisor its frames go to the card and its timer is set anew.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from engine.api.commands import Add, Amend, Edit, Reply, Request, Rotate, Undo
from engine.api.values import TRAFFIC_FIELDS, QueueView, SessionView, Severity
from engine.card.changes import LinkChange, LinkWatch
from engine.card.xdp import Loading
from engine.datapath import BATCH_FRAMES, DatapathError
from engine.datapath.own import Network
from engine.egress.bare import BareEgress
from engine.egress.device import DeviceEgress
from engine.egress.egresses import Egresses
from engine.egress.elsewhere import Namespace, Namespaces, open_all
from engine.egress.instances import Instance
from engine.egress.together import Earlier, Survivor, delete_together, group_of
from engine.egress.veth import HiddenNet
from engine.host import descriptors, dying, identity, surroundings
from engine.host.errors import HostError, Trouble
from engine.host.peers import Peer
from engine.proxy.checks import Finding
from engine.record.captures import Captures
from engine.record.counters import Account, CountersFile, counters_of
from engine.record.history import History, HistoryFile, history_of
from engine.record.journal import GhostJournal, journal_of
from engine.record.proofs import ProofsFile, proofs_of
from engine.run.estate import PATIENCE, Estate
from engine.run.health import HealthChecks
from engine.run.hooks import Runner
from engine.run.line import CardLine
from engine.run.proxies import Proxies, asks_for_proxies
from engine.run.resolved import Resolved
from engine.run.stack import StackProgram, asks_for_stack
from engine.sessions.policy import routed
from engine.sessions.proofs import Proofs
from engine.settings.options import EngineOptions
from engine.settings.values import EgressChoice, Settings
from engine.supervisor import dispatch
from engine.supervisor.card_watch import CardWatch
from engine.supervisor.handed import Proxied
from engine.supervisor.hooks import HookResult
from engine.supervisor.supervisor import Supervisor

TICK = 2.0
"""Seconds between looks at the traffic, which counts as a sign of life, and at the card, whose number of queues
changes without a word on rtnetlink."""
GLANCE = 0.5
"""Seconds between looks whether our program is still on the card, of which the kernel tells nobody."""
TIDYING = 0.05
"""Seconds until more is forgotten of what sessions had that have ended, where that is much."""
ASLEEP, SET = 5.0, 0.5
"""Seconds by which a clock must differ from time.monotonic() for the host to have slept, or its clock to be set."""
FEW, SHARE = 4, 0.005
"""Events that are looked at together, as each may bring a device, and seconds after which the rest of the frames lets
others in first."""
LATEST = 1.0
"""Seconds for which what is due waits for frames that have come and may speak against it: a flood has no end."""
FAREWELL = 3.0
"""Seconds that sessions get for an orderly end when the engine stops; then they get a PADT only."""
FLUSH = 1.0
"""Seconds that the card gets after that to take the last frames."""
ENDING = 60.0
"""Seconds that an engine which was killed may take to end."""
JOINED_AT_ONCE = 64
"""Sessions that a new stack program gets in one go."""
HOOKS = 10.0
"""Seconds that hooks get after that, before they are killed."""


class Clock:
    """How far another clock is from time.monotonic()."""

    def __init__(self, number: int) -> None:
        """`number` is one of time.CLOCK_…."""
        self._number = number
        self.offset = self._read()

    def look(self) -> float:
        """By how many seconds it has moved since the last look, as seen by time.monotonic()."""
        before, self.offset = self.offset, self._read()
        return self.offset - before

    def _read(self) -> float:
        return time.clock_gettime(self._number) - time.monotonic()


def few(waiting: deque[bytes], happened: Callable[[], int]) -> Iterator[bytes]:
    """The first of these frames, each taken out when it is its turn, until FEW events have come of them.

    `happened` counts those. Echoes bring none, nor do frames that are for nobody, of which a flood may be.
    """
    enough = happened() + FEW
    for _ in range(min(len(waiting), BATCH_FRAMES)):
        yield waiting.popleft()
        if happened() >= enough:
            return


Usage = Callable[[SessionView], tuple[tuple[str, str], ...]]


class Loop:
    """All of it, for one card. Other threads may read the supervisor's `board` and `log`, `traffic` and `queues`."""

    def __init__(
        self,
        ifname: str,
        settings: Settings,
        options: EngineOptions,
        loop: asyncio.AbstractEventLoop,
        loading: Loading | None,
        usage: Usage,
    ) -> None:
        """Nothing happens before `open`, but what takes rights that the process gives up before."""
        self._ifname = ifname
        self._settings = settings
        self._options = options
        self._loop = loop
        self._loading = loading
        self._usage = usage
        self._slept, self._wall_clock = Clock(time.CLOCK_BOOTTIME), Clock(time.CLOCK_REALTIME)
        self._waiting: deque[bytes] = deque()
        """Control frames that have come and have yet to be looked at."""
        self._goes_on = False
        """Whether the loop comes back to them by itself."""
        self._heard = self._read_at = 0.0
        """What came before this has been looked at; and when the latest of it was read."""
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick: asyncio.TimerHandle | None = None
        self._next_glance: asyncio.TimerHandle | None = None
        self._next_tidying: asyncio.TimerHandle | None = None
        self._undo = ExitStack()
        self.proxies = Proxies(
            loop,
            settings.proxy,
            self.tell,
            lambda: self.supervisor.board,
            self._wall,
            self._note_proxied,
            self._renew,
        )
        self._undo.callback(self.proxies.close)
        self.stack = StackProgram(loop, self.tell, self._stack_begun, self._note_forwarded)
        self._undo.callback(self.stack.close)
        self.proxies.stack_line = self.stack.line
        self._proxied: dict[int, Proxied] = {}
        """As told last, without what came in."""
        self._instance: Instance | None = None
        self._namespaces = Namespaces()
        self._hidden = HiddenNet()
        self._undo.callback(lambda: self._hidden.close())
        self._estate = Estate()
        self._undo.callback(lambda: self._estate.close())
        self._journal = journal_of(options.state_folder or Path(), ifname)
        self._waited = ""

    def inherit(self, estate: Estate) -> None:
        """Before `confine` and `open`: go on with what an earlier process has left."""
        self._hidden = HiddenNet(estate.net)
        self._estate, estate.net = estate, -1

    def make_ready(self, say: Callable[[str], None]) -> None:
        """Before `confine` and `open`: do what takes rights that are given up then.

        Nor would an engine that is opened before this one take it for dead, and what an earlier run left for leftovers.
        `say` takes a line where that takes long.
        """
        self._let_earlier_end(say)
        with suppress(HostError):  # which `open` raises again
            self._instance = Instance()
            self._undo.callback(self._instance.close)
        with suppress(DatapathError):  # told when a session needs it
            self._hidden.open()
        open_all(self._namespaces, {each.netns for each in self._settings.sessions if each.netns is not None})
        if asks_for_stack(self._settings):
            with suppress(OSError):  # which `open` tells
                self.stack.start()
        if asks_for_proxies(self._settings):
            with suppress(OSError):  # which `open` tells
                self.proxies.start()

    def _let_earlier_end(self, say: Callable[[str], None]) -> None:
        """Wait until an engine that was killed is gone: what it holds of the card and its devices' names is free then.

        No instance is taken before that, or its rules would be left. Who outlives it would take our devices for its.
        """
        began, group = time.monotonic(), group_of(self._journal)
        process = dying.holder(self._journal) if self._options.state_folder is not None else None
        who = f"An earlier souppp-tui on {self._ifname}"
        with closing(Earlier(group)) as earlier:
            if process is not None and dying.is_dying(process):
                say(f"{who} (process {process}) is still ending; its devices go first.")
                with suppress(OSError):  # it deletes them one by one itself
                    delete_together(group)
                dying.wait_for(process, ENDING)
                what = f"the process {process} had ended, which was killed"
            elif earlier.at_work:
                say(f"{who} was killed; its devices go first.")
                what = "the devices of an earlier run had gone, which was killed"
            else:
                return
            earlier.wait(ENDING)
        self._waited = f"Waited {time.monotonic() - began:.1f} s until {what}."

    def confine(self, confine: Callable[[], None]) -> None:
        """Have the rights given up, by whatever does so for one thread, of the threads that there are before `open`."""
        if self._hidden.is_open:
            self._hidden.run(confine)
        confine()

    def open(self) -> None:
        """Take the card and begin to dial; raises Trouble, and `close` is due all the same."""
        if self._loading is not None:
            self._undo.callback(self._loading.close)
        descriptors.raise_limit()
        group = group_of(self._journal)
        try:
            self._undo.callback(Survivor(group, self._instance).close)
        except OSError:  # if we are killed the devices go one by one; and whoever has the name must not have them
            group = 0
        egress = DeviceEgress(
            lambda: len(self.supervisor.fleet.members),
            self.tell,
            self._hidden,
            self._settings.devices or self._options.devices,
            self._instance,
            self._namespaces,
            group,
        )
        self._undo.callback(egress.close_all)
        devices, self._estate.devices = self._estate.devices, []
        egress.inherit(devices)
        egress.entrance.inherit(self._estate.entrance)
        self._estate.entrance = -1
        self._undo.callback(egress.disinherit)
        self._egress = egress
        self._bare = BareEgress(lambda: egress.carriers, self.stack)
        self.line = CardLine(
            self._ifname,
            self._options,
            self._options.xdp or self._settings.xdp,
            egress,
            self._loop,
            self._control_frames,
            self._loading,
            self._tagged,
            self.tell,
        )
        self._undo.callback(self.line.close)
        self.line.count_from(self._estate.traffic)
        journal = self._open_journal()
        proofs, unread = self._load_proofs()
        captures = Captures(self._options.capture, self._wall, self.tell)
        self._undo.callback(captures.close)
        history, accounts = self._load_history(), self._load_counters()
        runner = Runner(self._loop, self._hook_ended)
        self._undo.callback(runner.close)
        self.supervisor = Supervisor(
            self._settings,
            CardWatch(self._ifname, self.line, lab=self._options.lab),
            self.line,
            Egresses(egress, self._bare),
            captures,
            journal,
            entropy=os.urandom,
            chance=random.random,
            wall_offset=self._wall_clock.offset,
            usage=self._usage,
            proofs=proofs,
            hooks=runner,
            history=history,
            traffic=self.traffic,
            queues=self.queues,
            accounts=accounts,
            secret=identity.secret(),
        )
        if unread:
            self.tell(Severity.ERROR, "proofs", unread)
        stacked = {it.name for it in self._settings.sessions if it.egress is EgressChoice.STACK}
        if any(member.session is not None and member.name in stacked for member in self._estate.members):
            text = "Connections through sessions with `egress: stack` have ended with the process before."
            self.tell(Severity.WARNING, "stack", text)
        if self._waited:
            self.tell(Severity.INFO, "earlier", self._waited)
        if late := self._estate.late:
            since = f"they were left {late:.0f} s ago, and can be taken over for {PATIENCE:.0f} s"
            text = f"Sessions are dialled anew: {since}."
            self.tell(Severity.WARNING, "earlier", text)
        if short := descriptors.shortage(len(self._settings.sessions)):
            self.tell(Severity.WARNING, "limits", short)
        for lack in surroundings.lacks():
            self.tell(Severity.WARNING, "host", lack)
        self._health = HealthChecks(
            self._loop,
            lambda: self.supervisor.health.targets,
            self._health_found,
            self._health_ended,
            self.stack.line,
        )
        self._undo.callback(self._health.close)
        self._resolved = Resolved(self._tell_soon)
        self._undo.callback(self._resolved.close)
        self._links = links = LinkWatch(lambda: (self.line.index, self.line.name))
        self._undo.callback(links.close)
        self.line.hear = partial(self._hear, links)
        try:
            self.supervisor.open(time.monotonic(), self._estate.members, self._estate.halted)
        except Trouble:
            captures.withdraw()
            raise
        for fd in egress.filenos():
            self._loop.add_reader(fd, self._egress_news)
            self._undo.callback(self._loop.remove_reader, fd)
        self._loop.add_reader(links.fileno(), self._link_events, links)
        self._undo.callback(self._loop.remove_reader, links.fileno())
        self._next_tick = self._loop.call_later(TICK, self._tick)
        self._next_glance = self._loop.call_later(GLANCE, self._glance)
        if asks_for_stack(self._settings):
            self.stack.open()
        self.proxies.open()
        self._carry_on()

    def _stack_begun(self) -> None:
        self.proxies.join_stack()
        self._health.join_stack()
        self._join_stack(self._bare.begin_anew())

    def _join_stack(self, keys: list[int]) -> None:
        """Some of them now, and the others when all else had its turn."""
        for key in keys[:JOINED_AT_ONCE]:
            self.supervisor.run(partial(self._bare.join_anew, key), time.monotonic())
        if keys[JOINED_AT_ONCE:]:
            self._loop.call_soon(self._join_stack, keys[JOINED_AT_ONCE:])

    def _open_journal(self) -> GhostJournal | None:
        if self._options.state_folder is None:
            return None
        journal = GhostJournal(self._journal)
        self._undo.callback(journal.close)
        return journal

    def _load_proofs(self) -> tuple[Proofs, str]:
        """What is known of concentrators' authentication, and why that isn't more."""
        self._proofs = Proofs()
        self._proofs_file: ProofsFile | None = None
        if self._options.state_folder is not None:
            file = ProofsFile(proofs_of(self._options.state_folder, self._ifname))
            try:
                self._proofs, self._proofs_file = file.load(), file
            except Trouble as error:
                return self._proofs, str(error)
        return self._proofs, ""

    def _load_history(self) -> History:
        """Which addresses sessions had in earlier runs; why that isn't known is told once there is somebody to tell."""
        self._history_file: HistoryFile | None = None
        if self._options.state_folder is not None:
            file = HistoryFile(history_of(self._options.state_folder, self._ifname))
            try:
                history, self._history_file = file.load(), file
            except Trouble as error:
                self._loop.call_soon(self.tell, Severity.ERROR, "history", str(error))
            else:
                return history
        return History()

    def _save_history(self) -> None:
        history = self.supervisor.history
        if self._history_file is None:
            history.pending.clear()
        else:
            self._history_file.rename(self.supervisor.card.name)
            self._history_file.save(history)

    def _load_counters(self) -> Mapping[str, Account]:
        """What sessions had carried in earlier runs; as with `_load_history`."""
        self._counters_file: CountersFile | None = None
        self._saving: asyncio.Future[str] | None = None
        if self._options.state_folder is not None:
            file = CountersFile(counters_of(self._options.state_folder, self._ifname))
            try:
                accounts, self._counters_file = file.load(), file
            except Trouble as error:
                self._loop.call_soon(self.tell, Severity.ERROR, "counters", str(error))
            else:
                return accounts
        return {}

    def _save_counters(self) -> None:
        """Where there is something new: in a thread, as it may be megabytes."""
        counting, file = self.supervisor.counting, self._counters_file
        if file is None or not counting.fresh:
            return
        file.rename(self.supervisor.card.name)
        self._saving = self._loop.run_in_executor(None, file.save, counting.lines())
        self._saving.add_done_callback(lambda done: self._told_of_counters(done.result()))

    async def _finish_counters(self) -> None:
        """Have all on disk that sessions have carried up to now."""
        if self._counters_file is None:
            return
        for share in self.supervisor.counting.finish():
            self.supervisor.run(share, time.monotonic())
            await asyncio.sleep(0)
        self.supervisor.run(self._save_counters, time.monotonic())
        if self._saving is not None:
            await asyncio.wait([self._saving])

    def _told_of_counters(self, problem: str) -> None:
        if problem:
            self.tell(Severity.ERROR, "counters", problem)

    def _save_proofs(self) -> None:
        if self._proofs_file is not None:
            self._proofs_file.rename(self.supervisor.card.name)
            self._proofs_file.save(self._proofs)

    async def hand_over(self, store: Callable[[Estate], None]) -> bool:
        """Leave all sessions that are up to another process, which `store` keeps them for; whether that was done.

        Where it was, only `close` is left to do. `store` raises OSError if it can't.
        """
        self.supervisor.part(time.monotonic())
        self._carry_on()
        await self._let_padts_leave()
        await self._remember()
        await self._come_to_rest()
        devices = self._egress.keep()
        net = self._hidden.descriptor if any(kept.end for kept, _ in devices) else -1
        try:
            traffic, entrance = self.traffic().tobytes(), self._egress.entrance.descriptor
            halted = self.supervisor.halted
            store(Estate(self.supervisor.fleet.keep(), devices, net, traffic, entrance, halted))
        except OSError as error:
            self.tell(Severity.ERROR, "hand-over", f"The sessions can't be handed over ({error.strerror}): hung up.")
            return False
        except Exception as error:  # a fault of ours must not cost them their orderly end
            text = f"Internal error, please report it: {type(error).__name__} in hand_over: {error}"
            self.tell(Severity.ERROR, "internal-error", text)
            return False
        self._egress.leave()
        return True

    async def say_goodbye(self) -> None:
        """End every session in good order, as far as that is to be had in FAREWELL seconds, and FLUSH for the rest."""
        now = time.monotonic()
        deadline = now + FAREWELL
        self._look_no_more()
        self._loop.remove_reader(self._links.fileno())
        self._egress.part()
        self.supervisor.say_goodbye(now)
        self._carry_on()
        while not self.supervisor.idle and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        self.supervisor.leave(time.monotonic())
        self._carry_on()
        while self.supervisor.left:
            await asyncio.sleep(0)
        self._egress.bury()
        while self.supervisor.catch_up(time.monotonic()):
            await asyncio.sleep(0)
        await self._see_padts_leave()
        await self._remember()
        letting_go = self._loop.run_in_executor(None, self.line.let_go())  # waits for 40 ms and longer
        await self._come_to_rest()
        await letting_go

    async def _let_padts_leave(self) -> None:
        """Wait for those that are on their way, FLUSH seconds at most."""
        deadline = time.monotonic() + FLUSH
        while not self.supervisor.parted and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def _see_padts_leave(self) -> None:
        """The same at the end: the card is looked at once, in another thread, as the kernel has devices to delete."""
        deadline = time.monotonic() + FLUSH
        while not self.supervisor.parted and time.monotonic() < deadline:
            if (taken := self.supervisor.all_taken) is None:
                await asyncio.sleep(0.005)
                continue
            carrier = await self._loop.run_in_executor(None, self.line.carrier)
            self.supervisor.judge(taken, carrier, time.monotonic())
            self._carry_on()

    async def _remember(self) -> None:
        """Keep what the next start is to know, when hooks have ended."""
        await self._let_hooks_end()
        for save in (self._save_proofs, self._save_history):
            self.supervisor.run(save, time.monotonic())
            await asyncio.sleep(0)
        await self._finish_counters()

    async def _come_to_rest(self) -> None:
        """Wait for devices that are on their way out."""
        while not self._egress.parted:  # `close` would wait for them, and the loop with it
            await asyncio.sleep(0.005)

    async def _let_hooks_end(self) -> None:
        deadline = time.monotonic() + HOOKS
        while self.supervisor.hooks.busy and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Undo `open`, as far as it came."""
        self._look_no_more()
        if self._timer is not None:
            self._timer.cancel()
        self._undo.close()

    def _look_no_more(self) -> None:
        """At the card by ourselves: the kernel's answer waits for devices that go."""
        for timer in (self._next_tick, self._next_glance, self._next_tidying):
            if timer is not None:
                timer.cancel()

    # What wakes the loop

    def do(self, request: Request) -> Reply:
        """Carry a command out."""
        reply = dispatch.do(self.supervisor, request, time.monotonic())
        if isinstance(request.command, Add | Edit | Amend | Undo):
            self.proxies.edited(reply.done)
        self._carry_on()
        return reply

    def reconfigure(self, settings: Settings) -> None:
        """Take over what of a configuration that was read again is the loop's."""
        self.proxies.reconfigure(settings.proxy)

    def _note_forwarded(self, key: int) -> None:
        if (settings := self.supervisor.board.settings.get(key)) is not None and settings.forwards:
            self._note_proxied({key: self._proxied.get(key, Proxied())})

    def _note_proxied(self, found: Mapping[int, Proxied]) -> None:
        self._proxied |= found
        came_in = self.stack.forwarded
        merged = {key: replace(it, open=(*it.open, *came_in.get(key, ()))) for key, it in found.items()}
        self.supervisor.note_proxied(merged, time.monotonic())
        self._carry_on()

    def _renew(self, key: int, user: str) -> str:
        """Rotate a session for a user of the proxies; what speaks against it."""
        by = f"the proxy user {user}" if user else "a client of the proxies"
        reply = self.do(Request(0, Rotate((key,)), by))
        return reply.refused[0].reason if reply.refused else ""

    def _health_found(self, finding: Finding) -> None:
        self.supervisor.note_health(finding.key, finding.serial, finding.problem, time.monotonic())
        self._carry_on()

    def _health_ended(self, why: str) -> None:
        self.tell(Severity.ERROR, "health", f"The process that checks sessions' health {why}.")

    def _hook_ended(self, result: HookResult) -> None:
        self.supervisor.note_hook(result, time.monotonic())
        self._carry_on()

    def lend(self, key: int, name: str, namespace: Namespace) -> None:
        """Have a session's device in a network namespace from now on. Raises Trouble."""
        self._egress.lend(key, name, namespace)
        self.supervisor.run(partial(self.supervisor.changed, [key]), time.monotonic())

    def admit(self, key: int, cgroup: int, who: Peer) -> None:
        """See `engine.egress.entrance.Entrance.admit`."""
        self._egress.entrance.admit(key, cgroup, who)

    def _control_frames(self) -> None:
        if not self._goes_on:
            self._take_frames()

    def _take_frames(self) -> None:
        """A few frames at a time, as the host may have a lot to do for each, and timers and commands wait meanwhile."""
        begun = now = time.monotonic()
        any_came, happened = False, self.supervisor.fleet.happened
        try:
            while now < begun + SHARE and (self._waiting or self._read(now)):
                any_came = True
                self.supervisor.receive(few(self._waiting, happened), now)
                self.line.send(self.supervisor.frames_to_send())
                now = time.monotonic()
        finally:
            self._goes_on = bool(self._waiting)
            if self._goes_on:  # nothing else would wake us for those
                self._loop.call_soon(self._take_frames)
            else:
                self._heard = self._read_at
            if any_came:
                self._carry_on()

    def _read(self, now: float) -> bool:
        """Take in frames that have come; whether there were any."""
        frames = self.line.receive()
        self._waiting.extend(frames)
        if len(frames) < BATCH_FRAMES:  # else more may wait that came before
            self._read_at = now
        return bool(frames)

    def _timer_expired(self) -> None:
        """What is due is judged by what has come, so that comes first, as far as there is time for it."""
        self._timer = None
        begun = time.monotonic()
        self._control_frames()
        now = time.monotonic()
        self.supervisor.handle_timer(now, now if self._heard >= begun else max(self._heard, now - LATEST))
        self._carry_on()

    def _link_events(self, links: LinkWatch) -> None:
        if self._hear(links):
            self.supervisor.look_at_card(time.monotonic())
            self._carry_on()

    def _hear(self, links: LinkWatch) -> bool:
        """Take in what the kernel tells of links; whether any of it is about the card."""
        of_card = [each for each in links.events() if each.index == self.line.index or each.name == self.line.name]
        if any(each.change is LinkChange.MOVED for each in of_card):
            self.line.how_it_went = "was moved to another network namespace"
        return bool(of_card)

    def _glance(self) -> None:
        self._next_glance = self._loop.call_later(GLANCE, self._glance)
        # While devices go the answer waits for them; `_tick` looks all the same.
        if self._egress.parted and self.line.bare:
            self.supervisor.look_at_card(time.monotonic())
            self._carry_on()

    def _egress_news(self) -> None:
        if happenings := self._egress.look():
            self.supervisor.note_egress(happenings, time.monotonic())
            self._carry_on()

    def _tick(self) -> None:
        self._next_tick = self._loop.call_later(TICK, self._tick)
        now = time.monotonic()
        self._follow_clocks(now)
        self.stack.look(self.supervisor.watched)
        for gone in self._proxied.keys() - self.supervisor.board.settings.keys():
            del self._proxied[gone]
        try:
            self.supervisor.note_traffic(self.traffic()[:: len(TRAFFIC_FIELDS)], now)
        finally:
            self.supervisor.look_at_card(now)
            self.supervisor.run(self._egress_news, now)  # of namespaces that are made anew nobody tells
            self.supervisor.run(self._tidy, now)
            self.supervisor.run(self._bare.follow_workers, now)
            self.supervisor.run(self._save_proofs, now)
            self.supervisor.run(self._save_history, now)
            self.supervisor.run(self._save_counters, now)
            self._carry_on()

    def _tidy(self) -> None:
        """Some of it now, and more when all else had its turn."""
        if self._egress.tidy(time.monotonic(), self._networks):
            if self._next_tidying is not None:
                self._next_tidying.cancel()
            self._next_tidying = self._loop.call_later(TIDYING, self._go_on_tidying)

    def _go_on_tidying(self) -> None:
        self.supervisor.run(self._tidy, time.monotonic())
        self._carry_on()

    def _follow_clocks(self, now: float) -> None:
        """See whether the host was asleep, when time.monotonic() stands still, or its wall clock was set."""
        slept, set_by = self._slept.look(), self._wall_clock.look()
        if slept > ASLEEP:
            self.supervisor.note_sleep(slept, now)
        if abs(set_by) > SET:
            self.supervisor.set_clock(self._wall_clock.offset, now)

    def _carry_on(self) -> None:
        """What the supervisor has to say goes to the card and to the proxies; then its timer is set."""
        try:
            self.line.send(self.supervisor.frames_to_send())
            self._health.order(self.supervisor.health.orders)
            self._resolved.order(self.supervisor.resolving.orders)
            while self.supervisor.pings:
                self.stack.ping(*self.supervisor.pings.popitem())
            self.proxies.follow(self.supervisor.board.version)
            self.proxies.look(self.supervisor.watched)
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        """One that was put off is set anew when it comes up: most are, with each answer of a concentrator's."""
        due = self.supervisor.next_timer()
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._timer_expired)

    # What others read

    def traffic(self) -> array[int]:
        """As in `Snapshot.traffic`; any thread."""
        return self.line.traffic(self.supervisor.board.keys)

    def queues(self) -> tuple[QueueView, ...]:
        """As in `Snapshot.queues`; any thread."""
        return self.line.queues()

    def _networks(self) -> set[Network]:
        """What is routed to sessions."""
        return {network for _, member in self.supervisor.fleet for network in routed(member.session.next_settings)}

    def _tagged(self) -> bool:
        """Whether any session has VLAN tags."""
        there = (member.session.next_settings for _, member in self.supervisor.fleet)
        return any(settings.vlans for settings in (*self._settings.sessions, *there))

    def _wall(self, at: float) -> float:
        return self.supervisor.wall(at)

    def _tell_soon(self, severity: Severity, kind: str, text: str) -> None:
        """The same, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.tell, severity, kind, text)

    def tell(self, severity: Severity, kind: str, text: str, key: int | None = None) -> None:
        """Put an event into the log, of a session or of all."""
        self.supervisor.tell_of(severity, kind, text, key, time.monotonic())
