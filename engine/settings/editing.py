"""Changes a configuration's text: one session added, replaced or removed, the rest left as the operator wrote it.

Only the text of what differs is exchanged, at the places that the YAML nodes name, so comments, order and layout stay.
Every change is read back and compared before it is returned: a layout that can't be changed safely is refused instead,
with ConfigError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from msgspec.structs import replace
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from engine.host.replacing import sync_folder
from engine.settings.fields import DEFAULTS, SESSION, UNIQUE, make_session, values_of
from engine.settings.nodes import nodes_of, quote
from engine.settings.reading import (
    ConfigError,
    compose,
    numbered_sessions,
    opened,
    parse,
    read_entry,
    read_exceptions,
    read_values,
)
from engine.settings.reload import Change
from engine.settings.values import SessionSettings, Settings, kept

TRIES = 5
"""How often a file is read anew that somebody else has changed meanwhile."""
Splice = tuple[int, int, str]
"""Where a piece of text starts and ends, and what to put there."""


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace a configuration file by its changed text, whole or not at all; raises ConfigError or OSError.

    What somebody else writes at the same moment, in place or by a new file, is not lost: the change is made to that.
    """
    path = path.resolve()
    theirs: bytes | None = None
    for _ in range(TRIES):
        with opened(path) as file:
            was = file.read()
            octets = was if theirs is None else theirs
            try:
                changed = _changed(octets, change, path)
            except ConfigError:
                if theirs is not None:
                    _replace(path, theirs, file, was)
                raise
            if not _replace(path, changed, file, was):
                continue
            file.seek(0)
            now = file.read()
            if now == was:
                return
            theirs = now
    raise ConfigError(f"{path}: somebody else is writing it; try again")


def _changed(octets: bytes, change: Callable[[str], str], path: Path) -> bytes:
    mark = b"\xef\xbb\xbf" if octets.startswith(b"\xef\xbb\xbf") else b""
    try:
        text = octets.removeprefix(mark).decode()
    except UnicodeDecodeError:  # somebody has changed it since it was read
        raise ConfigError(f"{path}: not UTF-8; save the file as UTF-8") from None
    return mark + change(text).encode()


def _replace(path: Path, octets: bytes, file: BinaryIO, was: bytes) -> bool:
    """Put these octets in the place of an open file, unless it holds something else by now, or isn't there any more."""
    status = os.fstat(file.fileno())
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as made:
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o7777)
            made.write(octets)
            made.flush()
            os.fsync(descriptor)
            ours = os.path.samestat(os.fstat(descriptor), new.stat())
        file.seek(0)
        same = ours and os.path.samestat(status, path.stat()) and file.read() == was
        if same:
            new.replace(path)
            sync_folder(path.parent)
        elif ours:
            new.unlink(missing_ok=True)
        return same
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
    return with_changes(text, [(name, session)], path)


def without_session(text: str, name: str, path: Path) -> str:
    """The text without the session called `name`."""
    return with_changes(text, [(name, None)], path)


def with_changes(text: str, changes: Iterable[Change], path: Path) -> str:
    """The text with all these changes: (None, new) adds a session, (name, new) edits, (name, None) removes one.

    One of an entry with `count` becomes an exception of that, unless all of its sessions change alike. One that is
    added and was such an exception before is none any more.
    """
    changes = [*changes]
    _, root, entries = _read(text, path)
    wanted = {name: new for name, new in changes if name is not None}
    added = [new for name, new in changes if name is None and new is not None]
    edit = _Edit(text, _defaults(root, path), path)
    for entry in entries.value:
        if isinstance(entry, MappingNode):
            (edit.count_entry if "count" in nodes_of(entry) else edit.plain_entry)(entry, wanted, added)
    if wanted:
        raise ConfigError(f"{path}: there is no session called {quote(next(iter(wanted)))}; change the file by hand")
    if entries.flow_style and len(edit.gone) > 1:  # their commas would be taken twice: one after the other
        for change in changes:
            text = with_changes(text, [change], path)
        return text
    if edit.gone:
        edit.splices += _without(text, root, entries, edit.gone)
    text = _apply(text, edit.splices, edit.sessions, path) if edit.splices else text
    for session in added:
        text = with_session(text, session, path)
    return text


class _Edit:
    """What an entry after the other has to be changed, and the sessions that there are then."""

    def __init__(self, text: str, defaults: dict[str, Any], path: Path) -> None:
        self._text, self._defaults, self._path = text, defaults, path
        self.splices: list[Splice] = []
        self.gone: list[MappingNode] = []
        self.sessions: list[SessionSettings] = []

    def plain_entry(
        self, entry: MappingNode, wanted: dict[str, SessionSettings | None], added: list[SessionSettings]
    ) -> None:
        was = next(read_entry(entry, self._defaults, self._path.parent, []))
        new = wanted.pop(was.name, None) if was.name in wanted else was
        if new is None:
            self.gone.append(entry)
            return
        new = kept(new, was)
        self.sessions.append(new)
        if new is not was:
            self.splices += _pairs(self._text, entry, _different(was, new))

    def count_entry(
        self, entry: MappingNode, wanted: dict[str, SessionSettings | None], added: list[SessionSettings]
    ) -> None:
        base, nodes = self._path.parent, nodes_of(entry)
        own = read_exceptions(entry, base, []) if "except" in nodes else {}
        made: list[SessionSettings] = []
        deltas: list[dict[str, Any] | None] = []
        changes: dict[int, str | None] = {}
        there = 0
        for n, bare in numbered_sessions(entry, self._defaults, base, []):
            extra = own.get(n, {})
            was = make_session({**values_of(bare), **extra}) if extra is not None else None
            there += was is not None
            new = was
            if was is None and (back := next((each for each in added if each.name == bare.name), None)) is not None:
                added.remove(back)
                new = back
            elif was is not None and was.name in wanted:
                after = wanted.pop(was.name)
                new = kept(after, was) if after is not None else None
                deltas.append(_different(was, new) if new is not None else None)
            if new is not None:
                made.append(new)
            if new != was:
                changes[n] = "no" if new is None else _written(_different(bare, new))
        self.sessions += made
        if deltas and not made:
            self.gone.append(entry)
        elif len(deltas) == there and (alike := _alike(deltas, own)):
            self.splices += _pairs(self._text, entry, alike)
        elif changes:
            self.splices += _exceptions(self._text, entry, nodes.get("except"), changes)


def _alike(deltas: list[dict[str, Any] | None], own: dict[int, dict[str, Any] | None]) -> dict[str, Any]:
    """What all sessions of an entry change to, if that can stand in the entry itself; else empty."""
    first = deltas[0] or {}
    taken = {key for each in own.values() for key in each or ()}
    if any(each != first for each in deltas) or first.keys() & {*taken, *UNIQUE, "user"}:
        return {}
    return first


def _different(was: SessionSettings, new: SessionSettings) -> dict[str, Any]:
    old = values_of(was)
    return {key: value for key, value in values_of(new).items() if value != old[key]}


def _written(values: dict[str, Any]) -> str | None:
    """As a mapping in braces; None for no values at all."""
    pairs = [f"{key}: {SESSION[key].kind.write(value)}" for key, value in values.items()]
    return f"{{{', '.join(pairs)}}}" if pairs else None


def _pairs(text: str, entry: MappingNode, values: dict[str, Any]) -> list[Splice]:
    """The entry with these values: in place of those that there are, or behind them."""
    splices: list[Splice] = []
    more: list[str] = []
    for key, value in values.items():
        pair = f"{key}: {SESSION[key].kind.write(value)}"
        names = ("password", "password_file") if key == "password" else (key,)
        places = [(key_node, node) for key_node, node in entry.value if key_node.value in names]
        splices += [(key_node.start_mark.index, _end(text, node), pair) for key_node, node in places]
        more += [] if places else [pair]
    return splices + ([_more_pairs(text, entry, more)] if more else [])


def _exceptions(text: str, entry: MappingNode, node: Node | None, changes: dict[int, str | None]) -> list[Splice]:
    """The entry with these exceptions by number, as they are written; None for one that is none any more."""
    if not isinstance(node, MappingNode):
        pairs = [f"{n}: {value}" for n, value in changes.items() if value is not None]
        return [_more_pairs(text, entry, [f"except: {{{', '.join(pairs)}}}"])] if pairs else []
    known = {int(key.value): (key, value) for key, value in node.value}
    more = [f"{n}: {value}" for n, value in changes.items() if n not in known and value is not None]
    stay = [n for n in known if n not in changes or changes[n] is not None]
    if node.flow_style or not stay:
        kept_ones = [
            f"{n}: {changes[n]}" if n in changes else text[key.start_mark.index : _end(text, value)]
            for n, (key, value) in known.items()
            if n in stay
        ]
        return [(node.start_mark.index, _end(text, node), f"{{{', '.join([*kept_ones, *more])}}}")]
    splices: list[Splice] = []
    for n, (key, value) in known.items():
        start, end = key.start_mark.index, _end(text, value)
        if n not in stay:
            splices.append((text.rfind("\n", 0, start) + 1, _next_line(text, end), ""))
        elif n in changes:
            splices.append((start, end, f"{n}: {changes[n]}"))
    return splices + ([_more_pairs(text, node, more)] if more else [])


def _without(text: str, root: MappingNode, entries: SequenceNode, gone: list[MappingNode]) -> list[Splice]:
    """The list without these entries; of one in brackets only one at a time."""
    if entries.flow_style:
        start, end = gone[0].start_mark.index, _end(text, gone[0])
        comma = re.compile(r"\s*,[ \t]*").match(text, end)
        comma_before = None if comma else re.search(r",\s*\Z", text[:start])
        return [(comma_before.start() if comma_before else start, comma.end() if comma else end, "")]
    places = []
    for entry in gone:
        start, end = entry.start_mark.index, _end(text, entry)
        places.append((text.rfind("\n", 0, text.rfind("-", 0, start)) + 1, end))
    if len(gone) < len(entries.value):
        return [(line, _next_line(text, end), "") for line, end in places]
    rest = [(line, _next_line(text, end), "") for line, end in places[:-1]]
    line, end = places[-1]
    return [*rest, (line, end, " " * (root.start_mark.column + 2) + "[]")]


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
