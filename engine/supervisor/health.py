"""Which sessions have their page fetched, and what follows when it can't be: sans-IO.

A session whose checks fail `failures` times in a row is dialled for another address. If they go on failing there, the
page may be at fault and not the address: each time twice as many have to fail, until one succeeds.
"""

from __future__ import annotations

from itertools import count

from msgspec import Struct

from engine.api.values import SessionState, SessionView, Severity
from engine.settings.values import EgressChoice, HealthSettings
from engine.supervisor.hooks import clean
from engine.supervisor.reporting import Reporter
from engine.supervisor.rotating import HEALTH, Rotating

DOUBLINGS = 6
"""How often the number of failures is doubled at most."""
MAX_PROBLEM = 200


class Target(Struct, frozen=True):
    """A page that is to be fetched through a session while it is as it is."""

    serial: int
    """Each target's own: results are told by it."""
    name: str
    device: str
    """Empty for a stack."""
    ipv4: str | None
    ipv6: str | None
    dns: tuple[str, ...]
    url: str
    every: float
    stack: bool
    """It has no device: the stack program connects."""


class _Watched(Struct):
    view: tuple[object, ...]
    """What the target is made of."""
    target: Target
    settings: HealthSettings
    failed: int = 0
    """In a row."""


class Health:
    """All sessions that have a page to fetch."""

    def __init__(self, rotating: Rotating, reporter: Reporter) -> None:
        self._rotating = rotating
        self._reporter = reporter
        self._watched: dict[int, _Watched] = {}
        self._serials = count(1)
        self._rotated: dict[int, int] = {}
        """How often in a row a session was given another address for this."""
        self._out_of_reach: set[int] = set()
        """Sessions of which it was told that their device is elsewhere."""
        self.orders: dict[int, Target | None] = {}
        """Which targets are new, None for those that are no more; whoever sees to them takes them out."""

    @property
    def targets(self) -> dict[int, Target]:
        """All that there are."""
        return {key: watched.target for key, watched in self._watched.items()}

    def look(self, key: int, view: SessionView | None, settings: HealthSettings) -> None:
        """A session may have changed; None for a view if it is gone."""
        if view is None:
            self._rotated.pop(key, None)
            self._out_of_reach.discard(key)
        stack = view is not None and view.egress == EgressChoice.STACK
        device = ("" if stack else view.device) if view is not None and view.state is SessionState.UP else None
        if view is not None and device is not None and view.netns and settings.url is not None:
            self._tell_of_netns(key, view.netns)
            device = None
        if view is None or device is None or settings.url is None or not (view.ipv4 or view.ipv6_addresses):
            if self._watched.pop(key, None) is not None:
                self.orders[key] = None
            return
        ipv6 = view.ipv6_addresses[0] if view.ipv6_addresses else None
        made_of = (view.name, device, view.ipv4, ipv6, view.dns, view.up_since, settings)
        watched = self._watched.get(key)
        if watched is None or watched.view != made_of:
            target = Target(
                next(self._serials), view.name, device, view.ipv4, ipv6, view.dns, settings.url, settings.every, stack
            )
            self._watched[key] = _Watched(made_of, target, settings)
            self.orders[key] = target

    def _tell_of_netns(self, key: int, netns: str) -> None:
        if key not in self._out_of_reach:
            self._out_of_reach.add(key)
            text = (
                f"No health check: its device is in the network namespace {netns}, where no page is fetched from here."
            )
            self._reporter.tell(Severity.WARNING, "health", text, key)

    def found(self, key: int, serial: int, problem: str, now: float) -> None:
        """What came of one check: what was wrong, empty if nothing was."""
        watched = self._watched.get(key)
        if watched is None or watched.target.serial != serial or self._rotating.is_draining(key):
            return
        rotated = self._rotated.get(key, 0)
        bound = watched.settings.failures << min(rotated, DOUBLINGS)
        if not problem:
            if watched.failed >= bound or rotated:
                self._reporter.tell(Severity.INFO, "health", "The health check succeeds again.", key)
            watched.failed = 0
            self._rotated.pop(key, None)
            self._rotating.is_well(key)
            return
        watched.failed += 1
        if watched.failed == bound:
            self._rotated[key] = rotated + 1
            times = "" if bound == 1 else f" {bound} times in a row"
            text = f"The health check failed{times}: {watched.target.url}: {clean(problem, MAX_PROBLEM)}."
            self._reporter.tell(Severity.WARNING, "health", text, key)
            self._rotating.wish(key, HEALTH, now)
