"""The shells' completions of the command line, made from its parsers:

python -m souppp_tui.commands.completions bash > souppp-tui
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from shlex import quote

from msgspec import Struct

from souppp_tui.commands.cli import COMMANDS, parsers

PROGRAM = "souppp-tui"
CARDS = "/sys/class/net"
SESSIONS = f"{PROGRAM} ctl list 2>/dev/null | tail -n +2 | cut -d' ' -f1"
"""A shell's command line: the names of the sessions of the engine that runs, if one does."""
OF_A_SESSION = ("exec", "proxychain")
FILES = {"FILE": "file", "DIR": "folder"}
"""What an option's value is, by its name in the help."""


class Option(Struct, frozen=True):
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


class Spec(Struct, frozen=True):
    """What may follow one of the program's commands; that without a name is the console on a card."""

    name: str
    options: tuple[Option, ...]
    words: tuple[str, ...]
    """Words that are no options."""
    asked: str
    """A shell's command line that prints others."""


def specs() -> list[Spec]:
    """All commands, the nameless one first."""
    words = {"": (*COMMANDS,), "attach": ("lab",), "exporter": ("lab",), "relay": ("lab",)}
    made = []
    for name, it in parsers().items():
        subcommands = next((a for a in it._actions if isinstance(a, argparse._SubParsersAction)), None)
        known = {option.names: option for parser in (it, *_inner(subcommands)) for option in options(parser)}
        if subcommands is None:
            asked = SESSIONS if name in OF_A_SESSION else f"ls {CARDS}"
            made.append(Spec(name, tuple(known.values()), words.get(name, ()), asked))
        else:
            made.append(Spec(name, tuple(known.values()), tuple(subcommands.choices), SESSIONS))
    return made


def _inner(
    subcommands: argparse._SubParsersAction[argparse.ArgumentParser] | None,
) -> Iterator[argparse.ArgumentParser]:
    yield from subcommands.choices.values() if subcommands is not None else ()


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


def bash(known: Sequence[Spec]) -> str:
    """Functions that fill COMPREPLY, one a command; `--option=value` comes as three words."""
    function = "_" + PROGRAM.replace("-", "_")
    named = [spec.name for spec in known if spec.name]
    return "\n".join(
        [
            f"# Completion of {PROGRAM} for bash.",
            f"{function}() {{",
            '    local command=""',
            "    if ((COMP_CWORD > 1)); then",
            '        case "${COMP_WORDS[1]}" in',
            f"        {' | '.join(named)}) command=_${{COMP_WORDS[1]}} ;;",
            "        esac",
            "    fi",
            f'    "{function}_of$command"',
            "}",
            *(line for spec in known for line in _bash_function(f"{function}_of", spec)),
            f"complete -F {function} {PROGRAM}",
            "",
        ]
    )


def _bash_function(function: str, spec: Spec) -> list[str]:
    values = {
        "file": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")',
        "folder": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word")',
        "other": ":",
    }
    cases = [
        (" | ".join(option.names), values.get(option.kind) or _bash_words(quote(" ".join(option.choices))))
        for option in spec.options
        if option.kind != "none"
    ]
    names = quote(" ".join(name for option in spec.options for name in option.names))
    words = f'"$(echo {" ".join(spec.words)}; {spec.asked})"' if spec.words else f'"$({spec.asked})"'
    return [
        f"{function}{f'_{spec.name}' if spec.name else ''}() {{",
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}",
        "    [[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD - 2]}",
        "    [[ $word != = ]] || word=",
        "    COMPREPLY=()",
        "    case $before in",
        *(f"    {pattern}) {action} ;;" for pattern, action in cases),
        "    *)",
        "        case $word in",
        f"        -*) {_bash_words(names)} ;;",
        f"        *) {_bash_words(words)} ;;",
        "        esac",
        "        ;;",
        "    esac",
        "}",
    ]


def _bash_words(words: str) -> str:
    return f'mapfile -t COMPREPLY < <(compgen -W {words} -- "$word")'


def zsh(known: Sequence[Spec]) -> str:
    """A call of `_arguments` for each command."""
    lines = [f"#compdef {PROGRAM}", "local command=", "if (( CURRENT > 2 )); then", '    case "$words[2]" in']
    named = "|".join(spec.name for spec in known if spec.name)
    lines += [
        f"    {named}) command=$words[2]; shift words; (( CURRENT-- )) ;;",
        "    esac",
        "fi",
        'case "$command" in',
    ]
    for spec in known:
        lines += [f"{quote(spec.name)})", "    _arguments \\", *(f"        {line} \\" for line in _zsh_options(spec))]
        words = " ".join([*spec.words, f'${{(f)"$({spec.asked})"}}'])
        lines += [f"        {quote(f'*:word:{{_wanted words expl word compadd -- {words}}}')}", "    ;;"]
    return "\n".join([*lines, "esac", ""])


def _zsh_options(spec: Spec) -> Iterator[str]:
    values = {"file": "_files", "folder": "_files -/", "other": " "}
    for option in spec.options:
        does = values.get(option.kind, f"({' '.join(option.choices)})")
        value = f":{option.value}:{does}" if option.value else ""
        text = "".join(f"\\{c}" if c in "[]:\\" else c for c in option.help)
        exclusive = f"({' '.join(option.names)})"
        equals = "=" if option.value else ""
        yield from (quote(f"{exclusive}{name}{equals}[{text}]{value}") for name in option.names)


def fish(known: Sequence[Spec]) -> str:
    """One `complete` for each option and for the words of each command."""
    values = {"none": "", "file": " -r -F", "folder": " -x -a '(__fish_complete_directories)'", "other": " -x"}
    named = " ".join(spec.name for spec in known if spec.name)
    lines = [f"# Completion of {PROGRAM} for fish."]
    for spec in known:
        seen = f"__fish_seen_subcommand_from {spec.name}" if spec.name else f"not __fish_seen_subcommand_from {named}"
        when = f"complete -c {PROGRAM} -n {_fish_quote(seen)}"
        asked = f"(command {spec.asked})" if spec.asked.startswith("ls ") else f"({spec.asked})"
        lines.append(f"{when} -f -a {_fish_quote(' '.join([*spec.words, asked]))}")
        for option in spec.options:
            names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
            value = values.get(option.kind, f" -x -a {_fish_quote(' '.join(option.choices))}")
            lines.append(f"{when}{names}{value} -d {_fish_quote(option.help)}")
    return "\n".join([*lines, ""])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[Spec]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def completion(shell: str) -> str:
    """The file that a shell reads; `shell` is one of `SHELLS`."""
    return SHELLS[shell](specs())


if __name__ == "__main__":
    sys.stdout.write(completion(sys.argv[1]))
