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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from engine.api.commands import (
    Add,
    Command,
    Edit,
    Refused,
    Reload,
    Remove,
    Reply,
    ServiceCommand,
    Shutdown,
    Watch,
    taking_over,
)
from engine.api.values import Event, Severity
from engine.card.xdp import Loading, XdpError
from engine.host import service
from engine.host.errors import Trouble
from engine.host.promptness import never_collect
from engine.host.replacing import write_all
from engine.lab.lab import Lab
from engine.lab.provider import Provider
from engine.record.plural import plural
from engine.run.estate import Estate, found
from engine.run.thread import Engine
from engine.settings.reading import ConfigError, load
from engine.settings.reload import plan
from engine.settings.values import SessionSettings, Settings
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
from souppp_tui.commands.run import begin, check_host, make_engine
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
    it.add_argument("card", nargs="?", help="the network card on the access line, as in eth0")
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
    if bool(options.card) == options.lab:
        it.error("name a card, as in `souppp-tui serve eth0`, or use --lab, which brings its own")
    check_engine_options(it, options)
    usual = CONFIGURATIONS / f"{options.card}.yaml"
    if options.config is None and not options.lab and usual.exists():
        options.config = usual
    try:
        settings = load(options.config) if options.config is not None else Settings()
        return _serve(options, settings, leaving, reload, hand_over)
    except ConfigError as error:
        for line in error.errors:
            complain(line)
        return EXIT_USAGE
    except (CannotRunError, Trouble) as error:
        if leaving.is_set():
            return EXIT_OK
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT


def on_signal(number: int) -> int:
    """A descriptor that can be read from after such a signal."""
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    process = os.getpid()
    signal.signal(number, lambda *_: os.eventfd_write(descriptor, 1) if os.getpid() == process else None)
    return descriptor


def _serve(options: argparse.Namespace, settings: Settings, leaving: Leaving, reload: int, hand_over: int) -> int:
    """Run until `leaving` is set, or the sessions are handed over. Raises CannotRunError and Trouble."""
    never_collect()
    with ExitStack() as started:
        kept = service.kept()
        try:
            loading = Loading()
        except XdpError as error:
            raise CannotRunError(str(error)) from None
        started.callback(loading.close)
        lab = None
        check_host(options, settings)
        if options.lab:
            provider = Provider()
            started.callback(provider.close)
            lab = Lab(provider)
        engine = make_engine(options, settings, loading, lab)
        engine.inherit(found(kept, engine.ifname, time.monotonic()))
        give_back(kept)
        attachable = begin(engine, options, settings.console)
        started.callback(attachable.close)
        started.callback(engine.stop)
        while not engine.wait_ready(LOOK):
            if leaving.is_set():
                loading.give_up()
        events = options.event_log or settings.console.event_file
        process = Process(engine, options.config, settings, leaving, EventFile(events, engine) if events else None)
        attachable.serve(process)
        if options.detached is not None:
            leave_terminal(options.detached)
        return watch(engine, process, attachable.path, leaving, reload, hand_over)


def watch(engine: Engine, process: Process, path: Path | None, leaving: Leaving, reload: int, hand_over: int) -> int:
    """Tell what happens, answer the watchdog, read the configuration again when asked, until it is time to leave."""
    telling = Telling(engine)
    watched = service.watchdog()
    service.notify(f"READY=1\nSTATUS={_status(engine, path)}")
    poll = select.poll()
    poll.register(leaving, select.POLLIN)
    poll.register(reload, select.POLLIN)
    poll.register(hand_over, select.POLLIN)
    due, store = 0.0, None
    while not leaving.is_set() and store is None:
        ready = dict(poll.poll(LOOK * 1000))
        if hand_over in ready:
            store = _store(engine, hand_over)
        if reload in ready:
            os.eventfd_read(reload)
            service.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            process.carry_out(Reload(), "SIGHUP")
            service.notify("READY=1")
        telling.go_on()
        process.write_events()
        if (now := time.monotonic()) >= due:
            due = now + (watched / 3 if watched is not None else 5.0)
            if watched is None or _answers(engine, watched / 3):
                service.notify(f"WATCHDOG=1\nSTATUS={_status(engine, path)}")
    if select.select([hand_over], [], [], 0)[0]:  # SIGTERM came right behind it
        store = _store(engine, hand_over)
    service.notify(f"STOPPING=1\nSTATUS={'Hanging up.' if store is None else 'Handing the sessions over.'}")
    stopping = threading.Thread(target=engine.stop, args=(store,), name="stop")
    stopping.start()
    while stopping.is_alive():
        telling.go_on()
        service.notify("WATCHDOG=1")
        stopping.join(LOOK)
    telling.go_on()
    process.write_events(at_once=True)
    telling.finish()
    return EXIT_OK if store is None else EXIT_HANDED_OVER


def _store(engine: Engine, hand_over: int) -> Callable[[Estate], None] | None:
    """What keeps the sessions that are up for the next process, None where nothing would."""
    os.eventfd_read(hand_over)
    if not service.keeps():
        text = "No service manager keeps the sessions' devices here: SIGUSR2 does nothing."
        engine.tell(Severity.ERROR, "hand-over", text)
        return None
    return partial(keep, engine.ifname)


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


def _answers(engine: Engine, seconds: float) -> bool:
    """Whether the engine's loop answers."""
    try:
        engine.submit(Watch(-1)).result(seconds)
    except TimeoutError:
        return False
    return True


def _status(engine: Engine, path: Path | None) -> str:
    sessions = engine.snapshot().sessions
    up = sum(view.up_since is not None for view in sessions)
    where = f"; attach with `souppp-tui attach --socket {path}`" if path is not None else ""
    return f"{up:,} of {plural(len(sessions), 'session')} up{where}"


class Telling:
    """Writes the engine's events to the journal with their fields, or to standard error as text, each once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = 0
        self._missed = 0
        self._journal = service.Journal()
        self._outlet = Outlet(STDERR, again=AGAIN)

    def go_on(self) -> None:
        """Tell what happened since the last call. It never waits: what nobody reads is counted and left out."""
        events, lost = self._engine.events_since(self._seen)
        self._missed += lost
        for event in events:
            self._seen = event.seq
            if event.severity is Severity.DEBUG:
                continue
            if self._journal:
                self._journal.write(fields(event))
            elif self._outlet.waiting > LAG:
                self._missed += 1
            else:
                self._print(event)

    def _print(self, event: Event) -> None:
        if self._missed:
            text = f"({self._missed:,} earlier messages were left out: they could not be written in time.)\n"
            self._outlet.write(text.encode())
            self._missed = 0
        self._outlet.write(f"{words.event_line(event)}\n".encode())

    def finish(self) -> None:
        """Give the last lines a moment to be read."""
        self._outlet.finish(1.0)


def fields(event: Event) -> dict[str, str]:
    """An event as an entry of the journal."""
    told = {
        "MESSAGE": f"{event.name}: {event.text}" if event.name else event.text,
        "PRIORITY": str(LEVELS[event.severity]),
        "SYSLOG_IDENTIFIER": "souppp-tui",
        "SOUPPP_EVENT": event.kind,
    }
    return {**told, "SOUPPP_SESSION": event.name} if event.name else told


class Process:
    """What clients may ask of the process beside its engine, and its configuration file. Implements `Service`."""

    def __init__(
        self, engine: Engine, config: Path | None, settings: Settings, leaving: Leaving, events: EventFile | None
    ) -> None:
        self._engine = engine
        self._config = config
        self._settings = settings
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
        todo = plan(self._engine.all_settings(), wanted.sessions)
        answers = [self._engine.submit(command) for command in taking_over(todo)]
        replies = [answer.result(ANSWER) for answer in answers]
        refused = tuple(each for reply in replies for each in reply.refused)
        counts = {"added": todo.add, "changed": todo.edit, "removed": todo.remove, "refused": refused}
        told = ", ".join(f"{len(what)} {word}" for word, what in counts.items() if what) or "nothing is different"
        remarks = [f"Configuration read again by {by}: {told}."]
        if later := [name for name in AT_START if getattr(wanted, name) != getattr(self._settings, name)]:
            remarks.append(f"At the next start only: {', '.join(later)}.")
        for remark in remarks:
            self._engine.tell(Severity.INFO, "reload", remark)
        return Reply(0, tuple(key for reply in replies for key in reply.done), refused, remarks=tuple(remarks))

    def _refuse(self, why: str) -> Reply:
        self._engine.tell(Severity.ERROR, "reload", why)
        return Reply(0, refused=(Refused(None, why),))

    def keep(self, command: Command, reply: Reply, before: Mapping[int, str]) -> tuple[str, ...]:
        """See `Service.keep`."""
        if self._save is None or not reply.done:
            return ()
        settings = self._engine.settings
        changes: list[tuple[str | None, SessionSettings | None]] = []
        match command:
            case Add():
                changes = [(None, settings(key)) for key in reply.done]
            case Edit(key):
                changes = [(before.get(key), settings(key))]
            case Remove():
                changes = [(before[key], None) for key in reply.done if key in before]
        try:
            with self._writing:
                for name, changed in changes:
                    self._save(name, changed)
        except (OSError, ValueError) as error:
            text = f"Not written to the configuration: {error}"
            self._engine.tell(Severity.WARNING, "configuration", text)
            return (text,)
        return ()
