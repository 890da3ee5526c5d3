"""The command line: `souppp-tui eth0`, `souppp-tui --lab`.

Exit codes: 0 all is well; 1 not every session came up in time, or something failed under way; 2 the command line or the
configuration is wrong; 3 it can't run here (privileges, kernel, packages, card, terminal).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from engine.settings.console import THEMES
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import Settings, XdpMode
from souppp_tui import __version__
from souppp_tui.commands.errors import CannotRunError, complain
from souppp_tui.terminal.leaving import Leaving

EXIT_OK = 0
EXIT_NOT_UP = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3

STATE_FOLDER = Path("/var/lib/souppp")

EPILOG = """\
exit codes: 0 all is well; 1 not every session came up in time, or something failed under way;
2 the command line or the configuration is wrong; 3 it can't run here (privileges, kernel, packages, card, terminal).
"""


def parser() -> argparse.ArgumentParser:
    """All options."""
    it = argparse.ArgumentParser(
        prog="souppp-tui",
        description="Open many PPPoE sessions from one network card, and watch and steer them in a console.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    it.add_argument("card", nargs="?", help="the network card on the access line, as in eth0")
    it.add_argument("--version", action="version", version=f"souppp-tui {__version__}")
    it.add_argument("--config", type=Path, metavar="FILE", help="sessions and settings, in YAML")
    it.add_argument(
        "--lab",
        action="store_true",
        help="use the embedded lab instead of a card: touches nothing else; with --config, its password is lab",
    )
    it.add_argument("--sessions", type=_count, metavar="N", help="how many sessions the lab has (8)")
    it.add_argument("--capture", type=Path, metavar="FILE", help="write all control frames to a pcapng file")
    it.add_argument("--event-log", type=Path, metavar="FILE", help="append every event to this file")
    it.add_argument(
        "--xdp",
        choices=[*XdpMode],
        metavar="MODE",
        help="how the card's frames come: auto (the best it can), zero-copy, copy or generic",
    )
    it.add_argument(
        "--generic", dest="xdp", action="store_const", const=XdpMode.GENERIC, help="short for --xdp generic"
    )
    it.add_argument("--busy-poll", action="store_true", help="trade CPU time for latency on the card's queues")
    it.add_argument(
        "--fix-card",
        action="store_true",
        help="switch off what the card does that keeps frames from us; on again at the end",
    )
    it.add_argument(
        "--state-dir",
        type=Path,
        default=STATE_FOLDER,
        metavar="DIR",
        help=f"where open sessions are noted, to end them after a crash ({STATE_FOLDER})",
    )
    _console_options(it.add_argument_group("console"))
    _silent_options(it.add_argument_group("without a screen"))
    return it


def _console_options(console: argparse._ArgumentGroup) -> None:
    console.add_argument("--read-only", action="store_true", help="show everything, change nothing")
    console.add_argument("--theme", choices=THEMES, help=f"{', '.join(THEMES)} ({THEMES[0]})")
    console.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")


def _silent_options(silent: argparse._ArgumentGroup) -> None:
    silent.add_argument("--headless", action="store_true", help="no console: events as JSON lines on standard output")
    silent.add_argument("--until-up", action="store_true", help="end when every autodial session is up (exit code 0)")
    silent.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="give up on that after S seconds (60)"
    )
    silent.add_argument("--hold", action="store_true", help="with --until-up: then keep the sessions until a signal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    hold_standard_streams()
    leaving = Leaving()
    leaving.heed_signals()  # before all that takes time, imports too
    it = parser()
    options = it.parse_args(arguments)
    _check(it, options)
    from engine.settings.reading import ConfigError, load

    try:
        settings = load(options.config) if options.config is not None else Settings()
    except ConfigError as error:
        for line in error.errors:
            complain(line)
        return EXIT_USAGE
    if settings.console.keys and (wrong := _clash(settings.console.keys)):
        complain(f"{options.config}: console: keys: {wrong}")
        return EXIT_USAGE
    try:
        if not options.headless:
            _check_terminal()
        return _run(options, settings, leaving)
    except CannotRunError as error:
        if leaving.is_set():  # what was being started has failed because we are to end
            return EXIT_NOT_UP if options.until_up else EXIT_OK
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT


def _check_terminal() -> None:
    """Raises CannotRunError where there is no terminal to show the console on."""
    if not (os.isatty(0) and os.isatty(1)):
        raise CannotRunError("the console needs a terminal on standard input and output; without one use --headless.")


def hold_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed, or else a card's socket could take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


def _clash(keys: Mapping[str, str]) -> str:
    from souppp_tui.desk.actions import clash, key_names

    return clash(key_names(keys))


def _run(options: argparse.Namespace, settings: Settings, leaving: Leaving) -> int:
    """Begin with what other processes do, and import the engine meanwhile: each takes a third of a second."""
    from engine.card.xdp import Loading, XdpError
    from engine.lab.provider import Provider

    with ExitStack() as started:
        try:
            loading = Loading()
        except XdpError as error:
            raise CannotRunError(str(error)) from None
        started.callback(loading.close)
        provider = Provider() if options.lab else None
        if provider is not None:
            started.callback(provider.close)
        from souppp_tui.commands.run import run

        return run(options, settings, leaving, loading, provider)


def _check(it: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What argparse can't say."""
    if bool(options.card) == options.lab:
        it.error(
            "name a card, as in `souppp-tui eth0`, or use --lab" if not options.card else "--lab brings its own card"
        )
    if options.sessions is not None and not options.lab:
        it.error("--sessions is for --lab; sessions on a card come from --config")
    if options.sessions is not None and options.config is not None:
        it.error("--sessions and --config exclude each other: both say which sessions there are")
    if options.hold and not options.until_up:
        it.error("--hold goes with --until-up")
    if options.until_up and not options.headless:
        it.error("--until-up goes with --headless")


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= MAX_SESSIONS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_SESSIONS}")
    return number


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError("must be a number of seconds above 0")


if __name__ == "__main__":
    sys.exit(main())
