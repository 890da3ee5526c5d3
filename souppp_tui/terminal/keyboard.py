"""One key after the other, however fast they come.

Textual hands each key to what has the focus, and what a key opens gets the focus only when it stands. Where many keys
arrive at once, as over a slow line, those behind `/`, `:` or tab would go to the wrong place: a password into the name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from textual.app import App, ScreenStackError
from textual.message_pump import MessagePump
from textual.widgets import Input

PATIENCE = 1.0
"""Seconds after which the next key is let through in any case."""


def standing(app: App[Any]) -> Sequence[object]:
    """What is on the screen and what has the focus. A key that leaves both as they are has opened nothing."""
    try:
        return app.screen, app.focused, *app.screen.walk_children()
    except ScreenStackError:
        return ()


async def worked_off(app: App[Any], pumps: Iterable[MessagePump], stood: Sequence[object]) -> None:
    """Wait until a key has gone its way up through `pumps`, and what it opened stands; `stood` is what did before."""
    for pump in pumps:
        await _emptied(pump)
    if standing(app) == stood and not isinstance(app.focused, Input):
        return
    with suppress(ScreenStackError):  # none is left when it was the key to quit
        await _emptied(app.screen)
        await _emptied(*app.screen.walk_children())
    await _emptied(app)


async def _emptied(*pumps: MessagePump) -> None:
    """Wait until pumps have worked off the messages they have now, or have ended."""
    told = asyncio.Event()
    waiting = set[MessagePump]()

    def done(pump: MessagePump) -> None:
        waiting.discard(pump)
        if not waiting:
            told.set()

    waiting.update(pump for pump in pumps if pump.call_later(done, pump))
    end = asyncio.get_running_loop().time() + PATIENCE
    while any(map(_lives, waiting)) and asyncio.get_running_loop().time() < end:
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), 0.02)


def _lives(pump: MessagePump) -> bool:
    """Whether it works messages off, or is about to begin: what has just been opened has a task that hasn't run yet."""
    return pump.is_running or pump._task is not None
