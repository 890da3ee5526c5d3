"""Kernels by cards: boots a guest for each pair and holds the program to CHECKS there; a table tells how it went.

    python -m tests.kernels.matrix --kernel 6.12 --card igb:2 --card virtio:4 --check ping

All that is not chosen is run. The exit code is 0 if all checks passed, 1 if not, 3 if they can't be run here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from tests.kernels import packages
from tests.kernels.bench import Failed, bench
from tests.kernels.cards import CARDS
from tests.kernels.checks import CHECKS
from tests.kernels.guest import CommandFailed, GuestError, compile_modules

KERNELS = ("6.1", "6.12")
EVERYWHERE = ("virtio:1", "virtio:4", "igb:2", "vmxnet3:2", "e1000e:1")
"""Cards on each of them; behind the colon the number of queues."""
BESIDES = (
    ("6.18", "igb:2", ""),
    ("6.18", "igb:2", "--busy-poll"),
    ("6.12", "bond", ""),
    ("6.12", "bond-vlan", ""),
    ("6.12", "slave", ""),
    ("6.12", "usb-net", ""),
)
"""Kernels, cards and options of the program: where drivers write to our memory, a bond, a VLAN device on one, and
a card behind USB."""
OF_NO_CARD = {"privileges"}
"""Checks that ask nothing of the card, and take long: on the first card of each kernel alone, if not asked for."""
FAILED, NOT_RUN = "FAILED", "-"
CANNOT = 3
JOBS = 2


@dataclass
class Row:
    """A kernel and a card, and how the program did there."""

    kernel: str
    card: str
    options: str
    cells: dict[str, str] = field(default_factory=lambda: dict.fromkeys(CHECKS, NOT_RUN))
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """The card, and how the program runs on it."""
        return f"{self.card} {self.options}".rstrip()

    @property
    def usual_checks(self) -> Collection[str]:
        """Those that are run if none is chosen."""
        return CHECKS.keys() if self.card == EVERYWHERE[0] else CHECKS.keys() - OF_NO_CARD

    def __str__(self) -> str:
        return f"Linux {self.kernel}, {self.where}"

    def fill(self, checks: Collection[str]) -> None:
        """Boot a guest and run the checks; the first always, for the others need it."""
        began = time.monotonic()
        try:
            with bench(self.kernel, self.card, options=self.options) as it:
                for name, check in CHECKS.items():
                    if name in checks or name == next(iter(CHECKS)):
                        self._run(name, partial(check, it))
                    if self.failures and not it.devices:
                        break  # nothing to look at
        except (GuestError, CommandFailed) as error:
            self._fail("guest", str(error))
        self.seconds = time.monotonic() - began

    def _run(self, name: str, check: Callable[[], str]) -> None:
        began = time.monotonic()
        try:
            self.cells[name] = check()
            print(f"{self}: {name}: {self.cells[name]} ({time.monotonic() - began:.0f} s)", flush=True)
        except (Failed, CommandFailed) as error:
            self.cells[name] = FAILED
            self._fail(name, str(error))

    def _fail(self, name: str, why: str) -> None:
        self.failures.append(f"{self}: {name}: {why}")
        print(self.failures[-1], flush=True)


def table(rows: Sequence[Row]) -> str:
    """The rows side by side, and below them why what failed did."""
    cells = [("kernel", "card", *CHECKS, "seconds")]
    cells += [(row.kernel, row.where, *row.cells.values(), f"{row.seconds:.0f}") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, "", *(failure for row in rows for failure in row.failures)]).rstrip()


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", metavar="VERSION", help="one of these kernels, such as 6.12")
    parser.add_argument(
        "--card", action="append", metavar="CARD:QUEUES", help=f"one of these cards: {', '.join(CARDS)}"
    )
    parser.add_argument("--check", action="append", choices=CHECKS, help="one of these checks; `up` is always run")
    parser.add_argument("--options", default="", help="more of the program's command line, such as --busy-poll")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"how many guests at a time ({JOBS})")
    options = parser.parse_args()
    places = [*product(options.kernel or KERNELS, options.card or EVERYWHERE, [options.options])]
    places += BESIDES if not options.kernel and not options.card else ()
    if os.geteuid() != 0:
        print("test-kernels: needs root, for network namespaces and tap devices", file=sys.stderr)
        return CANNOT
    try:
        packages.qemu()
        for kernel in {kernel for kernel, _, _ in places}:
            packages.kernel(kernel)
    except packages.Unavailable as error:
        print(f"test-kernels: {error}", file=sys.stderr)
        return CANNOT
    compile_modules()
    rows = [Row(*place) for place in places]
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for done in [pool.submit(row.fill, options.check or row.usual_checks) for row in rows]:
                done.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
    print(f"\n{table(rows)}")
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
