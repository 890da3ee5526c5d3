"""Pasted text is text. Pure.

Textual takes an escape in it for the start of a key, gives up and hands on what follows as keys: `h` and `y` would hang
up. Most terminals keep escapes out of what they paste; tmux and some others don't.
"""

from __future__ import annotations

import re

START, END = "\x1b[200~", "\x1b[201~"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Pastes:
    """Goes through what a terminal sends, piece by piece, and takes control characters out of what is pasted."""

    def __init__(self) -> None:
        self._inside = False
        self._before = ""
        """Outside: the last characters handed on, which may begin a mark. Inside: those held back, as they may."""

    def feed(self, text: str) -> str:
        """What is to be handed on of a piece."""
        out = ""
        while text:
            whole, known = self._before + text, len(self._before)
            if self._inside:
                pasted, mark, text = whole.partition(END)
                held = 0 if mark else next((n for n in range(len(END) - 1, 0, -1) if pasted.endswith(END[:n])), 0)
                pasted, self._before = pasted[: len(pasted) - held], pasted[len(pasted) - held :]
                out += _CONTROL.sub("", pasted) + mark
            else:
                typed, mark, text = whole.partition(START)
                out += (typed + mark)[known:]
                self._before = "" if mark else typed[1 - len(START) :]
            self._inside ^= bool(mark)
        return out
