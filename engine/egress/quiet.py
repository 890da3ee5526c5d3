"""A new device does nothing by itself: the kernel makes up no address for it, and heeds no router that speaks on it.

Where /proc/sys is read-only, as in most containers, the kernel would still heed a router. What keeps the host safe
there is that both data paths drop what a router may say (`engine/datapath/router.h`).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from engine.datapath import errands
from engine.datapath.errands import Ask
from engine.host.rtnl import Rtnl, Template, last_acknowledged, request

_CONF = Path("/proc/sys/net/ipv6/conf")
_QUIET = {"accept_ra": "0", "accept_redirects": "0"}
"""Addresses (`autoconf`) are made up out of what routers advertise, which isn't heeded."""
_WITHOUT = {"disable_ipv6": "1", "accept_ra": "0"}
"""Without IPv6 the kernel reads nothing of it; and heeds no router where somebody switches it on for all devices."""
_INDEX = 0x7E570001
_NO_ADDRESS = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}


def _uint32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


_no_address = Template(
    request(ifinfmsg, RTM_NEWLINK, 0, [("IFLA_AF_SPEC", _NO_ADDRESS)], index=_INDEX), _uint32(_INDEX)
)


def has_ipv6(name: str) -> bool:
    """Whether a device of the calling thread's namespace may have IPv6 addresses."""
    return (_CONF / name).exists()


def is_switched_off(name: str) -> bool:
    """Whether somebody has switched IPv6 off on such a device, so that it can have none of its addresses."""
    try:
        return (_CONF / name / "disable_ipv6").read_text() != "0\n"
    except OSError:
        return False


def no_address(index: int) -> bytes:
    """The request that keeps the kernel from giving a device an address of its own making; EAFNOSUPPORT: no IPv6."""
    return _no_address(_uint32(index))


def make_up_no_address(rtnl: Rtnl, index: int) -> None:
    """The same at once, in `rtnl`'s namespace. Raises RtnlError."""
    rtnl.do([no_address(index)], (errno.EAFNOSUPPORT,))


def keep_quiet(rtnl: Rtnl, name: str, index: int, *, ipv6: bool) -> None:
    """Keep the kernel from acting on a device that is still down; both in the calling thread's namespace.

    Without `ipv6` it has no routes of IPv6, of which the kernel reads all when another device comes or goes. Raises
    RtnlError.
    """
    if _set(name, _QUIET if ipv6 else _WITHOUT) and ipv6:
        make_up_no_address(rtnl, index)


def quieting(rtnl: Rtnl, name: str, first: Sequence[bytes] = (), *, ipv6: bool) -> list[bytes]:
    """Steps of an errand that do the same to the device that it has made; `first` come requests, their index blank."""
    requests = [*first, *([no_address(0)] if ipv6 else ())]
    settings = (_QUIET if ipv6 else _WITHOUT).items()
    return [
        errands.find(rtnl.fileno(), name),
        *([errands.ask(rtnl.fileno(), last_acknowledged(requests), Ask.OF_INDEX | Ask.LACKING)] if requests else ()),
        *(errands.write(f"{_CONF}/{name}/{setting}", value) for setting, value in settings),
    ]


def limit_ipv6(name: str, mtu: int) -> None:
    """Let no IPv6 packet that the host sends by a device be longer, in octets; where /proc/sys can be written."""
    _set(name, {"mtu": str(mtu)})


def _set(name: str, settings: Mapping[str, str]) -> bool:
    """Whether the device has IPv6; what can't be written stays as it is."""
    try:
        folder = os.open(f"{_CONF}/{name}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        for setting, value in settings.items():
            with suppress(OSError):
                file = os.open(setting, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
                try:
                    os.write(file, value.encode())
                finally:
                    os.close(file)
    finally:
        os.close(folder)
    return True
