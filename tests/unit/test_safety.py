"""What docs/SAFETY.md and SECURITY.md promise names the tests that try it: they are there."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.system.test_promises import PROGRAM_WAYS, SESSION_WAYS

FILES = {path.name: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
NAMED = re.compile(r"`(?:[\w/]+/)?(test_\w+(?:\.py)?)`")


@pytest.mark.parametrize("page", ["docs/SAFETY.md", "SECURITY.md"])
def test_every_test_that_is_named_is_there(page: str) -> None:
    names = NAMED.findall((ROOT / page).read_text())
    assert names
    for name in names:
        assert name in FILES if name.endswith(".py") else any(f"def {name}(" in text for text in FILES.values()), name


def test_every_way_to_break_a_session_is_in_the_table() -> None:
    """By the names that its tests have."""
    rows = "".join(re.findall(r"^\|.*$", (ROOT / "docs/SAFETY.md").read_text(), re.MULTILINE))
    named = re.findall(r"`([^`]+)`", rows)
    for way in (*SESSION_WAYS, *PROGRAM_WAYS, "card removed"):
        assert any(way in name for name in named), way
