"""A program that tries to send past the session that it runs in, by every way there is, again and again.

Arguments: a device that is not the session's. For each line of input it answers with a line of JSON: by way, how often
that was taken and how often refused; and `page` and `page6`, the address that the lab's web server saw just now, or
the error.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

from tests.system.flows import HOST, HOST6, MARKED, TARGET, TARGET6

TO, TO6 = (TARGET, MARKED), (TARGET6, MARKED)
PAUSE = 0.02
IP_PKTINFO, IP_UNICAST_IF, IPV6_UNICAST_IF, SO_MARK, SO_BINDTOIFINDEX = 8, 50, 76, 36, 62
DEVICE = sys.argv[1] if len(sys.argv) > 1 else ""


def _udp(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


def _with(*option: object, family: socket.AddressFamily = socket.AF_INET) -> None:
    """A socket for which this option is set, if it can be."""
    with _udp(family) as sender:
        with suppress(OSError):
            sender.setsockopt(*option)  # type: ignore[call-overload]
        sender.sendto(b"out", TO if family == socket.AF_INET else TO6)


def _from(address: str) -> None:
    with _udp(socket.AF_INET6 if ":" in address else socket.AF_INET) as sender:
        sender.bind((address, 0))
        sender.sendto(b"out", TO6 if ":" in address else TO)


def _packet_information() -> None:
    with _udp() as sender:
        information = struct.pack("=i4s4s", socket.if_nametoindex(DEVICE), bytes(4), bytes(4))
        sender.sendmsg([b"out"], [(socket.IPPROTO_IP, IP_PKTINFO, information)], 0, TO)


def _packet_information6() -> None:
    with _udp(socket.AF_INET6) as sender:
        information = bytes(16) + struct.pack("=i", socket.if_nametoindex(DEVICE))
        sender.sendmsg([b"out"], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, information)], 0, TO6)


def _raw() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        with suppress(OSError):
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
        udp = struct.pack("!HHHH", MARKED, MARKED, 12, 0) + b"out!"
        head = struct.pack("!BBHHHBBH", 0x45, 0, 32, 0, 0, 64, 17, 0)
        sender.sendto(head + IPv4Address(HOST).packed + IPv4Address(TARGET).packed + udp, (TARGET, 0))


def _below_ip() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
        udp = struct.pack("!HHHH", MARKED, MARKED, 12, 0) + b"out!"
        head = struct.pack("!BBHHHBBH", 0x45, 0, 32, 0, 0, 64, 17, 0)
        packet = head + IPv4Address(HOST).packed + IPv4Address(TARGET).packed + udp
        sender.sendto(packet, (DEVICE, 0x0800, 0, 0, b"\2\0\0\0\0\1"))


def _tcp() -> None:
    with socket.socket() as client:
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(TO)


_kept = {family: _udp(family) for family in (socket.AF_INET, socket.AF_INET6)}
"""Sockets from the beginning."""

WAYS: dict[str, Callable[[], object]] = {
    "plain": lambda: _with(socket.SOL_SOCKET, SO_MARK, 0),
    "plain6": lambda: _with(socket.SOL_SOCKET, SO_MARK, 0, family=socket.AF_INET6),
    "kept": lambda: _kept[socket.AF_INET].sendto(b"out", TO),
    "kept6": lambda: _kept[socket.AF_INET6].sendto(b"out", TO6),
    "other device": lambda: _with(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode()),
    "other device6": lambda: _with(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode(), family=socket.AF_INET6),
    "no device": lambda: _with(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b""),
    "no index": lambda: _with(socket.SOL_SOCKET, SO_BINDTOIFINDEX, 0),
    "interface": lambda: _with(socket.IPPROTO_IP, IP_UNICAST_IF, socket.htonl(socket.if_nametoindex(DEVICE))),
    "source": lambda: _from(HOST),
    "source6": lambda: _from(HOST6),
    "packet information": _packet_information,
    "packet information6": _packet_information6,
    "raw": _raw,
    "below IP": _below_ip,
    "tcp": _tcp,
}


def page(server: str = "100.64.0.1") -> str:
    """What the lab's web server says, by a socket that is made now."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET) as client:
            client.settimeout(2)
            client.connect((server, 80))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client.makefile().read().split()[-1]
    except OSError as error:
        return str(error)


def get_out() -> None:
    """To another cgroup, where no program is asked about its sockets."""
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        with suppress(OSError), open(f"{root}/cgroup.procs", "w") as file:
            file.write("0")


def main() -> None:
    """Try until standard input ends; as a daemon would, in a session of its own and twice a child."""
    get_out()
    counts = {way: [0, 0] for way in WAYS}
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
    else:
        os.wait()
        os.close(writer)
        os.read(reader, 1)  # until the grandchild has ended
        return
    while True:
        for way, send in WAYS.items():
            try:
                send()
                counts[way][0] += 1
            except OSError:
                counts[way][1] += 1
        if select.select([0], [], [], PAUSE)[0]:
            if not os.read(0, 100):
                return
            print(json.dumps({**counts, "page": page(), "page6": page("3fff:64::1")}), flush=True)


if __name__ == "__main__":
    main()
