#!/usr/bin/python3
"""padi.py CARD [SERVICE]: a first check whether a concentrator answers: PADI, PADO, PADR, PADS, and PADT at once.

Prints a line a step. Each request is sent three times, a second apart. It shares no code with the program under test.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys
import time

ETH_PPPOE_DISCOVERY = 0x8863
PADI, PADO, PADR, PADS, PADT = 0x09, 0x07, 0x19, 0x65, 0xA7
SERVICE_NAME, AC_NAME, HOST_UNIQ, AC_COOKIE, RELAY_SESSION_ID = 0x0101, 0x0102, 0x0103, 0x0104, 0x0110
BROADCAST = b"\xff" * 6
HEADER = struct.Struct("!6s6sHBBHH")
"""Destination, source, EtherType, version and type, code, session id, length."""

Tags = list[tuple[int, bytes]]


def packed(tags: Tags) -> bytes:
    return b"".join(struct.pack("!HH", kind, len(value)) + value for kind, value in tags)


def unpacked(octets: bytes) -> Tags:
    tags = []
    while len(octets) >= 4:
        kind, length = struct.unpack_from("!HH", octets)
        tags.append((kind, octets[4 : 4 + length]))
        octets = octets[4 + length :]
    return tags


class Client:
    """A card, and one attempt at a session on it."""

    def __init__(self, card: str, service: bytes) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_PPPOE_DISCOVERY))
        self.socket.bind((card, ETH_PPPOE_DISCOVERY))
        self.mac: bytes = self.socket.getsockname()[4]
        self.tags: Tags = [(SERVICE_NAME, service), (HOST_UNIQ, secrets.token_bytes(6))]

    def send(self, to: bytes, code: int, session: int = 0, tags: Tags | None = None) -> None:
        body = packed(tags or [])
        self.socket.send(HEADER.pack(to, self.mac, ETH_PPPOE_DISCOVERY, 0x11, code, session, len(body)) + body)

    def ask(self, to: bytes, code: int, tags: Tags, wanted: int, name: str) -> tuple[bytes, int, Tags]:
        """Who gave the wanted answer, its session id and its tags."""
        for _ in range(3):
            self.send(to, code, 0, tags)
            end = time.monotonic() + 1
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    frame = self.socket.recv(2048)
                except TimeoutError:
                    break
                dst, src, _, _, found, session, length = HEADER.unpack_from(frame)
                answer = unpacked(frame[HEADER.size : HEADER.size + length])
                if (dst, found) == (self.mac, wanted) and tags[1] in answer:
                    print(f"{name} from {src.hex(':')}, session {session}: {dict(answer).get(AC_NAME, b'')!r}")
                    return src, session, answer
        sys.exit(f"padi.py: no {name}")


def main(card: str, service: str = "") -> None:
    client = Client(card, service.encode())
    concentrator, _, offered = client.ask(BROADCAST, PADI, client.tags, PADO, "PADO")
    returned = [tag for tag in offered if tag[0] in (AC_COOKIE, RELAY_SESSION_ID)]
    _, session, _ = client.ask(concentrator, PADR, client.tags + returned, PADS, "PADS")
    if not session:
        sys.exit("padi.py: the PADS refuses the session")
    client.send(concentrator, PADT, session)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
