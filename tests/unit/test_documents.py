"""All documents: the commands that they print are understood, the files and pages that they name are there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api.hello import LIMIT_TO_CLIENT, LIMIT_TO_ENGINE
from engine.record import history, pcapng
from engine.run import connection, server
from engine.settings import limits
from engine.settings.reading import load
from engine.supervisor import hooks
from souppp_tui.commands.cli import COMMANDS, parsers
from souppp_tui.commands.ctl import ACTIONS
from tests.conftest import ROOT

PAGES = [path for kind in ("*.md", "docs/**/*.md") for path in sorted(ROOT.glob(kind))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
MAN = re.sub(r"\\f.|\\(?=-)", "", (ROOT / "man" / "souppp-tui.8").read_text(encoding="ascii"))
HISTORY = "CHANGELOG.md"
"""It tells of what was, and of what somebody might mistype."""
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:^|[ $(\"/])souppp-tui (.+)")
TOPS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build"}
"""What is made isn't there before."""
SUFFIXES = (".py", ".c", ".h", ".go", ".yaml", ".json", ".md", ".service")
OF_OTHERS = {"hosts"}
"""Of nsswitch.conf."""
GIVEN = re.compile(r"sessions\.yaml|CARD\.yaml|console\.yaml|eth0\.yaml|compat_\w+\.go")
"""Files of the operator's, and those of which another stands for Debian's release."""
TREE = {path for top in sorted(TOPS - {".venv", ".git"}) for path in (ROOT / top).rglob("*") if path.is_file()}
NAMES = {path.name for path in TREE} | {path.name for path in ROOT.iterdir()}


def spoken(text: str) -> Iterator[str]:
    """Lines of code of a page: of its blocks, and within its sentences."""
    for block in FENCED.findall(text):
        yield from block.splitlines()
    yield from INLINE.findall(FENCED.sub("", text))


def commands() -> Iterator[str]:
    """Our command lines, without the program's name and what a shell makes of the rest."""
    lines = [line for name, text in TEXTS.items() if name != HISTORY for line in spoken(text)]
    lines += [line for line in MAN.splitlines() if re.match(r"souppp-tui (?!- )", line)]
    for line in lines:
        for found in OURS.findall(line):
            yield re.split(r"\)\"|  #| &&| \|", found)[0].strip()


def understood(words: list[str]) -> bool:
    """Whether the program takes this command line; what stands for anything is anything."""
    words = ["1" if re.fullmatch(r"[NS]", word) else word for word in words if word not in ("…", "...")]
    name = words[0] if words and words[0] in COMMANDS else ""
    try:
        parsers()[name].parse_args(words[1:] if name else words)
    except SystemExit as end:
        return end.code == 0
    return True


def test_the_search_finds_commands_and_tells_good_from_bad() -> None:
    found = set(commands())
    assert {"ctl list state:failed", "exec home-01 -- curl https://example.com/", "attach ops@gate:eth0"} <= found
    assert not understood(["ctl", "lst"])
    assert not understood(["eth0", "--confg", "x"])
    assert understood(["ctl", "list", "state:failed"])


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_line_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)
    if words[0] in COMMANDS and len(words) == 1:
        return  # named, not to be run
    assert understood(words), capsys.readouterr().err


@pytest.mark.parametrize("page", TEXTS)
def test_every_target_of_make_is_there(page: str) -> None:
    targets = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {word for line in targets for word in line.split()}
    named = {word for line in spoken(TEXTS[page]) for word in re.findall(r"(?:^|, )make ([a-z][a-z-]+)", line)}
    assert named - known == set()


def anchors(text: str) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", TEXTS[page])):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", [name for name in TEXTS if name != HISTORY])
def test_every_file_that_is_named_is_there(page: str) -> None:
    missing = []
    for word in INLINE.findall(FENCED.sub("", TEXTS[page])):
        if not re.fullmatch(r"[\w./-]+", word) or GIVEN.search(word):
            continue
        top, _, rest = word.partition("/")
        if rest and top in TOPS and not word.startswith("/"):
            there = (ROOT / word).exists() or Path(word).suffix == ""
        else:
            there = not word.endswith(SUFFIXES) or "/" in word or word in NAMES
        if not there:
            missing.append(word)
    assert missing == []


SETTINGS = json.loads((ROOT / "docs" / "config.schema.json").read_text())


def keys(schema: object) -> set[str]:
    """All names of settings, wherever they stand."""
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    return {*schema.get("properties", {})}.union(*map(keys, schema.values()))


BLOCKS = [
    (page, block)
    for page, text in TEXTS.items()
    for block in FENCED.findall(text)
    if re.match(r"[a-z_]+:( |$)", block, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda value: value.split()[0])
def test_every_piece_of_a_configuration_is_one(page: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / "piece.yaml"
    secret = tmp_path / "secret"
    secret.write_text("lab\n")
    whole = block if "sessions:\n" in block else f"sessions: []\n{block}"
    file.write_text(re.sub("/etc/souppp/(up|down)", "/bin/true", whole.replace("/etc/souppp/app", str(secret))))
    file.chmod(0o600)
    load(file)


@pytest.mark.parametrize("page", [name for name in TEXTS if name not in (HISTORY, "docs/PERFORMANCE.md")])
def test_every_setting_that_is_named_exists(page: str) -> None:
    known = keys(SETTINGS)
    assert {"netns", "first_port", "confirm_above"} <= known
    named = {found[1] for word in INLINE.findall(TEXTS[page]) if (found := re.match(r"([a-z][a-z_]+):(?: |$)", word))}
    assert named - known <= OF_OTHERS


@pytest.mark.parametrize("page", [name for name in TEXTS if name != HISTORY])
def test_every_word_for_ctl_is_one(page: str) -> None:
    for line in spoken(TEXTS[page]):
        for words in re.findall(r"\bctl((?: --(?:json|on \S+|socket \S+))* [a-z][a-z-]*)", line):
            assert words.split()[-1] in ACTIONS, line


NUMBERS = {
    "docs/PROTOCOL.md": (
        f"To the engine it may have {LIMIT_TO_ENGINE >> 20} MiB, from it {LIMIT_TO_CLIENT >> 20} MiB.",
        f"{server.MAX_CLIENTS} clients may be connected, {server.FOR_OWNERS} of them root or the engine's user.",
        f"Who leaves {connection.BEHIND} messages untaken",
        f"at most {server.LONGEST_PERIOD:,.0f})",
        f"(its details come along for {server.WATCHED:.0f} s;",
        f"without a word in {server.SILENCE:.0f} s",
    ),
    "docs/console.md": (
        f"cut off (after {server.SILENCE:.0f} s without a word)",
        f"a filter may come to {limits.MAX_FILTERS} of them",
    ),
    "README.md": (
        f"to a pcapng file of at most {pcapng.DEFAULT_LIMIT >> 20} MB",
        f"the first {hooks.TOLD} characters",
        f"The last {history.SPANS} of a session",
        f"Ports are from {limits.MIN_PORT} on.",
    ),
}


@pytest.mark.parametrize(
    ("page", "sentence"), [(page, each) for page, all_of_it in NUMBERS.items() for each in all_of_it]
)
def test_numbers_are_those_of_the_program(page: str, sentence: str) -> None:
    assert " ".join(sentence.split()) in " ".join(TEXTS[page].split())
