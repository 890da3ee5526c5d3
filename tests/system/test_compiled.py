"""Compiled XDP programs that are kept: they do what they did when they were compiled, and no other file is believed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engine.card import compiled, xdp
from engine.card.facts import read_card
from engine.card.xdp import Loading, XdpProgram
from engine.datapath import Datapath
from engine.egress.veth import HiddenNet, KernelPath

from .line import NEAR, QUEUES, Line, namespace, needs_root, open_descriptors, until, veth_line
from .test_xdp import TO_ALL, total

pytestmark = needs_root

PPPOE = TO_ALL + bytes.fromhex("8863") + b"\x11\0\0\0\0\0" + bytes(60)
MARK = "no field's name"


@pytest.fixture
def line() -> Iterator[Line]:
    with veth_line("comp") as line:
        yield line


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """What the first start has kept, in a folder that it has made, with a mark in it."""
    let_go(Loading(kernel_path=True, keep=tmp_path / "state"))
    path = tmp_path / "state" / "kernel-path.compiled"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    head, _, text = path.read_bytes().partition(b"\n")
    told = json.loads(text)
    told["layouts"]["xsks"].append({MARK: [0, 0]})
    text = json.dumps(told).encode()
    path.write_bytes(head.rpartition(b" ")[0] + b" " + sha256(text).hexdigest().encode() + b"\n" + text)
    return path


def let_go(loading: Loading) -> Any:
    """The layouts that a child told, by which it is known what it went by."""
    taken = loading.finish()
    for fd in taken.values():
        os.close(fd)
    return loading.layouts


def goes_by_it(path: Path) -> bool:
    loading = Loading(kernel_path=True, keep=path.parent)
    answer, fds, _, _ = socket.recv_fds(loading._ours, 1 << 16, 64)
    for fd in fds:
        os.close(fd)
    loading.close()
    assert len(fds) == len(loading._names)
    return MARK.encode() in answer


def test_the_next_start_goes_by_what_the_first_has_kept(kept: Path) -> None:
    assert goes_by_it(kept)


@pytest.mark.parametrize("again", [False, True], ids=["compiled", "kept"])
def test_programs_and_maps_are_as_they_were(line: Line, tmp_path: Path, again: bool) -> None:
    if again:
        let_go(Loading(kernel_path=True, keep=tmp_path))
    opened = open_descriptors()
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES, loading=Loading(kernel_path=True, keep=tmp_path))
        datapath, hidden = Datapath(NEAR, QUEUES, program.xsk_map_fd), HiddenNet()
        with closing(program), closing(hidden), closing(datapath):
            with closing(KernelPath(read_card(NEAR), program, hidden)) as path:
                end = path.open_device(0, "soup0")
                assert path.traffic(1).tolist() == [0] * 4
                hidden.delete(end)
            line.wire.send(PPPOE)
            assert until(lambda: total(program).redirected == 1)
    assert open_descriptors() == opened


def test_the_in_kernel_path_is_kept_apart_from_what_has_none(kept: Path) -> None:
    let_go(Loading(keep=kept.parent))
    assert {each.name for each in kept.parent.iterdir()} == {"xdp.compiled", "kernel-path.compiled"}
    assert goes_by_it(kept)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def another_octet(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_kernel(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"compiled 1 ", b"compiled 1 0", 1))


def anybody_may_write_it(path: Path) -> None:
    path.chmod(0o666)


def anybody_may_replace_it(path: Path) -> None:
    path.parent.chmod(0o777)


def somebody_elses(path: Path) -> None:
    os.chown(path, 12345, 12345)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def not_there(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "strike",
    [
        torn,
        another_octet,
        empty,
        of_another_kernel,
        anybody_may_write_it,
        anybody_may_replace_it,
        somebody_elses,
        a_link,
        a_pipe,
        a_folder,
        not_there,
    ],
)
def test_what_can_not_be_believed_is_compiled_anew(kept: Path, strike: Callable[[Path], None]) -> None:
    strike(kept)
    opened = open_descriptors()
    assert not goes_by_it(kept)
    assert open_descriptors() == opened
    if strike not in (anybody_may_replace_it, a_folder):
        order = xdp._order(True, {}) | {"kept": str(kept)}
        fds, _ = compiled.Programs(order).load()
        for fd in fds:
            os.close(fd)


def test_other_sources_are_compiled(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "changed.bpf.c"
    changed.write_text(xdp.SOURCE.read_text() + "\n/* Changed. */\n")
    monkeypatch.setattr(xdp, "SOURCE", changed)
    assert not goes_by_it(kept)


def test_what_the_kernel_refuses_is_compiled_anew(kept: Path) -> None:
    head, _, text = kept.read_bytes().partition(b"\n")
    told = json.loads(text)
    told["programs"]["push"] = "00" * 16
    text = json.dumps(told).encode()
    kept.write_bytes(head.rpartition(b" ")[0] + b" " + sha256(text).hexdigest().encode() + b"\n" + text)
    opened = open_descriptors()
    assert not goes_by_it(kept)
    assert open_descriptors() == opened


def test_a_folder_that_can_not_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    let_go(Loading(keep=tmp_path / "file" / "state"))
    assert (tmp_path / "file").read_text() == ""
