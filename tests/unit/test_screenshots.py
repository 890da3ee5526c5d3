"""Pictures of the console: what tmux captured, turned into SVG by scripts/screenshots."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT

SVG = "{http://www.w3.org/2000/svg}"


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
