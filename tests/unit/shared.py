"""Files that come with the project's surroundings, not with the project: captures and RFC texts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(*parts: str) -> Path:
    """A file beside the checkout; skips the test if it isn't there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} in a folder called shared beside the checkout")
    return path


def read_pcap(path: Path) -> list[bytes]:
    """The Ethernet frames of a classic pcap file."""
    data = path.read_bytes()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<"}[data[:4]]
    (link_type,) = struct.unpack_from(order + "I", data, 20)
    assert link_type == 1, "not Ethernet"
    frames = []
    at = 24
    while at < len(data):
        (kept,) = struct.unpack_from(order + "I", data, at + 8)
        frames.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return frames
