"""Set-up: what make and its scripts do on systems unlike this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout under a path with a blank, as far as set-up reads it."""
    folder = tmp_path / "some one" / "souppp-tui"
    folder.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "scripts", "requirements", "engine/datapath"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    return folder


def test_a_blank_in_the_path_makes_no_difference(checkout: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "check"], cwd=checkout, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    assert done.stdout.count("scripts/setup environment .venv") == 1
    stamps = {line.removeprefix("touch ") for line in done.stdout.splitlines() if line.startswith("touch .venv")}
    assert len(stamps) == 2
    assert all(stamp.startswith(".venv/installed-") and " " not in stamp for stamp in stamps)


def test_headers_are_files_also_where_debian_has_links(tmp_path: Path) -> None:
    """As in Debian 13, whose linux-libc-dev has relative links to one set of files a machine."""
    include, real = tmp_path / "include", tmp_path / "lib" / "linux" / "uapi"
    multiarch = run("cc", "-print-multiarch").strip() or run("dpkg-architecture", "-qDEB_HOST_MULTIARCH").strip()
    for folder in ("linux", "asm-generic", f"{multiarch}/asm"):
        (include / folder).mkdir(parents=True)
        (real / folder).mkdir(parents=True)
        (real / folder / "types.h").write_text(f"/* {folder} */\n")
        (include / folder / "types.h").symlink_to(os.path.relpath(real / folder / "types.h", include / folder))
    run(ROOT / "scripts" / "bcc-headers", tmp_path / "a b", include)
    tree = tmp_path / "a b" / "include"
    assert (tree / "asm" / "types.h").read_text() == f"/* {multiarch}/asm */\n"
    assert not [path for path in tree.rglob("*") if path.is_symlink()]


STAND_INS = {
    "apt-get": 'echo "$*" >>calls',
    "apt-cache": '[ "$2" != user-mode-linux ]',
    "dpkg-query": "sed -n 's/^install .*-recommends //p' calls | tr ' ' '\\n' | sed 's/.*/install ok installed=& /'",
    "id": "echo 0",
}
"""A Debian that has no user-mode-linux, as on arm64, and nothing installed yet."""


def test_what_a_debian_lacks_is_looked_for_once(checkout: Path, tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, script in STAND_INS.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / name).chmod(0o755)
    calls = checkout / "calls"
    calls.touch()

    def install() -> str:
        command = [checkout / "scripts" / "setup", "test-packages"]
        path = f"{bin_folder}:{os.environ['PATH']}"
        done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    assert "are skipped: user-mode-linux" in install()
    before = calls.read_text()
    assert before.startswith("update\ninstall ")
    assert install() == ""
    assert calls.read_text() == before


def test_no_package_is_of_one_release() -> None:
    """As libclang-rt-14-dev is, which Debian 13 doesn't have, where libclang-rt-dev is in both."""
    script = (ROOT / "scripts" / "setup").read_text()
    names = " ".join(re.findall(r"^(?:program|tests)='(.*)'$", script, re.MULTILINE)).split()
    assert {"python3-bpfcc", "libclang-rt-dev"} <= set(names)
    assert [name for name in names if re.search(r"[a-z]-?[0-9]{2,}|-[0-9]", name)] == []
