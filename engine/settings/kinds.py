"""Kinds of configuration values: how each is read from a YAML node, written back, and described to JSON Schema.

Numbers and text are taken from the node's own text, so that nothing is lost to YAML 1.1's guesses: `0123` is no octal
number, `12:34:56:12:34:56` no sexagesimal one, and a password that looks like a number must be quoted, not changed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.events import Event
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

TAG = "tag:yaml.org,2002:"


class Problem(Exception):
    """One mistake and where it is. Its text never quotes a value that could be a secret."""

    def __init__(self, place: Node | Event | Problem, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.start_mark: Any = place.start_mark

    def within(self, key: str) -> Problem:
        """The same, said of the value of `key`."""
        return Problem(self, f"{key}: {self.text}")

    @property
    def place(self) -> tuple[int, int]:
        """Line and column, counted from 1."""
        return (self.start_mark.line + 1, self.start_mark.column + 1) if self.start_mark else (1, 1)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value."""

    read: Callable[[Node, list[Problem]], Any]
    """Raises a Problem, or adds several to the list and returns what it could read."""
    write: Callable[[Any], str]
    """The value as YAML that may stand anywhere, also inside braces."""
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping: the field it sets, its kind of value and what it means."""

    field: str
    kind: Kind
    help: str


Keys = Mapping[str, Key]


def scalar(node: Node, what: str, *tags: str) -> str:
    """The text of a scalar whose YAML type is one of `tags`; `what` says what it must be."""
    if isinstance(node, ScalarNode) and node.tag.removeprefix(TAG) in tags:
        return str(node.value)
    if node.tag == TAG + "null":
        raise Problem(node, f"has no value; it must be {what}")
    hint = "; put it in quotes if it is meant as text" if isinstance(node, ScalarNode) and "str" in tags else ""
    raise Problem(node, f"must be {what}{hint}")


def _tag_of(plain: str) -> str:
    return str(Resolver().resolve(ScalarNode, plain, (True, False)))  # type: ignore[no-untyped-call]


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def quote(text: str) -> str:
    """`text` as a YAML scalar that reads back as exactly this text."""
    looks_plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@/-]*", text)
    if looks_plain and _tag_of(text) == TAG + "str":
        return text
    return '"' + "".join(_escape(c) for c in text) + '"'


def text(most: int, least: int = 0, *, control: bool = False) -> Kind:
    """Text of `least` to `most` octets of UTF-8; control characters only where they are allowed."""

    def read(node: Node, _: list[Problem]) -> str:
        value = scalar(node, "text", "str")
        if len(value.encode()) > most:
            raise Problem(node, f"must not be longer than {most} octets")
        if len(value) < least:
            raise Problem(node, "must not be empty")
        if not control and not value.isprintable():
            raise Problem(node, "must not contain control characters")
        return value

    return Kind(read, quote, {"type": "string", "minLength": least, "maxLength": most})


def optional(kind: Kind) -> Kind:
    """The same kind of text, empty for None."""
    return Kind(
        lambda node, problems: kind.read(node, problems) or None, lambda value: kind.write(value or ""), kind.schema
    )


def in_range(node: Node, value: float, least: float, most: float) -> None:
    """Raise a Problem unless `least` ≤ `value` ≤ `most`."""
    if not least <= value <= most:
        raise Problem(node, f"{value:.12g} is out of range ({least:.12g} to {most:.12g})")


def whole(least: int, most: int) -> Kind:
    """An integer, decimal or 0x hexadecimal."""

    def read(node: Node, _: list[Problem]) -> int:
        what = f"a whole number from {least} to {most}"
        try:
            value = int(scalar(node, what, "int"), 0)
        except ValueError:
            raise Problem(node, f"must be {what}, without leading zeros") from None
        in_range(node, value, least, most)
        return value

    return Kind(read, str, {"type": "integer", "minimum": least, "maximum": most})


def number(least: float, most: float) -> Kind:
    """A number that may have a fraction."""

    def read(node: Node, _: list[Problem]) -> float:
        what = f"a number from {least:.12g} to {most:.12g}"
        try:
            value = float(scalar(node, what, "int", "float"))
        except ValueError:
            raise Problem(node, f"must be {what}") from None
        in_range(node, value, least, most)
        return value

    return Kind(
        read, lambda value: f"{value:f}".rstrip("0").rstrip("."), {"type": "number", "minimum": least, "maximum": most}
    )


def _read_boolean(node: Node, _: list[Problem]) -> bool:
    return scalar(node, "true or false", "bool").lower() in {"true", "yes", "on"}


boolean = Kind(_read_boolean, lambda value: str(value).lower(), {"type": "boolean"})


def choice(*values: Any, write: Callable[[Any], str] = str) -> Kind:
    """One of `values`, as `write` writes them."""
    words = {write(value): value for value in values}

    def read(node: Node, _: list[Problem]) -> Any:
        if not isinstance(node, ScalarNode) or node.value.lower() not in words:
            raise Problem(node, f"must be {' or '.join(words)}")
        return words[node.value.lower()]

    return Kind(read, write, {"enum": list(values)})


def list_of(kind: Kind, least: int, most: int, *, unique: bool = True) -> Kind:
    """A list of `least` to `most` values of one kind, read as a tuple."""

    def read(node: Node, problems: list[Problem]) -> tuple[Any, ...]:
        if not isinstance(node, SequenceNode) or not least <= len(node.value) <= most:
            raise Problem(node, f"must be a list of {least} to {most} items, as in [first, second]")
        values = read_all(node.value, kind.read, problems)
        if unique and len(set(values)) < len(values):
            raise Problem(node, "has the same item twice")
        return values

    schema = {"type": "array", "items": kind.schema, "minItems": least, "maxItems": most, "uniqueItems": unique}
    return Kind(read, lambda values: f"[{', '.join(map(kind.write, values))}]", schema)


def read_all(
    nodes: Sequence[Node], read: Callable[[Node, list[Problem]], Any], problems: list[Problem]
) -> tuple[Any, ...]:
    """What `read` makes of each node; the nodes it can't read are left out and noted."""
    values = []
    for node in nodes:
        try:
            values.append(read(node, problems))
        except Problem as problem:
            problems.append(problem)
    return tuple(values)


def record(make: Callable[..., Any], keys: Keys, *required: str) -> Kind:
    """A mapping that becomes a dataclass with a default for every field that isn't required."""

    def read(node: Node, problems: list[Problem]) -> Any:
        before = len(problems)
        given = read_mapping(node, keys, problems, *required)
        if len(problems) > before:
            raise problems.pop()
        return make(**{keys[name].field: value for name, value in given.items()})

    def write(value: Any) -> str:
        items = ((name, key.kind, getattr(value, key.field)) for name, key in keys.items())
        return "{" + ", ".join(f"{name}: {kind.write(item)}" for name, kind, item in items if item is not None) + "}"

    return Kind(read, write, mapping_schema(keys, *required))


def mapping_schema(keys: Keys, *required: str) -> dict[str, Any]:
    """The JSON Schema of a mapping with these keys."""
    properties = {name: {**key.kind.schema, "description": key.help} for name, key in keys.items()}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def nodes_of(mapping: Node) -> dict[str, Node]:
    """A mapping's values by key; empty for anything else."""
    return {str(key.value): value for key, value in mapping.value} if isinstance(mapping, MappingNode) else {}


def read_mapping(node: Node, keys: Keys, problems: list[Problem], *required: str) -> dict[str, Any]:
    """The values of a mapping by key; what can't be read is left out and noted."""
    if not isinstance(node, MappingNode):
        raise Problem(node, f"must be a mapping with {', '.join(list(keys)[:3])} …")
    given: dict[str, Any] = {}
    seen: set[str] = set()
    before = ""
    for key, value in node.value:
        try:
            name = _key_name(key, keys, secret=bool(node.flow_style) and before == "password")
        except Problem as problem:
            problems.append(problem)
            continue
        if name in seen:
            problems.append(Problem(key, f"{name} is set twice"))
        seen.add(name)
        before = name
        inner: list[Problem] = []
        given |= zip([name], read_all([value], keys[name].kind.read, inner), strict=False)
        problems.extend(problem.within(name) for problem in inner)
    problems.extend(Problem(node, f"{name} is missing") for name in required if name not in seen)
    return given


def _key_name(key: Node, keys: Keys, *, secret: bool) -> str:
    """The key's name; `secret` if it may be what follows a comma in a password that isn't quoted."""
    if not isinstance(key, ScalarNode):
        raise Problem(key, "a key must be a plain word")
    name = str(key.value)
    if name in keys:
        return name
    if name == "<<":
        raise Problem(key, "merge keys (<<) are not supported; `defaults` does their work")
    near = difflib.get_close_matches(name, keys, 1)
    if secret and not near:
        raise Problem(key, "unknown key; a password with a comma in it must stand in quotes")
    shown = "unknown key" if secret else f"unknown key {quote(name[:40])}"
    raise Problem(key, f"{shown}; did you mean {near[0]}?" if near else f"{shown}; there are {', '.join(keys)}")
