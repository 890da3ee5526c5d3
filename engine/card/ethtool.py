"""What a driver can be asked and told by ethtool's ioctl: its name, its queues, its features (linux/ethtool.h).

A feature is something that a card or its driver does to frames, by the name that the kernel gives it and
`ethtool -k` shows, as in `rx-lro`.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Mapping

from msgspec import Struct

from engine.host.errors import HostError, Unseen

GDRVINFO, GFLAGS, GRXCLSRLCNT, GCHANNELS = 0x03, 0x25, 0x2E, 0x3C
_GSTRINGS, _GSSET_INFO, _GFEATURES, _SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
_SIOCETHTOOL = 0x8946
_FEATURES = 4
"""ETH_SS_FEATURES: the set of strings that features are named by."""
_NAME = 32


class Channels(Struct, frozen=True):
    """A card's queues: those in use, and how many there can be; 0 of a kind that it doesn't have."""

    rx: int
    tx: int
    combined: int
    max_rx: int
    max_tx: int
    max_combined: int


class Feature(Struct, frozen=True):
    """One feature of a card."""

    active: bool
    changeable: bool


def ask(name: str, command: int, size: int, *more: int) -> bytes | None:
    """A driver's answer of up to `size` octets to a command that only reads; None if it knows none.

    `more` are 32-bit numbers that follow the command's. Raises Unseen.
    """
    answer = ctypes.create_string_buffer(struct.pack(f"={1 + len(more)}I", command, *more), size)
    try:
        _ioctl(name, answer)
    except OSError:
        return None
    return answer.raw


def _ioctl(name: str, data: ctypes.Array[ctypes.c_char]) -> None:
    question = struct.pack("16sP16x", name.encode(), ctypes.addressof(data))
    try:
        any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise Unseen(f"{name} can't be looked at: {error.strerror}.") from None
    with any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, question)


def driver(name: str) -> str:
    """The kernel driver's name, or empty."""
    answer = ask(name, GDRVINFO, 196)
    return answer[4:36].split(b"\0")[0].decode(errors="replace") if answer else ""


def channels(name: str) -> Channels | None:
    """A card's queues; None where the driver can't tell."""
    answer = ask(name, GCHANNELS, 36)
    if answer is None:
        return None
    _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack("=9I", answer)
    return Channels(rx, tx, combined, max_rx, max_tx, max_combined)


def features(name: str) -> dict[str, Feature]:
    """All features by name; empty where there is no such card."""
    names = _feature_names(name)
    blocks = (len(names) + 31) // 32
    answer = ask(name, _GFEATURES, 8 + 16 * blocks, blocks)
    if answer is None:
        return {}
    found = {}
    for number, feature in enumerate(names):
        available, _, active, never_changed = struct.unpack_from("=4I", answer, 8 + 16 * (number // 32))
        bit = 1 << number % 32
        found[feature] = Feature(bool(active & bit), bool(available & bit) and not never_changed & bit)
    return {feature: state for feature, state in found.items() if feature}


def set_features(name: str, wanted: Mapping[str, bool]) -> None:
    """Switch features on and off; raises HostError if one doesn't become as it is wanted."""
    names = _feature_names(name)
    blocks = (len(names) + 31) // 32
    words = [0] * (2 * blocks)
    for number, feature in enumerate(names):
        if feature in wanted:
            words[2 * (number // 32)] |= 1 << number % 32
            words[2 * (number // 32) + 1] |= wanted[feature] << number % 32
    order = ctypes.create_string_buffer(struct.pack(f"={2 + len(words)}I", _SFEATURES, blocks, *words))
    what = ", ".join(f"{feature} {'on' if on else 'off'}" for feature, on in wanted.items())
    try:
        _ioctl(name, order)
    except OSError as error:
        raise HostError(f"{name} can't be set to {what}: {error.strerror}.") from None
    now = features(name)
    if any(feature not in now or now[feature].active != on for feature, on in wanted.items()):
        raise HostError(f"{name} can't be set to {what}: its driver doesn't do that.")


def _feature_names(name: str) -> list[str]:
    """By their numbers; empty for those that the kernel doesn't name."""
    count = ask(name, _GSSET_INFO, 20, 0, 1 << _FEATURES, 0)
    if count is None:
        return []
    number = struct.unpack_from("=I", count, 16)[0]
    answer = ask(name, _GSTRINGS, 12 + _NAME * number, _FEATURES, number)
    if answer is None:
        return []
    at = range(12, 12 + _NAME * number, _NAME)
    return [answer[place : place + _NAME].split(b"\0")[0].decode(errors="replace") for place in at]
