"""Reads a configuration: YAML text in, `engine.settings.values.Settings` out.

What may stand in it is in the tables of `engine.settings.fields`. The nodes of `yaml.compose` are
read rather than loaded values, because a node knows its line and column: every mistake is reported at its place, and
all of them at once. Anchors, aliases and merge keys are refused; `defaults` does their work.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from msgspec.structs import replace
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.host.programs import objection
from engine.settings.fields import DEFAULTS, EXCEPTION, SESSION, TOP, UNIQUE, make_session, value_of, values_of
from engine.settings.kinds import Keys, read_mapping
from engine.settings.limits import MAX_DEPTH, MAX_FILE, MAX_PASSWORD, MAX_SESSIONS
from engine.settings.nodes import Problem, nodes_of, quote
from engine.settings.notyaml import explain
from engine.settings.own_kinds import split_endpoint
from engine.settings.values import HOOK_EVENTS, DialSettings, ProxySettings, ProxyUser, SessionSettings, Settings

TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

LEAST = "sessions: [{name: home-01, user: alice, password: wonderland, autodial: true}]"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(Exception):
    """A configuration that can't be used. `errors` holds a line for each mistake: `file:line:column: what is wrong`."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def load(path: Path) -> Settings:
    """Read and check a configuration file; raises ConfigError with every mistake in it."""
    try:
        with opened(path) as file:
            octets = file.read(MAX_FILE + 1)
            open_to = _open_to(os.fstat(file.fileno()))
    except OSError as error:
        raise ConfigError(f"{path}: {_strerror(error)}.") from None
    if len(octets) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE >> 20} MiB.")
    try:
        settings = parse(octets.decode("utf-8-sig"), str(path), path.parent)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start)
        column = error.start - (octets.rfind(b"\n", 0, error.start) + 1)
        raise ConfigError(f"{path}:{line + 1}:{column + 1}: not UTF-8; save the file as UTF-8") from None
    if open_to and b"password" in octets and any(each.password for each in settings.sessions):
        remark = f"{path}: {open_to} can read it, and the passwords in it: `chmod 600 {path}`"
        return replace(settings, remarks=(*settings.remarks, remark))
    return settings


def opened(path: Path) -> BinaryIO:
    """A configuration file, to read; raises OSError. A FIFO that nobody writes to is empty: it would be waited for."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        return descriptor

    return open(path, "rb", opener=opener)


def _open_to(status: os.stat_result) -> str:
    """Who besides its owner may read a file, in words; empty if nobody."""
    if status.st_mode & stat.S_IROTH:
        return "everybody"
    return "its group" if status.st_mode & stat.S_IRGRP else ""


def parse(text: str, source: str, base: Path) -> Settings:
    """Check a configuration's text; raises ConfigError with every mistake in it.

    `source` names the text in errors; `base` is the folder that `password_file` and `event_file` are relative to.
    """
    root = compose(text, source)
    problems: list[Problem] = []
    try:
        settings = _read_settings(root, base, problems)
    except Problem as problem:
        problems.append(problem)
    lines = text.split("\n")
    remarks = [Problem(node, _CUT) for node in _passwords(root, problems) if _ends_before_comment(lines, node)]
    if problems:
        raise _config_error(source, problems)
    return replace(settings, remarks=_places(source, remarks))


_CUT = "the password ends here, for `#` behind a blank begins a comment: put it in quotes if it goes on"


def _passwords(root: Node, problems: list[Problem]) -> Iterator[ScalarNode]:
    """The passwords as they are written; one that begins a block of no lines was meant otherwise, and is noted."""
    top = nodes_of(root)
    entries = top.get("sessions")
    for entry in [*(entries.value if isinstance(entries, SequenceNode) else ()), top.get("defaults")]:
        node = nodes_of(entry).get("password") if isinstance(entry, MappingNode) else None
        if isinstance(node, ScalarNode) and node.style in ("|", ">") and not node.value:
            problems.append(
                Problem(
                    node, f"password: {node.style} begins a block of lines, and none follow: put the password in quotes"
                )
            )
        elif isinstance(node, ScalarNode):
            yield node


def _ends_before_comment(lines: list[str], node: ScalarNode) -> bool:
    """Whether it stands without quotes, and the rest of its line is a comment to YAML."""
    end = node.end_mark
    return not node.style and lines[end.line][end.column :].lstrip(" \t").startswith("#")


def _config_error(source: str, problems: list[Problem]) -> ConfigError:
    return ConfigError(*_places(source, problems))


def _places(source: str, problems: Iterable[Problem]) -> tuple[str, ...]:
    lines = sorted({(*problem.place, problem.text) for problem in problems})
    return tuple(f"{source}:{line}:{column}: {text}" for line, column, text in lines)


def compose(text: str, source: str) -> Node:
    """The root node of YAML text that is one document without anchors; raises ConfigError."""
    if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line, column = (text.count("\n", 0, bad.start()) + 1, bad.start() - text.rfind("\n", 0, bad.start()))
        raise ConfigError(f"{source}:{line}:{column}: not YAML: character U+{ord(bad[0]):04X} is not allowed in it")
    try:
        _check_shape(text)
        root: Node | None = yaml.compose(text, Loader=LOADER)
    except Problem as problem:
        raise _config_error(source, [problem]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        # libyaml 0.2.6 reads ahead of its events, and itself refuses what is much too deep.
        if "nesting depth" in (error.problem or ""):
            raise ConfigError(f"{source}:{place}: {TOO_DEEP}") from None
        raise ConfigError(f"{source}:{place}: not YAML: {explain(error, text)}") from None
    if root is None:
        raise ConfigError(f"{source}:1:1: the file is empty; the least is   {LEAST}")
    return root


def _check_shape(text: str) -> None:
    """Raise a Problem for what must not even be composed: deep nesting, anchors, a second document."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=LOADER):
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Problem(event, TOO_DEEP)
        if documents > 1:
            raise Problem(event, "a second document starts here; a configuration is one")
        if getattr(event, "anchor", None):
            raise Problem(event, "anchors (&, *) are not supported: use `defaults`, or quote the text that starts so")


def _read_settings(root: Node, base: Path, problems: list[Problem]) -> Settings:
    given = read_mapping(root, TOP, problems, "sessions")
    entries: Node | None = given.pop("sessions", None)
    defaults = given.pop("defaults", None)
    dial = given.get("dial", DialSettings())
    if dial.retry_max < dial.retry_min:
        problems.append(Problem(nodes_of(root)["dial"], "dial: retry_max must not be less than retry_min"))
    if "console" in given and given["console"].event_file is not None:
        given["console"] = replace(given["console"], event_file=base / given["console"].event_file)
    values = {} if defaults is None else read_values(defaults, DEFAULTS, base, problems)
    sessions = () if entries is None else _read_sessions(entries, values, base, problems)
    if (marks := given.get("marks")) is not None:
        for session in sessions:
            if session.mark is not None and session.mark in marks:
                text = f"marks: {marks} are given out, and {quote(session.name)} has one of these as its own `mark`"
                problems.append(Problem(nodes_of(root)["marks"], text))
    if "proxy" in given:
        given["proxy"] = _read_proxy(given["proxy"], nodes_of(root)["proxy"], base, problems)
    _check_proxies(given.get("proxy", ProxySettings()), sessions, root, problems)
    return Settings(sessions=sessions, **given)


def _read_proxy(proxy: ProxySettings, node: Node, base: Path, problems: list[Problem]) -> ProxySettings:
    """The same with its users' passwords."""
    users: list[ProxyUser] = []
    for user in proxy.users:
        try:
            if any(user.name == other.name for other in users):
                raise ValueError(f"{quote(user.name)} is there twice")
            password = _read_password(base / user.password_file)
            if not password:
                raise ValueError(f"{base / user.password_file} is empty")
            users.append(replace(user, password=password))
        except OSError as error:
            problems.append(Problem(nodes_of(node)["users"], f"proxy: users: {error.filename}: {_strerror(error)}"))
        except ValueError as error:
            problems.append(Problem(nodes_of(node)["users"], f"proxy: users: {error}"))
    return replace(proxy, users=tuple(users))


def _check_proxies(
    proxy: ProxySettings, sessions: tuple[SessionSettings, ...], root: Node, problems: list[Problem]
) -> None:
    """Note what is open beyond this host to everybody."""
    nodes = nodes_of(root)
    named = nodes_of(nodes["proxy"]).get("users") if "proxy" in nodes else None
    if named is None and (address := exposed(proxy, sessions)):
        problems.append(Problem(nodes.get("proxy", root), f"proxy: {address} is not loopback: that needs `users`"))


def exposed(proxy: ProxySettings, sessions: Iterable[SessionSettings]) -> str:
    """Where proxies listen that others than this host can reach, as text; empty for nowhere."""
    listening = [each.proxy for each in sessions if each.proxy is not None]
    if proxy.pool is not None:
        listening.append(proxy.pool.listen)
    addresses = [str(split_endpoint(each)[0]) for each in listening]
    if proxy.sessions is not None:
        addresses.append(proxy.sessions.listen)
    return next((each for each in addresses if not ip_address(each).is_loopback), "")


def _read_sessions(
    entries: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> tuple[SessionSettings, ...]:
    if not isinstance(entries, SequenceNode):
        raise Problem(entries, f"sessions: must be a list, as in   {LEAST}")
    sessions: list[SessionSettings] = []
    taken: dict[tuple[str, str], Node] = {}
    for entry in entries.value:
        before = len(problems)
        try:
            own: set[tuple[str, Any]] = set()
            for session in read_entry(entry, defaults, base, problems):
                for key in UNIQUE:
                    value = value_of(session, SESSION[key].field)
                    _take(key, value, entry, taken)
                    if value is not None and (key, value) in own:
                        raise Problem(entry, f"{key}: {quote(str(value))} would be there twice")
                    own.add((key, value))
                sessions.append(session)
                if len(sessions) > MAX_SESSIONS:
                    raise Problem(entry, f"there are more than {MAX_SESSIONS} sessions")
            if len(problems) > before:
                _take_unread(entry, taken)
        except Problem as problem:
            problems.append(problem)
    return tuple(sessions)


def _take_unread(entry: Node, taken: dict[tuple[str, str], Node]) -> None:
    """The same for an entry with mistakes, so that a name taken twice is told together with them."""
    for key, node in nodes_of(entry).items():
        if key in UNIQUE and isinstance(node, ScalarNode) and node.value and not _NUMBER.search(node.value):
            _take(key, node.value, entry, taken)


def _take(key: str, value: Any, entry: Node, taken: dict[tuple[str, str], Node]) -> None:
    """Raise a Problem if another entry has taken this name."""
    if value is not None:
        node = nodes_of(entry).get(key, entry)
        if (first := taken.setdefault((key, value), node)) is not node:
            raise Problem(node, f"{key}: {quote(str(value))} is already taken, on line {Problem(first, '').place[0]}")


def read_entry(
    entry: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> Iterator[SessionSettings]:
    """The sessions that one item of `sessions` makes: one, or `count` of them less its exceptions."""
    nodes = nodes_of(entry)
    if "except" in nodes:
        yield from _read_excepted(entry, defaults, base, problems)
        return
    for _, session in numbered_sessions(entry, defaults, base, problems):
        yield session


def _read_excepted(
    entry: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> Iterator[SessionSettings]:
    before = len(problems)
    exceptions = read_exceptions(entry, base, problems)
    if len(problems) > before:
        return
    for n, session in numbered_sessions(entry, defaults, base, problems):
        own = exceptions.get(n, {})
        if own is not None:
            yield make_session({**values_of(session), **own}) if own else session


def read_exceptions(entry: Node, base: Path, problems: list[Problem]) -> dict[int, dict[str, Any] | None]:
    """What is different for some sessions of an entry, by number: their own values, or None for one that is not there.

    Raises a Problem.
    """
    nodes = nodes_of(entry)
    node = nodes["except"]
    if not isinstance(node, MappingNode) or "count" not in nodes:
        raise Problem(node, "except: must be a mapping from numbers, of an entry with `count`: {3: no, 7: {mru: 1400}}")
    most = SESSION["count"].kind.read(nodes["count"], problems)
    found: dict[int, dict[str, Any] | None] = {}
    for key, value in node.value:
        if not str(key.value).isdecimal() or not 1 <= (n := int(key.value)) <= most or n in found:
            raise Problem(key, f"except: must be a number from 1 to {most}, and each but once")
        if isinstance(value, ScalarNode) and str(value.value).lower() in ("no", "false", "off"):
            found[n] = None
            continue
        inner: list[Problem] = []
        found[n] = read_values(value, EXCEPTION, base, inner)
        problems += [problem.within(f"except: {n}") for problem in inner]
    return found


def numbered_sessions(
    entry: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> Iterator[tuple[int, SessionSettings]]:
    """The sessions that one item of `sessions` makes with their numbers, as if it had no exceptions."""
    nodes = nodes_of(entry)
    before = len(problems)
    own = read_values(_numbered(entry, 1) if "count" in nodes else entry, SESSION, base, problems, "name")
    if len(problems) > before:
        return
    count = own.pop("count", 1)
    own.pop("except", None)
    yield 1, make_session({**defaults, **own})
    for key in UNIQUE:
        if count > 1 and key in nodes and not _NUMBER.search(nodes[key].value):
            remedy = "each session needs its own: use `marks`" if key == "mark" else _BY_NUMBER
            raise Problem(nodes[key], f"{key}: {remedy}")
    for n in range(2, count + 1):
        numbered = read_mapping(_numbered(entry, n, only=True), SESSION, problems)
        yield n, make_session({**defaults, **own, **numbered})


_NUMBER = re.compile(r"\{n(?::0([1-9]))?\}")
_BY_NUMBER = 'needs a number to differ by, as in "load-{n:04}"'
_NUMBERED = ("name", "user", "device")


def _numbered(entry: Node, n: int, *, only: bool = False) -> Node:
    """The entry with its number filled in; `only` with the keys that can have one."""

    def fill(key: Node, value: Node) -> Node:
        if key.value not in _NUMBERED or not isinstance(value, ScalarNode):
            return value
        text = _NUMBER.sub(lambda match: str(n).zfill(int(match[1] or 1)), value.value)
        return ScalarNode(value.tag, text, value.start_mark, value.end_mark, value.style)

    if not isinstance(entry, MappingNode):
        return entry
    pairs = [(key, fill(key, value)) for key, value in entry.value if not only or key.value in _NUMBERED]
    return MappingNode(entry.tag, pairs, entry.start_mark, entry.end_mark, entry.flow_style)


def read_values(node: Node, keys: Keys, base: Path, problems: list[Problem], *required: str) -> dict[str, Any]:
    """A mapping's values by key, with `password` from `password_file` where that is given."""
    values = read_mapping(node, keys, problems, *required)
    if "password_file" in values:
        file = nodes_of(node)["password_file"]
        if "password" in values:
            problems.append(Problem(file, "password_file: there is a password too; keep one of them"))
        try:
            values["password"] = _read_password(base / values.pop("password_file"))
        except OSError as error:
            problems.append(Problem(file, f"password_file: {error.filename}: {_strerror(error)}"))
        except ValueError as error:
            problems.append(Problem(file, f"password_file: {error}"))
    hooks = nodes_of(nodes_of(node)["hooks"]) if "hooks" in values else {}
    for event in hooks.keys() & HOOK_EVENTS:
        program = getattr(values["hooks"], event)
        if program and (wrong := objection(program[0])):
            problems.append(Problem(hooks[event], f"hooks: {event}: {program[0]} {wrong}"))
    return values


def _read_password(path: Path) -> str:
    """The one line of a file; raises OSError or ValueError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb") as file:
        line = file.read(MAX_PASSWORD + 3).removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line or len(line) > MAX_PASSWORD:
        raise ValueError(f"{path} must hold one line of at most {MAX_PASSWORD} octets")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None


def _strerror(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
