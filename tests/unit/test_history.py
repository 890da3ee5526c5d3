"""Which addresses sessions had: over dials and restarts, crashes and full disks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.api.values import AddressSpan
from engine.record import history as module
from engine.record.history import SPANS, History, HistoryError, HistoryFile
from souppp_tui.show.histories import csv_text

T = 1_800_000_000.0


def again(path: Path) -> History:
    return HistoryFile(path).load()


def saved(path: Path, history: History) -> History:
    HistoryFile(path).save(history)
    return again(path)


def test_what_a_session_had_is_known_after_a_restart(tmp_path: Path) -> None:
    path, history = tmp_path / "eth9.addresses", History()
    history.look("a session", ["192.0.2.1", "2001:db8::1"], T, T)
    history.look("a session", ["192.0.2.1"], T, T + 10)
    history.look("a session", [], None, T + 20)
    history.look("a session", ["192.0.2.2"], T + 30, T + 30)
    expected = (
        AddressSpan("192.0.2.1", T, T + 20),
        AddressSpan("2001:db8::1", T, T + 10),
        AddressSpan("192.0.2.2", T + 30),
    )
    assert history.of("a session") == expected
    assert saved(path, history).of("a session") == expected
    assert (path.stat().st_mode & 0o777) == 0o600
    assert history.of("nobody") == ()


def test_a_session_that_goes_on_has_its_address_and_one_that_was_killed_had_it(tmp_path: Path) -> None:
    path, history = tmp_path / "x", History()
    history.look("one", ["192.0.2.1"], T, T)
    goes_on = saved(path, history)
    goes_on.look("one", ["192.0.2.1"], T, T + 100)
    assert goes_on.of("one") == (AddressSpan("192.0.2.1", T),)

    for addresses in (["192.0.2.1"], ["192.0.2.2"]):
        killed = again(path)
        killed.look("one", [], None, T + 50)
        killed.look("one", addresses, T + 60, T + 60)
        assert killed.of("one") == (AddressSpan("192.0.2.1", T, known=False), AddressSpan(addresses[0], T + 60))
    text = csv_text([("one", killed.of("one"))])
    assert text.splitlines() == [
        "session,address,from,until,seconds",
        "one,192.0.2.1,2027-01-15T08:00:00Z,,",
        "one,192.0.2.2,2027-01-15T08:01:00Z,now,",
    ]


@pytest.mark.parametrize("by", [3600.0, -3600.0, T / 2, -T])
def test_a_clock_that_is_set_takes_no_address_away(tmp_path: Path, by: float) -> None:
    """As on a host without a clock of its own, which hears what time it is when its sessions are up."""
    path, history, mended = tmp_path / "x", History(), max(T + by, 0.0)
    file = HistoryFile(path)
    history.look("one", ["192.0.2.1"], T, T)
    file.save(history)
    history.set_clock(by)
    history.look("one", ["192.0.2.1"], T + by, T + by + 100)
    assert history.of("one") == (AddressSpan("192.0.2.1", mended),)
    file.save(history)
    assert again(path).of("one") == history.of("one")


def test_a_clock_that_is_set_changes_nothing_of_what_a_killed_run_had(tmp_path: Path) -> None:
    history = History()
    history.look("one", ["192.0.2.1"], T, T)
    killed = saved(tmp_path / "x", history)
    killed.set_clock(3600.0)
    assert killed.of("one") == (AddressSpan("192.0.2.1", T),)


def test_the_same_address_after_a_new_dial_is_another_line() -> None:
    history = History()
    history.look("one", ["192.0.2.1"], T, T)
    history.look("one", ["192.0.2.1"], T + 50, T + 50)
    assert history.of("one") == (AddressSpan("192.0.2.1", T, T + 50), AddressSpan("192.0.2.1", T + 50))


def test_records_are_appended_and_a_long_file_is_made_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLACK", 50)
    path, history = tmp_path / "x", History()
    file = HistoryFile(path)
    inodes, longest = set(), 0
    for n in range(2000):
        history.look("one", [f"192.0.2.{n % 250}"], T + n, T + n)
        file.save(history)
        assert not history.pending
        inodes.add(path.stat().st_ino)
        longest = max(longest, path.read_bytes().count(b"\n"))
    assert longest < 4 * SPANS + 60
    assert len(history.of("one")) == len(history) == SPANS
    assert again(path).of("one") == history.of("one")


def test_what_stays_is_bounded_over_all_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOTAL", 100)
    history = History()
    for n in range(50):
        history.look(f"old-{n}", ["192.0.2.1"], T, T)
        history.look(f"old-{n}", [], None, T + 1)
    history.look("stays", ["2001:db8::/56"], T, T)
    for n in range(500):
        history.look("stays", ["2001:db8::/56", f"10.0.0.{n % 250}"], T, T + n)
    for n in range(60):
        history.look(f"new-{n}", ["192.0.2.1"], T, T)
    assert len(history) == 100
    assert history.of("stays")[0] == AddressSpan("2001:db8::/56", T), "it has that still"
    assert not history.of("old-0")


@pytest.mark.parametrize("octets", [b"", b"what?\n", b"\x7fELF", b"souppp ghosts 1\n"])
def test_a_file_that_is_none_of_ours_is_left_alone(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(octets)
    with pytest.raises(HistoryError, match="move it away"):
        HistoryFile(path).load()
    assert path.read_bytes() == octets
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HistoryError):
        HistoryFile(path).load()


def test_what_is_torn_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"souppp addresses 1\n+ 5.000 192.0.2.1 one\n\xff\n+ x y z\n- 9.000 192.0.2.9 one\n+ 7.0")
    assert again(path).of("one") == (AddressSpan("192.0.2.1", 5.0),)


def test_a_disk_that_is_full_is_told_once_and_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, history = tmp_path / "x", History()
    file = HistoryFile(path)
    history.look("one", ["192.0.2.1"], T, T)
    file.save(history)
    full = Path("/dev/full")

    def write(fd: int, octets: bytes) -> None:
        with full.open("wb", buffering=0) as device:
            os.write(fd, octets[:9])  # what still went
            device.write(octets)

    monkeypatch.setattr(module, "write_all", write)
    monkeypatch.setattr("engine.host.replacing.write_all", write)
    history.look("one", ["192.0.2.2"], T + 5, T + 5)
    with pytest.raises(HistoryError, match="No space left"):
        file.save(history)
    history.look("one", ["192.0.2.3"], T + 9, T + 9)
    file.save(history)
    assert again(path).of("one")[0] == AddressSpan("192.0.2.1", T)
    monkeypatch.undo()
    file.save(history)
    assert again(path).of("one") == history.of("one")
    assert [*tmp_path.iterdir()] == [path]


def test_the_file_goes_with_the_card(tmp_path: Path) -> None:
    history, file = History(), HistoryFile(tmp_path / "eth0.addresses")
    history.look("one", ["192.0.2.1"], T, T)
    file.save(history)
    file.rename("wan0")
    history.look("one", [], None, T + 1)
    file.save(history)
    assert [each.name for each in tmp_path.iterdir()] == ["wan0.addresses"]
    assert again(tmp_path / "wan0.addresses").of("one") == history.of("one")
