"""What was asked, offered, agreed and refused, kept for the operator to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

Column = Literal["asked", "offered", "agreed", "refused"]
MANY = 64
"""Values that are kept as they came: a peer may negotiate for ever."""


class NegotiatedFact(Struct):
    """One negotiated value, as text; empty where nothing was said."""

    asked: str = ""
    offered: str = ""
    agreed: str = ""
    refused: str = ""

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """All four, in this order."""
        return self.asked, self.offered, self.agreed, self.refused


class Facts:
    """Negotiated facts by name, in the order in which they came up.

    A set-up notes some thirty values, and hardly anybody looks: they are kept as they came, and made into text for who
    asks.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, NegotiatedFact] = {}
        self._noted: list[tuple[str, Column, object, Callable[[Any], str]]] = []

    def note(self, name: str, column: Column, value: object, text: Callable[[Any], str] = str) -> None:
        """Write one cell; a later value replaces an earlier one, but what was asked for at first stays.

        The value must be one that doesn't change, and `text` pure.
        """
        self._noted.append((name, column, value, text))
        if len(self._noted) == MANY:
            self._write()

    @property
    def by_name(self) -> dict[str, NegotiatedFact]:
        """All of them."""
        self._write()
        return self._by_name

    def _write(self) -> None:
        for name, column, value, text in self._noted:
            fact = self._by_name.setdefault(name, NegotiatedFact())
            if column != "asked" or not fact.asked:
                setattr(fact, column, text(value))
        self._noted.clear()

    def clear(self) -> None:
        """Forget everything, before a new dial."""
        self._noted.clear()
        self._by_name.clear()
