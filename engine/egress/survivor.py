"""Run as a program, with nothing of ours beside it: waits until the engine is dead, then deletes its devices at once.

Its arguments are the descriptor of a file of which the engine has a record lock (fcntl(2)), and a group of devices. See
`engine.egress.together`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from collections.abc import Iterator

_RTM_DELLINK, _RTM_GETLINK, _RTM_DELROUTE, _RTM_GETROUTE = 17, 18, 25, 26
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_GROUP, _IFLA_EXT_MASK, _SKIP_STATISTICS = 27, 29, 8
_RTA_OIF = 4
_HEADER = struct.Struct("=IHHII")
_AT_ONCE = 64
"""Requests to a system call."""


def delete_group(kernel: socket.socket, group: int) -> None:
    """Delete all devices of a group in one step; first the routes of IPv6 through them. Raises OSError.

    The kernel reads all of these several times for each device that goes, and nothing to delete a route. Rules and
    unreachable routes stay. `kernel` is a route netlink socket that hears nothing else.
    """
    extent = struct.pack("=HHI", 8, _IFLA_EXT_MASK, _SKIP_STATISTICS)
    links = _dump(kernel, _RTM_GETLINK, bytes(16) + extent)
    devices = {body[4:8] for body in links if _attribute(body, 16, _IFLA_GROUP) == struct.pack("=I", group)}
    routes = _dump(kernel, _RTM_GETROUTE, struct.pack("=B11x", socket.AF_INET6)) if devices else iter(())
    through = [_request(_RTM_DELROUTE, body) for body in routes if _attribute(body, 12, _RTA_OIF) in devices]
    for start in range(0, len(through), _AT_ONCE):
        kernel.send(b"".join(through[start : start + _AT_ONCE]))
    # It is done when this returns. Nobody reads the answers: none but of failures, and those of no use.
    kernel.send(_request(_RTM_DELLINK, bytes(16) + struct.pack("=HHI", 8, _IFLA_GROUP, group)))


def _request(kind: int, body: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 0, 0) + body


def _dump(kernel: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """What the kernel tells of all of a kind, each without its header."""
    kernel.send(_request(kind, body, _NLM_F_DUMP))
    while True:
        data, at = kernel.recv(1 << 17), 0
        while at + _HEADER.size <= len(data):
            length, type_, *_ = _HEADER.unpack_from(data, at)
            if type_ in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            yield data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def _attribute(body: bytes, at: int, wanted: int) -> bytes:
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == wanted or length < 4:
            return body[at + 4 : at + length]
        at += (length + 3) & ~3
    return b""


def _main(lock: int, group: int) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        delete_group(kernel, group)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
