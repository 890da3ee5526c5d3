"""An engine in the test's own process and namespace, and what tests ask it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from engine.api.values import Event, SessionState, SessionView
from engine.run.thread import Engine, EngineOptions
from engine.settings.values import DialSettings, EgressChoice, KeepaliveSettings, SessionSettings, Settings
from tests.program import PATIENCE, until
from tests.provider import CARD
from tests.stories import telling

PATIENT = KeepaliveSettings(1.0, 5)
"""With a concentrator that others keep from a processor for some seconds; that one is dead is noticed all the same."""
DIAL = DialSettings(retry_min=0.2, retry_max=1.0)


def session(name: str, **settings: Any) -> SessionSettings:
    """A session that the lab's concentrator takes, dialled at the start."""
    usual = {"user": "anyone", "password": "lab", "autodial": True, "keepalive": PATIENT}
    return SessionSettings(name, **{**usual, **settings})


@contextmanager
def dialling(
    sessions: Sequence[SessionSettings], dial: DialSettings = DIAL, *, card: str = CARD, **more: Any
) -> Iterator[Engine]:
    """An engine with these sessions; `more` goes to Settings or EngineOptions, whichever has such a field."""
    settings = Settings(tuple(sessions), dial)
    options = EngineOptions()
    for key, value in more.items():
        if hasattr(settings, key):
            settings = replace(settings, **{key: value})
        else:
            options = replace(options, **{key: value})
    engine = Engine(card, settings, options)
    engine.start()
    try:
        with telling(f"the engine on {card}", lambda: story(engine)):
            engine.wait_ready()
            yield engine
    finally:
        engine.stop()


def views(engine: Engine) -> dict[str, SessionView]:
    """The sessions by name."""
    return {view.name: view for view in engine.snapshot().sessions}


def view(engine: Engine, name: str) -> SessionView:
    """One session."""
    return views(engine)[name]


def events(engine: Engine, kind: str, name: str | None = None) -> list[Event]:
    """The events of this kind so far, of one session or all."""
    found, lost = engine.events_since(0)
    assert lost == 0
    return [event for event in found if event.kind == kind and name in (None, event.name)]


def story(engine: Engine) -> str:
    """All events, for a failed test."""
    return "\n".join(f"{event.at:.3f} {event.name} {event.kind}: {event.text}" for event in engine.events_since(0)[0])


def wait_state(engine: Engine, state: SessionState, *names: str) -> None:
    """Wait until these sessions, or all, are in a state."""

    def there() -> bool:
        return all(each.state is state for each in engine.snapshot().sessions if not names or each.name in names)

    try:
        until(there, "that")
    except AssertionError:
        raise AssertionError(f"{names or 'all'} never {state}:\n{story(engine)}") from None


def wait_up(engine: Engine, *names: str) -> None:
    """Wait until these sessions, or all, are up and their devices are there."""
    wait_state(engine, SessionState.UP, *names)
    until(
        lambda: all(
            v.device or v.egress != EgressChoice.DEVICE for v in views(engine).values() if v.state is SessionState.UP
        ),
        "the devices",
    )


def fetch(interface: str) -> str:
    """The address that the lab's web server sees when a page is fetched through a device or address."""
    command = ["curl", "-sS", "--fail", "--max-time", f"{PATIENCE:.0f}", "--interface", interface, "http://100.64.0.1/"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * PATIENCE).stdout
    return answer.split()[-1]


def pings(device: str, size: int = 56, count: int = 3, target: str = "100.64.0.1") -> bool:
    """Whether don't-fragment pings with `size` octets of data are answered."""
    done = _ping(device, size, count, target, PATIENCE)
    if done.returncode:
        print(done.stdout)
    return done.returncode == 0


def too_long(device: str, size: int, target: str = "100.64.0.1") -> bool:
    """Whether the device itself refuses a don't-fragment ping with `size` octets of data."""
    return "message too long" in _ping(device, size, 1, target, 1.0).stdout.lower()


def _ping(device: str, size: int, count: int, target: str, patience: float) -> subprocess.CompletedProcess[str]:
    """Until `count` are answered, for `patience` seconds: the far end may take a moment more until it is up as well."""
    ping = ["ping", "-c", str(count), "-i", "0.05", "-w", f"{patience:.0f}", "-M", "do", "-s", str(size), "-I", device]
    either = subprocess.STDOUT
    return subprocess.run(
        [*ping, target], stdout=subprocess.PIPE, stderr=either, text=True, timeout=2 * PATIENCE, check=False
    )
