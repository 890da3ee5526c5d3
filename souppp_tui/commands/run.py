"""Runs an engine, on a card or in the lab, with the console or without a screen."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote

from msgspec.structs import replace

from engine.api.values import Severity
from engine.card.facts import card_name
from engine.card.xdp import Loading
from engine.host.errors import HostError
from engine.host.privileges import confine, missing_capabilities
from engine.host.promptness import never_collect
from engine.host.surroundings import NO_THREADS, NO_TUN, has_tun, is_short_of_threads
from engine.lab.lab import CARD, LAB_PROXIES, URL, Lab, LabError, lab_sessions
from engine.lab.provider import Provider
from engine.run.server import Server, Service
from engine.run.sockets import LAB, Listening, SocketError, listen, usual_paths
from engine.run.thread import Engine, EngineError, EngineOptions
from engine.settings.console import ConsoleSettings
from engine.settings.options import DEVICES
from engine.settings.values import DatapathChoice, EgressChoice, Settings, XdpMode
from souppp_tui import __version__
from souppp_tui.app.eventfile import EventFile
from souppp_tui.commands import headless
from souppp_tui.commands.errors import EXIT_OK, CannotRunError, complain
from souppp_tui.commands.headless import HeadlessOptions
from souppp_tui.terminal.leaving import Leaving

LAB_SESSIONS = 8
LOOK = 0.05
"""Seconds between looks whether a signal came, while the engine takes the card."""


def run(
    options: argparse.Namespace,
    settings: Settings,
    leaving: Leaving,
    loading: Loading,
    provider: Provider | None,
    go_on: GoOn,
) -> int:
    """Run until the operator leaves, `leaving` is set or the work is done; returns the exit code.

    `loading` is the XDP program on its way, `provider` the lab's if there is to be a lab. Raises CannotRunError.
    """
    if options.headless:
        never_collect()
    try:
        check_host(options, settings)
        engine = make_engine(options, settings, loading, Lab(provider) if provider is not None else None)
        return _run_engine(engine, options, settings.console, leaving, loading, go_on)
    except (EngineError, LabError, HostError, SocketError) as error:
        raise CannotRunError(str(error)) from None
    except RuntimeError as error:
        if not is_short_of_threads(error):
            raise
        raise CannotRunError(NO_THREADS) from None


def check_host(options: argparse.Namespace, settings: Settings) -> None:
    """Raises CannotRunError and HostError where an engine can't run at all."""
    missing = missing_capabilities(lab=options.lab)
    if missing:
        raise CannotRunError(f"needs to run as root, or with {', '.join(missing)}.")
    with_tun = (
        each.datapath is DatapathChoice.AFXDP and each.egress is EgressChoice.DEVICE for each in settings.sessions
    )
    if not has_tun() and all(with_tun):
        raise HostError(NO_TUN)


def make_engine(
    options: argparse.Namespace, settings: Settings, loading: Loading, lab: Lab | None, devices: str = DEVICES
) -> Engine:
    """An engine on a card or in the lab, not started yet. Raises LabError and HostError.

    Its sessions' devices are called `devices` and a number, where their settings say nothing else.
    """
    engine_options = EngineOptions(
        devices=devices,
        xdp=options.xdp and XdpMode(options.xdp),
        busy_poll=options.busy_poll,
        fix_card=options.fix_card,
        capture=options.capture,
        program=called(),
    )
    if lab is None:
        engine_options = replace(engine_options, state_folder=options.state_dir)
        return Engine(card_name(options.card), settings, engine_options, loading)
    if options.config is None:
        egress = EgressChoice(options.egress or EgressChoice.DEVICE)
        settings = replace(settings, sessions=lab_sessions(options.sessions or LAB_SESSIONS, egress=egress))
        if not options.headless:
            settings = replace(settings, proxy=LAB_PROXIES)
    if not options.headless:
        import_module("souppp_tui.app.console")  # takes long: meanwhile the concentrator starts
    lab.wait_ready()
    engine_options = replace(engine_options, lab=True, command_prefix=lab.command_prefix, try_url=URL)
    return Engine(CARD, settings, engine_options, loading)


def called() -> str:
    """What a shell finds this program by: its name, or its path in a checkout, where no PATH leads to it."""
    beside = Path(sys.executable).with_name("souppp-tui")
    found = any(os.access(Path(folder, beside.name), os.X_OK) for folder in os.get_exec_path())
    return beside.name if found or not beside.exists() else quote(str(beside))


class Attachable:
    """An engine's socket: made before rights are given up, served when the engine is ready, gone at the end."""

    def __init__(self, engine: Engine, options: argparse.Namespace) -> None:
        """Raises SocketError where there is none to be had and `--socket` asks for it."""
        self._engine = engine
        self._card = LAB if options.lab else engine.ifname
        self._server: Server | None = None
        self._failure = ""
        self._listening: Listening | None = None
        usual = usual_paths(engine.ifname, lab=options.lab, fallback=options.state_dir)
        for path in [options.socket] if options.socket else usual:
            try:
                self._listening = listen(path)
                return
            except SocketError as error:
                if options.socket is not None:
                    raise
                self._failure = str(error)

    def serve(self, service: Service | None = None) -> None:
        """Answer who has connected; where there is no socket an event tells why. Again: with another service."""
        if self._server is not None:
            self._server.service = service
            return
        if self._listening is None:
            self._engine.tell(Severity.WARNING, "socket", self._failure)
            return
        server = Server(self._engine, self._listening, release=__version__, card=self._card, service=service)
        server.start()
        self._engine.attached = lambda: server.clients
        self._server = server

    def take_back(self) -> None:
        """See `Server.take_back`."""
        if self._server is not None:
            self._server.take_back()

    @property
    def path(self) -> Path | None:
        """Where it is, if it is."""
        return self._listening.path if self._listening is not None else None

    def close(self) -> None:
        """A second call does nothing."""
        for it in (self._server, self._listening):
            if it is not None:
                it.close()


GoOn = Callable[[Engine, Attachable, EventFile | None], None]
"""What is to be done with an engine that goes on without its console; it returns when the engine has ended."""


def prepare(engine: Engine, options: argparse.Namespace, console: ConsoleSettings) -> Attachable:
    """Do what takes rights that are given up when it begins.

    Raises SocketError, and CannotRunError where events can't be written.
    """
    _try_event_file(engine, options.event_log or console.event_file)
    return Attachable(engine, options)


def begin(engines: Sequence[Engine], files: Sequence[Path]) -> None:
    """Start engines that take their cards while the caller does something else, with few rights from now on.

    `files` are `files_of` all of them.
    """
    for engine in engines:
        engine.make_ready(lambda line: complain(f"souppp-tui: {line}"))
    for engine in engines:
        engine.confine(partial(confine, files))
    for engine in engines:
        engine.start()


def _run_engine(
    engine: Engine,
    options: argparse.Namespace,
    console: ConsoleSettings,
    leaving: Leaving,
    loading: Loading,
    go_on: GoOn,
) -> int:
    attachable = prepare(engine, options, console)
    begin([engine], files_of(options, console))
    try:
        if not options.headless:
            import_module("souppp_tui.app.console")  # takes long: the engine takes the card meanwhile
        while not engine.wait_ready(LOOK):
            if leaving.is_set():
                loading.give_up()
        attachable.serve()
        if not options.headless:
            if not leaving.is_set():
                _run_console(engine, options, console, leaving, attachable, go_on)
            return EXIT_OK
        event_file = options.event_log or console.event_file
        wishes = HeadlessOptions(options.until_up, options.timeout, options.hold, event_file)
        return headless.run(engine, wishes, leaving, engine.stop)
    finally:
        engine.stop()
        attachable.close()


def _try_event_file(engine: Engine, path: Path | None) -> None:
    """Raises CannotRunError if it can't be written, before there is anything to write."""
    if path is None:
        return
    try:
        os.close(EventFile(path, engine).open())
    except OSError as error:
        raise CannotRunError(f"events can't be written to {path}: {error.strerror}.") from None


def files_of(options: argparse.Namespace, console: ConsoleSettings) -> list[Path]:
    """Where there will be something to read or to write while the engine runs."""
    named = (options.config, options.capture, options.event_log, console.event_file)
    folders = (options.state_dir if not options.lab else None, None if options.headless else Path())
    return [path for path in (*named, *folders) if path is not None]


def _run_console(
    engine: Engine,
    options: argparse.Namespace,
    settings: ConsoleSettings,
    leaving: Leaving,
    attachable: Attachable,
    go_on: GoOn,
) -> None:
    from souppp_tui.app.console import ConsoleError
    from souppp_tui.app.console import run as run_console
    from souppp_tui.commands.files import console_of, loader, saver

    event_file = options.event_log or settings.event_file
    events = EventFile(event_file, engine) if event_file else None
    console = replace(
        console_of(settings, options.config, options),
        save=saver(options.config) if options.config is not None else None,
        load=loader(options.config, engine.reconfigure) if options.config is not None else None,
        may_go_on=attachable.path is not None,
    )
    try:
        goes_on = run_console(engine, console, engine.stop, leaving, events)
    except ConsoleError as error:
        raise CannotRunError(str(error)) from None
    if goes_on:
        go_on(engine, attachable, events)
