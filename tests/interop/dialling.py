"""The program on the near side of a line to a real concentrator."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.conftest import NetnsPair
from tests.interop.kit import Aclab
from tests.program import Program, running, until

SERVER = "10.67.0.1"
QUICK = "keepalive: {interval: 0.5, failures: 3}"


def dial(
    line: NetnsPair, folder: Path, sessions: str, *arguments: str | Path, more: str = "", besides: str = ""
) -> AbstractContextManager[Program]:
    """A run of the program with these sessions, YAML flow mappings one a line, all dialled at the start.

    `more` are further settings of dialling, as they stand in the configuration, `besides` what else stands there.
    """
    config = folder / "config.yaml"
    entries = "".join(f"  - {entry.strip()}\n" for entry in sessions.strip().splitlines())
    defaults = "{user: alice, password: wonderland, autodial: true}"
    pace = ", ".join(filter(None, ("retry_min: 0.5, retry_max: 2", more)))
    config.write_text(f"defaults: {defaults}\nsessions:\n{entries}dial: {{{pace}}}\n{besides}\n")
    words = (line.card, "--config", config, "--state-dir", folder / "state", "--headless", *arguments)
    return running(*words, within=line.command())


HOLD = ("--until-up", "--hold")


def pings(line: NetnsPair, device: str, size: int = 56, target: str = SERVER) -> bool:
    """Whether don't-fragment pings of that many octets of data are answered through a device."""
    ping = ("ping", "-q", "-c", "3", "-i", "0.2", "-W", "5", "-M", "do", "-s", str(size), "-I", device, target)
    return subprocess.run(line.command(*ping), capture_output=True, timeout=40, check=False).returncode == 0


def pppds(concentrator: Aclab) -> set[str]:
    """The process ids of the concentrator's pppds: one a session."""
    return set(concentrator.exec("pidof pppd || true").split())


def wait_pppds(concentrator: Aclab, count: int) -> None:
    """Wait until the concentrator has so many sessions."""
    until(lambda: len(pppds(concentrator)) == count, f"{count} sessions at the concentrator")


def wait_refused(program: Program, name: str) -> None:
    """Wait until a session says that its password was refused.

    Not always at once: now and then rp-pppoe sends its PADT before pppd's refusal has got through.
    """
    program.wait_for(
        lambda said: said.get("event") == "dial-failed" and said["session"] == name and "password" in said["text"]
    )
