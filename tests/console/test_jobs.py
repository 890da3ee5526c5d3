"""The jobs of a day that docs/console.md tells, done with the keys that it tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import Dial
from souppp_tui.desk.options import ConsoleOptions
from tests.conftest import ROOT
from tests.console.conftest import Stage, Start
from tests.console.scripted import ScriptedEngine

NAMES = {"⏎": "enter", "␣": "space", "⇥": "tab", "↑": "up", "/": "slash", ":": "colon"}
MANUAL = ROOT / "docs" / "console.md"
FAILED = set(range(6, 60, 7))


def scene() -> ScriptedEngine:
    """Sixty sessions, every seventh with a wrong password, those after the fortieth of service gold."""
    engine = ScriptedEngine(60, busy=9, failing=7, up=False)
    for session in range(60):
        engine.change(session, service="gold" if session >= 40 else "silver")
    engine.submit(Dial(tuple(range(60))))
    engine.advance(0.5, 6)
    return engine


@pytest.mark.parametrize(
    ("job", "keys", "shown", "number"),
    [
        ("who failed, and why", "1 g", "wrong password 8", None),
        ("all that failed for one reason, in the table", "1 g j ⏎", "8 of 60", 8),
        ("all in a network", "/100.64.0.0/29⏎", "7 of 60", 7),
        ("failed sessions of service gold", "/state=failed service=gold⏎", "3 of 60", 3),
        ("failed sessions of service gold", "/st⇥f⇥␣ser⇥g⇥⏎", "3 of 60", 3),
        ("why is this one down", "j j j j j j ⏎", "why it is not up", None),
        (
            "is it the line, or only this one",
            "j j j j j j ⏎",
            "Of the 39 others with service silver: 35 up, 4 failed.",
            None,
        ),
        ("who carries most now", "t", "Top talkers by rate now", 60),
        ("the slowest to answer first", "b e", "sort: rtt ▼", 60),
        ("who carried most in five minutes, in all", "t t", "by what they carried in five minutes", 60),
        ("who carried most in five minutes, in all", "t t t", "by what they carried in all", 60),
        ("where is 100.64.3.17", "/64.0.17⏎", "1 of 60", 1),
        ("hang up all of one VLAN", "1 g g g g", "60 sessions by vlan", None),
        ("who did that", "A", "actions: 0", None),
        ("end everything at once", "H", "y end all", None),
        ("was it slow an hour ago", "⏎", "the last hour", None),
        ("is one queue full", "i", "side by side", None),
    ],
)
async def test_a_job_takes_the_keys_that_are_told(
    start: Start, job: str, keys: str, shown: str, number: int | None
) -> None:
    assert f"| {job} |" in MANUAL.read_text(encoding="utf-8")
    async with start(engine=scene(), size=(100, 60)) as stage:
        await stage.tick(2)
        await type_keys(stage, keys)
        await stage.tick()
        assert shown in " ".join(stage.text().split()) or shown in stage.text()
        if number is not None:
            assert len(stage.app.model.shown) == number


async def test_all_that_failed_are_dialled_again_in_five_keys(start: Start) -> None:
    options = replace(ConsoleOptions(theme="dark"), confirm_above=5)
    async with start(engine=scene(), size=(100, 60), options=options) as stage:
        await stage.tick(2)
        await type_keys(stage, "1 g j d y")
        dialled = stage.last
        assert isinstance(dialled, Dial)
        assert set(dialled.keys) == FAILED


async def test_a_filter_with_a_name_takes_five_keys_the_next_time(start: Start) -> None:
    async with start(engine=scene(), size=(100, 60)) as stage:
        await type_keys(stage, "/state=failed⏎")
        await type_keys(stage, ":save fg⏎")
        await stage.press("escape")
        await type_keys(stage, "/@fg⏎")
        assert set(stage.app.model.shown) == FAILED
        await stage.press("escape")
        await type_keys(stage, "/↑⏎")
        assert set(stage.app.model.shown) == FAILED


async def type_keys(stage: Stage, keys: str) -> None:
    """Press keys: those with blanks between them, or a line as it is typed."""
    spaced = len(keys) > 1 and all(len(part) == 1 for part in keys.split(" "))
    for key in keys.split(" ") if spaced else keys:
        await stage.press(NAMES.get(key, "space" if key == " " else key))


async def test_what_is_down_is_reported_in_ten_keys(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with start(engine=scene(), size=(100, 60)) as stage:
        await type_keys(stage, "/failed⏎w⏎")
        await stage.press("w", "J")
        csv, told = (next(tmp_path.glob(f"*.{ending}")).read_text() for ending in ("csv", "json"))
        assert len(csv.splitlines()) == 1 + len(FAILED)
        assert len(json.loads(told)) == len(FAILED)


def test_the_numbers_of_keys_are_counted() -> None:
    """Of each row whose keys stand there as they are pressed, the first way of several."""
    told = MANUAL.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \| (\d+)(?:[;,] [\d, ]+)? \|", told, re.MULTILINE)
    counted = {}
    for job, keys, number in rows:
        pressed = re.match(r"(?:`[^`]+` ?)+", keys)
        assert pressed is not None
        counted[job] = (int(number), sum(len(key) for key in re.findall("`([^`]+)`", pressed[0])))
    assert len(counted) > 15
    assert {job: numbers for job, numbers in counted.items() if numbers[0] != numbers[1]} == {}
