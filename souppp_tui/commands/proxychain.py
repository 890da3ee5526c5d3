"""`souppp-tui proxychain home-01`: the environment by which programs that know proxies use a session's.

    eval "$(souppp-tui proxychain home-01)"
    env $(souppp-tui proxychain --bare home-01) git fetch

Exit codes: 0; 1 it has no proxy that listens; 2 the command line is wrong; 3 no engine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from shlex import quote

from engine.api.values import SessionState
from engine.host.errors import Trouble
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_NOT_DONE, EXIT_OK, complain
from souppp_tui.commands.reaching import client, target_options, way_to

NAMES = ("ALL_PROXY", "all_proxy")
"""For what speaks SOCKS; the name in lower case is what curl and others look for first."""
HTTP_NAMES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
OWN = "NO_PROXY", "no_proxy"


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui proxychain",
        description="Print the environment by which programs that know proxies use a session's own one.",
        epilog="Exit codes: 0; 1 the session has no proxy that listens; 2 the command line is wrong; 3 no engine.",
    )
    it.add_argument("--on", metavar="ENGINE", help="its card, lab, or the path of its socket")
    target_options(it)
    it.add_argument("--bare", action="store_true", help="without `export`, for env")
    it.add_argument("session", metavar="SESSION", help="the session's name")
    return it


def environment(endpoint: str) -> dict[str, str]:
    """By name, for a proxy at an address and port. Names are resolved by the proxy, so through the session."""
    found = dict.fromkeys(NAMES, f"socks5h://{endpoint}")
    found |= dict.fromkeys(HTTP_NAMES, f"http://{endpoint}")
    return found | dict.fromkeys(OWN, "localhost,127.0.0.1,::1")


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        with client(way_to(options.on, options.socket), "proxychain", period=0, again=False) as engine:
            view = next((each for each in engine.snapshot().sessions if each.name == options.session), None)
    except Trouble as error:
        complain(f"souppp-tui proxychain: {error}")
        return EXIT_ENVIRONMENT
    if view is None or view.proxy is None:
        why = (
            f"there is no session called {options.session}."
            if view is None
            else f"{view.name} has no proxy: `proxy: {{sessions: {{}}}}` gives each one, `proxy:` on a session its own."
        )
        complain(f"souppp-tui proxychain: {why}")
        return EXIT_NOT_DONE
    if view.state is not SessionState.UP:
        complain(f"souppp-tui proxychain: {view.name} is {view.state}; until it is up its proxy refuses.")
    for name, value in environment(view.proxy).items():
        print(f"{name}={value}" if options.bare else f"export {name}={quote(value)}")
    return EXIT_OK
