"""Run as a program, with nothing of ours beside it: waits until the engine is dead, then deletes its devices at once.

Its arguments are the descriptor of a file of which the engine has a record lock (fcntl(2)), a group of devices, the
first of the engine's routing tables, and the name of its nftables table. It has a socket besides, which is closed when
it ends. See `engine.egress.together`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from collections.abc import Iterator

_RTM_DELLINK, _RTM_GETLINK, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 17, 18, 24, 25, 26
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_ADD = 1, 0x300, 0x600
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_GROUP, _IFLA_EXT_MASK, _SKIP_STATISTICS = 27, 29, 8
_RTA_OIF, _RTA_TABLE = 4, 15
_FAMILIES = socket.AF_INET, socket.AF_INET6
_TABLES = 1 << 16
"""Those of an engine."""
_NETLINK_NETFILTER, _NFPROTO_INET, _NFTA_TABLE_NAME = 12, 1, 1
_NFT_NEWTABLE, _NFT_GETTABLE = 10 << 8, 10 << 8 | 1
_HEADER = struct.Struct("=IHHII")
_AT_ONCE = 64
"""Requests to a system call."""


def delete_group(kernel: socket.socket, group: int, tables: int = 0) -> None:
    """Delete all devices of a group in one step; first the routes through them. Raises OSError.

    For each device that goes the kernel reads all routes of IPv6 several times, and for each that still has a route of
    IPv4 all tables of that; to delete a route it reads nothing. So those of IPv6 in the engine's `tables` go too, and
    come back: meanwhile the nftables table is enough. Where there is none, `tables` must be 0. `kernel` is a route
    netlink socket that hears nothing else.
    """
    extent = struct.pack("=HHI", 8, _IFLA_EXT_MASK, _SKIP_STATISTICS)
    links = _dump(kernel, _RTM_GETLINK, bytes(16) + extent)
    devices = {body[4:8] for body in links if _attribute(body, 16, _IFLA_GROUP) == struct.pack("=I", group)}
    if not devices:
        return
    routes = {family: [*_dump(kernel, _RTM_GETROUTE, struct.pack("=B11x", family))] for family in _FAMILIES}
    through = {body for each in routes.values() for body in each if _attribute(body, 12, _RTA_OIF) in devices}
    own = [body for body in routes[socket.AF_INET6] if tables and _is_of(body, tables) and body not in through]
    _send(kernel, [_request(_RTM_DELROUTE, body) for body in (*through, *own)])
    try:
        # It is done when this returns. Nobody reads the answers: none but of failures, and those of no use.
        _send(kernel, [_request(_RTM_DELLINK, bytes(16) + struct.pack("=HHI", 8, _IFLA_GROUP, group))])
    finally:
        _send(kernel, [_request(_RTM_NEWROUTE, body, _NLM_F_ADD) for body in own])


def _is_of(body: bytes, tables: int) -> bool:
    table = int.from_bytes(_attribute(body, 12, _RTA_TABLE), sys.byteorder)
    return tables <= table < tables + _TABLES


def _send(kernel: socket.socket, requests: list[bytes]) -> None:
    for start in range(0, len(requests), _AT_ONCE):
        kernel.send(b"".join(requests[start : start + _AT_ONCE]))


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


def _is_there(table: str) -> bool:
    """Whether there is an nftables table for both protocols (`inet`) of this name."""
    name = table.encode() + b"\0"
    question = (
        struct.pack("=BBHHH", _NFPROTO_INET, 0, 0, 4 + len(name), _NFTA_TABLE_NAME) + name + bytes(-len(name) % 4)
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as nft:
            nft.send(_request(_NFT_GETTABLE, question))
            _, kind, *_ = _HEADER.unpack_from(nft.recv(1 << 16))
    except OSError:  # the kernel has no nftables
        return False
    return bool(kind == _NFT_NEWTABLE)


def _main(lock: int, group: int, tables: int, table: str) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        delete_group(kernel, group, tables if _is_there(table) else 0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
