"""Changes a configuration's text: one session added, replaced or removed, the rest left as the operator wrote it.

Only the text of what differs is exchanged, at the places that the YAML nodes name, so comments, order and layout stay.
Every change is read back and compared before it is returned: a layout that can't be changed safely is refused instead,
with ConfigError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from engine.host.replacing import sync_folder
from engine.settings.fields import DEFAULTS, SESSION, make_session, values_of
from engine.settings.nodes import nodes_of, quote
from engine.settings.reading import ConfigError, compose, parse, read_entry, read_values
from engine.settings.values import SessionSettings, Settings, kept

Splice = tuple[int, int, str]
"""Where a piece of text starts and ends, and what to put there."""


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace a configuration file by its changed text, whole or not at all; raises ConfigError or OSError."""
    path = path.resolve()
    octets = path.read_bytes()
    mark = b"\xef\xbb\xbf" if octets.startswith(b"\xef\xbb\xbf") else b""
    try:
        text = octets.removeprefix(mark).decode()
    except UnicodeDecodeError:  # somebody has changed it since it was read
        raise ConfigError(f"{path}: not UTF-8; save the file as UTF-8") from None
    changed = mark + change(text).encode()
    status = path.stat()
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o7777)
            file.write(changed)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
        sync_folder(path.parent)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def with_session(text: str, session: SessionSettings, path: Path) -> str:
    """The text with one more session at the end of the list; `path` is the file it is from."""
    if session.password is None:
        raise ConfigError(f"{path}: the password of {quote(session.name)} is not known here; change the file by hand")
    before, root, entries = _read(text, path)
    default, new = values_of(make_session({"name": "", **_defaults(root, path)})), values_of(session)
    pairs = [f"{key}: {SESSION[key].kind.write(value)}" for key, value in new.items() if value != default[key]]
    line = f"{{{', '.join(pairs)}}}"
    start, end = entries.start_mark.index, entries.end_mark.index
    if entries.flow_style and entries.value:
        splice = _at(_end(text, entries.value[-1]), f", {line}")
    elif entries.flow_style and (root.flow_style or "#" in text[start:end]):
        splice = _at(start + 1, line)
    elif entries.flow_style:
        splice = (len(text[:start].rstrip(" ")), end, f"{_newline(text)}  - {line}")
    else:
        last, indent = entries.value[-1], _newline(text) + " " * entries.start_mark.column
        item = line if last.flow_style else f"{indent}  ".join(pairs)
        splice = _at(_line_end(text, _end(text, last)), f"{indent}- {item}")
    return _apply(text, [splice], [*before, session], path)


def replace_session(text: str, name: str, session: SessionSettings, path: Path) -> str:
    """The text with the session called `name` replaced; of its keys only those that change are touched."""
    before, root, entries = _read(text, path)
    entry = _find(entries, name, path)
    was = next(read_entry(entry, _defaults(root, path), path.parent, []))
    session, old = kept(session, was), values_of(was)
    splices: list[Splice] = []
    more: list[str] = []
    for key, value in values_of(session).items():
        if value != old[key]:
            pair = f"{key}: {SESSION[key].kind.write(value)}"
            names = ("password", "password_file") if key == "password" else (key,)
            places = [(key_node, node) for key_node, node in entry.value if key_node.value in names]
            splices += [(key_node.start_mark.index, _end(text, node), pair) for key_node, node in places]
            more += [] if places else [pair]
    if more:
        splices.append(_more_pairs(text, entry, more))
    return _apply(text, splices, [session if each.name == name else each for each in before], path)


def without_session(text: str, name: str, path: Path) -> str:
    """The text without the session called `name`."""
    before, root, entries = _read(text, path)
    entry = _find(entries, name, path)
    start, end = entry.start_mark.index, _end(text, entry)
    if entries.flow_style:
        comma = re.compile(r"\s*,[ \t]*").match(text, end)
        comma_before = None if comma else re.search(r",\s*\Z", text[:start])
        splice = (comma_before.start() if comma_before else start, comma.end() if comma else end, "")
    else:
        line = text.rfind("\n", 0, text.rfind("-", 0, start)) + 1
        only = len(entries.value) == 1
        splice = (line, end, " " * (root.start_mark.column + 2) + "[]") if only else (line, _next_line(text, end), "")
    return _apply(text, [splice], [each for each in before if each.name != name], path)


def with_filter(text: str, name: str, written: str | None, path: Path) -> str:
    """The text with a filter under a name, in place of the one that has it; None takes that away."""
    before = parse(text, str(path), path.parent)
    filters = {**before.console.filters, name: written or ""}
    if written is None:
        del filters[name]
    root = compose(text, str(path))
    nodes = nodes_of(root)
    console = nodes_of(nodes.get("console", root)) if "console" in nodes else {}
    known = nodes_of(console["filters"]) if "filters" in console else {}
    pair = f"{quote(name)}: {quote(written or '')}"
    if name in known and written is not None:
        splice = (known[name].start_mark.index, _end(text, known[name]), quote(written))
    elif name in known:
        splice = _without_pair(text, console["filters"], name)
    elif "filters" in console:
        splice = _first_pair(text, console["filters"], pair)
    elif "console" in nodes:
        splice = _first_pair(text, nodes["console"], f"filters: {{{pair}}}")
    elif isinstance(root, MappingNode) and root.flow_style:
        splice = _first_pair(text, root, f"console: {{filters: {{{pair}}}}}")
    else:
        newline = _newline(text)
        end = len(text.rstrip())
        splice = (end, len(text), f"{newline}console:{newline}  filters: {{{pair}}}{newline}")
    console_now = replace(before.console, filters=filters)
    return _checked(text, [splice], replace(before, console=console_now), path)


def _first_pair(text: str, node: Node, pair: str) -> Splice:
    """A further pair in a mapping, before those that are there."""
    if isinstance(node, MappingNode) and node.value:
        start = node.start_mark.index
        if node.flow_style:
            return _at(start + 1, f"{pair}, ")
        return _at(start, f"{pair}{_newline(text)}{' ' * node.start_mark.column}")
    return (
        node.start_mark.index,
        node.end_mark.index,
        f"{'' if text[node.start_mark.index - 1].isspace() else ' '}{{{pair}}}",
    )


def _without_pair(text: str, node: Node, name: str) -> Splice:
    """Take a pair out of a mapping."""
    assert isinstance(node, MappingNode)
    if len(node.value) == 1:
        return node.start_mark.index, _end(text, node), "{}"
    key, value = next(pair for pair in node.value if pair[0].value == name)
    start, end = key.start_mark.index, _end(text, value)
    if not node.flow_style:
        if (key, value) == node.value[0]:
            return start, node.value[1][0].start_mark.index, ""
        return text.rfind("\n", 0, start) + 1, _next_line(text, end), ""
    comma = re.compile(r"\s*,\s*").match(text, end)
    before = None if comma else re.search(r",\s*\Z", text[:start])
    return before.start() if before else start, comma.end() if comma else end, ""


def _read(text: str, path: Path) -> tuple[tuple[SessionSettings, ...], MappingNode, SequenceNode]:
    """The sessions that the text makes, its root node and its list of sessions; raises ConfigError."""
    before = parse(text, str(path), path.parent).sessions
    root = compose(text, str(path))
    entries = nodes_of(root)["sessions"]
    assert isinstance(root, MappingNode)
    assert isinstance(entries, SequenceNode)
    return before, root, entries


def _defaults(root: Node, path: Path) -> dict[str, Any]:
    nodes = nodes_of(root)
    return read_values(nodes["defaults"], DEFAULTS, path.parent, []) if "defaults" in nodes else {}


def _find(entries: SequenceNode, name: str, path: Path) -> MappingNode:
    for entry in entries.value:
        nodes = nodes_of(entry)
        if nodes["name"].value == name and "count" not in nodes and isinstance(entry, MappingNode):
            return entry
    raise ConfigError(f"{path}: {quote(name)} has no entry of its own; change the file by hand")


def _more_pairs(text: str, entry: MappingNode, pairs: list[str]) -> Splice:
    """Further pairs, behind the last one that stands on a single line: after that only a comment can follow."""
    if entry.flow_style:
        return _at(_end(text, entry.value[-1][1]), "".join(f", {pair}" for pair in pairs))
    indent = _newline(text) + " " * entry.start_mark.column
    ends = [_end(text, node) for key, node in entry.value if key.start_mark.line == node.end_mark.line]
    return _at(_line_end(text, ends[-1] if ends else entry.start_mark.index), "".join(indent + pair for pair in pairs))


def _end(text: str, node: Node) -> int:
    """Where a node's own text ends; a block's end mark would be past the comments that follow it."""
    if isinstance(node, CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, MappingNode) else last)
    end: int = node.end_mark.index
    return len(text[:end].rstrip()) if isinstance(node, ScalarNode) and node.style in ("|", ">") else end


def _at(place: int, text: str) -> Splice:
    return place, place, text


def _line_end(text: str, place: int) -> int:
    """Where the line ends, its newline not counted."""
    end = text.find("\n", place)
    return len(text) if end < 0 else end - (text[end - 1] == "\r")


def _next_line(text: str, place: int) -> int:
    return text.find("\n", place) + 1 or len(text)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _apply(text: str, splices: Iterable[Splice], sessions: list[SessionSettings], path: Path) -> str:
    """The text with all splices made, provided that it then makes exactly these sessions."""
    return _checked(text, splices, tuple(sessions), path)


def _checked(text: str, splices: Iterable[Splice], wanted: Settings | tuple[SessionSettings, ...], path: Path) -> str:
    """The text with all splices made, provided that it then makes these sessions, or all these settings."""
    changed = text
    for start, end, new in sorted(splices, reverse=True):
        changed = changed[:start] + new + changed[end:]
    try:
        made = parse(changed, str(path), path.parent)
        same = (
            made.sessions == wanted
            if isinstance(wanted, tuple)
            else replace(made, remarks=()) == replace(wanted, remarks=())
        )
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(f"{path}: this can't be changed from here safely; change the file by hand")
    return changed
