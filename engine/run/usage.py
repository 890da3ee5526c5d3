"""What an open session is good for, as command lines ready to paste. Pure."""

from __future__ import annotations

from engine.api.values import SessionView
from engine.settings.options import EngineOptions

USUAL_URL = "http://example.com/"


def try_line(view: SessionView, options: EngineOptions) -> str:
    """A command line that fetches a page through a session."""
    return f"{options.command_prefix}curl --interface {view.device} {options.try_url or USUAL_URL}"


def usage(view: SessionView, options: EngineOptions) -> tuple[tuple[str, str], ...]:
    """What for, and the command line for it; nothing while the session has no device or no IPv4 address."""
    if view.device is None or view.ipv4 is None:
        return ()
    prefix = options.command_prefix
    return (
        ("fetch a page through it", try_line(view, options)),
        ("bind to its address", f"{prefix}curl --interface {view.ipv4} {options.try_url or USUAL_URL}"),
        ("ping through it", f"{prefix}ping -I {view.device} {view.ipv4_peer or view.ipv4}"),
        ("route a network through it", f"{prefix}ip route add NETWORK dev {view.device}"),
        ("watch its packets", f"{prefix}tcpdump -ni {view.device}"),
    )
