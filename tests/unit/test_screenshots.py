"""Pictures of the console: what tmux captured, turned into SVG by scripts/screenshots."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted((ROOT / "screenshots").glob("*.svg"))
READABLE, BEHIND = 2.5, 1.35
"""Contrasts as WCAG counts them: the least of a word that is to be read, and of one on a page that a box lies upon."""


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
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


def test_a_colour_runs_over_a_lines_end(screenshots: ModuleType) -> None:
    """tmux says a colour once, and not again on the next line."""
    screen = "\x1b[38;2;1;2;3m\x1b[48;2;250;250;250mone\ntwo\n\x1b[38;2;9;9;9mthree\x1b[0m\nfour\n"
    picture = screenshots.svg(screen, 5)
    assert inks(picture) == {"one": "#010203", "two": "#010203", "three": "#090909", "four": screenshots.INK}
    assert papers(picture) == ["#fafafa", screenshots.PAPER]


def test_each_line_has_its_row(screenshots: ModuleType) -> None:
    picture = screenshots.svg("\x1b[7mone\n\n\x1b[27m  three <&>\n", 12)
    rows = [(text.text, text.get("y")) for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]
    assert [word for word, _ in rows] == ["one", "three", "<&>"]
    assert len({y for _, y in rows}) == 2
    height = re.search(r'viewBox="0 0 \d+ (\d+)"', picture)
    assert height
    assert int(height[1]) == 3 * screenshots.CELL[1] + 2 * screenshots.MARGIN


def luminance(colour: str) -> float:
    """As WCAG 2 has it, from 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrasts(screenshots: ModuleType, picture: str) -> list[tuple[str, float]]:
    """Each word of a picture, and how it stands out from what lies behind it: 1 not at all, 21 as black on white."""
    root = ElementTree.fromstring(picture)
    ground = root.find(f"{SVG}rect")
    group = root.find(f"{SVG}g")
    assert ground is not None
    assert group is not None
    width, height = screenshots.CELL
    papers: dict[tuple[int, int], str] = {}
    found = []
    for shape in group:
        column, row = round(float(shape.get("x", "")) / width), int(float(shape.get("y", "")) // height)
        fill = shape.get("fill", "")
        if shape.tag == f"{SVG}rect":
            many = round(float(shape.get("width", "")) / width)
            papers |= {(column + n, row): fill for n in range(many)}
        elif re.search(r"\w", str(shape.text)):
            dark, light = sorted((luminance(fill), luminance(papers.get((column, row), ground.get("fill", "")))))
            found.append((str(shape.text), (light + 0.05) / (dark + 0.05)))
    return found


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_every_word_can_be_read(screenshots: ModuleType, path: Path) -> None:
    """Black on black is what a picture of a light theme was."""
    (shot,) = [shot for shot in screenshots.SHOTS if shot.name == path.stem]
    words = contrasts(screenshots, path.read_text())
    assert len(words) > 50
    least = BEHIND if shot.box else READABLE
    assert [(word, contrast) for word, contrast in words if contrast < least] == []
    assert sum(contrast >= READABLE for _, contrast in words) > 20, "what the picture is of"


def test_there_is_a_picture_of_each_shot(screenshots: ModuleType) -> None:
    assert {path.stem for path in PICTURES} == {shot.name for shot in screenshots.SHOTS}


def test_what_cannot_be_read_would_be_found(screenshots: ModuleType) -> None:
    picture = screenshots.svg("\x1b[38;2;0;0;0mdark\x1b[48;2;250;250;250m light\n", 12)
    assert [contrast > READABLE for _, contrast in contrasts(screenshots, picture)] == [False, True]
