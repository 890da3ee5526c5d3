"""The command line: `souppp-tui eth0`, `souppp-tui --lab`, and the commands by their names, `souppp-tui ctl list`.

Exit codes: 0 all is well; 1 not every session came up in time, or something failed under way; 2 the command line or the
configuration is wrong; 3 it can't run here (privileges, kernel, packages, card, terminal).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.settings.values import Settings
from souppp_tui import __version__
from souppp_tui.commands.errors import (
    EXIT_ENVIRONMENT,
    EXIT_NOT_DONE,
    EXIT_OK,
    EXIT_USAGE,
    CannotRunError,
    check_terminal,
    complain,
)
from souppp_tui.commands.parsing import check_engine_options, console_options, engine_options, seconds
from souppp_tui.terminal.leaving import Leaving

COMMANDS = {
    "serve": "run the engine alone, for consoles and scripts to attach to",
    "attach": "open the console on an engine that runs, or on several",
    "ctl": "ask an engine that runs, or have it do something, from a script",
    "exec": "run a program whose traffic leaves through a session",
    "proxychain": "print the environment by which programs use a session's proxy",
    "exporter": "show an engine that runs to Prometheus",
    "relay": "hand an engine's socket on, for attach over ssh",
}
"""Each is a module of this folder with a `main`; the first word of the command line chooses it."""

EPILOG = """\
commands, each with a --help of its own:
{commands}

exit codes: 0 all is well; 1 not every session came up in time, or something failed under way;
2 the command line or the configuration is wrong; 3 it can't run here (privileges, kernel, packages, card, terminal).
"""


def parser() -> argparse.ArgumentParser:
    """All options."""
    it = argparse.ArgumentParser(
        prog="souppp-tui",
        usage="souppp-tui CARD [options]\n       souppp-tui --lab [options]\n       souppp-tui COMMAND [options]",
        description="Open many PPPoE sessions from one network card, and watch and steer them in a console.",
        epilog=EPILOG.format(commands="\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    it.add_argument("card", nargs="?", metavar="CARD", help="the network card on the access line, as in eth0")
    it.add_argument("--version", action="version", version=f"souppp-tui {__version__}")
    engine_options(it)
    _console_options(it.add_argument_group("console"))
    _silent_options(it.add_argument_group("without a screen"))
    return it


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Those of all commands, by their names; the nameless one is the console on a card."""
    named = {name: import_module(f"souppp_tui.commands.{name}").parser() for name in COMMANDS}
    return {"": parser(), **named}


def _meant(arguments: Sequence[str]) -> str:
    """The command whose name is nearly the first word, or that is ctl's; empty where that may be a card."""
    word = arguments[0] if arguments else "-"
    if word.startswith("-") or Path("/sys/class/net", word).exists():
        return ""
    from difflib import get_close_matches

    from souppp_tui.commands.ctl import ACTIONS

    if word in ACTIONS:
        return f"ctl {word}"
    return next(iter(get_close_matches(word, COMMANDS, 1, 0.7)), "")


def _console_options(console: argparse._ArgumentGroup) -> None:
    console_options(console)
    console.add_argument(
        "--background", action="store_true", help="run the engine as a process of its own, which goes on after q"
    )


def _attaches(options: argparse.Namespace, leaving: Leaving) -> bool:
    """Whether the console is to look at an engine that serves this card already; asks. Raises CannotRunError if not."""
    from engine.run.sockets import usual_paths

    paths = (
        [options.socket] if options.socket else usual_paths(options.card or "", lab=False, fallback=options.state_dir)
    )
    if options.lab or not any(path.is_socket() for path in paths):
        return False
    from engine.run.client import serving
    from souppp_tui.commands.asking import agrees

    path = serving(paths, options.card)
    if path is None:
        return False
    if not agrees(f"An engine works on {options.card} already. Attach to it?", leaving):
        raise CannotRunError(f"an engine works on {options.card} already. End it by `souppp-tui ctl stop`.")
    options.socket = path
    return True


def _silent_options(silent: argparse._ArgumentGroup) -> None:
    silent.add_argument("--headless", action="store_true", help="no console: events as JSON lines on standard output")
    silent.add_argument("--until-up", action="store_true", help="end when every autodial session is up (exit code 0)")
    silent.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="give up on that after S seconds (60)"
    )
    silent.add_argument("--hold", action="store_true", help="with --until-up: then keep the sessions until a signal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    hold_standard_streams()
    arguments = sys.argv[1:] if arguments is None else [*arguments]
    if arguments and arguments[0] in COMMANDS:
        code: int = import_module(f"souppp_tui.commands.{arguments[0]}").main(arguments[1:])
        return code
    leaving = Leaving()
    leaving.heed_signals()  # before all that takes time, imports too
    it = parser()
    if meant := _meant(arguments):
        it.error(f"there is no command and no card {arguments[0]}; did you mean `souppp-tui {meant}`?")
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
    for name, wrong in _unfit(settings.console.filters):
        complain(f"{options.config}: console: filters: {name}: {wrong}")
        return EXIT_USAGE
    try:
        if not options.headless:
            check_terminal("without one use --headless")
            if options.background:
                from souppp_tui.commands.background import start

                options.socket = start(options)
            if options.background or _attaches(options, leaving):
                from souppp_tui.commands.attach import show

                options.engines = []
                return show(options, leaving)
        if options.headless:
            return _run(options, settings, leaving)
        from souppp_tui.commands.standin import under_stand_in

        return under_stand_in(partial(_run, options, settings, leaving), leaving)
    except CannotRunError as error:
        if leaving.is_set():  # what was being started has failed because we are to end
            return EXIT_NOT_DONE if options.until_up else EXIT_OK
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT


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


def _unfit(filters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The named filters that can't be understood, and why."""
    if not filters:
        return
    from souppp_tui.model.query import QueryError, parse

    for name in filters:
        try:
            parse(f"@{name}", filters)
        except QueryError as error:
            yield name, str(error)


def _run(options: argparse.Namespace, settings: Settings, leaving: Leaving, release: int = -1) -> int:
    """Begin with what other processes do, and import the engine meanwhile: each takes a third of a second.

    `release` is the descriptor by which an engine that goes on without its console releases the parent.
    """
    from engine.card.xdp import Loading, XdpError
    from engine.lab.provider import Provider

    with ExitStack() as started:
        try:
            keep = None if options.lab else options.state_dir
            loading = Loading(kernel_path=settings.wants_kernel_path, keep=keep)
        except XdpError as error:
            raise CannotRunError(str(error)) from None
        started.callback(loading.close)
        provider = Provider() if options.lab else None
        if provider is not None:
            started.callback(provider.kill)  # the engine has hung up
        from souppp_tui.commands.run import run

        def alone(*what: Any) -> None:
            from souppp_tui.commands.goingon import go_on

            go_on(options, settings, leaving, release, *what)

        return run(options, settings, leaving, loading, provider, alone)


def _check(it: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What argparse can't say."""
    if bool(options.card) == options.lab:
        it.error(
            "name a card, as in `souppp-tui eth0`, or use --lab" if not options.card else "--lab brings its own card"
        )
    check_engine_options(it, options)
    if options.background and options.headless:
        it.error("--background is for the console; without a screen use `souppp-tui serve`")
    if options.hold and not options.until_up:
        it.error("--hold goes with --until-up")
    if options.until_up and not options.headless:
        it.error("--until-up goes with --headless")


def program() -> int:
    """Run it as a process of its own, and end that at once: to take the interpreter down takes longer than a quit."""
    code = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return code  # the interpreter says so
    os._exit(code)


if __name__ == "__main__":
    sys.exit(program())
