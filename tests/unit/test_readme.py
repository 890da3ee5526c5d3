"""README: what a newcomer reads and types is so."""

from __future__ import annotations

import re

import pytest

from engine.lab.lab import lab_sessions
from engine.lab.provider import LabOrder
from souppp_tui.desk.actions import ACTIONS, signs
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
MAN = (ROOT / "man" / "souppp-tui.8").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = ROOT / "souppp_tui" / "commands"
DEFINED = re.compile(r"""add_argument\(\s*"(--[a-z-]+)""")
OWN_OPTION = re.compile(r"--[a-z][a-z-]+")
OF_OTHERS = {"--interface", "--system-site-packages", "--system", "--now", "--no-block"}
"""Of curl, of Python's venv, of groupadd and of systemctl."""


def test_it_names_both_releases_and_what_a_bare_one_lacks() -> None:
    assert "On Debian 12 or 13, as root" in README
    assert "`apt-get update && apt-get install git make`" in README
    assert "`apt-get install man-db`" in README.partition("`man -l man/souppp-tui.8`")[2]


def test_the_labs_password_stands_where_it_is_looked_for() -> None:
    assert {each.password for each in lab_sessions(8)} == {LabOrder().password} == {"lab"}
    assert "takes any user name, with the password `lab`" in README
    assert re.search(r"takes any user name, with the password\n\.BR lab \.\n", MAN)


def test_the_lab_has_dialled_already_and_the_keys_are_those() -> None:
    assert all(each.autodial for each in lab_sessions(8))
    first = README.partition("## Try it")[2].partition("##")[0]
    assert "sessions are dialled already" in first
    keys = {action.name: signs(action.keys) for action in ACTIONS}
    rows = (
        "`{hang_up}` `{dial}` `{redial}` | hang up, dial, redial",
        "`{summary}` `{table}` `3` | all in groups, the table,",
    )
    rows += (
        "{details}, {back} | a session's details, and back",
        "`{filter}` | show only some",
        "`{stop_all}` | in an emergency",
    )
    rows += ("`{help}` `{commands}` `{quit}` | all keys, all commands by name, leave",)
    for row in rows:
        assert row.format_map({**keys, "back": "escape", "quit": "q"}) in first


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z-]+)\b", README))))
def test_make_has_each_target(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_every_option_exists() -> None:
    known = {option for file in COMMANDS.glob("*.py") for option in DEFINED.findall(file.read_text())}
    assert {"--lab", "--follow"} <= known
    assert set(OWN_OPTION.findall(README)) - known <= OF_OTHERS
