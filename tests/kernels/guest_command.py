"""Runs shell commands in a guest with a kernel of its own, its card on a line to the lab's concentrator.

    tests/kernels/guest --kernel 6.18 --card igb:2 -- souppp-tui eth0 --config /tmp/sessions.yaml --headless

Output and exit code are the command's. Without a command the lines of standard input are run one by one; there `!down`
and `!up` plug the line out and in, `!unplug` and `!plug` the card. The guest has this machine's files; what it changes
is lost with it. Its first directory is the checkout, its card is eth0, its processors are slow.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable

from tests.kernels.bench import Bench, bench
from tests.kernels.cards import CARDS
from tests.kernels.guest import GuestError, compile_modules
from tests.kernels.packages import Unavailable

CANNOT = 3
DAY = 86400.0
OUTSIDE: dict[str, Callable[[Bench], None]] = {
    "!down": lambda it: it.set_carrier(False),
    "!up": lambda it: it.set_carrier(True),
    "!unplug": Bench.unplug_card,
    "!plug": Bench.plug_card,
}


def main() -> int:
    """Run what the command line asks for; returns the exit code of the last command."""
    parser = argparse.ArgumentParser(
        prog="tests/kernels/guest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="6.12", metavar="VERSION", help="such as 6.1 (6.12)")
    parser.add_argument(
        "--card", default="virtio:1", metavar="CARD:QUEUES", help=f"one of {', '.join(CARDS)} (virtio:1)"
    )
    parser.add_argument("--module", action="append", default=[], help="another kernel module to load, such as bonding")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    commands: Iterable[str] = sys.stdin
    if options.command:
        commands = [options.command[0] if len(options.command) == 1 else shlex.join(options.command)]
    compile_modules()
    code = 0
    try:
        with bench(options.kernel, options.card, modules=options.module) as it:
            for line in commands:
                code = _carry_out(it, line.strip())
    except (Unavailable, GuestError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return CANNOT
    return code


def _carry_out(it: Bench, line: str) -> int:
    if line in OUTSIDE:
        OUTSIDE[line](it)
        return 0
    return it.guest.carry_out(line, _print, DAY)


def _print(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
