"""TUN devices as egress descriptors."""

from __future__ import annotations

import fcntl
import os
import struct

from engine.datapath import DatapathError

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFNAMSIZ = 16


def open_tun(name: str) -> int:
    """Makes a TUN device in the calling thread's network namespace and returns its descriptor, non-blocking.

    The device lives as long as the descriptor. It is down and has no address. Raises DatapathError.
    """
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DatapathError(f"cannot open {TUN}: {error.strerror}; load the module with `modprobe tun`") from None
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack(f"{IFNAMSIZ}sH22x", name.encode()[: IFNAMSIZ - 1], IFF_TUN | IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise DatapathError(f"cannot make the TUN device {name}: {error.strerror}") from None
    return fd
