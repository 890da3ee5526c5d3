"""What the console's tests share: UTC, and a console without a clock of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import textual.app
import textual.pilot
from msgspec.structs import replace
from textual._context import active_app
from textual.app import App, ScreenStackError
from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.screen import Screen

from engine.api.commands import Command
from souppp_tui.app.console import Console
from souppp_tui.app.eventfile import EventFile
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.model.several import Attached, Several
from souppp_tui.show.themes import palette
from tests.console.scripted import ScriptedEngine


@pytest.fixture(autouse=True, scope="session")
def _utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(autouse=True, scope="session")
def _settling() -> Iterator[None]:
    """Textual takes a console for idle when the process got little of the processor for 20 ms, twice a key: that costs
    most of a test's time, and on a busy machine it isn't true.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (textual.app, textual.pilot):
            patch.setattr(module, "wait_for_idle", settled)
        yield


async def settled(_: float = 0) -> None:
    """Wait until nothing is left to do for the console, which is drawn anew by then if it has to be."""
    seen_behind = False
    for _round in range(1000):
        await asyncio.sleep(0)
        if asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]
            continue
        app = active_app.get()
        if app._resize_event is not None:  # its timer waits for more of them
            app._check_resize()
        elif _drawn(app):
            continue
        elif not seen_behind:  # once: what is drawn behind another screen says that it wants to be drawn again
            seen_behind = True
            for screen in app._background_screens:
                screen._on_timer_update()
        else:
            return


def _drawn(app: App[Any]) -> bool:
    """Draw what waits for that, as timers of the screens do sixty times a second; whether there was any."""
    with suppress(ScreenStackError):
        waiting = [screen for screen in app._background_screens if screen._layout_required or screen._callbacks]
        if _waits(app.screen):
            waiting.append(app.screen)
        for screen in waiting:
            screen._on_timer_update()
        return bool(waiting)
    return False


def _waits(screen: Screen[Any]) -> bool:
    return bool(
        screen._layout_required
        or screen._scroll_required
        or screen._repaint_required
        or screen._recompose_required
        or screen._dirty_widgets
        or screen._callbacks
    )


class Both(Several):
    """Scripted engines as one, whose time goes on together."""

    def __init__(self, *engines: ScriptedEngine, names: tuple[str, ...] = ("gate", "hub", "node", "yard")) -> None:
        self.scripted = engines
        self.rights = [True] * len(engines)
        super().__init__(
            [
                Attached(name, engine, lambda place=place: self.rights[place])  # type: ignore[misc]
                for place, (name, engine) in enumerate(zip(names, engines, strict=False))
            ]
        )

    def advance(self, seconds: float) -> None:
        for engine in self.scripted:
            engine.advance(seconds)


class Stage:
    """A console under test and its scripted engine; time goes on only by `tick`."""

    def __init__(self, app: Console, engine: ScriptedEngine, pilot: Pilot[bool]) -> None:
        self.app, self.engine, self.pilot = app, engine, pilot

    async def tick(self, steps: int = 1, seconds: float = 0.5) -> None:
        """Let the engine go on and the console look."""
        for _ in range(steps):
            self.engine.advance(seconds)
            self.app.tick()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """Press keys and wait until they are worked off."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type_ahead(self, *keys: str) -> None:
        """Press keys that arrive all at once, as over a slow line, and wait until they are worked off."""
        for key in keys:
            name = _character_to_key(key) if len(key) == 1 else key
            self.app.post_message(Key(name, key if len(key) == 1 else None))
        for _ in keys:
            await self.pilot.pause()

    def text(self) -> str:
        """The screen as text."""
        return "\n".join(
            "".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()
        )

    def painted(self, role: str) -> str:
        """All text in the colour of a role."""
        colour = palette(self.app.theme)[role].color
        strips = self.app.screen._compositor.render_strips()
        return "".join(each.text for strip in strips for each in strip if each.style and each.style.color == colour)

    def painted_on(self, role: str) -> str:
        """All text on the ground of a role."""
        ground = palette(self.app.theme)[role].bgcolor
        strips = self.app.screen._compositor.render_strips()
        return "".join(each.text for strip in strips for each in strip if each.style and each.style.bgcolor == ground)

    def line(self, part: str) -> str:
        """The first line of the screen with this in it. Raises StopIteration."""
        return next(line for line in self.text().splitlines() if part in line)

    @property
    def last(self) -> Command:
        """The latest command."""
        return self.engine.commands[-1]


Start = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def start() -> Start:
    """Start a console: `start(sessions=…, size=…, options=…, event_file=…, **for ScriptedEngine)`."""

    @asynccontextmanager
    async def opened(
        sessions: int = 30,
        size: tuple[int, int] = (120, 40),
        options: ConsoleOptions | None = None,
        engine: ScriptedEngine | None = None,
        event_file: Path | None = None,
        **more: object,
    ) -> AsyncIterator[Stage]:
        engine = engine or ScriptedEngine(sessions, **more)  # type: ignore[arg-type]
        given = options or ConsoleOptions(theme="dark")
        events = EventFile(event_file, engine) if event_file else None
        app = Console(engine, replace(given, period=0), events=events)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Stage(app, engine, pilot)

    return opened
