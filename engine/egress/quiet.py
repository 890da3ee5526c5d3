"""A new device does nothing by itself: the kernel makes up no address for it, and heeds no router that speaks on it.

Where /proc/sys is read-only, as in most containers, the kernel would still heed a router. What keeps the host safe
there is that both data paths drop what a router may say (`engine/datapath/router.h`).
"""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from pathlib import Path

from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from engine.host.rtnl import Rtnl, Template, request

_CONF = Path("/proc/sys/net/ipv6/conf")
_QUIET = {"accept_ra": "0", "autoconf": "0", "accept_redirects": "0"}
_WITHOUT = {"disable_ipv6": "1"}
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


def make_up_no_address(rtnl: Rtnl, index: int) -> None:
    """Keep the kernel from giving a device an address of its own making; in `rtnl`'s namespace. Raises RtnlError."""
    rtnl.do([_no_address(_uint32(index))], (errno.EAFNOSUPPORT,))


def keep_quiet(rtnl: Rtnl, name: str, index: int, *, ipv6: bool) -> None:
    """Keep the kernel from acting on a device that is still down; both in the calling thread's namespace.

    Without `ipv6` it has no routes of IPv6, of which the kernel reads all when another device comes or goes. Raises
    RtnlError.
    """
    if has_ipv6(name):
        if ipv6:
            make_up_no_address(rtnl, index)
        for setting, value in (_QUIET if ipv6 else _WITHOUT | _QUIET).items():
            _set(name, setting, value)


def limit_ipv6(name: str, mtu: int) -> None:
    """Let no IPv6 packet that the host sends by a device be longer, in octets; where /proc/sys can be written."""
    _set(name, "mtu", str(mtu))


def _set(name: str, setting: str, value: str) -> None:
    with suppress(OSError), open(f"{_CONF}/{name}/{setting}", "wb", buffering=0) as file:
        file.write(value.encode())
