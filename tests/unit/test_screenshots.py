"""Pictures of the console: what tmux captured, turned into SVG by scripts/screenshots."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.contrast import contrast

SVG = "{http://www.w3.org/2000/svg}"
FILM = ROOT / "screenshots" / "film.svg"
PICTURES = sorted({*(ROOT / "screenshots").glob("*.svg")} - {FILM})
READABLE, TERMINALS, BEHIND = 4.5, 2.5, 1.35
"""Contrasts as WCAG counts them: the least of a word that is to be read (AA), of one in a terminal's own colours,
and of one on a page that a box lies upon."""


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return import_module("drawing")


@pytest.fixture
def screenshots(drawing: ModuleType) -> ModuleType:
    spec = spec_from_loader("screenshots", SourceFileLoader("screenshots", str(ROOT / "scripts" / "screenshots")))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inks(picture: str) -> dict[str, str | None]:
    """The colour of each word in a picture."""
    return {str(text.text): text.get("fill") for text in ElementTree.fromstring(picture).iter(f"{SVG}text")}


def papers(picture: str) -> list[str | None]:
    """The colours of what lies behind the text, the whole picture's first."""
    return [rect.get("fill") for rect in ElementTree.fromstring(picture).iter(f"{SVG}rect")]


def test_a_colour_runs_over_a_lines_end(drawing: ModuleType) -> None:
    """tmux says a colour once, and not again on the next line."""
    screen = "\x1b[38;2;1;2;3m\x1b[48;2;250;250;250mone\ntwo\n\x1b[38;2;9;9;9mthree\x1b[0m\nfour\n"
    picture = drawing.svg(screen, 5)
    assert inks(picture) == {"one": "#010203", "two": "#010203", "three": "#090909", "four": drawing.INK}
    assert papers(picture) == ["#fafafa", drawing.PAPER]


def test_each_line_has_its_row(drawing: ModuleType) -> None:
    picture = drawing.svg("\x1b[7mone\n\n\x1b[27m  three <&>\n", 12)
    rows = [(text.text, text.get("y")) for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    assert [word for word, _ in rows] == ["one", "three", "<&>"]
    assert len({y for _, y in rows}) == 2
    height = re.search(r'viewBox="0 0 \d+ (\d+)"', picture)
    assert height
    assert int(height[1]) == 3 * drawing.CELL[1] + 2 * drawing.MARGIN


def contrasts(drawing: ModuleType, picture: str) -> list[tuple[str, float]]:
    """Each word of a picture, and how it stands out from what lies behind it: 1 not at all, 21 as black on white."""
    root = ElementTree.fromstring(picture)
    ground = root.find(f"{SVG}rect")
    group = root.find(f"{SVG}g")
    assert ground is not None
    assert group is not None
    width, height = drawing.CELL
    papers: dict[tuple[int, int], str] = {}
    found = []
    for shape in group:
        column, row = round(float(shape.get("x", "")) / width), int(float(shape.get("y", "")) // height)
        fill = shape.get("fill", "")
        if shape.tag == f"{SVG}rect":
            many = round(float(shape.get("width", "")) / width)
            papers |= {(column + n, row): fill for n in range(many)}
        elif re.search(r"\w", str(shape.text)):
            paper = papers.get((column, row), ground.get("fill", ""))
            found.append((str(shape.text), contrast(fill, paper)))
    return found


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_every_word_can_be_read(screenshots: ModuleType, drawing: ModuleType, path: Path) -> None:
    """Black on black is what a picture of a light theme was."""
    (shot,) = [shot for shot in screenshots.SHOTS if shot.name == path.stem]
    words = contrasts(drawing, path.read_text())
    assert len(words) > 50
    least = BEHIND if shot.box else TERMINALS if path.stem == "sixteen-colours" else READABLE
    assert [(word, found) for word, found in words if found < least] == []
    assert sum(found >= TERMINALS for _, found in words) > 20, "what the picture is of"


def test_there_is_a_picture_of_each_shot(screenshots: ModuleType) -> None:
    assert {path.stem for path in PICTURES} == {shot.name for shot in screenshots.SHOTS}


def test_what_cannot_be_read_would_be_found(drawing: ModuleType) -> None:
    picture = drawing.svg("\x1b[38;2;0;0;0mdark\x1b[48;2;250;250;250m light\n", 12)
    assert [found > READABLE for _, found in contrasts(drawing, picture)] == [False, True]


def seen(picture: str, share: float) -> list[str]:
    """The words of a film that are seen at some time of it, from 0 to 1."""
    found = []
    for group in ElementTree.fromstring(picture).iter(f"{SVG}g"):
        move = group.find(f"{SVG}animate")
        turns = (
            zip(move.get("keyTimes", "").split(";"), move.get("values", "").split(";"), strict=True)
            if move is not None
            else []
        )
        now = [what for at, what in turns if float(at) <= share]
        if not now or now[-1] == "visible":
            found += [str(text.text) for text in group.findall(f"{SVG}text")]
    return found


def test_a_film_shows_each_row_while_it_was_there(drawing: ModuleType) -> None:
    screens = [(0.0, "head\none\n"), (1.0, "head\ntwo\n"), (3.0, "head\n\n"), (3.5, "head\none\n")]
    picture = drawing.film(screens, 8, 4.0)
    assert [seen(picture, at / 4) for at in (0, 0.9, 1, 2.9, 3, 3.6)] == [
        ["head", "one"],
        ["head", "one"],
        ["head", "two"],
        ["head", "two"],
        ["head"],
        ["head", "one"],
    ]
    root = ElementTree.fromstring(picture)
    still = [group for group in root.iter(f"{SVG}g") if group.get("visibility", "visible") == "visible"]
    assert [text.text for group in still for text in group.findall(f"{SVG}text")] == ["head", "one"], "the last screen"
    assert {move.get("dur") for move in root.iter(f"{SVG}animate")} == {"4s"}


def test_the_film_is_one() -> None:
    picture = FILM.read_text()
    assert "59" in seen(picture, 0.99)
    assert seen(picture, 0.0) != seen(picture, 0.5) != seen(picture, 0.99)
    assert len(picture) < 1 << 20
