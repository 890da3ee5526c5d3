"""TUN devices as egress descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
from functools import partial

from engine.datapath import DatapathError, errands
from engine.datapath.errands import ErrandError
from engine.egress.making import Making, make
from engine.host.descriptors import too_few
from engine.host.errors import HostError

TUN = "/dev/net/tun"
TUNGETIFF = 0x800454D2
IFNAMSIZ = 16

_NO_MODULE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)

VNET_HEADER = 10
"""Octets before each packet of a device with offload."""

TCP_OFFLOADS = 0x0F
"""TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN."""
UDP_OFFLOADS = 0x60
"""TUN_F_USO4 and TUN_F_USO6, since Linux 6.2."""


def making(name: str, *, offload: bool = True) -> Making:
    """What makes a TUN device of this name, whose descriptor doesn't block: it lives as long as that.

    With `offload` the kernel leaves segmentation and checksums to us and puts VNET_HEADER octets before each packet
    (`vnet.h`), which the C helper understands; without, packets go through the descriptor one by one and bare. Raises
    HostError where only those descriptors are left that no device takes.
    """
    if reason := too_few():
        raise HostError(reason)
    steps = errands.open_tun(TUN), errands.name_tun(name, TCP_OFFLOADS | UDP_OFFLOADS if offload else 0)
    return Making(steps, partial(_refused, name))


def _refused(name: str, error: ErrandError) -> DatapathError:
    if error.kind is not errands.Kind.TUN:
        return DatapathError(f"cannot make the TUN device {name}: {error.strerror}")
    remedy = "; load the module with `modprobe tun`" if error.errno in _NO_MODULE else ""
    return DatapathError(f"cannot open {TUN}: {error.strerror}{remedy}")


def open_tun(name: str, *, offload: bool = True) -> int:
    """Make a TUN device in the calling thread's network namespace; its descriptor. See `making`.

    Raises DatapathError or HostError.
    """
    return make(making(name, offload=offload))


def close_tun(fd: int, _: bool) -> None:
    """Close its descriptor, with which it goes."""
    os.close(fd)


def name_of(fd: int) -> str:
    """The name of a device by its descriptor. Raises OSError if it has been deleted, or is none."""
    told = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
    return told[:IFNAMSIZ].rstrip(b"\0").decode()
