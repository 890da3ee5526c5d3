"""Who is at the other end of a Unix socket, and what that one may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

WRITE_GROUP, LOOK_GROUP = "souppp", "souppp-ro"
"""Members may give commands; may look. Neither needs to be there."""

_SO_PEERGROUPS = 59
_MOST = 1024
"""Octets of an answer that Python's getsockopt takes: 256 groups. Who is in more is known by the first one alone."""
_PEERCRED = struct.Struct("=iII")
_ACL = "system.posix_acl_access"
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
"""Tags of a POSIX access control list as the kernel takes it, version 2: tag, permissions, id."""
_NOBODY = 0xFFFFFFFF
_READ_WRITE = 6


class Peer(Struct, frozen=True):
    """A process that has connected."""

    process: int
    uid: int
    groups: frozenset[int]

    @property
    def user(self) -> str:
        """Its user's name, or the number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def peer(connection: socket.socket) -> Peer:
    """Who connected, as the kernel knows it: SO_PEERCRED and SO_PEERGROUPS, see unix(7)."""
    process, uid, gid = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    groups = {gid}
    with suppress(OSError):
        octets = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
        groups.update(number for (number,) in struct.iter_unpack("=I", octets))
    return Peer(process, uid, frozenset(groups))


def group(name: str) -> int | None:
    """The number of a group, None if there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def may(who: Peer, own_uid: int, write: int | None, look: int | None) -> str:
    """`write`, `look`, or nothing for who may do neither. Root and who runs the engine may write."""
    if who.uid in (0, own_uid) or write in who.groups:
        return "write"
    return "look" if look in who.groups else ""


def open_to_groups(path: Path) -> None:
    """Let root and the two groups connect to a socket: mode 0660, and an access control list for who may only look.

    Raises OSError.
    """
    os.chmod(path, 0o660)
    write, look = group(WRITE_GROUP), group(LOOK_GROUP)
    if write is not None:
        with suppress(PermissionError):  # a service without CAP_CHOWN: its unit does it
            os.chown(path, -1, write)
    if look is not None:
        entries = (
            (_USER_OBJ, _READ_WRITE, _NOBODY),
            (_GROUP_OBJ, _READ_WRITE, _NOBODY),
            (_GROUP, _READ_WRITE, look),
            (_MASK, _READ_WRITE, _NOBODY),
            (_OTHER, 0, _NOBODY),
        )
        os.setxattr(path, _ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries))
