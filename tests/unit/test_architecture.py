"""The import contracts of pyproject.toml hold, and each of them catches an import that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.conftest import ROOT

VIOLATIONS = {
    "Arrows go one way": ("engine/wire/text.py", "import engine.sessions.session"),
    "The engine knows no screen": ("engine/settings/values.py", "import rich.text"),
    "The protocol core holds no socket, no clock, no random source": ("engine/ppp/lcp.py", "import time"),
    "What touches the host knows nothing of sessions": ("engine/card/facts.py", "import engine.sessions.session"),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_each_contract_catches_a_violation(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert VIOLATIONS.keys() == {contract["name"] for contract in project["tool"]["importlinter"]["contracts"]}
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("engine", "souppp_tui"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, statement in VIOLATIONS.values():
        with (tmp_path / file).open("a") as module:
            module.write(f"\n{statement}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    for name in VIOLATIONS:
        assert f"{name} BROKEN" in done.stdout, done.stdout
