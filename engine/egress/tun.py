"""TUN devices as egress descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from engine.datapath import DatapathError
from engine.host.descriptors import too_few
from engine.host.errors import HostError

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
TUNGETIFF = 0x800454D2
TUNSETOFFLOAD = 0x400454D0
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
"""Make one, never take one that is there: it is someone else's."""
IFNAMSIZ = 16

_NO_MODULE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)

VNET_HEADER = 10
"""Octets before each packet of a device with offload."""

TCP_OFFLOADS = 0x0F
"""TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN."""
UDP_OFFLOADS = 0x60
"""TUN_F_USO4 and TUN_F_USO6, since Linux 6.2."""


def open_tun(name: str, *, offload: bool = True) -> int:
    """Makes a TUN device in the calling thread's network namespace and returns its descriptor, non-blocking.

    The device lives as long as the descriptor. It is down and has no address. With `offload` the kernel leaves
    segmentation and checksums to us and puts VNET_HEADER octets before each packet (`vnet.h`), which the C helper
    understands; without, packets go through the descriptor one by one and bare. Raises DatapathError, or HostError
    where only those descriptors are left that no device takes.
    """
    if reason := too_few():
        raise HostError(reason)
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = "; load the module with `modprobe tun`" if error.errno in _NO_MODULE else ""
        raise DatapathError(f"cannot open {TUN}: {error.strerror}{remedy}") from None
    try:
        flags = IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL | (IFF_VNET_HDR if offload else 0)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack(f"{IFNAMSIZ}sH22x", name.encode()[: IFNAMSIZ - 1], flags))
        if offload:
            _set_offloads(fd)
    except OSError as error:
        os.close(fd)
        raise DatapathError(f"cannot make the TUN device {name}: {error.strerror}") from None
    return fd


def close_tun(fd: int, _: bool) -> None:
    """Close its descriptor, with which it goes."""
    os.close(fd)


def _set_offloads(fd: int) -> None:
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, TCP_OFFLOADS | UDP_OFFLOADS)
    except OSError:
        fcntl.ioctl(fd, TUNSETOFFLOAD, TCP_OFFLOADS)


def name_of(fd: int) -> str:
    """The name of a device by its descriptor. Raises OSError if it has been deleted, or is none."""
    told = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
    return told[:IFNAMSIZ].rstrip(b"\0").decode()
