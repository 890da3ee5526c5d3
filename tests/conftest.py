"""What all tests share: root, namespaces, and cables between them."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from engine.host import netns
from tests import stories

ROOT = Path(__file__).resolve().parents[1]

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


LONG = ("test_load_programs.py", "test_churn.py", "test_soak.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that keep a processor for long: whichever comes last has the others wait for it."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell with a failure what the test's programs and engines said."""
    report = yield
    if report.failed:
        report.sections += stories.told()
    if call.when == "teardown" or report.failed:
        stories.forget()  # what a module's fixture began goes on
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured and kept with `record_property`."""
    for report in [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]:
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


def run(*command: str | Path) -> str:
    """The output of a command that must succeed; the exception tells what it complained of."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise


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
