"""The fuzzers' corpus, once through: seeds, and every input that was ever found to be a mistake."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
CORPUS = sorted(
    path
    for path in (FUZZ / "corpus").glob("*/*")
    if path.parent.name in ("codecs", "session", "healthy", "concentrator", "proxies")
)


def load_targets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_targets", FUZZ / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    return load_targets()


def test_there_is_a_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(load_targets().TARGETS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_replay(targets: ModuleType, path: Path) -> None:
    targets.TARGETS[path.parent.name](path.read_bytes())
