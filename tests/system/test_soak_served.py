"""The soak of a served engine, for a moment; `make soak-served` has it for an hour with 10,000 sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.soak_served import soak
from tests.terminal import needs_tmux

pytestmark = [needs_tmux, pytest.mark.usefixtures("needs_root")]


def test_consoles_come_and_go_and_one_stands_still(tmp_path: Path) -> None:
    soak(tmp_path, sessions=2000, up=20, seconds=0.0, stopped=1.0, rounds=2, tell=print)
