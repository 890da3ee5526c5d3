"""A secret of this host's that stays the same: from it comes what is to be so too, and not to be guessed."""

from __future__ import annotations

import hashlib
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5): not to be shown to others as it is."""


def secret() -> bytes:
    """32 octets; empty where the host has no identity."""
    try:
        told = MACHINE_ID.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return b""
    return hashlib.sha256(b"souppp" + told.encode()).digest() if len(told) == 32 else b""
