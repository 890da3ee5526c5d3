"""The far end of a guest's card: the lab's concentrator, a veth pair, a bridge and the tap device that QEMU serves."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from engine.host import netns
from engine.wire import ethernet, pppoe
from engine.wire.errors import WireError
from tests.conftest import run
from tests.provider import CARD, provider

TAP = "line"
MTU = 1600
"""Of the line: room for MRU 1500 behind PPPoE's header and two tags."""
_TAGS_INLINE = ("tx", "off", "rxvlan", "off", "txvlan", "off")
"""As on a wire: checksums are finished, and tags stand where XDP looks for them."""
_ETH_P_ALL, _SO_RCVBUFFORCE = 3, 33


@contextmanager
def access_line(queues: int, **order: Any) -> Iterator[None]:
    """A line whose near end is TAP, in a namespace of its own, in which the calling thread is for the block.

    `order` is a LabOrder's.
    """
    before = netns.open_net()
    netns.unshare_net()
    try:
        with provider(mtu=MTU, max_payload=1500, **order) as far:
            _bridge(queues)
            far.run("ethtool", "-K", far.order.card, *_TAGS_INLINE)
            yield
    finally:
        netns.set_net(before)
        os.close(before)


def _bridge(queues: int) -> None:
    """Between the concentrator's cable and the tap device."""
    many = ("multi_queue",) if queues > 1 else ()
    run("ip", "link", "add", "bridge", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    run("ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr", *many)
    for name in (CARD, TAP):
        run("ip", "link", "set", name, "master", "bridge")
    for name in (CARD, TAP, "bridge"):
        run("ip", "link", "set", name, "mtu", str(MTU), "addrgenmode", "none", "up")
    run("ethtool", "-K", CARD, *_TAGS_INLINE)


def flood(mac: bytes, count: int) -> None:
    """Send the guest's card frames of a PPPoE session that nobody has, from the namespace of `access_line`."""
    frame = mac + bytes.fromhex("020000000001 8864 1100 0fff 0006 0021") + bytes(44)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind((TAP, 0))
        for number in range(count):
            with suppress(OSError):  # the tap device has no room: QEMU is slow
                mouth.send(frame)
            if number % 50 == 0:
                time.sleep(0.01)


@contextmanager
def hang_ups() -> Iterator[set[tuple[bytes, int]]]:
    """Whose PADTs reach the concentrator during a block, by MAC address and session id; they are there behind it."""
    found: set[tuple[bytes, int]] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as ear:
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
        ear.bind((CARD, _ETH_P_ALL))
        yield found
        ear.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                octets, (_, _, direction, *_) = ear.recvfrom(65536)
                if direction == socket.PACKET_OUTGOING:
                    found |= _hung_up(octets)


def _hung_up(octets: bytes) -> set[tuple[bytes, int]]:
    with suppress(WireError):
        frame = ethernet.decode(octets)
        if frame.ethertype == ethernet.ETH_PPPOE_DISCOVERY:
            packet = pppoe.decode(frame.payload)
            if packet.code == pppoe.Code.PADT:
                return {(frame.src, packet.session_id)}
    return set()
