"""Few tests are tried again: not all, not none, and what fails again has failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import again


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        (("test_good",), 0),
        (("test_bad",), 1),
        (("test_good", "test_bad"), 1),
        ((), 1),
        (tuple(f"test_good[{n}]" for n in range(again.FEW + 1)), 1),
    ],
)
def test_what_becomes_of_it(failed: tuple[str, ...], code: int, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    tests = tmp_path / "test_some.py"
    tests.write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    last = tmp_path / "lastfailed"
    last.write_text(json.dumps({f"{tests}::{name}": True for name in failed}))
    assert again.main(last) == code


def test_no_run_is_no_success(tmp_path: Path) -> None:
    assert again.main(tmp_path / "none") == 1
