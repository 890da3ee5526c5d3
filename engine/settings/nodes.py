"""YAML nodes: what is wrong at which place, scalars as the operator wrote them, and text that reads back as itself.

Numbers and text are taken from the node's own text, so that nothing is lost to YAML 1.1's guesses: `0123` is no octal
number, `12:34:56:12:34:56` no sexagesimal one, and a password that looks like a number must be quoted, not changed.
"""

from __future__ import annotations

import re
from typing import Any

from yaml.events import Event
from yaml.nodes import MappingNode, Node, ScalarNode
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


def scalar(node: Node, what: str, *tags: str) -> str:
    """The text of a scalar whose YAML type is one of `tags`, any without them; `what` says what it must be."""
    if node.tag == TAG + "null":
        raise Problem(node, f"has no value; it must be {what}")
    if isinstance(node, ScalarNode) and (not tags or node.tag.removeprefix(TAG) in tags):
        return str(node.value)
    hint = "; put it in quotes if it is meant as text" if isinstance(node, ScalarNode) and "str" in tags else ""
    raise Problem(node, f"must be {what}{hint}")


def nodes_of(mapping: Node) -> dict[str, Node]:
    """A mapping's values by key; empty for anything else."""
    return {str(key.value): value for key, value in mapping.value} if isinstance(mapping, MappingNode) else {}


def quote(text: str) -> str:
    """`text` as a YAML scalar that reads back as exactly this text."""
    looks_plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@/-]*", text)
    if looks_plain and _tag_of(text) == TAG + "str":
        return text
    return '"' + "".join(_escape(c) for c in text) + '"'


def _tag_of(plain: str) -> str:
    return str(Resolver().resolve(ScalarNode, plain, (True, False)))  # type: ignore[no-untyped-call]


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
