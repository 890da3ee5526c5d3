"""Frames that other people's programs sent; README.md says where each capture comes from."""

from __future__ import annotations

import struct
from pathlib import Path

_ORDERS = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<"}
_ETHERNET = 1


def captured(name: str) -> list[bytes]:
    """The Ethernet frames of a capture, by the name of its classic pcap file."""
    data = Path(__file__).with_name(f"{name}.pcap").read_bytes()
    order = _ORDERS[data[:4]]
    (link_type,) = struct.unpack_from(order + "I", data, 20)
    assert link_type == _ETHERNET
    frames = []
    at = 24
    while at < len(data):
        (kept,) = struct.unpack_from(order + "I", data, at + 8)
        frames.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return frames
