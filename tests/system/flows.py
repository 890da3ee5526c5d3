"""A program of the host's that sends through sessions by sockets of every kind, and goes on whatever happens.

Its first line of input is JSON: sessions by name, each with `device`, `ipv4`, `ipv6`, perhaps empty, and perhaps
`mark`, and `proxy`, the port of the session's own proxy. For each line more it answers with a line of JSON: by session
and kind of socket, how many packets were taken and how many refused.
"""

from __future__ import annotations

import io
import json
import select
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

TARGET, TARGET6 = "198.51.100.7", "2001:db8:ff::7"
HOST, HOST6 = "192.0.2.1", "2001:db8:99::1"
PORT, MARKED = 9, 10
"""Of all packets, and of those by which nothing but a mark tells that they are a session's."""
PAUSE = 0.002
PATIENCE = 0.1
"""Seconds to wait for a proxy, and between attempts to have it."""
SO_MARK = 36
IP_TRANSPARENT, IPV6_TRANSPARENT, IPV6_HDRINCL = 19, 75, 36

Send = Callable[[], object]


class NotYet(Exception):
    """It is not this one's turn."""


def _udp4(source: str = "", device: str = "", transparent: bool = False) -> Send:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if transparent:
        sender.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    if device:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    if source:
        sender.bind((source, 0))
    return lambda: sender.sendto(b"flow", (TARGET, PORT))


def _udp6(source: str, device: str = "") -> Send:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.bind((source, 0, 0, socket.if_nametoindex(device) if device else 0))
    return lambda: sender.sendto(b"flow", (TARGET6, PORT))


def _transparent6(source: str, device: str) -> Send:
    """Names source and device with each packet, and is bound to nothing."""
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    information = IPv6Address(source).packed + struct.pack("=i", socket.if_nametoindex(device))
    control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, information)]
    return lambda: sender.sendmsg([b"flow"], control, 0, (TARGET6, PORT))


def _raw4(source: str) -> Send:
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    udp = struct.pack("!HHHH", PORT, PORT, 12, 0) + b"flow"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    packet = head + IPv4Address(source).packed + IPv4Address(TARGET).packed + udp
    return lambda: sender.sendto(packet, (TARGET, 0))


def _raw6(source: str) -> Send:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sender.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
    packet = (
        struct.pack("!IHBB", 6 << 28, 4, 59, 64) + IPv6Address(source).packed + IPv6Address(TARGET6).packed + b"flow"
    )
    return lambda: sender.sendto(packet, (TARGET6, 0))


def _marked(family: socket.AddressFamily, mark: int) -> Send:
    """Bound to nothing."""
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    return lambda: sender.sendto(b"flow", (TARGET if family == socket.AF_INET else TARGET6, MARKED))


class _Datagrams:
    """Through a session's proxy, by UDP ASSOCIATE: asked for again whenever it has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._control: socket.socket | None = None
        self._ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._not_before = 0.0

    def __call__(self) -> None:
        """Send one. Raises OSError while there is no proxy, or none for it."""
        if self._control is None:
            self._associate()
        assert self._control is not None
        try:
            if self._control.recv(1) == b"":
                raise ConnectionResetError
        except BlockingIOError:
            self._ours.send(bytes((0, 0, 0, 1)) + IPv4Address(TARGET).packed + PORT.to_bytes(2, "big") + b"flow")
        except OSError:
            self._control = None
            raise

    def _associate(self) -> None:
        if time.monotonic() < self._not_before:
            raise ConnectionRefusedError
        self._not_before = time.monotonic() + PATIENCE
        control = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        control.sendall(bytes((5, 1, 0, 5, 3, 0, 1)) + bytes(6))
        answer = b""
        while len(answer) < 12:
            if not (more := control.recv(12 - len(answer))):
                raise ConnectionRefusedError
            answer += more
        if answer[3]:
            raise ConnectionRefusedError
        self._ours.connect(("127.0.0.1", int.from_bytes(answer[10:], "big")))
        control.setblocking(False)
        self._control = control


def _connections(port: int) -> Send:
    """Through a session's proxy, by TCP: they wait for a server that never answers."""
    waiting: deque[socket.socket] = deque(maxlen=8)
    not_before = 0.0
    request = bytes((5, 1, 0, 5, 1, 0, 1)) + IPv4Address(TARGET).packed + PORT.to_bytes(2, "big")

    def attempt() -> None:
        nonlocal not_before
        if time.monotonic() < not_before:
            raise NotYet  # the proxy is to keep up with them
        not_before = time.monotonic() + PATIENCE / 10
        made = socket.create_connection(("127.0.0.1", port), PATIENCE)
        made.sendall(request)
        waiting.append(made)

    return attempt


def _sockets(device: str, ipv4: str, ipv6: str, mark: int = 0, proxy: int = 0) -> dict[str, Send]:
    sockets: dict[str, Send] = {
        "address": _udp4(ipv4),
        "device": _udp4(device=device),
        "both": _udp4(ipv4, device),
        "transparent": _udp4(ipv4, transparent=True),
        "raw": _raw4(ipv4),
    }
    if mark:
        sockets |= {"mark": _marked(socket.AF_INET, mark), "mark6": _marked(socket.AF_INET6, mark)}
    if proxy:
        sockets |= {"proxied": _Datagrams(proxy), "proxied TCP": _connections(proxy)}
    return (
        sockets
        if not ipv6
        else sockets
        | {
            "address6": _udp6(ipv6, device),
            "transparent6": _transparent6(ipv6, device),
            "raw6": _raw6(ipv6),
        }
    )


def main() -> None:
    """Send until standard input ends."""
    orders = io.FileIO(0)  # without a buffer, so that `select` knows of every line that waits
    sessions = json.loads(orders.readline())
    senders = {name: _sockets(**session) for name, session in sessions.items()}
    senders["host"] = {"udp": _udp4(HOST), "udp6": _udp6(HOST6)}
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    while True:
        for name, kinds in senders.items():
            for kind, send in kinds.items():
                try:
                    send()
                except NotYet:
                    continue
                except OSError:
                    counts[name][kind][1] += 1
                else:
                    counts[name][kind][0] += 1
        if select.select([orders], [], [], PAUSE)[0]:
            if not orders.readline():
                return
            print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
