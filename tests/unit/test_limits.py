"""Each limit stands once: in `engine.settings.limits`."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.settings import limits
from tests.conftest import ROOT

LIMITS = {name: value for name, value in vars(limits).items() if name.isupper()}
HOME = ROOT / "engine" / "settings" / "limits.py"
TELLING = (limits.MAX_SESSIONS, limits.MAX_VID)
"""Numbers that mean nothing else wherever they stand; 255 or 3600 may be something else."""
RULES = ("fields.py", "own_kinds.py", "forms.py", "reading.py", "editing.py")
"""Files of the settings where a number can only be a limit."""
SMALL = 2
"""None, one or two of something is no limit."""
FOLLOWS = ("docs/config.schema.json", "man/souppp-tui.8")
"""Made from the limits, or held to them below."""


def numbers(path: Path) -> Iterator[tuple[int, float]]:
    """Line and value of each number that is written in decimal."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NUMBER and not re.match("0[xXoObB]", token.string):
                yield token.start[0], float(token.string.replace("_", ""))


def test_the_search_finds_a_limit_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("a = 16384\nb = [16_384, 0x4000]\n# 16,384")
    assert [line for line, value in numbers(file) if value in TELLING] == [1, 2]
    assert said(file) == 2


def said(path: Path) -> int:
    """How often the number of sessions stands in a text as people write it."""
    whole, rest = divmod(limits.MAX_SESSIONS, 1000)
    return len(re.findall(rf"\b{whole}[,]?{rest}\b", path.read_text(encoding="utf-8", errors="replace")))


def test_no_telling_number_is_repeated() -> None:
    code = [path for folder in ("engine", "souppp_tui", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert HOME in code
    found = [(path, line) for path in code for line, value in numbers(path) if value in TELLING and path != HOME]
    found += [(path, 0) for path in code if said(path)]
    assert found == []


@pytest.mark.parametrize("name", RULES)
def test_the_rules_hold_no_number_of_their_own(name: str) -> None:
    path = HOME.with_name(name)
    assert [f"{path}:{line}" for line, value in numbers(path) if value in LIMITS.values() and value > SMALL] == []


def test_texts_leave_the_number_of_sessions_to_those_that_follow_it() -> None:
    kinds = ("*.md", "docs/**/*.*", "man/*", "bpf/*.c", "engine/datapath/*.[ch]")
    texts = [path for kind in kinds for path in ROOT.glob(kind)]
    assert {path for path in texts if said(path)} == {ROOT / name for name in FOLLOWS}
    assert f"1 to {limits.MAX_SESSIONS};" in (ROOT / FOLLOWS[1]).read_text(encoding="ascii")
