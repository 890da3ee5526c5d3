"""How an engine runs; what it dials is in `engine.settings.values`."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from engine.host.errors import Trouble
from engine.settings.values import XdpMode

DEVICES = "soup"


class EngineError(Trouble):
    """The engine can't run: one line for the operator."""


class EngineOptions(Struct, frozen=True):
    """What the command line says about one run."""

    xdp: XdpMode | None = None
    """How the card's frames come to us; None leaves that to `Settings.xdp`."""
    busy_poll: bool = False
    fix_card: bool = False
    """Switch off what the card does to frames that keeps them, or XDP, from us; on again at the end."""
    lab: bool = False
    state_folder: Path | None = None
    """Where open sessions are noted for the next start; None notes nothing."""
    capture: Path | None = None
    """Write every session's control frames to this pcapng file."""
    command_prefix: str = ""
    """What comes before a command line that is to use a session, as for another network namespace."""
    program: str = "souppp-tui"
    """What we are called by on a command line."""
    devices: str = DEVICES
    """What sessions' devices are called, before a number, where their settings say nothing else."""
    try_url: str = ""
    """Where a session can be tried out …"""
    try_url6: str = ""
    """… over IPv6."""
