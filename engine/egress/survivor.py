"""Run as a program, with nothing of ours beside it: waits until the engine is dead, then deletes its devices at once.

Its arguments are the descriptor of a file of which the engine has a record lock (fcntl(2)), and a group of devices. See
`engine.egress.together`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys

_RTM_DELLINK = 17
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_IFLA_GROUP = 27


def deletion(group: int) -> bytes:
    """The rtnetlink request that deletes all devices of a group."""
    body = bytes(16) + struct.pack("=HHI", 8, _IFLA_GROUP, group)
    return struct.pack("=IHHII", 16 + len(body), _RTM_DELLINK, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0) + body


def _main(lock: int, group: int) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        kernel.send(deletion(group))  # it is done when this returns


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
