"""The import contracts of pyproject.toml hold, and catch what breaks them: for every ordered pair of rooms."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest

from tests.conftest import ROOT

PACKAGES = ("engine", "souppp_tui")
SCREEN = 50
"""Lines."""
PLANTS = {
    "The console knows an engine's values alone": ("souppp_tui/screens/details.py", "import engine.run.thread"),
    "The engine knows no screen": ("engine/settings/values.py", "import rich.text"),
    "What decides holds no socket, no clock, no random source, no thread": ("engine/ppp/lcp.py", "import time"),
    "The supervisor touches nothing itself": ("engine/supervisor/board.py", "import threading"),
}
"""A statement that breaks a contract, by the contract's name; of the layers every pair is tried."""


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def layers() -> list[tuple[str, list[str]]]:
    """(container, its layers), the highest first; rooms in one layer are separated by |."""
    contracts = project()["tool"]["importlinter"]["contracts"]
    return [(c["containers"][0], c["layers"]) for c in contracts if c["type"] == "layers"]


def forbidden_pairs() -> list[tuple[str, str]]:
    """(importing room, imported room): all that the layers don't allow, siblings among them."""
    pairs = []
    for container, rows in layers():
        heights = {f"{container}.{room}": height for height, row in enumerate(rows) for room in row.split(" | ")}
        pairs += [(a, b) for a in heights for b in heights if a != b and heights[a] >= heights[b]]
    return pairs


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code to plant things in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_forbidden_import_is_caught_for_every_ordered_pair_of_rooms(copy: Path) -> None:
    pairs = forbidden_pairs()
    assert {importing for importing, _ in pairs} >= {"engine.settings", "souppp_tui.show"}
    for importing, imported in pairs:
        planted = copy / importing.replace(".", "/") / f"planted_{imported.rpartition('.')[2]}.py"
        planted.write_text(f"import {imported}\n")
    done = lint_imports(copy)
    assert done.returncode != 0
    told = re.sub(r"\s+", " ", done.stdout)
    missed = [(a, b) for a, b in pairs if f"{a}.planted_{b.rpartition('.')[2]} -> {b}" not in told]
    assert not missed


def test_each_other_contract_catches_a_violation(copy: Path) -> None:
    names = {c["name"] for c in project()["tool"]["importlinter"]["contracts"] if c["type"] != "layers"}
    assert PLANTS.keys() == names
    for file, statement in PLANTS.values():
        with (copy / file).open("a") as module:
            module.write(f"\n{statement}\n")
    done = lint_imports(copy)
    for name in PLANTS:
        assert f"{name} BROKEN" in done.stdout, done.stdout


def test_a_room_that_stands_nowhere_fails(copy: Path) -> None:
    for package, room in zip(PACKAGES, ("attic", "cellar"), strict=True):
        (copy / package / room).mkdir()
        (copy / package / room / "__init__.py").write_text("")
    done = lint_imports(copy)
    assert done.returncode != 0
    assert "attic" in done.stdout
    assert "cellar" in done.stdout


def circles(package: str) -> list[list[str]]:
    """Files that import each other in a circle; imports for type checkers count."""
    graph = grimp.build_graph(package, cache_dir=None)  # or it leaves a folder behind
    found, seen = [], set[str]()
    for module in sorted(graph.modules):
        if module in seen:
            continue
        both_ways = graph.find_downstream_modules(module) & graph.find_upstream_modules(module)
        if both_ways:
            found.append(sorted({module, *both_ways}))
            seen |= both_ways
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    assert circles(package) == []


def test_every_function_of_the_console_fits_a_screen() -> None:
    too_long = [
        f"{file.relative_to(ROOT)}: {node.name} has {lines} lines"
        for file in (ROOT / "souppp_tui").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > SCREEN
    ]
    assert not too_long


def test_what_other_processes_do_at_the_start_waits_for_no_large_package() -> None:
    """The compiler and the lab's provider begin while the rest is still being imported, which takes a third of it."""
    names = {"asyncio", "pyroute2.netlink", "rich", "textual", "yaml"}
    assert printed(f"import engine.card.xdp, engine.lab.provider; print(sys.modules.keys() & {names!r})") == "set()"


def test_a_service_needs_no_screen() -> None:
    """Textual takes 0.1 s of its start and 10 MB for as long as it runs."""
    assert printed("import souppp_tui.commands.serve; print('textual' in sys.modules)") == "False"


def test_pyroute2_is_imported_by_its_parts_and_still_whole_for_who_wants_it() -> None:
    said = printed(
        "import engine.egress.requests; print('pyroute2.ndb' in sys.modules);"
        "from pyroute2 import NDB, config; import pyroute2; print(pyroute2.IPRoute.__name__, hasattr(pyroute2, 'none'))"
    )
    assert said == "False\nIPRoute False"


def printed(program: str) -> str:
    """What a new interpreter prints that runs it, with `sys` at hand."""
    command = [sys.executable, "-c", f"import sys; {program}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
