"""What a filter that is being typed may become. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from souppp_tui.model.query import ALIASES, IS, NO_NAMES, SETTINGS, STATE_WORDS
from souppp_tui.show.columns import ENGINE, offered

Values = Callable[[str], Iterable[str]]
"""What stands in a column."""


def complete(
    text: str, several: bool = False, values: Values = lambda column: (), names: Mapping[str, str] = NO_NAMES
) -> str:
    """The filter with its last term made longer by what is likely meant; empty where nothing is."""
    found = next(iter(candidates(text, several, values, names)), "")
    return found and text + found


def candidates(
    text: str, several: bool = False, values: Values = lambda column: (), names: Mapping[str, str] = NO_NAMES
) -> list[str]:
    """What may be added to the end of a filter, likeliest first.

    `several` says whether there are several engines, `values` what the columns hold, `names` which filters have names.
    """
    term = _last_term(text).lstrip("!")
    if term.startswith("@"):
        return _rest(term[1:], names)
    at = next((place for place, letter in enumerate(term) if letter in ":=~"), None)
    if at is None:
        return _rest(term, (f"{column}:" for column in (*offered(several), *SETTINGS, "is"))) if term else []
    name, typed = term[:at].casefold(), term[at + 1 :].rpartition("|")[2]
    words = _words(ALIASES.get(name, name), values)
    if typed.startswith('"'):
        return [f'{rest}"' for rest in _rest(typed[1:], words)]
    return _rest(typed, [f'"{word}"' if " " in word else word for word in words])


def _words(column: str, values: Values) -> Iterable[str]:
    if column == "is":
        return IS
    if column in SETTINGS:
        return SETTINGS[column].words
    if column == "state":
        return [word for word in STATE_WORDS if " " not in word]
    return values(column) if column == ENGINE or column in offered(several=True) else ()


def _rest(typed: str, words: Iterable[str]) -> list[str]:
    """What makes the words that begin so out of what is typed."""
    low, length = typed.casefold(), len(typed)
    return [word[length:] for word in words if len(word) > length and word.casefold().startswith(low)]


def _last_term(text: str) -> str:
    start = 0
    quoted = False
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == " " and not quoted:
            start = place + 1
    return text[start:]
