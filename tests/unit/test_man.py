"""The man page: complete, and without a mistake that its formatter would find."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from engine.settings.console import COLUMNS
from souppp_tui.commands.cli import COMMANDS, parser, parsers
from souppp_tui.desk.actions import ACTIONS, Action, signs
from souppp_tui.show.words import LIVES
from tests.conftest import ROOT

PAGE = ROOT / "man" / "souppp-tui.8"
OF_CTL = {"--all", "--to", "--stop", "--follow", "--password-file", "--timeout", "--down"}
"""Options of ctl's own commands."""
GLYPHS = {"\\-": "-", "\\e": "\\", "\\(ga": "`"}


def plain() -> str:
    """The page's source with its characters as they are read."""
    text = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), PAGE.read_text(encoding="ascii"))
    return re.sub(r"\\-|\\e|\\\(ga", lambda found: GLYPHS[found[0]], text)


def test_every_option_is_named() -> None:
    known = {name: set(re.findall(r"--?[a-z][a-z-]*", it.format_help())) for name, it in parsers().items()}
    options = {option for action in parser()._actions for option in action.option_strings}
    assert "--lab" in options
    named = set(re.findall(r"--?[a-z][a-z-]*", plain()))
    assert options <= named
    told = set().union(*known.values())
    assert {option for option in named if option.startswith("--")} - told <= {"--interface", "--show-rxfh"} | OF_CTL
    assert told <= named
    assert all(re.search(rf"^\.B souppp-tui {name}$", plain(), re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_every_action_is_named_with_its_keys(action: Action) -> None:
    (line,) = re.findall(rf"^\.B?RI? .*\( ?{action.name} ?\).*$", plain(), re.MULTILINE)
    assert signs(action.keys) in line


@pytest.mark.parametrize("word", LIVES)
def test_every_sign_is_explained_with_its_word(word: str) -> None:
    """One was another sign than that on the screen, two were missing."""
    states = plain().partition(".SH STATES")[2].partition(".SH ")[0]
    assert f".B {LIVES[word][0]} {word}\n" in states
    table = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    assert f"| `{LIVES[word][0]}` {word} |" in table


def test_every_column_is_named() -> None:
    assert f"The columns are {', '.join(COLUMNS)}." in plain()


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_formatter_finds_nothing_wrong() -> None:
    plain_text = ["-Tutf8", "-P-cbou"]
    done = subprocess.run(["groff", "-ww", "-mandoc", *plain_text, PAGE], capture_output=True, check=True, timeout=30)
    assert done.stderr == b""
    assert b"SOUPPP-TUI(8)" in done.stdout


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_finds_nothing_wrong() -> None:
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", PAGE], capture_output=True, check=False, timeout=30)
    assert done.stdout == b""
