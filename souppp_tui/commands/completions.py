"""The shells' completions of the command line, made from its parser:

python -m souppp_tui.commands.completions bash > souppp-tui
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shlex import quote

from souppp_tui.commands.cli import parser

CARDS = "/sys/class/net"
FILES = {"FILE": "file", "DIR": "folder"}
"""What an option's value is, by its name in the help."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as a shell needs to know it."""

    names: tuple[str, ...]
    help: str
    value: str
    """The value's name in the help; empty if it takes none."""
    choices: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What its value is: `none`, `file`, `folder`, `choice` or `other`."""
        return "none" if not self.value else "choice" if self.choices else FILES.get(self.value, "other")


def options(it: argparse.ArgumentParser) -> list[Option]:
    """Those that the help names."""
    return [
        Option(
            tuple(action.option_strings),
            action.help or "",
            "" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            tuple(map(str, action.choices or ())),
        )
        for action in it._actions
        if action.option_strings and action.help != argparse.SUPPRESS
    ]


def bash(program: str, known: Sequence[Option]) -> str:
    """A function that fills COMPREPLY; `--option=value` comes as three words."""
    function = "_" + program.replace("-", "_")
    values = {
        "file": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")',
        "folder": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word")',
        "other": ":",
    }
    cases = [
        (" | ".join(option.names), values.get(option.kind) or _bash_words(quote(" ".join(option.choices))))
        for option in known
        if option.kind != "none"
    ]
    names = quote(" ".join(name for option in known for name in option.names))
    cards = f'"$(ls {CARDS})"'
    return "\n".join(
        [
            f"# Completion of {program} for bash.",
            f"{function}() {{",
            "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}",
            "    [[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD - 2]}",
            "    [[ $word != = ]] || word=",
            "    COMPREPLY=()",
            "    case $before in",
            *(f"    {pattern}) {action} ;;" for pattern, action in cases),
            "    *)",
            "        case $word in",
            f"        -*) {_bash_words(names)} ;;",
            f"        *) {_bash_words(cards)} ;;",
            "        esac",
            "        ;;",
            "    esac",
            "}",
            f"complete -F {function} {program}",
            "",
        ]
    )


def _bash_words(words: str) -> str:
    return f'mapfile -t COMPREPLY < <(compgen -W {words} -- "$word")'


def zsh(program: str, known: Sequence[Option]) -> str:
    """A call of `_arguments`."""
    values = {"file": "_files", "folder": "_files -/", "other": " "}
    specs = []
    for option in known:
        does = values.get(option.kind, f"({' '.join(option.choices)})")
        value = f":{option.value}:{does}" if option.value else ""
        text = "".join(f"\\{c}" if c in "[]:\\" else c for c in option.help)
        exclusive = f"({' '.join(option.names)})"
        equals = "=" if option.value else ""
        specs += [quote(f"{exclusive}{name}{equals}[{text}]{value}") for name in option.names]
    cards = quote(f"1:card:{{_wanted cards expl card compadd -- {CARDS}/*(N:t)}}")
    return "\n".join(
        [f"#compdef {program}", "_arguments \\", *(f"    {spec} \\" for spec in specs), f"    {cards}", ""]
    )


def fish(program: str, known: Sequence[Option]) -> str:
    """One `complete` for each option."""
    values = {"none": "", "file": " -r -F", "folder": " -x -a '(__fish_complete_directories)'", "other": " -x"}
    lines = [f"# Completion of {program} for fish.", f"complete -c {program} -f -a '(command ls {CARDS})'"]
    for option in known:
        names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
        value = values.get(option.kind, f" -x -a {_fish_quote(' '.join(option.choices))}")
        lines.append(f"complete -c {program}{names}{value} -d {_fish_quote(option.help)}")
    return "\n".join([*lines, ""])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[str, Sequence[Option]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def completion(shell: str) -> str:
    """The file that a shell reads; `shell` is one of `SHELLS`."""
    it = parser()
    return SHELLS[shell](it.prog, options(it))


if __name__ == "__main__":
    sys.stdout.write(completion(sys.argv[1]))
