"""The completions of bash, zsh and fish, by the shells themselves, of all that the parser knows."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from souppp_tui.commands.cli import parser, parsers
from souppp_tui.commands.completions import CARDS, SESSIONS, completion, specs
from tests.conftest import run
from tests.program import PATIENCE

OPTIONS = {name for action in parser()._actions for name in action.option_strings}
BASH = """
compopt() { :; }  # it works only while a key is being heeded
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_souppp_tui
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
fpath=({folder} $fpath)
autoload -U compinit; compinit -u -D
PS1='ready> '
"""


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


def in_bash(folder: Path, *words: str) -> set[str]:
    (folder / "souppp-tui").write_text(completion("bash"))
    return set(run("bash", "-c", BASH, "bash", folder / "souppp-tui", "souppp-tui", *words).split())


def in_fish(folder: Path, *words: str) -> set[str]:
    (folder / "souppp-tui.fish").write_text(completion("fish"))
    line = " ".join(("souppp-tui", *words))
    said = run("fish", "--no-config", "-c", f"source {folder}/souppp-tui.fish; complete -C '{line}'")
    return {shown.split("\t")[0] for shown in said.splitlines()}


ASKED = [pytest.param(in_bash, id="bash", marks=needs("bash")), pytest.param(in_fish, id="fish", marks=needs("fish"))]


@pytest.mark.parametrize("complete", ASKED)
def test_every_option_is_offered(tmp_path: Path, complete: Callable[..., set[str]]) -> None:
    assert complete(tmp_path, "--") == {name for name in OPTIONS if name.startswith("--")}
    assert complete(tmp_path, "-") >= {name for name in OPTIONS if len(name) == 2}


@pytest.mark.parametrize("complete", ASKED)
def test_values_are_offered(tmp_path: Path, complete: Callable[..., set[str]]) -> None:
    (tmp_path / "line.pcapng").touch()
    (tmp_path / "notes").mkdir()
    assert complete(tmp_path, "--theme", "") >= {"dark", "light"}
    assert complete(tmp_path, "--xdp", "ze") == {"zero-copy"}
    assert complete(tmp_path, "--capture", f"{tmp_path}/li") == {f"{tmp_path}/line.pcapng"}
    assert {path.rstrip("/") for path in complete(tmp_path, "--state-dir", f"{tmp_path}/")} == {f"{tmp_path}/notes"}
    assert complete(tmp_path, "--lab", "l") >= {name for name in os.listdir(CARDS) if name.startswith("l")}


@pytest.mark.parametrize("complete", ASKED)
def test_each_command_has_its_own(tmp_path: Path, complete: Callable[..., set[str]]) -> None:
    assert complete(tmp_path, "at") >= {"attach"}
    assert complete(tmp_path, "serve", "--so") >= {"--socket"}
    assert "--theme" not in complete(tmp_path, "serve", "--")
    assert complete(tmp_path, "ctl", "han") >= {"hangup"}
    assert complete(tmp_path, "ctl", "events", "--fo") >= {"--follow"}
    assert complete(tmp_path, "attach", "la") == {"lab"}
    assert complete(tmp_path, "attach", "eth0", "la") == {"lab"}, "more than one engine"


def test_bash_takes_a_value_behind_an_equals_sign(tmp_path: Path) -> None:
    assert in_bash(tmp_path, "--xdp", "=", "ze") == {"zero-copy"}
    assert in_bash(tmp_path, "--xdp", "=") == {"auto", "zero-copy", "copy", "generic"}


@needs("zsh")
def test_zsh_completes_what_is_typed(tmp_path: Path) -> None:
    (tmp_path / "_souppp-tui").write_text(completion("zsh"))
    (tmp_path / ".zshrc").write_text(ZSH.format(folder=tmp_path))
    ours, its = pty.openpty()
    environment = {**os.environ, "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    shell = subprocess.Popen(["zsh", "-i"], stdin=its, stdout=its, stderr=its, start_new_session=True, env=environment)

    def shows(wanted: bytes) -> None:
        shown, end = b"", time.monotonic() + PATIENCE
        while wanted not in shown:
            assert select.select([ours], [], [], max(end - time.monotonic(), 0))[0], shown
            shown += os.read(ours, 4096)

    kill_line = b"\x15"
    try:
        shows(b"ready> ")
        for typed, completed in [
            (b"--fi", b"souppp-tui --fix-card "),
            (b"--xdp ze", b"souppp-tui --xdp zero-copy "),
            (b"--theme=li", b"souppp-tui --theme=light "),
            (b"l", b"souppp-tui lo "),
            (b"serve --fi", b"souppp-tui serve --fix-card "),
            (b"ctl han", b"souppp-tui ctl hangup "),
            (b"--config " + os.fsencode(tmp_path) + b"/_so", b"/_souppp-tui "),
        ]:
            os.write(ours, kill_line + b"souppp-tui " + typed + b"\t")
            shows(completed)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
        os.close(its)


def test_the_name_of_a_card_or_of_a_session_is_offered_as_the_command_takes_it() -> None:
    takes = {spec.name: spec.asked for spec in specs()}
    for name, it in parsers().items():
        words = {action.metavar or action.dest for action in it._actions if not action.option_strings}
        assert (takes[name] == SESSIONS) == bool(words & {"SESSION", "COMMAND"}), name
