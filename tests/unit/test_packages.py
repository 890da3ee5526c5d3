"""What is installed: Python packages are pinned with hashes, for all that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
ASKED = {
    "run": [*PROJECT["project"]["dependencies"], *GROUPS["build"]],
    **{name: packages for name, packages in GROUPS.items() if name != "build"},
}
"""What each file of requirements/ must hold at least."""


def pins(name: str) -> dict[str, tuple[str, str]]:
    """Version and hashes of each package that a file pins."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.sub(r"#.*\n", "", text).replace("\\\n", " ").splitlines()
    found = [
        re.fullmatch(r"([a-z0-9-]+)==([^ ]+)(?: ; [^-]*?)?((?: +--hash=sha256:[0-9a-f]{64})+)", e) for e in entries
    ]
    assert all(found), [entry for entry, it in zip(entries, found, strict=True) if it is None]
    return {it[1]: (it[2], it[3]) for it in found if it}


@pytest.mark.parametrize("name", ASKED)
def test_all_that_is_asked_for_is_pinned(name: str) -> None:
    """After a change in pyproject.toml: make lock."""
    pinned = pins(name)
    for requirement in map(Requirement, ASKED[name]):
        version, _ = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version} is pinned"


def test_a_package_has_one_version() -> None:
    """Files are installed on top of each other."""
    run = pins("run")
    for name in ASKED:
        assert {package: pin for package, pin in pins(name).items() if package in run and pin != run[package]} == {}


def test_every_file_of_requirements_is_asked_for() -> None:
    assert {path.name for path in (ROOT / "requirements").iterdir()} == {f"{name}.txt" for name in ASKED}


@pytest.mark.parametrize("name", ASKED)
def test_no_registry_is_named(name: str) -> None:
    assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text()


def test_bcc_is_no_dependency() -> None:
    """PyPI's bcc is an unrelated package; the right one is Debian's python3-bpfcc."""
    assert not [name for name in ASKED if "bcc" in pins(name)]
