"""Disks that are full or can't be written any more: nothing is cut short or lost, and the operator hears it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.settings.editing import rewrite, with_changes, with_session
from engine.settings.reading import ConfigError, load
from engine.settings.values import SessionSettings
from souppp_tui.commands.files import filter_saver, saver
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.terminal.newfile import new_file
from tests.console.conftest import Stage, Start
from tests.disks import make_read_only, small

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
TEXT = "sessions:  # mine\n" + "".join(f"  - {{name: home-{n:04}}}  # the {n}th\n" for n in range(1, 31))
FULL, READ_ONLY = "no space left on device", "read-only file system"
Spoil = Callable[[Path, Callable[[], None]], str]


def _full(folder: Path, fill: Callable[[], None]) -> str:
    fill()
    return FULL


def _read_only(folder: Path, fill: Callable[[], None]) -> str:
    make_read_only(folder)
    return READ_ONLY


spoilt = pytest.mark.parametrize("spoil", [_full, _read_only])


@as_root
@spoilt
async def test_the_configuration_stays_as_it_was(start: Start, tmp_path: Path, spoil: Spoil) -> None:
    disk = tmp_path / "disk"
    with small(disk) as fill:
        file = disk / "eth0.yaml"
        file.write_text(TEXT)
        options = ConsoleOptions(theme="dark", save=saver(file), save_filter=filter_saver(file))
        async with start(30, options=options, failing=0) as stage:
            why = spoil(disk, fill)
            told = f"Not written to the configuration: {why}. {file} is as it was."
            for keys in ("D", *"y"), ("slash", *"home-002", "enter", "colon", *"save few", "enter"):
                await stage.press(*keys)
                assert _said(stage, told)
                assert file.read_text() == TEXT
        assert {each.name for each in disk.iterdir()} <= {"eth0.yaml", "filler"}
        assert load(file).sessions[0].name == "home-0001"


@as_root
@spoilt
async def test_what_is_exported_is_whole_or_not_there(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    disk = tmp_path / "disk"
    with small(disk) as fill:
        before = disk / "before"
        before.write_text("all of it")
        monkeypatch.chdir(disk)
        async with start(3) as stage:
            why = spoil(disk, fill)
            for how in "enter", "J":
                await stage.press("w", how)
                assert _said(stage, f"Nothing written, {why}: souppp-sessions-")
        assert {each.name for each in disk.iterdir()} <= {"before", "filler"}
        assert before.read_text() == "all of it"
        monkeypatch.chdir(tmp_path)


@as_root
def test_a_disk_that_fills_up_while_it_is_written_to(tmp_path: Path) -> None:
    with small(tmp_path / "disk"):
        with pytest.raises(OSError, match="No space left"):
            new_file(tmp_path / "disk" / "much.csv", bytes(100_000))
        assert not [*(tmp_path / "disk").iterdir()]


def _said(stage: Stage, text: str) -> bool:
    """Whether it stands at the bottom, wherever its lines are broken."""
    return "".join(text.split()) in "".join("".join(stage.text().splitlines()[-3:]).split())


def test_an_export_takes_nobodys_place(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "a.csv", tmp_path / "elsewhere"
    file.symlink_to(elsewhere)
    assert new_file(file, b"1") == tmp_path / "a-2.csv"
    assert new_file(file, b"2") == tmp_path / "a-3.csv"
    assert not elsewhere.exists()
    assert (tmp_path / "a-2.csv").read_bytes() == b"1"
    assert (tmp_path / "a-2.csv").stat().st_mode & 0o777 == 0o600


def test_no_folder_to_export_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        new_file(tmp_path / "gone" / "a.csv", b"1")


def _in_place(file: Path, text: str) -> None:
    file.write_text(text)


def _by_a_new_file(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize("write", [_in_place, _by_a_new_file])
def test_what_somebody_else_writes_meanwhile_stays_too(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    file = tmp_path / "eth0.yaml"
    file.write_text(TEXT)
    times = 0

    def change(text: str) -> str:
        nonlocal times
        times += 1
        if times == 1:
            write(file, TEXT.replace("# mine", "# ours"))
        return with_session(text, SessionSettings("new"), file)

    rewrite(file, change)
    assert times == 2
    assert file.read_text() == TEXT.replace("# mine", "# ours") + "  - {name: new}\n"


def test_one_who_writes_all_the_time_is_let_to(tmp_path: Path) -> None:
    file = tmp_path / "eth0.yaml"
    file.write_text(TEXT)

    def change(text: str) -> str:
        file.write_text(text + "# more\n")
        return with_session(text, SessionSettings("new"), file)

    with pytest.raises(ConfigError, match="somebody else is writing it; try again"):
        rewrite(file, change)
    assert file.read_text() == TEXT + "# more\n" * 5
    assert [each.name for each in tmp_path.iterdir()] == ["eth0.yaml"]


@pytest.mark.parametrize("write", [_in_place, _by_a_new_file])
def test_two_who_write_at_once_lose_nothing(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    """An editor adds lines of its own while the console changes sessions; neither knows of the other."""
    file = tmp_path / "eth0.yaml"
    file.write_text(TEXT)
    ended = threading.Event()

    def edit() -> None:
        for n in range(30):
            was = SessionSettings(f"home-{n + 1:04}")
            changes = [(was.name, replace(was, mru=1400))]
            with suppress(ConfigError):  # it may be half written just then
                rewrite(file, partial(with_changes, changes=changes, path=file))
        ended.set()

    thread = threading.Thread(target=edit)
    thread.start()
    while not ended.wait(0.003):
        write(file, file.read_text() + "# theirs\n")
    thread.join()
    assert len(load(file).sessions) == 30
    assert "# the 30th" in file.read_text()
