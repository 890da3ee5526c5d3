"""`serve west east`: two cards in one process, each with an engine, a socket and a configuration of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.lab import provider as lab
from engine.run.client import serving
from engine.run.sockets import usual_paths
from tests.conftest import run
from tests.manager import HANDED_OVER, managed
from tests.program import PATIENCE, Program, noted, refused, running, until
from tests.system.test_privileges import ALWAYS, confined_to
from tests.system.test_served import ENVIRONMENT, USAGE, asked, ctl

pytestmark = pytest.mark.usefixtures("own_net")

CARDS = ("west", "east")
NETWORKS = {"west": "100.64", "east": "100.65"}


@contextmanager
def line(card: str) -> Iterator[None]:
    """A concentrator at the other end of a card's cable."""
    far = lab.Provider(lab.LabOrder(card="far", network=f"{NETWORKS[card]}.0.0/16"))
    try:
        far.wait_unshared()
        run("ip", "link", "add", card, "type", "veth", "peer", "name", "far", "netns", str(far.pid))
        run("ip", "link", "set", card, "up")
        run("nsenter", "-t", str(far.pid), "-n", "ip", "link", "set", "far", "up")
        far.take_card()
        far.wait_ready()
        yield
    finally:
        far.kill()


@pytest.fixture
def lines(own_net: None) -> Iterator[None]:
    with ExitStack() as laid:
        for card in CARDS:
            laid.enter_context(line(card))
        yield


def configuration(card: str, *numbers: int, path: str = "auto") -> str:
    lines = [f"  - {{name: {card}-{n}, user: me, password: lab, autodial: true, datapath: {path}}}\n" for n in numbers]
    return "sessions:\n" + "".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration for each card; both data paths are in use on each of them."""
    made = tmp_path / "lines"
    made.mkdir()
    for card in CARDS:
        text = configuration(card, 1) + configuration(card, 2, path="kernel").removeprefix("sessions:\n")
        (made / f"{card}.yaml").write_text(text)
    return made


@contextmanager
def served(folder: Path, *cards: str, **environment: str) -> Iterator[Program]:
    state = folder.parent / "state"
    with running("serve", *cards, "--config", folder, "--state-dir", state, **environment) as program:
        yield program


@contextmanager
def notified(path: Path) -> Iterator[list[str]]:
    """What a service tells its manager, as it comes; a socket that nobody reads would soon take no more."""
    told: list[str] = []
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind(str(path))

        def listen() -> None:
            while octets := heard.recv(4096):
                told.append(octets.decode())

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield told
        finally:
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as last:
                last.sendto(b"", str(path))
            listener.join()


def where(card: str) -> Path:
    """The socket of the engine on a card."""
    paths = usual_paths(card, lab=False, fallback=None)
    return until(lambda: serving([path for path in paths if path.is_socket()], card), f"the engine on {card}")


def sessions(path: Path) -> dict[str, Any]:
    return {session["name"]: session for session in asked(path, "list")}


def page(session: dict[str, Any], network: str) -> str:
    """What the web server behind a concentrator says through a session."""
    curl = ("curl", "-sS", "--fail", "--max-time", "10", "--interface", session["device"], f"http://{network}.0.1/")
    return subprocess.run(curl, check=True, capture_output=True, text=True, timeout=20).stdout


def test_each_card_has_an_engine_of_its_own(lines: None, folder: Path, tmp_path: Path) -> None:
    with notified(tmp_path / "notify") as told:
        with served(folder, *CARDS, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="3000000") as program:
            assert until(lambda: told, "that they are ready")[0].startswith("READY=1\nSTATUS=west: ")
            assert "; east: " in told[0], "both of them"
            paths = {card: where(card) for card in CARDS}
            for path in paths.values():
                ctl(path, "wait")
            until(lambda: any("west: 2 of 2 sessions up; east: 2 of 2 sessions up" in each for each in told), "it")
            found = {card: sessions(path) for card, path in paths.items()}
            devices = [each["device"] for card in CARDS for each in found[card].values()]
            assert devices == ["soup0", "soup1", "soup1-0", "soup1-1"]
            for card, network in NETWORKS.items():
                for each in found[card].values():
                    assert each["ipv4"] in page(each, network), "packets go over the card's own line"
            confined_to(program.pid, *ALWAYS)

            (folder / "east.yaml").write_text(configuration("east", 1, 3))
            program.process.send_signal(signal.SIGHUP)
            until(lambda: [*sessions(paths["east"])] == ["east-1", "east-3"], "the difference")
            ctl(paths["east"], "wait")
            assert sessions(paths["west"]).keys() == {"west-1", "west-2"}
            before = sessions(paths["east"])["east-1"]["session_id"]

            ctl(paths["west"], "stop")
            until(lambda: not paths["west"].exists(), "the end of one")
            assert sessions(paths["east"])["east-1"]["session_id"] == before
            assert program.process.poll() is None
            ctl(paths["east"], "stop")
            assert program.ended() == 0
        until(lambda: any("STOPPING=1" in each for each in told), "that")
    assert not paths["east"].exists()
    assert not noted(tmp_path / "state")
    assert any(line.startswith("west  20") and "Hung up: the program ends." in line for line in program.complaints)
    assert any(line.startswith("east  20") and "Hung up: the program ends." in line for line in program.complaints)


def test_a_signal_ends_them_all(lines: None, folder: Path, tmp_path: Path) -> None:
    with served(folder, *CARDS) as program:
        for card in CARDS:
            ctl(where(card), "wait")
        assert program.end() == 0
    assert len([line for line in program.complaints if line.endswith("Hung up: the program ends.")]) == 4
    assert not noted(tmp_path / "state")
    assert "prog/xdp" not in run("ip", "-d", "link")


def test_another_process_goes_on_with_both(lines: None, folder: Path, tmp_path: Path) -> None:
    with managed(tmp_path, *CARDS, "--config", folder, "--state-dir", tmp_path / "state") as service:
        for card in CARDS:
            ctl(where(card), "wait")
        before = {card: {name: each["session_id"] for name, each in sessions(where(card)).items()} for card in CARDS}
        service.restart(signal.SIGUSR2)
        for card in CARDS:
            assert {name: each["session_id"] for name, each in sessions(where(card)).items()} == before[card]
            for each in sessions(where(card)).values():
                assert each["ipv4"] in page(each, NETWORKS[card])


def test_two_services_that_are_started_anew_together(lines: None, folder: Path, tmp_path: Path) -> None:
    """As by an upgrade. The first one finds the other dead, and holds its addresses until it sees them in use again."""
    with ExitStack() as services:
        both = {}
        for card in CARDS:
            text = (folder / f"{card}.yaml").read_text()
            (folder / f"{card}.yaml").write_text(f"devices: {card}-\n{text}")
            (tmp_path / card).mkdir()
            state = ("--state-dir", tmp_path / "state")
            both[card] = services.enter_context(managed(tmp_path / card, card, "--config", folder, *state))
            ctl(where(card), "wait")
        before = {card: {name: each["session_id"] for name, each in sessions(where(card)).items()} for card in CARDS}
        for service in both.values():
            service.process.send_signal(signal.SIGUSR2)
        for service in both.values():
            assert service.process.wait(PATIENCE) == HANDED_OVER, service.said
        for card, service in both.items():
            service.start()
            there = sessions(where(card))
            assert {name: each["session_id"] for name, each in there.items()} == before[card]
        for card in CARDS:
            for each in sessions(where(card)).values():
                assert each["ipv4"] in page(each, NETWORKS[card])


def test_what_keeps_one_from_running_keeps_no_other(lines: None, folder: Path) -> None:
    """A card that isn't there, and a file that is wrong."""
    (folder / "north.yaml").write_text(configuration("north", 1))
    (folder / "west.yaml").write_text("sessions: nonsense")
    with served(folder, "north", *CARDS) as program:
        ctl(where("east"), "wait")
        assert program.process.poll() is None
        assert any("no network card called north" in line or "north" in line for line in program.complaints)
        assert any("west.yaml:1:" in line for line in program.complaints)
        assert program.end() == 0


def test_none_can_run(folder: Path) -> None:
    for card in ("north", "south"):
        (folder / f"{card}.yaml").write_text(configuration(card, 1))
    code, complaints = refused("serve", "north", "south", "--config", folder, "--state-dir", folder.parent / "state")
    assert code == ENVIRONMENT
    assert [card in line for card, line in zip(("north", "south"), complaints, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("west",), "west is named twice"),
        (("east", "--config", "FILE"), "a folder where there are several cards"),
        (("east", "--capture", "FILE"), "--capture is for one card"),
        (("east", "--event-log", "FILE"), "--event-log is for one card"),
        (("east", "--socket", "FILE"), "--socket is for one card"),
    ],
)
def test_what_several_cards_can_not_share_is_said(tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("sessions: []\n")
    code, complaints = refused("serve", "west", *(str(file) if each == "FILE" else each for each in more))
    assert code == USAGE
    assert said in complaints[-1]


def test_two_services_name_their_devices(lines: None, folder: Path) -> None:
    """Each is a process of its own: the second says what is in its way, and can be told another name."""
    second = folder / "east.yaml"
    second.write_text(configuration("east", 1))
    with served(folder, "west") as west:
        ctl(where("west"), "wait")
        with served(folder, "east") as east:
            said = until(lambda: [each for each in east.complaints if "a device soup0 already" in each], "that")
            assert "`devices:` those of all" in said[0]
            assert east.end() == 0
        second.write_text("devices: wan\n" + configuration("east", 1))
        with served(folder, "east") as east:
            ctl(where("east"), "wait")
            assert [each["device"] for each in sessions(where("east")).values()] == ["wan0"]
            assert east.end() == 0
        assert west.end() == 0
