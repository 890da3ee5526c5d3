"""Sockets that leave through one session or not at all.

Each is bound to the session's device and to its address, before it is connected or sends. Either alone fails open: a
device that goes leaves a socket that was bound to it free to leave by another, and an address alone is what a rule that
somebody deleted was about.
"""

from __future__ import annotations

import errno
import socket

from engine.proxy.exits import Exit

SO_BINDTOIFINDEX = 62
IP_BIND_ADDRESS_NO_PORT = 24

GONE = frozenset((errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO, errno.EPERM))
"""What binding fails with when device or address are no more, or are somebody else's."""
SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN))
"""What fails for want of descriptors, memory or ports: it says nothing of the session."""


class NotBound(Exception):
    """There is no socket: the session has no address of that family, or it or something of the host is gone."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.errno = number
        """EAFNOSUPPORT where the session has no address of the family."""


def bound(exit_: Exit, version: int, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket of IP version 4 or 6 that uses the session alone; raises NotBound.

    SOCK_STREAM's gets its port when it is connected, so that there is one for every pair of ends; SOCK_DGRAM's gets one
    at random.
    """
    source = exit_.source(version)
    if source is None:
        raise NotBound(errno.EAFNOSUPPORT)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise NotBound(error.errno or errno.EIO) from None
    try:
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, exit_.index)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((str(source), 0))
    except OSError as error:
        made.close()
        raise NotBound(error.errno or errno.EIO) from None
    return made
