"""Spans of time in words, as events, pages and the files made of them have them."""

from __future__ import annotations


def wait(seconds: float) -> str:
    """A time still to go: seconds below two minutes, whole minutes below two hours, then whole hours."""
    if seconds < 119.5:
        return f"{max(0.0, seconds):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 119.5 else f"{minutes / 60:.0f} h"
