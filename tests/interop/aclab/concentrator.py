"""rp-pppoe's pppoe-server, with a pppd for each session, as it is set up in a guest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

OPTIONS = "/etc/ppp/pppoe-server-options"
ACCOUNTS = {
    "alice": "wonderland",
    "bob": "builder",
    "user@isp.example": 'p@ss w"ord',
    **{f"load{n}": "secret" for n in range(10)},
}
METHODS = {"chap": "require-chap", "pap": "require-pap", "mschapv2": "require-mschap-v2", "none": "noauth"}
LISTENING = "until grep -q ' 8863 ' /proc/net/packet; do sleep 0.02; done"
"""The command that returns when the server has its discovery socket."""


def command(settings: Mapping[str, str], card: str) -> str:
    """The command line of the server."""
    net = settings["NET"]
    words = ["pppoe-server", "-F", "-I", card, "-C", settings["AC"], "-N", settings["SESSIONS"], "-O", OPTIONS]
    words += ["-L", f"{net}.0.1", "-R", f"{net}.1.1"]
    words += ["-S", settings["SVC"]] if settings["SVC"] else []
    return "exec " + shlex.join(words)


def write_ppp(folder: Path, settings: Mapping[str, str]) -> None:
    """Make a folder with what the guest's /etc/ppp holds: accounts, and the options of the server's pppds."""
    folder.mkdir(parents=True)
    accounts = "".join(f"{_quoted(user)} * {_quoted(secret)} *\n" for user, secret in ACCOUNTS.items())
    for name in ("chap-secrets", "pap-secrets"):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(accounts)
    net, auth = settings["NET"], settings["AUTH"]
    lines = [
        METHODS.get(auth, auth),
        f"name {_quoted(settings['AC'])}",
        *(f"ms-dns {net}.0.{host}" for host in (53, 54)),
        *("mtu 1492", "mru 1492", "+ipv6", "noccp", "novj", "nodefaultroute", "noproxyarp"),
        *("lcp-echo-interval 30", "lcp-echo-failure 4", "debug"),
        *settings["OPTS"].split(";"),
    ]
    (folder / Path(OPTIONS).name).write_text("\n".join(lines) + "\n")
    (folder / "options").touch()


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
