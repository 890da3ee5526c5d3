"""`souppp-tui attach`: the console on an engine that runs already. Leaving it leaves the engine as it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from engine.host.errors import Trouble
from engine.settings.console import THEMES
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_OK, CannotRunError, check_terminal, complain
from souppp_tui.commands.parsing import console_options, event_log_option
from souppp_tui.commands.reaching import client, target_options, way_to
from souppp_tui.terminal.leaving import Leaving


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui attach",
        description="Open the console on an engine that runs; q leaves and its sessions stay, Q ends it.",
    )
    it.add_argument(
        "engine",
        nargs="?",
        help="its card, lab, the path of its socket, or USER@HOST[:CARD] over ssh; not needed where there is only one",
    )
    target_options(it)
    console_options(it)
    event_log_option(it)
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    leaving = Leaving()
    leaving.heed_signals()
    return show(parser().parse_args(arguments), leaving)


def show(options: argparse.Namespace, leaving: Leaving) -> int:
    """Open the console on the engine that is meant, until the operator leaves it; returns the exit code."""
    from souppp_tui.app.console import ConsoleError, run
    from souppp_tui.app.eventfile import EventFile
    from souppp_tui.desk.options import ConsoleOptions

    try:
        check_terminal()
        with client(way_to(options.engine, options.socket), "console") as engine:
            console = ConsoleOptions(
                read_only=options.read_only or not engine.hello.writes,
                theme=options.theme or THEMES[0],
                mouse=not options.no_mouse,
                attached=True,
            )
            events = EventFile(options.event_log, engine) if options.event_log is not None else None
            run(engine, console, leaving=leaving, events=events)
    except (Trouble, CannotRunError, ConsoleError) as error:
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT
    return EXIT_OK
