"""The package's service on Debian releases: boots each with systemd in a guest, and holds the service to CHECKS there.

    python -m tests.service.releases --release trixie --check stop

All that is not chosen is run. The exit code is 0 if all checks passed, 1 if not, 3 if they can't be run here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Collection

from tests.kernels import packages
from tests.kernels.bench import Failed
from tests.kernels.guest import CommandFailed, GuestError
from tests.service import disk
from tests.service.checks import CHECKS
from tests.service.host import host

RELEASES = {"trixie": "6.12", "bookworm": "6.1"}
"""With their kernels."""
CANNOT = 3


def hold(release: str, checks: Collection[str]) -> list[str]:
    """Run checks on a release, the first always, for the others need it; returns what failed. Raises Unavailable."""
    failures: list[str] = []
    qemu, kernel = packages.qemu(), packages.kernel(RELEASES[release])  # while there is a network

    def tell(name: str, said: str, began: float) -> None:
        print(f"{release}: {name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)

    began = time.monotonic()
    image = disk.made(release, kernel)
    tell("disk", image.name, began)
    began = time.monotonic()
    try:
        with host(qemu, kernel, image) as it:
            tell("boot", it.run("systemctl --version | head -n 1").strip(), began)
            for name, check in CHECKS.items():
                if name not in checks and name != next(iter(CHECKS)):
                    continue
                began = time.monotonic()
                try:
                    tell(name, check(it), began)
                except (Failed, CommandFailed) as error:
                    failures.append(f"{release}: {name}: {error}")
                    tell(name, f"FAILED: {error}", began)
                    if name == next(iter(CHECKS)):
                        break
    except (GuestError, CommandFailed) as error:
        failures.append(f"{release}: guest: {error}")
    return failures


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="append", choices=RELEASES, help="one of these releases of Debian")
    parser.add_argument("--check", action="append", choices=CHECKS, help="one of these checks; `start` is always run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("test-service: needs root, for network namespaces, tap devices and a Debian of its own", file=sys.stderr)
        return CANNOT
    failures: list[str] = []
    try:
        for release in options.release or RELEASES:
            failures += hold(release, options.check or CHECKS)
    except packages.Unavailable as error:
        print(f"test-service: {error}", file=sys.stderr)
        return CANNOT
    print("\n".join(["", *failures]) if failures else "\nall checks passed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
