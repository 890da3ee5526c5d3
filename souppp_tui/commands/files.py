"""The configuration file as the console's forms write it and read it again."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.settings.console import ConsoleSettings
from engine.settings.editing import rewrite, with_changes, with_filter
from engine.settings.reading import ConfigError, load
from engine.settings.reload import Change
from engine.settings.values import SessionSettings, Settings
from souppp_tui.desk.actions import key_names
from souppp_tui.desk.options import ConsoleOptions, Load, Save, SaveFilter


def saver(path: Path) -> Save:
    """Writes changes into this file, all or none; it keeps its comments."""

    def save(changes: Sequence[Change]) -> None:
        _rewrite(path, lambda text: with_changes(text, changes, path))

    return save


def filter_saver(path: Path) -> SaveFilter:
    """Writes a filter and its name into this file, or forgets it there."""
    return lambda name, written: _rewrite(path, lambda text: with_filter(text, name, written, path))


def console_of(settings: ConsoleSettings, path: Path | None, options: argparse.Namespace) -> ConsoleOptions:
    """What a configuration says about the console, less what the command line says otherwise."""
    return ConsoleOptions(
        read_only=options.read_only,
        theme=options.theme or settings.theme,
        mouse=settings.mouse and not options.no_mouse,
        columns=settings.columns,
        confirm_above=settings.confirm_above,
        keys=key_names(settings.keys),
        commands={key_names({"": key})[""]: own for key, own in settings.commands.items()},
        filters=settings.filters,
        save_filter=filter_saver(path) if path is not None else None,
    )


def own_configuration() -> Path | None:
    """Where a console that runs no engine looks for what its user wants of it, if there is such a file."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(folder) / "souppp" / "console.yaml"
    return path if path.is_absolute() and path.is_file() else None


def who_else_writes(path: Path) -> str:
    """Who besides this user and root could put commands into a file, in a sentence; empty if nobody. Raises OSError."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} is another user's file, so its commands are not run."
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"Others can write {path}, so its commands are not run: chmod go-w."
    return ""


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
