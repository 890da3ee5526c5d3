"""Kinds of values: the one place that says what a value may be.

Each kind reads a value from a YAML node and writes it back, checks one that came otherwise, and describes itself to
JSON Schema. A `Typed` kind can be typed on one line too: in a form, in a filter. All of them say what is wrong in the
same words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml
from msgspec import Struct
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.settings.nodes import Problem, quote, scalar


class Kind(Struct, frozen=True):
    """One kind of value."""

    read: Callable[[Node, list[Problem]], Any]
    """Raises a Problem, or adds several to the list and returns what it could read."""
    write: Callable[[Any], str]
    """The value as YAML that may stand anywhere, also inside braces."""
    check: Callable[[Any], Any]
    """A value of the right type as reading would have made it. Raises ValueError, whose text is for the operator."""
    schema: Mapping[str, Any]


class Typed(Kind, frozen=True):
    """A kind whose values fit on a line of text."""

    parse: Callable[[str], Any]
    """Raises ValueError, whose text is for the operator and never quotes what was typed."""
    show: Callable[[Any], str]
    """The reverse of `parse`, as far as a line can say it."""
    words: tuple[str, ...] = ()
    """All texts there are, where they are few."""


class Key(Struct, frozen=True):
    """One key of a mapping: what it sets, its kind of value and what it means."""

    field: str | tuple[str, ...]
    """The attribute, dotted where it is one of a part's; several make a tuple. Empty where there is none."""
    kind: Kind
    help: str
    label: str = ""
    """What a form calls it; empty where forms leave it out."""
    hint: str = ""
    """A few words beside it in a form."""
    secret: bool = False
    unique: bool = False
    """No two sessions may have the same."""


Keys = Mapping[str, Key]


class Record(Kind, frozen=True):
    """A mapping that becomes a value."""

    keys: Keys


# --- values on one line ---


def typed(
    parse: Callable[[str], Any],
    show: Callable[[Any], str],
    what: str,
    schema: Mapping[str, Any],
    *tags: str,
    write: Callable[[Any], str] | None = None,
    words: tuple[str, ...] = (),
) -> Typed:
    """A kind from its text's two ways; `what` says what it must be, `tags` are the YAML types it may have."""

    def read(node: Node, _: list[Problem]) -> Any:
        given = scalar(node, what, *tags)
        try:
            return parse(given)
        except ValueError as error:
            raise Problem(node, str(error)) from None

    return Typed(
        read, write or (lambda value: quote(show(value))), lambda v: parse(show(v)), schema, parse, show, words
    )


def text(most: int, least: int = 0, *, control: bool = False) -> Typed:
    """Text of `least` to `most` octets of UTF-8; control characters only where they are allowed."""

    def parse(given: str) -> str:
        if len(given.encode(errors="surrogatepass")) > most:
            raise ValueError(f"must not be longer than {most} octets")
        if len(given) < least:
            raise ValueError("must not be empty")
        if not control and not given.isprintable():
            raise ValueError("must not contain control characters")
        if any("\ud800" <= character <= "\udfff" for character in given):
            raise ValueError("must be text in Unicode")
        return given

    def show(value: str | None) -> str:
        if value is None:
            raise ValueError("must be given")
        return value

    return typed(parse, show, "text", {"type": "string", "minLength": least, "maxLength": most}, "str")


def optional(kind: Typed) -> Typed:
    """The same kind, or None, which is the empty text."""
    return Typed(
        lambda node, problems: kind.read(node, problems) or None,
        lambda value: quote("") if value is None else kind.write(value),
        lambda value: kind.check(value) if value else None,
        kind.schema,
        lambda given: kind.parse(given) if given else None,
        lambda value: "" if value is None else kind.show(value),
        kind.words,
    )


def _within(value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{value:.12g} is out of range ({least:.12g} to {most:.12g})")


def whole(least: int, most: int) -> Typed:
    """An integer as Python writes it: decimal, or with 0x, 0o or 0b in front."""
    what = f"a whole number from {least} to {most}"

    def parse(given: str) -> int:
        try:
            value = int(given.encode("ascii"), 0)
        except ValueError:
            zeros = ", without leading zeros" if given.isascii() and given.isdecimal() else ""
            raise ValueError(f"must be {what}{zeros}") from None
        _within(value, least, most)
        return value

    return typed(parse, str, what, {"type": "integer", "minimum": least, "maximum": most}, "int", write=str)


def number(least: float, most: float) -> Typed:
    """A number that may have a fraction."""
    what = f"a number from {least:.12g} to {most:.12g}"

    def parse(given: str) -> float:
        try:
            value = float(given.encode("ascii"))
        except ValueError:
            raise ValueError(f"must be {what}") from None
        _within(value, least, most)
        return value

    def show(value: float) -> str:
        return f"{Decimal(repr(value)).normalize():f}"

    return typed(parse, show, what, {"type": "number", "minimum": least, "maximum": most}, "int", "float", write=show)


_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = r"(\d+(?:\.\d+)?)([smhd])"


def duration(least: float, most: float) -> Typed:
    """A time span, in seconds as a value: `90`, `30s`, `10m`, `1h30m`, `7d`."""
    what = f"a time such as 30s, 10m, 6h, from {_show_span(least)} to {_show_span(most)}"

    def parse(given: str) -> float:
        text = given.strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            value = float(text)
        elif re.fullmatch(f"({_SPAN})+", text, re.ASCII):
            value = sum(float(number) * _SPANS[unit] for number, unit in re.findall(_SPAN, text))
        else:
            raise ValueError(f"must be {what}")
        if not least <= value <= most:
            raise ValueError(f"{given[:20]} is out of range ({_show_span(least)} to {_show_span(most)})")
        return value

    schema = {"type": ["number", "string"], "pattern": r"^\s*(\d+(\.\d+)?[smhdSMHD]?)+\s*$"}
    return typed(parse, _show_span, what, schema, "int", "float", "str")


def _show_span(seconds: float) -> str:
    """In the largest unit of which it is a whole number."""
    unit = next((unit for unit in "dhm" if seconds and seconds % _SPANS[unit] == 0), "s")
    return f"{Decimal(repr(seconds / _SPANS[unit])).normalize():f}{unit}"


_TRUE, _FALSE = ("yes", "true", "on", "y"), ("no", "false", "off", "n")


def _parse_boolean(given: str) -> bool:
    word = given.lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError("must be true or false, or yes or no")
    return word in _TRUE


boolean = typed(
    _parse_boolean,
    lambda value: "yes" if value else "no",
    "true or false",
    {"type": "boolean"},
    "bool",
    write=lambda value: str(value).lower(),
    words=("yes", "no"),
)


def choice(*values: Any, show: Callable[[Any], str] = str) -> Typed:
    """One of `values`, as `show` shows them."""
    known = {show(value): value for value in values}
    what = " or ".join(known)

    def parse(given: str) -> Any:
        if given.lower() not in known:
            raise ValueError(f"must be {what}")
        return known[given.lower()]

    return typed(parse, show, what, {"enum": list(values)}, write=show, words=tuple(known))


# --- values made of others ---


def list_of(kind: Kind, least: int, most: int, *, unique: bool = True) -> Kind:
    """A list of `least` to `most` values of one kind, read as a tuple."""
    size = f"must be a list of {least} to {most} items"

    def once(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if unique and len(set(values)) < len(values):
            raise ValueError("has the same item twice")
        return values

    def read(node: Node, problems: list[Problem]) -> tuple[Any, ...]:
        if not isinstance(node, SequenceNode) or not least <= len(node.value) <= most:
            raise Problem(node, f"{size}, as in [first, second]")
        values = read_all(node.value, kind.read, problems)
        try:
            return once(values)
        except ValueError as error:
            raise Problem(node, str(error)) from None

    def check(values: Sequence[Any]) -> tuple[Any, ...]:
        if not least <= len(values) <= most:
            raise ValueError(size)
        return once(tuple(map(kind.check, values)))

    schema = {"type": "array", "items": kind.schema, "minItems": least, "maxItems": most, "uniqueItems": unique}
    return Kind(read, lambda values: f"[{', '.join(map(kind.write, values))}]", check, schema)


def words_of(kind: Typed, least: int, most: int) -> Typed:
    """The same as `list_of`, and typed as words with blanks or commas between."""
    many = list_of(kind, least, most)

    def parse(given: str) -> Any:
        words = given.replace(",", " ").split()
        if not words and least:
            raise ValueError(f"must be one or more of {', '.join(kind.words)}")
        return many.check([kind.parse(word) for word in words])

    def show(values: Iterable[Any]) -> str:
        return " ".join(map(kind.show, values))

    return Typed(many.read, many.write, many.check, many.schema, parse, show, kind.words)


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


def record(make: Callable[..., Any], keys: Mapping[str, Key], usual: Any, *required: str) -> Record:
    """A mapping that becomes a value; `usual` holds the defaults of all that isn't required."""
    fields = {name: str(key.field) for name, key in keys.items()}

    def read(node: Node, problems: list[Problem]) -> Any:
        before = len(problems)
        given = read_mapping(node, keys, problems, *required)
        if len(problems) > before:
            raise problems.pop()
        return make(**{fields[name]: value for name, value in given.items()})

    def write(value: Any) -> str:
        items = ((name, key.kind, getattr(value, fields[name])) for name, key in keys.items())
        return "{" + ", ".join(f"{name}: {kind.write(item)}" for name, kind, item in items if item is not None) + "}"

    def check(value: Any) -> Any:
        checked = {}
        for name, key in keys.items():
            try:
                checked[fields[name]] = key.kind.check(getattr(value, fields[name]))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return make(**checked)

    usually = {name: getattr(usual, fields[name]) for name in keys if name not in required}
    return Record(read, write, check, mapping_schema(keys, usually, *required), keys)


class Written(str):
    """A value as a file would have it, which is read when a schema is shown: not each start needs all of them."""


def mapping_schema(keys: Keys, usually: Mapping[str, Any], *required: str) -> dict[str, Any]:
    """The JSON Schema of a mapping with these keys; `usually` has the defaults of those that have one."""
    properties: dict[str, Any] = {}
    for name, key in keys.items():
        properties[name] = {**key.kind.schema, "description": key.help}
        if usually.get(name) is not None:
            properties[name]["default"] = Written(key.kind.write(usually[name]))
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def read_defaults(schema: Any) -> Any:
    """A schema with all that is `Written` in it read."""
    if isinstance(schema, Written):
        return yaml.safe_load(schema)
    if isinstance(schema, Mapping):
        return {name: read_defaults(part) for name, part in schema.items()}
    return [read_defaults(part) for part in schema] if isinstance(schema, list | tuple) else schema


# --- mappings ---


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
