"""The journal of open sessions: what it keeps through crashes, torn writes, full disks and second instances."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.record import journal as ghosts
from engine.record.journal import GhostError, GhostJournal, padt_frame, replay
from engine.wire import ethernet, pppoe
from engine.wire.ethernet import VlanTag
from engine.wire.place import Place

ROOT = Path(__file__).parents[2]


def keys(number: int, vlans: tuple[VlanTag, ...] = ()) -> Place:
    return Place(bytes.fromhex("0211223344aa"), bytes.fromhex("02acacac0001"), number, vlans)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "souppp" / "eth9.ghosts"


def left_behind(path: Path) -> list[Place]:
    """What the next run finds; the journal is left as it is."""
    with closing(GhostJournal(path)) as journal:
        return journal.ghosts()


def crash(journal: GhostJournal) -> None:
    """End a run as SIGKILL does: descriptors are closed and nothing else happens."""
    assert journal._fd is not None
    os.close(journal._fd)
    journal._fd = None


def test_ghosts_are_what_a_crashed_run_left_open(path: Path) -> None:
    journal = GhostJournal(path)
    assert journal.ghosts() == []
    journal.opened([keys(1), keys(2, (VlanTag(100, 5, 0x88A8, True), VlanTag(7)))])
    journal.opened([keys(3)])
    journal.closed([keys(1)])
    assert journal.ghosts() == [], "one's own sessions are no ghosts"
    crash(journal)
    assert left_behind(path) == [keys(2, (VlanTag(100, 5, 0x88A8, True), VlanTag(7))), keys(3)]


def test_of_the_last_ones_nothing_is_written_unless_another_is_left_open(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1), keys(2), keys(3)])
    whole = path.read_bytes()
    journal.closed([keys(1)], last=True)
    assert replay(path.read_bytes()) == [keys(2), keys(3)]
    written = path.read_bytes()
    assert written.startswith(whole)
    journal.closed([keys(2), keys(3)], last=True)
    assert path.read_bytes() == written
    journal.close()
    assert not path.exists()


def test_ghosts_stay_until_they_are_closed(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1), keys(2), keys(3)])
    crash(journal)
    second = GhostJournal(path)
    second.closed([keys(1)])
    second.opened([keys(9)])
    assert second.ghosts() == [keys(2), keys(3)]
    crash(second)
    third = GhostJournal(path)
    assert third.ghosts() == [keys(2), keys(3), keys(9)]
    third.closed(third.ghosts())
    assert third.ghosts() == []
    third.close()
    assert not path.parent.exists()


def test_session_opened_anew_with_a_ghosts_keys_is_no_ghost(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1), keys(2)])
    crash(journal)
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    assert journal.ghosts() == [keys(2)]
    crash(journal)
    assert left_behind(path) == [keys(1), keys(2)]


def test_nothing_is_left_after_an_orderly_end(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1), keys(1)])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal.closed([keys(1), keys(1), keys(2)])
    journal.close()
    journal.close()
    assert not path.parent.exists()


def test_two_cards_share_a_folder(path: Path) -> None:
    other = path.with_name("eth8.ghosts")
    with closing(GhostJournal(other)) as journal:
        journal.opened([keys(1)])
        with closing(GhostJournal(path)):
            assert path.exists()
        assert [file.name for file in path.parent.iterdir()] == [other.name]
        journal.closed([keys(1)])
    assert not path.parent.exists()


def test_file_stays_while_sessions_are_open(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    journal.close()
    assert left_behind(path) == [keys(1)]
    assert left_behind(path) == [keys(1)], "looking takes nothing away"


def test_second_instance_is_refused(path: Path) -> None:
    with closing(GhostJournal(path)) as first:
        for _ in range(2):
            with pytest.raises(GhostError, match="another souppp-tui works on this card") as caught:
                GhostJournal(path)
            assert "\n" not in str(caught.value)
            first.opened([keys(1)])
        first.closed([keys(1)])
    with closing(GhostJournal(path)) as later:
        later.opened([keys(2)])


@pytest.mark.parametrize("taken_anew", [False, True])
def test_journal_that_goes_while_its_lock_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, taken_anew: bool
) -> None:
    """The first instance leaves between our open and our lock, and perhaps a third one comes."""
    journals = [GhostJournal(path)]
    real = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        journals.pop().close()
        if taken_anew:
            journals.append(GhostJournal(path))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    if taken_anew:
        with pytest.raises(GhostError, match="another souppp-tui"):
            GhostJournal(path)
        journals.pop().close()
    else:
        with closing(GhostJournal(path)) as journal:
            journal.opened([keys(1)])
        assert left_behind(path) == [keys(1)]


def test_a_journal_of_an_earlier_release_counts(path: Path) -> None:
    """Its second line was the host's boot id, which is no record."""
    path.parent.mkdir()
    records = ghosts._record(b"+", keys(1)) + ghosts._record(b"+", keys(2)) + ghosts._record(b"-", keys(1))
    path.write_bytes(b"souppp ghosts 1\n0d1c2b3a-0000-4000-8000-000000000001\n" + records)
    assert left_behind(path) == [keys(2)]


def test_foreign_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(GhostError, match="not a journal"):
        GhostJournal(path)
    assert path.read_text() == "precious"
    path.unlink()
    victim = path.with_name("victim")
    path.symlink_to(victim)
    with pytest.raises(GhostError):
        GhostJournal(path)
    assert not victim.exists()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GhostError, match="not a plain file"):
        GhostJournal(path)


def test_rest_of_a_crashed_replacement_does_no_harm(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    crash(journal)
    rest = path.with_name(path.name + ".new")
    rest.write_text("souppp gho")
    journal = GhostJournal(path)
    journal.closed([keys(1)])
    journal.close()
    assert not rest.exists()
    assert not path.exists()


def test_padt_frame() -> None:
    vlans = (VlanTag(100, 5, 0x88A8), VlanTag(7))
    frame = ethernet.decode(padt_frame(keys(0x1B0, vlans)))
    assert (frame.dst.hex(), frame.src.hex(), frame.ethertype) == ("02acacac0001", "0211223344aa", 0x8863)
    assert frame.vlans == vlans
    assert pppoe.decode(frame.payload) == pppoe.PppoePacket(pppoe.Code.PADT, 0x1B0, b"")


# Any sequence, cut anywhere

macs = st.binary(min_size=6, max_size=6)
tags = st.builds(VlanTag, st.integers(0, 4095), st.integers(0, 7), st.sampled_from([0x8100, 0x88A8]), st.booleans())
four_keys = st.builds(Place, macs, macs, st.integers(0, 0xFFFF), st.lists(tags, max_size=2).map(tuple))


@given(st.lists(four_keys, min_size=1, max_size=6), st.data())
def test_journal_cut_anywhere_tells_of_a_state_that_was(pool: list[Place], data: st.DataObject) -> None:
    steps = st.tuples(st.booleans(), st.lists(st.sampled_from(pool), max_size=4, unique=True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ghosts"
        journal = GhostJournal(path)
        states: list[set[Place]] = [set()]
        """After each single opening and closing."""
        returned = [(0, 1)]
        """After each call: octets of the file, and the number of states so far."""
        for opens, batch in data.draw(st.lists(steps, max_size=8)):
            (journal.opened if opens else journal.closed)(batch)
            for one in batch:
                states.append(states[-1] | {one} if opens else states[-1] - {one})
            returned.append((path.stat().st_size, len(states)))
        crash(journal)
        octets = path.read_bytes()
        cut = octets[: data.draw(st.integers(0, len(octets)))]
        least = max((count for size, count in returned if size <= len(cut)), default=1)
        path.write_bytes(cut)
        found = left_behind(path)
        assert len(found) == len(set(found))
        assert set(found) in states[least - 1 :], "what was on the disk when a call returned must be told"
        if cut == octets:
            assert set(found) == states[-1]


@given(st.lists(four_keys, min_size=1, max_size=5, unique=True), st.data())
def test_spoilt_record_is_never_misread(pool: list[Place], data: st.DataObject) -> None:
    octets = bytearray(b"souppp ghosts 1\n" + b"".join(ghosts._record(b"+", one) for one in pool))
    octets[data.draw(st.integers(16, len(octets) - 1))] = data.draw(st.integers(0, 255))
    assert set(replay(bytes(octets))) <= set(pool)


@given(st.binary(max_size=200))
def test_replay_never_raises(data: bytes) -> None:
    assert replay(data) == []
    assert replay(b"souppp ghosts 1\n" + data) == []


def test_long_journal_is_replaced_by_a_short_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghosts, "SLACK", 10)
    journal = GhostJournal(path)
    journal.opened([keys(1), keys(2)])
    for number in range(100, 200):
        journal.opened([keys(number)])
        journal.closed([keys(number)])
        assert path.read_bytes().count(b"\n") <= 2 + 10 + 3
    with pytest.raises(GhostError, match="another"):
        GhostJournal(path)
    crash(journal)
    assert left_behind(path) == [keys(1), keys(2)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def noting(calls: list[str], name: str, real: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object) -> object:
        calls.append(name)
        return real(*args)

    return call


def test_one_flush_a_call_and_none_for_what_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "fdatasync", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, noting(calls, name, real))
    journal = GhostJournal(path)
    assert calls == ["fsync"], "the new folder's"
    calls.clear()
    journal.opened([keys(1)])
    assert calls == ["write", "fsync", "rename", "fsync"]
    calls.clear()
    journal.opened([keys(number) for number in range(1, 500)])
    journal.closed([keys(2), keys(3)])
    assert calls == ["write", "fdatasync"] * 2
    calls.clear()
    journal.opened([keys(1)])
    journal.closed([keys(2)])
    journal.opened([])
    assert calls == []
    crash(journal)


# A failing disk


@contextmanager
def files_no_larger_than(octets: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", range(0, 120, 17))
def test_failed_write_is_told_and_made_up_for(path: Path, room: int) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    with files_no_larger_than(path.stat().st_size + room):
        for number in (10, 20):
            with pytest.raises(GhostError, match="File too large") as caught:
                journal.opened([keys(number), keys(number + 1), keys(number + 2)])
            assert "\n" not in str(caught.value)
            assert replay(path.read_bytes())[:1] == [keys(1)]
            assert [file.name for file in path.parent.iterdir()] == [path.name]
    journal.closed([keys(11)])
    crash(journal)
    assert left_behind(path) == [keys(1), keys(10), keys(12), keys(20), keys(21), keys(22)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_ghosts_can_be_read_when_nothing_can_be_written(path: Path) -> None:
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    crash(journal)
    with files_no_larger_than(0):
        journal = GhostJournal(path)
        assert journal.ghosts() == [keys(1)]
        with pytest.raises(GhostError):
            journal.opened([keys(2)])
        crash(journal)
    assert left_behind(path) == [keys(1)]


def test_a_journal_that_can_not_be_removed_is_left(path: Path) -> None:
    """That is no failure of the engine's end, which has more to give back."""
    journal = GhostJournal(path)
    journal.opened([keys(1)])
    journal.closed([keys(1)])
    aside = path.parent.rename(path.parent.with_name("aside"))
    path.parent.write_text("a file")
    journal.close()
    path.parent.unlink()
    aside.rename(path.parent)
    assert left_behind(path) == []  # nobody holds it, and nothing is open by it


# SIGKILL at any moment

WRITER = f"""
import os, random, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from engine.record import journal as ghosts
from engine.wire.place import Place
ghosts.SLACK = 20
chance = random.Random(int(sys.argv[2]))
journal = ghosts.GhostJournal(Path(sys.argv[1]))
journal.closed(journal.ghosts())
mine = set()
while True:
    opens = len(mine) < 5 or (len(mine) < 40 and chance.random() < 0.5)
    batch = chance.sample(sorted(set(range(60)) - mine) if opens else sorted(mine), 3)
    told = ("+" if opens else "-") + ",".join(map(str, batch))
    os.write(1, f"will {{told}}\\n".encode())
    (journal.opened if opens else journal.closed)([Place(b"123456", b"abcdef", n) for n in batch])
    os.write(1, f"did {{told}}\\n".encode())
    mine = mine | set(batch) if opens else mine - set(batch)
"""


def apply(state: set[int], step: str, count: int) -> set[int]:
    """The state after the first `count` openings or closings of a step such as `+3,17,4`."""
    batch = set(list(map(int, step[1:].split(",")))[:count])
    return state | batch if step[0] == "+" else state - batch


def test_killed_at_any_moment(path: Path) -> None:
    chance = random.Random(7)
    for seed in range(8):
        args = [sys.executable, "-c", WRITER, str(path), str(seed)]
        child = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(chance.uniform(0.02, 0.2))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        state: set[int] = set()
        possible = [state]
        for word, step in (line.split() for line in lines):
            if word == "will":
                possible = [apply(state, step, count) for count in range(4)]
            else:
                state = apply(state, step, 3)
                possible = [state]
        assert {one.session_id for one in left_behind(path)} in possible
    assert len(lines) > 2


def test_another_comes_and_goes_while_the_journal_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the file to vanish, makes its own, leaves at once, and takes the empty folder with it."""
    journal = GhostJournal(path)
    unlink = Path.unlink

    def with_another(gone: Path, missing_ok: bool = False) -> None:
        unlink(gone, missing_ok)
        monkeypatch.undo()
        GhostJournal(path).close()
        assert not path.parent.exists()

    monkeypatch.setattr(Path, "unlink", with_another)
    journal.close()
    assert not path.parent.exists()


def test_instances_that_come_and_go_never_share_the_journal(path: Path) -> None:
    """Four processes take the journal as often as they can, and each must find itself alone."""
    script = f"""
import os, sys, time
from contextlib import suppress
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from engine.record.journal import GhostError, GhostJournal
from engine.wire.place import Place
held = 0
mark = Path(sys.argv[2])
end = time.monotonic() + 20
while held < 15 and time.monotonic() < end:
    try:
        journal = GhostJournal(Path(sys.argv[1]))
    except GhostError as error:
        assert "another" in str(error), error
        time.sleep(0.001)
        continue
    os.mkdir(mark)
    journal.opened([Place(b"123456", b"abcdef", 1)])
    journal.closed([Place(b"123456", b"abcdef", 1)])
    held += 1
    os.rmdir(mark)
    journal.close()
assert held == 15, held
"""
    mark = path.parents[1] / "mark"
    args = [sys.executable, "-c", script, str(path), str(mark)]
    children = [subprocess.Popen(args, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert not path.exists()
