"""Text that a peer sent, made safe to show."""

from __future__ import annotations

MAX_TEXT = 200
"""Characters kept of a peer's text."""


def printable(octets: bytes) -> str:
    """The octets as UTF-8 on one line: what is not printable becomes a space, and long text is cut."""
    text = octets.decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    shown = " ".join(text.split())
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"
