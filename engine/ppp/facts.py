"""What was asked, offered, agreed and refused, kept for the operator to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Column = Literal["asked", "offered", "agreed", "refused"]


@dataclass(slots=True)
class NegotiatedFact:
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
    """Negotiated facts by name, in the order in which they came up."""

    def __init__(self) -> None:
        self.by_name: dict[str, NegotiatedFact] = {}

    def note(self, name: str, column: Column, value: object) -> None:
        """Write one cell; a later value replaces an earlier one, but what was asked for at first stays."""
        fact = self.by_name.get(name)
        if fact is None:
            fact = self.by_name[name] = NegotiatedFact()
        if column != "asked" or not fact.asked:
            setattr(fact, column, str(value))

    def clear(self) -> None:
        """Forget everything, before a new dial."""
        self.by_name.clear()
