"""What an open session is good for, as command lines ready to paste. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from engine.api.values import SessionState, SessionView
from engine.settings.options import EngineOptions
from engine.settings.values import EgressChoice, ProxySettings

USUAL_URL = "http://example.com/"


def try_line(views: Iterable[SessionView], options: EngineOptions, proxy: ProxySettings) -> str:
    """A command line that fetches the lab's page through the first session that can; empty if none can."""
    open_to_all = proxy.allow_private and not proxy.users
    for view in views:
        if view.state is SessionState.UP and (view.device or (view.proxy and open_to_all)):
            way = f"--interface {view.device}" if view.device else f"-x {view.proxy}"
            return f"{options.command_prefix}curl {way} {options.try_url or USUAL_URL}"
    return ""


def usage(view: SessionView, options: EngineOptions, proxy: ProxySettings, card: str) -> tuple[tuple[str, str], ...]:
    """What for, and the command line for it; nothing while the session has no global address, or no way in at all."""
    ipv6 = next(iter(view.ipv6_addresses), None)
    device, has_stack = view.device, view.egress == EgressChoice.STACK
    if (device is None and not has_stack) or (view.ipv4 is None and ipv6 is None):
        return ()
    prefix, url = options.command_prefix, options.try_url or USUAL_URL
    url6 = options.try_url6 or ("" if options.try_url else USUAL_URL)
    far_end = view.ipv4_peer or view.ipv4
    engine = "lab" if options.lab else card
    # Without a password curl asks for it; where there are no users any name will do.
    user = proxy.users[0].name if proxy.users else "any"
    password = "" if proxy.users else ":"
    with_user = f"-U {quote(user)} " if proxy.users else ""
    pool = proxy.pool.listen if proxy.pool is not None else None
    lines = (
        ("fetch a page through it", device and f"curl --interface {device} {url}"),
        ("bind to its address", device and view.ipv4 and f"curl --interface {view.ipv4} {url}"),
        ("bind to its IPv6 address", device and ipv6 and url6 and f"curl -6 --interface {ipv6} {url6}"),
        (
            "run a program in it",
            device and f"{options.program} exec --on {quote(engine)} {quote(view.name)} -- curl {url}",
        ),
        ("use its proxy", view.proxy and f"curl {with_user}-x socks5h://{view.proxy} {url}"),
        (
            "choose it in the pool",
            pool and f"curl -U {quote(f'{user}-session-{view.name}')}{password} -x socks5h://{pool} {url}",
        ),
        ("send with its mark", device and view.mark is not None and far_end and f"ping -m {view.mark} {far_end}"),
        ("ping through it", device and far_end and f"ping -I {device} {far_end}"),
        ("route a network through it", device and f"ip route add NETWORK dev {device}"),
        ("watch its packets", device and f"tcpdump -ni {device}"),
    )
    return tuple((what, prefix + line) for what, line in lines if line)
