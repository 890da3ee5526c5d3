"""A session's device as one process leaves it and the next one takes it over: it stays up, with its address."""

from __future__ import annotations

from msgspec import Struct

from engine.settings.values import DatapathChoice


class KeptDevice(Struct, frozen=True):
    """A device that lives on, as something holds its descriptor, or the namespace of its hidden end."""

    name: str
    path: DatapathChoice
    """What carries its packets."""
    end: int = 0
    """The interface index of its hidden end, on the in-kernel data path."""
