"""The configuration file as the console's forms write it and read it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engine.settings.editing import rewrite, with_changes, with_filter
from engine.settings.reading import ConfigError, load
from engine.settings.reload import Change
from engine.settings.values import SessionSettings, Settings
from souppp_tui.desk.options import Load, Save, SaveFilter


def saver(path: Path) -> Save:
    """Writes changes into this file, all or none; it keeps its comments."""

    def save(changes: Sequence[Change]) -> None:
        _rewrite(path, lambda text: with_changes(text, changes, path))

    return save


def filter_saver(path: Path) -> SaveFilter:
    """Writes a filter and its name into this file, or forgets it there."""
    return lambda name, written: _rewrite(path, lambda text: with_filter(text, name, written, path))


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    try:
        rewrite(path, change)
    except ConfigError as error:
        raise ValueError("; ".join(error.errors)) from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ValueError(f"{why}. {path} is as it was.") from None


def loader(path: Path, take_over: Callable[[Settings], None]) -> Load:
    """Reads this file again: its sessions are for the caller, all else is taken over at once."""

    def read() -> tuple[SessionSettings, ...]:
        try:
            settings = load(path)
        except ConfigError as error:
            raise ValueError("\n".join(error.errors)) from None
        take_over(settings)
        return settings.sessions

    return read
