"""Any value of a type, from the type alone."""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import Struct

PLAIN: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(),
    bytes: st.binary(),
    type(None): st.none(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type as an annotation names it; raises TypeError for a kind of type that is new here."""
    args = get_args(hint)
    if get_origin(hint) is tuple:
        if args[1:] == (...,):
            return st.lists(values_of(args[0]), max_size=4).map(tuple)
        return st.tuples(*map(values_of, args))
    if args and get_origin(hint) not in (list, dict, set):
        return st.one_of(*map(values_of, args))
    if isinstance(hint, type) and issubclass(hint, Struct):
        hints = get_type_hints(hint)
        return st.builds(hint, **{name: values_of(hints[name]) for name in hint.__struct_fields__})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if hint in PLAIN:
        return PLAIN[hint]
    raise TypeError(f"no values of {hint} are known here")
