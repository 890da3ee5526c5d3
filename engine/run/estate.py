"""What one process leaves to the next: the sessions that are up, as octets, and the descriptors that keep devices.

The octets are msgpack of a `Legacy`. A later release may read them: it skips what it doesn't know, and what it misses
has a default. They hold no secret; the password a concentrator may ask for again is in the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.api.values import Halted
from engine.egress.kept import KeptDevice
from engine.egress.tun import name_of
from engine.sessions.settled import KeptMember
from engine.settings.values import DatapathChoice

PATIENCE = 60.0
"""Seconds after which concentrators may have given the sessions up."""
NOTHING = Halted()
_FORM = 1
_STATE, _DEVICES, _NET, _ENTRANCE = "state", "devices", "net", "entrance"


class Legacy(Struct, frozen=True):
    """What is told in octets."""

    form: int
    """Another one is another meaning: nothing is taken over then."""
    boot: str
    """Which boot of the host that was, as times are by its clock."""
    at: float
    """When, by time.monotonic()."""
    members: tuple[KeptMember, ...]
    devices: tuple[KeptDevice, ...]
    traffic: bytes = b""
    """As in `Snapshot.traffic`: counters go on."""
    halted: Halted = NOTHING


class Estate:
    """All of it. Whoever takes a descriptor out owns it; `close` closes the rest."""

    def __init__(
        self,
        members: Sequence[KeptMember] = (),
        devices: Sequence[tuple[KeptDevice, int]] = (),
        net: int = -1,
        traffic: bytes = b"",
        entrance: int = -1,
        halted: Halted = NOTHING,
    ) -> None:
        """`devices` have the descriptors of TUN devices, `net` is one of the namespace of the hidden ends, if any.

        `entrance` is that of programs that run in sessions, if any do.
        """
        self.members = tuple(members)
        self.devices = list(devices)
        self.net = net
        self.traffic = traffic
        self.entrance = entrance
        self.halted = halted
        self.late = 0.0
        """Seconds since it was left, where that is too long for sessions."""

    def told(self, now: float) -> bytes:
        """As octets; the descriptors go beside them."""
        kept = tuple(device for device, _ in self.devices)
        return msgspec.msgpack.encode(Legacy(_FORM, _boot(), now, self.members, kept, self.traffic, self.halted))

    def descriptors(self, card: str, state: int) -> dict[str, list[int]]:
        """By card and what each is for; `state` is that of a file with the octets."""
        tuns = [fd for _, fd in self.devices if fd >= 0]
        parts = {_STATE: [state], _DEVICES: tuns, _NET: [self.net], _ENTRANCE: [self.entrance]}
        parts = {part: [fd for fd in fds if fd >= 0] for part, fds in parts.items()}
        return {f"{card}.{part}": fds for part, fds in parts.items() if fds}

    def close(self) -> None:
        """Give back what nobody took."""
        for fd in (self.net, self.entrance, *(fd for _, fd in self.devices)):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self.net, self.entrance, self.devices = -1, -1, []


def found(descriptors: dict[str, list[int]], card: str, now: float) -> Estate:
    """What `Estate.descriptors` told of a card, in another process; without sessions where it is too old or unreadable.

    The descriptors are the estate's. Those of devices that it doesn't know, and the file, are closed.
    """
    parts = (_STATE, _DEVICES, _NET, _ENTRANCE)
    state, devices, nets, entrances = (descriptors.pop(f"{card}.{part}", []) for part in parts)
    tuns = dict(_named(devices))
    legacy = _read(state.pop(0)) if state else None
    net = nets.pop(0) if nets and legacy is not None else -1  # without it goes all that nobody knows of
    estate = Estate(net=net)
    if legacy is not None:
        for kept in legacy.devices:
            if kept.path is not DatapathChoice.AFXDP and net >= 0:
                estate.devices.append((kept, -1))
            elif kept.name in tuns:
                estate.devices.append((kept, tuns.pop(kept.name)))
        age = now - legacy.at if legacy.boot == _boot() else -1.0
        if 0 <= age < PATIENCE:
            estate.members, estate.traffic, estate.halted = legacy.members, legacy.traffic, legacy.halted
            estate.entrance = entrances.pop(0) if entrances else -1
        elif age >= PATIENCE and legacy.members:
            estate.late = age
    for fd in (*tuns.values(), *state, *nets, *entrances):
        os.close(fd)
    return estate


def _read(fd: int) -> Legacy | None:
    try:
        with open(fd, "rb") as file:
            file.seek(0)
            legacy = msgspec.msgpack.decode(file.read(), type=Legacy)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    return legacy if legacy.form == _FORM else None


def _named(fds: Sequence[int]) -> Iterator[tuple[str, int]]:
    for fd in fds:
        try:
            yield name_of(fd), fd
        except OSError:  # the device has been deleted
            os.close(fd)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
