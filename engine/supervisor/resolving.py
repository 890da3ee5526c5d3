"""What systemd-resolved is to be told of sessions' name servers, where sessions ask for that. Without I/O.

A device with servers gets the host's own questions, too, unless it is told otherwise: so it is, but where the host's
default route goes through the session.
"""

from __future__ import annotations

from msgspec import Struct

from engine.api.values import SessionState, SessionView
from engine.settings.values import SessionSettings


class LinkNames(Struct, frozen=True):
    """A device and its servers."""

    device: str
    servers: tuple[str, ...]
    leads: bool
    """Whether the host's own questions go to them."""

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """For resolvectl(1), in this order: at no moment the servers get what isn't for them."""
        nothing_said = (("llmnr", self.device, "no"), ("mdns", self.device, "no"))
        return (
            ("default-route", self.device, "yes" if self.leads else "no"),
            *nothing_said,
            ("dns", self.device, *self.servers),
        )


class Resolving:
    """What was told, by session; a device that goes takes it along."""

    def __init__(self) -> None:
        self._told: dict[int, LinkNames] = {}
        self.orders: list[LinkNames] = []
        """What is to be told now; whoever does that clears this."""

    def look(self, key: int, view: SessionView, settings: SessionSettings) -> None:
        """A session may look different."""
        up = view.state is SessionState.UP and view.device is not None and view.netns is None
        if not settings.resolved or not up or view.device is None or not view.dns:
            self.forget(key)
            return
        wanted = LinkNames(view.device, view.dns, settings.default_route.metric is not None)
        if self._told.get(key) != wanted:
            self._told[key] = wanted
            self.orders.append(wanted)

    def forget(self, key: int) -> None:
        """Its device is another one from now on, or none."""
        self._told.pop(key, None)
