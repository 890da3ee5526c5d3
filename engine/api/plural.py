"""So many of something, in words."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`1 session`, `12 sessions`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
