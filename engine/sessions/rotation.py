"""Addresses that are given back: those in unwanted networks, and the one that is to be exchanged for another.

Pure: what has been given back so far goes in, what is to be done comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from msgspec import Struct
from msgspec.structs import replace

MAX_ROTATIONS = 10
"""How often in a row an unwanted address is given back."""
MAX_SAME = 3
"""How often in a row the address that is to be exchanged is given back."""


class Verdict(Enum):
    """What to do with an address."""

    KEEP = "keep"
    UNWANTED = "unwanted"
    """Give it back, and dial again after a pause."""
    HOPELESS = "hopeless"
    """Give it back, and stay down: it was tried often enough."""
    SAME = "same"
    """Give it back, and dial again at once."""


class Rotation(Struct, frozen=True):
    """Where a session stands in looking for an address that suits."""

    given_back: int = 0
    """How often in a row it gave its address back."""
    leaving: IPv4Address | None = None
    """The address that is to be exchanged for another."""


class Judgement(Struct, frozen=True):
    """What to do, and what to tell the operator."""

    verdict: Verdict
    rotation: Rotation
    """Where the session stands from now on."""
    text: str = ""
    exchanged: bool | None = None
    """A wished exchange came to its end with this address: whether it is another one."""


def judge(address: IPv4Address, rotation: Rotation, unwanted: Sequence[IPv4Network]) -> Judgement:
    """What is to become of an address that a session was given."""
    times = rotation.given_back + 1
    if any(address in network for network in unwanted):
        if times > MAX_ROTATIONS:
            text = f"Keeps getting unwanted addresses, the latest {address}: left down. Dial it again by hand."
            return Judgement(Verdict.HOPELESS, replace(rotation, given_back=0), text)
        text = f"{address} is in an unwanted network: given back ({times} of {MAX_ROTATIONS})."
        return Judgement(Verdict.UNWANTED, replace(rotation, given_back=times), text)
    if address == rotation.leaving and times <= MAX_SAME:
        text = f"Got {address} again ({times} of {MAX_SAME})."
        return Judgement(Verdict.SAME, replace(rotation, given_back=times), text)
    if address == rotation.leaving:
        return Judgement(Verdict.KEEP, Rotation(), f"Still {address}: no other was given.", exchanged=False)
    if rotation.leaving is not None:
        text = f"New address {address}, was {rotation.leaving}."
        return Judgement(Verdict.KEEP, Rotation(), text, exchanged=True)
    return Judgement(Verdict.KEEP, Rotation())
