"""Structs that C and Python both know: Python's are compared with what the C side says of its own once it is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

Places = Mapping[str, tuple[int, int]]
"""Offset and size in octets, by field; under the empty name the size of the whole. Of a name's value the size is 0."""

WHOLE = ""


class Told(ctypes.Structure):
    """A place as the C side tells it: `struct souppp_place`. A list of them ends with one that has no structure."""

    _fields_ = [
        ("structure", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("offset", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
    ]


def stranger(ours: Mapping[str, Places], told: Iterable[Told]) -> str:
    """What of our structs, by name, is not the same as what was told; empty if all is."""
    theirs: dict[str, dict[str, tuple[int, int]]] = {}
    for place in takewhile(lambda place: place.structure, told):
        theirs.setdefault(place.structure.decode(), {})[place.name.decode()] = place.offset, place.size
    for structure in {**ours, **theirs}:
        if text := difference(ours.get(structure, {}), theirs.get(structure, {})):
            return f"{structure}: {text}"
    return ""


def numbers(names: Iterable[str]) -> type[ctypes.Structure]:
    """A struct of one unsigned 64-bit number after another."""
    return type("Numbers", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_uint64) for name in names]})


def places(kind: Any) -> dict[str, tuple[int, int]]:
    """Those of a type of ctypes; a plain number is a whole without fields."""
    names = [name for name, *_ in getattr(kind, "_fields_", ())]
    fields = {name: (getattr(kind, name).offset, getattr(kind, name).size) for name in names}
    return {WHOLE: (0, ctypes.sizeof(kind)), **fields}


def difference(ours: Places, theirs: Places) -> str:
    """The first field that isn't the same, in a few words; empty if all are."""
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            return f"{name or 'the whole'} is {_said(theirs.get(name))} there and {_said(ours.get(name))} here"
    return ""


def _said(place: tuple[int, int] | None) -> str:
    if place is None:
        return "nothing"
    offset, size = place
    return f"{size} octets at {offset}" if size else str(offset)
