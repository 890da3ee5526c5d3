"""A wire to try things on: two namespaces, joined by a veth pair with two queues, and a raw socket at the far end."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.program import PATIENCE

QUEUES = 2
CARD_MTU = 1528
"""Room for two VLAN tags around the largest PPPoE frame (RFC 4638), and for some trailing octets."""
NEAR, FAR = "va", "vb"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, XDP, TUN")

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
PACKET_AUXDATA = 8
AUXDATA = struct.Struct("=IIIHHHH")
TP_STATUS_VLAN_VALID = 1 << 4

_T = TypeVar("_T")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(look: Callable[[], _T], *, seconds: float = PATIENCE) -> _T:
    """Looks again and again until there is something to see; what was seen last if there never is."""
    end = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(0.005)
    return seen


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """This thread inside a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{name}") as inside:
        assert libc.setns(inside.fileno(), 0) == 0
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), 0) == 0


class Wire:
    """A raw socket on a device: whole frames in and out, VLAN tags as they were on the wire."""

    def __init__(self, namespace_name: str, device: str) -> None:
        with namespace(namespace_name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        with namespace(namespace_name):
            self._socket.bind((device, ETH_P_ALL))
        self._socket.settimeout(0.0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        while True:
            try:
                self._socket.send(frame)
                return
            except BlockingIOError:
                time.sleep(0.001)

    def send_burst(self, frames: list[bytes]) -> None:
        """All at once, as fast as the kernel can: what receives them finds many waiting."""
        buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in frames]
        vectors = b"".join(struct.pack("=QQ", ctypes.addressof(buffer), len(buffer)) for buffer in buffers)
        vector = ctypes.create_string_buffer(vectors, len(vectors))
        messages = b"".join(
            struct.pack("=QIxxxxQQQQIxxxxIxxxx", 0, 0, ctypes.addressof(vector) + 16 * n, 1, 0, 0, 0, 0)
            for n in range(len(frames))
        )
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.sendmmsg(self._socket.fileno(), messages, len(frames), 0) == len(frames)

    def receive(self) -> bytes | None:
        """The next frame, if one is there."""
        try:
            frame, control, _, _ = self._socket.recvmsg(4096, 64)
        except BlockingIOError:
            return None
        for _, kind, data in control:
            if kind == PACKET_AUXDATA:
                status, *_, tci, tpid = AUXDATA.unpack(data)
                if status & TP_STATUS_VLAN_VALID:
                    frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
        return frame

    def wait_for(self, wanted: Callable[[bytes], bool], *, seconds: float = PATIENCE) -> bytes | None:
        """The first frame that is wanted; others are thrown away."""

        def look() -> bytes | None:
            while (frame := self.receive()) is not None:
                if wanted(frame):
                    return frame
            return None

        return until(look, seconds=seconds)

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Line:
    near: str
    """The namespace where the program under test works, on the device NEAR."""
    far: str
    wire: Wire
    """On the far end."""


@contextmanager
def veth_line(name: str) -> Iterator[Line]:
    near, far = f"{name}-near-{os.getpid()}", f"{name}-far-{os.getpid()}"
    queues = ("numrxqueues", str(QUEUES), "numtxqueues", str(QUEUES))
    try:
        for each in (near, far):
            run("ip", "netns", "add", each)
            run("ip", "netns", "exec", each, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        run("ip", "-n", near, "link", "add", NEAR, *queues, "type", "veth", "peer", FAR, *queues, "netns", far)
        run("ip", "-n", near, "link", "set", NEAR, "mtu", str(CARD_MTU), "up")
        run("ip", "-n", far, "link", "set", FAR, "mtu", str(CARD_MTU), "up")
        wire = Wire(far, FAR)
        try:
            yield Line(near, far, wire)
        finally:
            wire.close()
    finally:
        for each in (near, far):
            with suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", each)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
