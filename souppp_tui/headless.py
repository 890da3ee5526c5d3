"""The engine without a screen: events and results as JSON, one object a line."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from engine.api import EngineApi, Event, SessionState, SessionView

LOOK = 0.02
"""Seconds between looks at the engine's events."""

EXIT_UP = 0
EXIT_NOT_UP = 1


@dataclass(frozen=True, slots=True)
class HeadlessOptions:
    """When to end."""

    until_up: bool = False
    """End when every session that is dialled at the start is up, or can't be in time."""
    timeout: float = 60.0
    """Seconds for that."""
    hold: bool = False
    """Then keep the sessions until a signal comes."""


def event_object(event: Event) -> dict[str, Any]:
    """An event as it is printed."""
    return {
        "event": event.kind,
        "time": round(event.at, 6),
        "severity": event.severity.name.lower(),
        "session": event.name or None,
        "text": event.text,
    }


def session_object(view: SessionView, trouble: str | None = None) -> dict[str, Any]:
    """A session as it is printed at the end of `--until-up`; `trouble` is what its latest failure was."""
    return {
        "name": view.name,
        "state": str(view.state),
        "ipv4": view.ipv4,
        "dns": list(view.dns),
        "device": view.device,
        "session_id": view.session_id,
        "ac_name": view.ac_name,
        "ac_mac": view.ac_mac,
        "local_mac": view.local_mac,
        "mtu": view.mtu,
        "setup_ms": round(view.setup_ms, 3) if view.setup_ms is not None else None,
        "error": None if view.state is SessionState.UP else view.reason or _too_late(view, trouble),
    }


def _too_late(view: SessionView, trouble: str | None) -> str:
    still = f"not up in time: still {view.state}"
    return still if trouble is None else f"{still}; before that: {trouble}"


def run(engine: EngineApi, options: HeadlessOptions, leaving: threading.Event) -> int:
    """Print until there is nothing more to wait for or `leaving` is set; returns the exit code."""
    seen = 0
    troubles: dict[int | None, str] = {}
    waiting = options.until_up
    deadline = time.monotonic() + options.timeout
    while True:
        events, _ = engine.events_since(seen)
        for event in events:
            _print(event_object(event))
            seen = event.seq
            if event.kind in ("dial-failed", "session-down"):
                troubles[event.session] = event.text
        if waiting:
            wanted = [view for view in engine.snapshot().sessions if view.autodial]
            all_up = all(view.state is SessionState.UP for view in wanted)
            if all_up or time.monotonic() >= deadline:
                for view in wanted:
                    _print(session_object(view, troubles.get(view.id)))
                if not (all_up and options.hold):
                    return EXIT_UP if all_up else EXIT_NOT_UP
                waiting = False
        if leaving.wait(LOOK):
            return EXIT_NOT_UP if waiting else EXIT_UP


def _print(thing: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(thing, ensure_ascii=False) + "\n")
    sys.stdout.flush()
