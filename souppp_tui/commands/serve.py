"""`souppp-tui serve eth0`: the engine alone, in the foreground, as a service runs it.

Consoles (`attach`) and scripts (`ctl`) come and go on its socket. SIGHUP reads the configuration again; SIGTERM ends
all sessions and gives the card back; SIGUSR2 leaves those that are up to the next process, by a service manager that
keeps their devices' descriptors. Exit codes are the program's (`souppp_tui.commands.cli`).
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from engine.api.commands import (
    Command,
    Refused,
    Reload,
    Remove,
    Reply,
    ServiceCommand,
    Shutdown,
    Watch,
    changes_of,
    taking_over,
)
from engine.api.plural import plural
from engine.api.values import Event, Severity
from engine.card.xdp import Loading, XdpError
from engine.host import service
from engine.host.errors import Trouble
from engine.host.promptness import never_collect
from engine.host.replacing import write_all
from engine.lab.lab import Lab
from engine.lab.provider import Provider
from engine.run.estate import Estate, found
from engine.run.thread import Engine
from engine.settings.options import DEVICES
from engine.settings.reading import ConfigError, load
from engine.settings.reload import Change, plan
from engine.settings.values import Settings
from souppp_tui.app.eventfile import EventFile
from souppp_tui.commands.background import DETACHED, leave_terminal
from souppp_tui.commands.errors import (
    EXIT_ENVIRONMENT,
    EXIT_HANDED_OVER,
    EXIT_OK,
    EXIT_USAGE,
    CannotRunError,
    complain,
)
from souppp_tui.commands.files import saver
from souppp_tui.commands.parsing import check_engine_options, engine_options
from souppp_tui.commands.run import Attachable, begin, check_host, files_of, make_engine, prepare
from souppp_tui.show import words
from souppp_tui.terminal.leaving import Leaving
from souppp_tui.terminal.outlet import AGAIN, Outlet

LOOK = 0.1
"""Seconds between looks at the engine's events."""
STDERR = 2
LAG = 65536
"""Octets of messages that nobody has read yet: with more, later ones are left out."""
ANSWER = 10.0
"""Seconds that the engine has to answer a command of ours."""
LEVELS = {Severity.DEBUG: 7, Severity.INFO: 6, Severity.WARNING: 4, Severity.ERROR: 3}
"""As syslog counts them."""
AT_START = ("dial", "unwanted_networks", "xdp")
"""What of a configuration counts only when the engine starts."""
CONFIGURATIONS = Path("/etc/souppp")


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui serve",
        description="Run the engine alone; consoles (souppp-tui attach) and scripts (souppp-tui ctl) come and go.",
    )
    it.add_argument(
        "cards", nargs="*", metavar="card", help="the network card on the access line, as in eth0; or several of them"
    )
    engine_options(it)
    it.add_argument(DETACHED, type=int, help=argparse.SUPPRESS)
    it.set_defaults(headless=True)
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    leaving = Leaving()
    leaving.heed_signals()
    reload, hand_over = on_signal(signal.SIGHUP), on_signal(signal.SIGUSR2)
    it = parser()
    options = it.parse_args(arguments)
    if options.detached is not None:
        os.set_inheritable(options.detached, False)
    if bool(options.cards) == options.lab:
        it.error("name a card, as in `souppp-tui serve eth0`, or use --lab, which brings its own")
    check_engine_options(it, options)
    _check_several(it, options)
    return _serve([_of_card(options, card) for card in options.cards or [None]], leaving, reload, hand_over)


def _check_several(it: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What several cards can't have together; ends the program with exit code 2."""
    if len(options.cards) < 2:
        return
    if twice := [card for card, times in Counter(options.cards).items() if times > 1]:
        it.error(f"{twice[0]} is named twice")
    if options.config is not None and not options.config.is_dir():
        it.error("--config is to name a folder where there are several cards, with CARD.yaml for each of them")
    for name in ("capture", "event_log", "socket"):
        if getattr(options, name) is not None:
            it.error(f"--{name.replace('_', '-')} is for one card: run `souppp-tui serve` for each, or do without")


def _of_card(options: argparse.Namespace, card: str | None) -> argparse.Namespace:
    """The options as they are for one card: its configuration is the file, or CARD.yaml in the folder."""
    config, usual = options.config, CONFIGURATIONS / f"{card}.yaml"
    if config is None and card is not None and usual.exists():
        config = usual
    elif config is not None and card is not None and config.is_dir():
        config /= usual.name
    return argparse.Namespace(**{**vars(options), "card": card, "config": config})


def on_signal(number: int) -> int:
    """A descriptor that can be read from after such a signal."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    process = os.getpid()
    signal.signal(number, lambda *_: os.eventfd_write(descriptor, 1) if os.getpid() == process else None)
    return descriptor


class Served:
    """One engine of this process: what its clients may ask beside it, what is told of it, and how it ends."""

    def __init__(
        self,
        engine: Engine,
        attachable: Attachable,
        options: argparse.Namespace,
        settings: Settings,
        events: EventFile | None,
    ) -> None:
        """An engine that is ready; its clients are answered from now on."""
        self.engine = engine
        self.leaving = Leaving()
        """That this engine ends, whatever others do."""
        self.process = Process(engine, options.config, settings, self.leaving, events)
        self._attachable = attachable
        self._stopping: threading.Thread | None = None
        attachable.serve(self.process)

    @property
    def stopping(self) -> bool:
        """Whether it is to end, and may have."""
        return self._stopping is not None

    def stop(self, store: Callable[[Estate], None] | None = None) -> None:
        """Have it end, see `Engine.stop`; returns at once. A second call does nothing."""
        if self._stopping is None:
            self._stopping = threading.Thread(target=self._stop, args=(store,), name="stop")
            self._stopping.start()

    def _stop(self, store: Callable[[Estate], None] | None) -> None:
        self._attachable.take_back()
        self.engine.stop(store)

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after waiting for it but no longer than this; then nobody can attach any more."""
        if self._stopping is None:
            return False
        self._stopping.join(seconds)
        if self._stopping.is_alive():
            return False
        self.process.write_events(at_once=True)
        self._attachable.close()
        return True

    def answers(self, seconds: float) -> bool:
        """Whether the engine's loop answers."""
        try:
            self.engine.submit(Watch(-1)).result(seconds)
        except TimeoutError:
            return False
        return True

    def status(self) -> str:
        """How many sessions are up."""
        sessions = self.engine.snapshot().sessions
        return f"{sum(view.up_since is not None for view in sessions):,} of {plural(len(sessions), 'session')} up"

    def status_alone(self) -> str:
        """The same where it is the only one, and how to see more."""
        path = self._attachable.path
        return self.status() + (f"; attach with `souppp-tui attach --socket {path}`" if path is not None else "")


def _serve(wanted: Sequence[argparse.Namespace], leaving: Leaving, reload: int, hand_over: int) -> int:
    """Run an engine for each until `leaving` is set, all have ended, or the sessions are handed over.

    What keeps one from running is told, and the others run. Returns the exit code.
    """
    never_collect()
    codes: list[int] = []
    with ExitStack() as started:
        kept = service.kept()
        found_cards: list[_Starting] = []
        for number, options in enumerate(wanted):
            with _told(codes, leaving):
                found_cards.append(_Starting(options, started, kept, f"{DEVICES}{number}-" if number else DEVICES))
        give_back(kept)
        begin([each.engine for each in found_cards], [path for each in found_cards for path in each.files])
        served: list[Served] = []
        for each in found_cards:
            with _told(codes, leaving):
                served.append(each.served(leaving))
        if not served:
            return codes[0]
        if wanted[0].detached is not None:
            leave_terminal(wanted[0].detached)
        return watch(served, leaving, reload, hand_over)


class _Starting:
    """An engine on its way, and what it needs."""

    def __init__(
        self, options: argparse.Namespace, started: ExitStack, kept: dict[str, list[int]], devices: str
    ) -> None:
        """Up to what takes rights that are given up then; `started` ends it.

        Raises ConfigError, CannotRunError and Trouble, and then nothing is left of it.
        """
        self._options = options
        self._settings = load(options.config) if options.config is not None else Settings()
        self.files = files_of(options, self._settings.console)
        with ExitStack() as undo:
            try:
                keep = None if options.lab else options.state_dir
                self._loading = Loading(kernel_path=self._settings.wants_kernel_path, keep=keep)
            except XdpError as error:
                raise CannotRunError(str(error)) from None
            undo.callback(self._loading.close)
            lab = None
            check_host(options, self._settings)
            if options.lab:
                provider = Provider()
                undo.callback(provider.kill)
                lab = Lab(provider)
            self.engine = make_engine(options, self._settings, self._loading, lab, devices)
            undo.callback(self.engine.stop)
            self._attachable = prepare(self.engine, options, self._settings.console)
            undo.callback(self._attachable.close)
            self.engine.inherit(found(kept, self.engine.ifname, time.monotonic()))
            started.push(undo.pop_all())

    def served(self, leaving: Leaving) -> Served:
        """Once it is ready. Raises Trouble, and then nobody can attach."""
        try:
            while not self.engine.wait_ready(LOOK):
                if leaving.is_set():
                    self._loading.give_up()
        except Trouble:
            self._attachable.close()
            raise
        path = self._options.event_log or self._settings.console.event_file
        events = EventFile(path, self.engine) if path else None
        return Served(self.engine, self._attachable, self._options, self._settings, events)


@contextmanager
def _told(codes: list[int], leaving: Leaving) -> Iterator[None]:
    """Tell what keeps an engine from running, and add the exit code for it."""
    try:
        yield
    except ConfigError as error:
        for line in error.errors:
            complain(line)
        codes.append(EXIT_USAGE)
    except (CannotRunError, Trouble) as error:
        if leaving.is_set():
            codes.append(EXIT_OK)
        else:
            complain(f"souppp-tui: {error}")
            codes.append(EXIT_ENVIRONMENT)


def watch(served: Sequence[Served], leaving: Leaving, reload: int, hand_over: int) -> int:
    """Tell what happens, answer the watchdog, read the configuration again when asked, until it is time to leave."""
    outlet = Outlet(STDERR, again=AGAIN)
    told = {each: Telling(each.engine, outlet, each.engine.ifname if len(served) > 1 else "") for each in served}
    there = [*served]
    watched = service.watchdog()
    service.notify(f"READY=1\nSTATUS={_status(served)}")
    poll = select.poll()
    for number in (reload, hand_over):
        poll.register(number, select.POLLIN)
    for wish in (leaving, *(each.leaving for each in served)):
        poll.register(wish, select.POLLIN)
    due, handing_over = 0.0, False
    while not (leaving.is_set() or handing_over or all(each.stopping for each in there)):
        ready = dict(poll.poll(LOOK * 1000))
        if hand_over in ready:
            handing_over = _keeps(there, hand_over)
        if reload in ready:
            os.eventfd_read(reload)
            service.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            for each in there:
                each.process.carry_out(Reload(), "SIGHUP")
            service.notify("READY=1")
        for each in there:
            if each.leaving.is_set() and not each.stopping:
                poll.unregister(each.leaving)
                each.stop()
        there = _tell(there, told)
        if (now := time.monotonic()) >= due:
            due = now + (watched / 3 if watched is not None else 5.0)
            if watched is None or all(each.answers(watched / 3 / len(there)) for each in there):
                service.notify(f"WATCHDOG=1\nSTATUS={_status(there)}")
    if hand_over in dict(poll.poll(0)):  # SIGTERM came right behind it
        handing_over = _keeps(there, hand_over)
    service.notify(f"STOPPING=1\nSTATUS={'Handing the sessions over.' if handing_over else 'Hanging up.'}")
    for each in there:
        each.stop(partial(keep, each.engine.ifname) if handing_over else None)
    while there := _tell(there, told, LOOK):
        service.notify("WATCHDOG=1")
    outlet.finish(1.0)
    return EXIT_HANDED_OVER if handing_over else EXIT_OK


def _tell(there: Sequence[Served], told: Mapping[Served, Telling], seconds: float = 0.0) -> list[Served]:
    """Tell what happened, and who has not ended after so many seconds."""
    still = [each for each in there if not each.has_ended(seconds)]
    for each in there:
        told[each].go_on()
        each.process.write_events()
    return still


def _keeps(there: Sequence[Served], hand_over: int) -> bool:
    """Whether the sessions that are up would be kept for the next process."""
    os.eventfd_read(hand_over)
    if service.keeps():
        return True
    for each in there:
        text = "No service manager keeps the sessions' devices here: SIGUSR2 does nothing."
        each.engine.tell(Severity.ERROR, "hand-over", text)
    return False


def _status(there: Sequence[Served]) -> str:
    if len(there) == 1:
        return there[0].status_alone()
    return "; ".join(f"{each.engine.ifname}: {each.status()}" for each in there)


def give_back(kept: dict[str, list[int]]) -> None:
    """Close what was kept and belongs to none of our cards."""
    while kept:
        for fd in kept.popitem()[1]:
            os.close(fd)


def keep(card: str, estate: Estate) -> None:
    """Have the service manager keep what the engine on a card leaves. Raises OSError."""
    state = os.memfd_create("souppp-state", os.MFD_CLOEXEC)
    try:
        write_all(state, estate.told(time.monotonic()))
        service.keep(estate.descriptors(card, state))
    finally:
        os.close(state)


class Telling:
    """Writes the engine's events to the journal with their fields, or to standard error as text, each once."""

    def __init__(self, engine: Engine, outlet: Outlet, card: str = "") -> None:
        """`outlet` is to standard error; `card` stands before each event, where there are several."""
        self._engine = engine
        self._card = card
        self._seen = 0
        self._missed = 0
        self._journal = service.Journal()
        self._outlet = outlet

    def go_on(self) -> None:
        """Tell what happened since the last call. It never waits: what nobody reads is counted and left out."""
        events, lost = self._engine.events_since(self._seen)
        self._missed += lost
        for event in events:
            self._seen = event.seq
            if event.severity is Severity.DEBUG:
                continue
            if self._journal:
                self._journal.write(fields(event, self._card))
            elif self._outlet.waiting > LAG:
                self._missed += 1
            else:
                self._print(event)

    def _print(self, event: Event) -> None:
        if self._missed:
            text = f"({self._missed:,} earlier messages were left out: they could not be written in time.)\n"
            self._outlet.write(text.encode())
            self._missed = 0
        card = f"{self._card}  " if self._card else ""
        self._outlet.write(f"{card}{words.event_line(event)}\n".encode())


def fields(event: Event, card: str = "") -> dict[str, str]:
    """An event as an entry of the journal; `card` where there are several."""
    told = {
        "MESSAGE": ": ".join(filter(None, (card, event.name, event.text))),
        "PRIORITY": str(LEVELS[event.severity]),
        "SYSLOG_IDENTIFIER": "souppp-tui",
        "SOUPPP_EVENT": event.kind,
    }
    more = {"SOUPPP_CARD": card, "SOUPPP_SESSION": event.name}
    return told | {name: value for name, value in more.items() if value}


class Process:
    """What clients may ask of the process beside its engine, and its configuration file. Implements `Service`."""

    def __init__(
        self, engine: Engine, config: Path | None, settings: Settings, leaving: Leaving, events: EventFile | None
    ) -> None:
        self._engine = engine
        self._config = config
        self._settings = settings
        self._proxies = settings.proxy
        """As they were read last."""
        self._leaving = leaving
        self._save = saver(config) if config is not None else None
        self._writing = threading.Lock()
        self._events = events

    def carry_out(self, command: ServiceCommand, by: str) -> Reply:
        """See `Service.carry_out`."""
        return {Reload: self._reload, Shutdown: self._shutdown}[type(command)](by)

    def write_events(self, *, at_once: bool = False) -> None:
        """Bring the event file up to date, if there is one; see `EventFile.write`."""
        if self._events is not None and (news := self._events.write(at_once=at_once)):
            self._engine.tell(Severity.ERROR if self._events.failing else Severity.INFO, "event-file", news)

    def _shutdown(self, by: str) -> Reply:
        self._engine.tell(Severity.WARNING, "shutdown", f"The engine ends, asked by {by}.")
        self._leaving.set()
        return Reply(0)

    def _reload(self, by: str) -> Reply:
        """Do what is different in the file. One that can't be read changes nothing."""
        if self._config is None:
            return self._refuse("This engine runs without a configuration file.")
        with self._writing:
            try:
                wanted = load(self._config)
            except ConfigError as error:
                more = f" ({len(error.errors) - 1} more)" if len(error.errors) > 1 else ""
                return self._refuse(f"{error.errors[0]}{more} Nothing was changed.")
        proxies, self._proxies = self._proxies != wanted.proxy, wanted.proxy
        self._engine.reconfigure(wanted)
        todo = plan(self._engine.all_settings(), wanted.sessions)
        answers = [self._engine.submit(command) for command in taking_over(todo)]
        try:
            replies = [answer.result(ANSWER) for answer in answers]
        except TimeoutError:
            return self._refuse("The engine is too busy to answer; it does what is different as soon as it can.")
        refused = tuple(each for reply in replies for each in reply.refused)
        counts = {"added": todo.add, "changed": todo.edit, "removed": todo.remove, "refused": refused}
        different = [f"{len(what)} {word}" for word, what in counts.items() if what] + ["other proxies"] * proxies
        told = ", ".join(different) or "nothing is different"
        remarks = [f"Configuration read again by {by}: {told}."]
        if later := [name for name in AT_START if getattr(wanted, name) != getattr(self._settings, name)]:
            remarks.append(f"At the next start only: {', '.join(later)}.")
        for remark in remarks:
            self._engine.tell(Severity.INFO, "reload", remark)
        for remark in wanted.remarks:
            self._engine.tell(Severity.WARNING, "configuration", remark)
        remarks += wanted.remarks
        return Reply(0, tuple(key for reply in replies for key in reply.done), refused, remarks=tuple(remarks))

    def _refuse(self, why: str) -> Reply:
        self._engine.tell(Severity.ERROR, "reload", why)
        return Reply(0, refused=(Refused(None, why),))

    def keep(self, command: Command, reply: Reply, before: Mapping[int, str]) -> tuple[str, ...]:
        """See `Service.keep`."""
        if self._save is None or not reply.done:
            return ()
        settings = self._engine.settings
        if isinstance(command, Remove):
            changes: list[Change] = [(before[key], None) for key in reply.done if key in before]
        else:
            changes = changes_of(reply.done, before, settings)
        try:
            with self._writing:
                self._save(changes)
        except (OSError, ValueError) as error:
            text = f"Not written to the configuration: {error}"
            self._engine.tell(Severity.WARNING, "configuration", text)
            return (text,)
        return ()
