"""Guests of the concentrator kit, as tests use them: through the three commands that its README tells of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import NetnsPair, run

KIT = Path(os.environ.get("SOUPPP_ACLAB", Path(__file__).with_name("aclab")))
PROGRAMS = ("linux.uml", "pppd", "pppoe-server", "busybox")


@dataclass
class Aclab:
    """A guest at the far end of a cable: a real concentrator, if its settings say nothing else."""

    line: NetnsPair
    folder: Path
    settings: dict[str, str]
    run: Path = field(init=False)
    """Its run directory."""
    _starts: int = 0

    def start(self) -> None:
        """Boot the guest; its concentrator listens when this returns, but PADIs should still be tried again."""
        self._starts += 1
        self.run = self.folder / f"run{self._starts}"
        words = [f"{key}={value}" for key, value in self.settings.items()]
        run(KIT / "ac-start", self.run, self.line.far, self.line.far_card, *words)

    def exec(self, command: str) -> str:
        """The output of a root shell command in the guest."""
        return run(KIT / "ac-exec", self.run, command)

    def stop(self) -> None:
        """End the guest, if it is running, without a goodbye: as when its power fails."""
        run(KIT / "ac-stop", self.run)


@contextmanager
def concentrators(line: NetnsPair, folder: Path) -> Iterator[Callable[..., Aclab]]:
    """Starts guests, which end with the block: `start(AUTH="chap", SESSIONS="8")`; see the kit's README.

    Skips the test where the kit or one of its programs is missing.
    """
    if not (KIT / "ac-start").exists():
        pytest.skip(f"there is no ac-start in {KIT}, which SOUPPP_ACLAB names")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [program for program in PROGRAMS if shutil.which(program, path=path) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; `make dev` as root gets them")
    started: list[Aclab] = []

    def start(**settings: str) -> Aclab:
        guest = Aclab(line, folder / f"aclab{len(started)}", settings)
        guest.folder.mkdir()
        started.append(guest)
        guest.start()
        return guest

    try:
        yield start
    finally:
        for guest in started:
            guest.stop()
