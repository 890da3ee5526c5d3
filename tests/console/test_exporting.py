"""Export of tables, histories, details and events: to a file as CSV or JSON, or to the clipboard."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from engine.api.values import Severity
from souppp_tui.show.sheets import Sheet
from souppp_tui.show.words import iso
from tests.console.conftest import Stage, Start


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _rows(folder: Path, what: str) -> list[dict[str, str]]:
    (path,) = folder.glob(f"souppp-{what}-*.csv")
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


async def test_the_table_as_it_is_filtered_and_sorted_in_three_keys(start: Start, tmp_path: Path) -> None:
    async with start(30, size=(80, 24), failing=0) as stage:
        await stage.tick(4)
        await stage.press("slash", *"home-002", "enter", "S")
        await stage.press("w")
        assert "10 sessions, 6 columns" in stage.text()
        await stage.press("enter")
        assert "Wrote 10 lines to" in stage.text()
        rows = _rows(tmp_path, "sessions")
        assert [row["name"] for row in rows] == [f"home-00{n}" for n in range(29, 19, -1)]
        assert [*rows[0]] == ["name", "state", "address", "uptime", "rx", "tx"]
        assert (rows[0]["state"], rows[0]["address"]) == ("up", "100.64.0.28")
        assert float(rows[0]["rx"]) > 1000, "a number, not 1.2M"
        assert float(rows[0]["uptime"]) > 2680


async def test_all_columns_of_the_marked_ones_as_json(start: Start, tmp_path: Path) -> None:
    async with start(3) as stage:
        await stage.press("space", "space", "w", "j", "J")
        (path,) = tmp_path.glob("souppp-sessions-*.json")
        told = json.loads(path.read_text())
        assert [each["name"] for each in told] == ["home-0001", "home-0002"]
        assert told[0]["mtu"] == 1492
        assert told[0]["sid"] == "01a0"
        assert told[0]["proxy"] is None
        assert told[0]["setup"] == 37.4


async def test_histories_details_and_events(start: Start, tmp_path: Path) -> None:
    async with start(3) as stage:
        stage.engine.emit("=Not\x1b[2Jclean.", Severity.WARNING, 1)
        await stage.tick()
        await stage.press("w", "j", "j", "enter")
        assert [row["address"] for row in _rows(tmp_path, "addresses")] == ["203.0.113.77"] * 3
        await stage.press("w", "j", "j", "j", "enter")
        details = _rows(tmp_path, "details")
        assert {row["session"] for row in details} == {"home-0001"}
        assert {"negotiated", "step ms", "counter", "sent", "received"} <= {row["part"] for row in details}
        await stage.press("e", "w", "enter")
        (event,) = _rows(tmp_path, "events")
        assert event["text"] == "'=Not·[2Jclean.", "neither a terminal nor a spreadsheet does what it says"
        assert event["time"] == iso(stage.engine.events_since(0)[0][0].at)
        assert event["time"].endswith("Z")
        assert (event["severity"], event["session"]) == ("warning", "home-0002")


async def test_the_details_page_exports_its_own_session(start: Start, tmp_path: Path) -> None:
    async with start(3) as stage:
        await stage.press("space", "space", "enter", "w", "enter")
        assert [row["name"] for row in _rows(tmp_path, "sessions")] == ["home-0003"]


async def test_the_clipboard_gets_what_can_be_pasted(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("w", "y")
        assert stage.app.clipboard.splitlines()[1].startswith("home-0001\tup\t100.64.0.0\t")
        assert "Copied 3 lines of sessions." in stage.text()


async def test_what_is_hidden_stays_so(start: Start, tmp_path: Path) -> None:
    async with start(3) as stage:
        await stage.press("x", "w", "enter")
        assert "home-0001" not in next(tmp_path.glob("*.csv")).read_text()
        await stage.press("w", "j", "j", "j", "enter")
        assert "press x first" in stage.text()


async def test_what_cannot_be_written_or_is_not_there_is_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start(3, up=False) as stage:
        await stage.press("w", "j", "j", "enter")
        assert "There is nothing to export." in stage.text()
        monkeypatch.chdir("/proc")
        await stage.press("w", "enter")
        assert "Nothing written, no such file or directory: souppp-sessions-" in stage.text()


async def _copied(stage: Stage, *keys: str) -> str:
    await stage.press("Y", *keys, "enter")
    return stage.app.clipboard


async def test_what_is_copied_is_chosen(start: Start) -> None:
    async with start(3) as stage:
        await stage.press("space", "space")
        assert await _copied(stage) == "100.64.0.0\n100.64.0.1"
        assert await _copied(stage, "j") == "home-0001\nhome-0002"
        assert await _copied(stage, "j", "j") == "home-0001\t100.64.0.0\nhome-0002\t100.64.0.1"
        assert await _copied(stage, "j", "j", "j") == "soup0\nsoup1"


def test_times_are_iso_8601_and_rows_have_a_head() -> None:
    assert iso(1_800_000_000.9996) == "2027-01-15T08:00:01.000Z"
    assert Sheet("x", ("a", "b"), [(1, None)]).csv() == "a,b\r\n1,\r\n"
    assert json.loads(Sheet("x", ("a", "b"), [(1, None)]).json()) == [{"a": 1, "b": None}]


async def test_times_are_shown_by_the_clock_or_as_how_long_ago_by_one_key(start: Start) -> None:
    async with start(3) as stage:
        stage.engine.emit("Something.", session=0)
        await stage.tick(20)
        clock = stage.line("Something.").split()[0]
        assert ":" in clock
        assert "16m" in stage.line("● home-0001")
        await stage.press("T")
        assert "UP AT" in stage.text()
        assert "01:43" in stage.line("● home-0001")
        assert clock in stage.line("Something.")
        await stage.press("T")
        assert "16m" in stage.line("● home-0001")
        assert stage.line("Something.").split()[:2] == ["10", "s"]
        await stage.press("T")
        assert clock in stage.line("Something.")
