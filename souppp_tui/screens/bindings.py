"""The table of actions as Textual's key bindings; apart from it, so that a service needs no Textual."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from souppp_tui.desk.actions import on_page


def bindings(page: str) -> list[BindingType]:
    """The page's key bindings; their ids are the actions' names, so that a keymap can give them other keys."""
    return [
        Binding(action.keys, f"do('{action.name}')", action.word, id=action.name, show=False)
        for action in on_page(page)
        if action.keys
    ]
