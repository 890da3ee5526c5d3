"""Options that several commands have."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from engine.settings.console import THEMES
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import EgressChoice, XdpMode

STATE_FOLDER = Path("/var/lib/souppp")


def engine_options(it: argparse._ActionsContainer) -> None:
    """How an engine runs."""
    it.add_argument("--config", type=Path, metavar="FILE", help="sessions and settings, in YAML")
    it.add_argument(
        "--lab",
        action="store_true",
        help="use the embedded lab instead of a card: touches nothing else; with --config, its password is lab",
    )
    it.add_argument("--sessions", type=count, metavar="N", help="how many sessions the lab has (8)")
    it.add_argument(
        "--egress",
        choices=[each.value for each in EgressChoice],
        metavar="KIND",
        help="where packets of the lab's sessions go: device, stack (for its proxies alone), or none",
    )
    it.add_argument("--capture", type=Path, metavar="FILE", help="write all control frames to a pcapng file")
    event_log_option(it)
    it.add_argument(
        "--xdp",
        choices=[each.value for each in XdpMode],
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
    it.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="where consoles and scripts reach the engine (/run/souppp/CARD.sock)",
    )


def console_options(console: argparse._ActionsContainer) -> None:
    """How a console looks, and what it may do."""
    console.add_argument("--read-only", action="store_true", help="show everything, change nothing")
    console.add_argument("--theme", choices=THEMES, metavar="NAME", help=f"{', '.join(THEMES)} ({THEMES[0]})")
    console.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")


def event_log_option(it: argparse._ActionsContainer) -> None:
    """Where events are written to."""
    it.add_argument("--event-log", type=Path, metavar="FILE", help="append every event to this file")


def check_engine_options(it: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What argparse can't say of them; ends the program with exit code 2."""
    if options.egress is not None and (not options.lab or options.config is not None):
        it.error("--egress is for the lab's own sessions; others say it in --config")
    if options.sessions is not None and not options.lab:
        it.error("--sessions is for --lab; sessions on a card come from --config")
    if options.sessions is not None and options.config is not None:
        it.error("--sessions and --config exclude each other: both say which sessions there are")


def count(text: str) -> int:
    """A number of sessions."""
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= MAX_SESSIONS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_SESSIONS}")
    return number


def seconds(text: str) -> float:
    """Seconds above 0."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError("must be a number of seconds above 0")
