"""What all tests share: root and namespaces, and the real concentrator of the aclab kit."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

from engine.host import netns

ROOT = Path(__file__).resolve().parents[1]
ACLAB = Path(os.environ.get("SOUPPP_ACLAB", ROOT.parent / "shared" / "aclab"))

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build" / "hypothesis"))
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session")
def needs_root() -> None:
    """Skips the test without root: namespaces, XDP and TUN devices need it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def own_net(needs_root: None) -> Iterator[None]:
    """Runs the test in an empty network namespace without a name."""
    before = netns.open_net()
    netns.unshare_net()
    try:
        yield
    finally:
        netns.set_net(before)
        os.close(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured and kept with `record_property`."""
    for report in [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]:
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@dataclass(frozen=True)
class NetnsPair:
    """Two named namespaces joined by a cable."""

    near: str
    """Holds `card`: where the program under test works."""
    far: str
    """Holds `far_card`: where the other side is."""
    card: str = "va"
    far_card: str = "vb"

    def command(self, *command: str | Path) -> list[str | Path]:
        """The command line that runs `command` on the near side."""
        return ["ip", "netns", "exec", self.near, *command]


_pairs = itertools.count()


@contextmanager
def joined_namespaces() -> Iterator[NetnsPair]:
    """A veth pair with two queues at each end, its ends in namespaces of their own."""
    number = f"{os.getpid()}-{next(_pairs)}"
    pair = NetnsPair(f"soup-near-{number}", f"soup-far-{number}")
    queues = ("numrxqueues", "2", "numtxqueues", "2")
    try:
        for namespace in (pair.near, pair.far):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        cable = ("type", "veth", "peer", "name", pair.far_card, *queues, "netns", pair.far)
        run("ip", "-n", pair.near, "link", "add", pair.card, *queues, *cable)
        run("ip", "-n", pair.near, "link", "set", pair.card, "up")
        run("ip", "-n", pair.far, "link", "set", pair.far_card, "up")
        yield pair
    finally:
        for namespace in (pair.near, pair.far):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


@pytest.fixture
def netns_pair(needs_root: None) -> Iterator[NetnsPair]:
    """As `joined_namespaces`."""
    with joined_namespaces() as pair:
        yield pair


@dataclass
class Aclab:
    """A real concentrator, rp-pppoe's pppoe-server in a User Mode Linux guest, at the far end of a cable."""

    line: NetnsPair
    folder: Path
    settings: dict[str, str]
    _run: Path = field(init=False)
    _starts: int = 0

    def start(self) -> None:
        """Boot the guest; it has its discovery socket when this returns, but PADIs should still be tried again."""
        self._starts += 1
        self._run = self.folder / f"run{self._starts}"
        # The guest lays its modules over the host's /lib/modules, so that must be there, if only for the guest.
        uml = {} if Path("/lib/modules").is_dir() else {"UML": ROOT / "tests" / "interop" / "uml"}
        words = [f"{key}={value}" for key, value in {**uml, **self.settings}.items()]
        run(ACLAB / "ac-start", self._run, self.line.far, self.line.far_card, *words)

    def exec(self, command: str) -> str:
        """The output of a root shell command in the guest."""
        return run(ACLAB / "ac-exec", self._run, command)

    def kill(self) -> None:
        """End the guest without a goodbye, as when its power fails."""
        os.killpg(int((self._run / "pid").read_text()), signal.SIGKILL)
        self.stop()

    def restart(self) -> None:
        """Kill it and boot another."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End the guest, if it is running."""
        run(ACLAB / "ac-stop", self._run)


@contextmanager
def concentrators(line: NetnsPair, folder: Path) -> Iterator[Callable[..., Aclab]]:
    """Starts concentrators, which end with the block: `start(AUTH="chap", SESSIONS="8")`; see the kit's README."""
    if not (ACLAB / "ac-start").exists():
        pytest.skip(f"the aclab kit is not at {ACLAB} (SOUPPP_ACLAB names another place)")
    for program in ("linux.uml", "pppd", "pppoe-server", "busybox"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{program} is not installed")
    started: list[Aclab] = []

    def start(**settings: str) -> Aclab:
        concentrator = Aclab(line, folder / f"aclab{len(started)}", settings)
        concentrator.folder.mkdir()
        started.append(concentrator)
        concentrator.start()
        return concentrator

    try:
        yield start
    finally:
        for concentrator in started:
            concentrator.stop()


@pytest.fixture
def aclab(netns_pair: NetnsPair, tmp_path: Path) -> Iterator[Callable[..., Aclab]]:
    """As `concentrators`, on the far side of `netns_pair`."""
    with concentrators(netns_pair, tmp_path) as start:
        yield start
