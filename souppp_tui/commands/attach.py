"""`souppp-tui attach`: the console on engines that run already. Leaving it leaves them as they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from engine.api.engine import EngineApi
from engine.host.errors import Trouble
from engine.run.client import Client
from engine.run.sockets import network
from engine.settings.console import ConsoleSettings, OwnCommand
from engine.settings.reading import ConfigError, load
from souppp_tui.commands.asking import agrees
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_OK, EXIT_USAGE, CannotRunError, check_terminal, complain
from souppp_tui.commands.files import console_of, own_configuration, who_else_writes
from souppp_tui.commands.parsing import console_options, event_log_option
from souppp_tui.commands.reaching import client, names_of, target_options, way_to
from souppp_tui.model.several import Attached, Several
from souppp_tui.show.filling import only_names
from souppp_tui.terminal.leaving import Leaving


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui attach",
        description="Open the console on engines that run; q leaves and their sessions stay, Q ends them.",
    )
    it.add_argument(
        "engines",
        nargs="*",
        metavar="engine",
        help="its card, lab, the path of its socket, or USER@HOST[:CARD] over ssh; not needed where there is only one. "
        "Several are shown in one table",
    )
    target_options(it)
    it.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="what its `console:` says of colours, columns, keys, filters and commands (~/.config/souppp/console.yaml)",
    )
    console_options(it)
    event_log_option(it)
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    leaving = Leaving()
    leaving.heed_signals()
    it = parser()
    options = it.parse_args(arguments)
    if options.socket is not None and len(options.engines) > 1:
        it.error("--socket names one engine; of several the sockets' paths are named without it")
    return show(options, leaving)


def show(options: argparse.Namespace, leaving: Leaving) -> int:
    """Open the console on the engines that are meant, until the operator leaves it; returns the exit code."""
    from souppp_tui.app.console import ConsoleError, run
    from souppp_tui.app.eventfile import EventFile

    path = options.config or own_configuration()
    try:
        settings = load(path).console if path is not None else ConsoleSettings()
        distrust = who_else_writes(path) if path is not None else ""
    except (ConfigError, OSError) as error:
        for line in error.errors if isinstance(error, ConfigError) else [f"{path}: {error.strerror}"]:
            complain(line)
        return EXIT_USAGE
    try:
        check_terminal("without one use `souppp-tui ctl`")
        with ExitStack() as attached:
            clients = _clients(options, attached, leaving)
            console = replace(
                console_of(settings, path, options),
                read_only=options.read_only or not any(each.hello.writes for each in clients),
                attached=True,
                why_not_own=partial(_why_not_own, distrust, _where(options.engines, clients)),
            )
            engine = _together(options.engines, clients)
            events = EventFile(options.event_log, engine) if options.event_log is not None else None
            run(engine, console, leaving=leaving, events=events)
    except (Trouble, CannotRunError, ConsoleError) as error:
        if leaving.is_set():
            return EXIT_OK
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT
    return EXIT_OK


def _where(targets: Sequence[str], clients: Sequence[Client]) -> list[str]:
    """Where else than here each engine's devices are; empty where they are here."""

    def where(target: str, client: Client) -> str:
        if "@" in target:
            return f"on {target.partition(':')[0]}"
        return "in another network namespace" if client.hello.network != network() else ""

    return [where(target, client) for target, client in zip(targets or [""], clients, strict=True)]


def _why_not_own(distrust: str, elsewhere: Sequence[str], own: OwnCommand, place: int) -> str:
    """A command runs here, as this user: for what only means something elsewhere that would be another session."""
    if distrust or not elsewhere[place] or only_names(own.run):
        return distrust
    return f"The session is {elsewhere[place]}, and this would be run here: run it there."


def _clients(options: argparse.Namespace, attached: ExitStack, leaving: Leaving) -> list[Client]:
    """One after the other, as ssh may ask for passwords; `options.engines` are those that were reached.

    Raises Trouble, and CannotRunError for one that can't be reached and is not to be left out, or is named twice.
    """
    targets = options.engines if len(options.engines) > 1 else [*options.engines, None][:1]
    reached: list[str] = []
    clients: list[Client] = []
    for target in targets:
        try:
            made = attached.enter_context(client(way_to(target, options.socket), "console"))
        except Trouble as error:
            named = target is None or len(targets) == 1 or str(error).startswith(f"{target}: ")
            what = str(error) if named else f"{target}: {error}"
            if len(targets) > 1 and agrees(f"{what} Go on without it?", leaving):
                continue
            raise CannotRunError(what) from None
        for other, known in zip(reached, clients, strict=True):
            if made.hello.instance and made.hello.instance == known.hello.instance:
                raise CannotRunError(f"{other} and {target} are the same engine. Name it once.")
        clients.append(made)
        reached += [target] if target is not None else []
    if not clients:
        raise CannotRunError("None of these engines can be reached.")
    options.engines = reached
    return clients


def _together(targets: Sequence[str], clients: Sequence[Client]) -> EngineApi:
    if len(clients) == 1:
        return clients[0]
    names = names_of([(target, each.hello.card) for target, each in zip(targets, clients, strict=True)])

    def attached(name: str, each: Client) -> Attached:
        return Attached(name, each, lambda: each.hello.writes)

    return Several([attached(name, each) for name, each in zip(names, clients, strict=True)])
