"""What system tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import run
from tests.terminal import Terminal


@pytest.fixture(scope="session")
def flood(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that sends frames at a rate; see flood.c."""
    program = tmp_path_factory.mktemp("flood") / "flood"
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, Path(__file__).with_name("flood.c"))
    return program


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """One that ends with the test."""
    with closing(Terminal(tmp_path)) as terminal:
        yield terminal
