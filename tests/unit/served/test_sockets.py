"""Which socket is meant by a name, and where an engine makes its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from engine.host.netns import unshare_net
from engine.run import sockets
from engine.run.client import serving
from engine.run.server import Server
from engine.run.sockets import SocketError, find, listen, network, usual_paths
from tests.unit.served.world_engine import WorldEngine


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Path]:
    """A folder with the sockets of some engines, and one of a dead one."""
    with ExitStack() as open_ones:
        for name in ("eth0", "eth1-4026532001", "lab-77"):
            there = open_ones.enter_context(socket.socket(socket.AF_UNIX))
            there.bind(str(tmp_path / f"{name}.sock"))
            there.listen()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "eth7.sock"))
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("eth0", "eth0"),
        ("eth1", "eth1-4026532001"),
        ("lab", "lab-77"),
        ("lab-77", "lab-77"),
    ],
)
def test_a_name_means_an_engine(engines: Path, name: str, found: str) -> None:
    assert find(name, [engines]) == engines / f"{found}.sock"


def test_a_path_is_a_path() -> None:
    assert find("./it.sock", []) == Path("it.sock")


def test_without_a_name_there_must_be_one(engines: Path, tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"Several engines run on this host: eth0, eth1-4026532001, lab-77. Name one"):
        find(None, [engines])
    with pytest.raises(SocketError, match=r"No engine runs on this host. Start one: `souppp-tui serve CARD`"):
        find(None, [tmp_path / "nowhere"])


@pytest.mark.parametrize("name", ["eth", "eth7", "eth00", "la"])
def test_what_is_no_engine_is_said(engines: Path, name: str) -> None:
    with pytest.raises(SocketError, match=f"No engine runs on {name}"):
        find(name, [engines])


def test_a_card_has_its_socket_by_its_name(own_net: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another network namespace there may be another card of that name."""
    monkeypatch.setattr(sockets, "RUN", tmp_path)
    usual, other = usual_paths("eth0", lab=False, fallback=None)
    assert usual == tmp_path / "eth0.sock"
    assert other == tmp_path / f"eth0-{network()}.sock"
    assert usual_paths("eth0", lab=True, fallback=None) == (tmp_path / f"lab-{os.getpid()}.sock",)


def test_an_engine_that_ends_takes_the_folder_away_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the next one makes it anew, and is not sent to its state folder, where nobody would look for it."""
    monkeypatch.setattr(sockets, "RUN", tmp_path / "run")
    access = os.access

    def late(path: Path, mode: int) -> bool:
        with suppress(FileNotFoundError):
            sockets.RUN.rmdir()
        return access(path, mode)

    monkeypatch.setattr(os, "access", late)
    usual, _ = usual_paths("lo", lab=False, fallback=tmp_path / "state")
    assert usual == tmp_path / "run" / "lo.sock"
    with closing(listen(usual)):
        assert usual.is_socket()


def test_an_engine_on_the_card_is_told_from_one_on_its_namesake(own_net: None, tmp_path: Path) -> None:
    with closing(listen(tmp_path / "eth9.sock")) as there:
        server = Server(WorldEngine(), there, release="x", card="eth9")
        server.start()
        with closing(server):
            assert serving([tmp_path / "nothing", there.path], "eth9") == there.path
            assert serving([there.path], "eth8") is None
            unshare_net()
            assert serving([there.path], "eth9") is None


def test_who_sees_a_socket_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another engine that starts at the same time would take one that doesn't listen for a dead one's, and away."""
    path, seen = tmp_path / "eth9.sock", []

    def before_it_listens(unnamed: Path) -> None:
        seen.append(path.exists())
        listen(tmp_path / "eth8.sock").close()
        assert unnamed.exists()

    with monkeypatch.context() as patched:
        patched.setattr(sockets, "open_to_groups", lambda unnamed: patched.undo() or before_it_listens(unnamed))
        there = listen(path)
    assert seen == [False]
    sockets.connect(path).close()
    assert [each.name for each in tmp_path.iterdir()] == ["eth9.sock"]
    there.close()
    assert not [*tmp_path.iterdir()]
