"""In the guest: `python3 sip.py DEVICE ADDRESS FILE` downloads through a device, slowly and without end.

FILE has the number of octets so far. It ends with the connection.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

PORT, OCTETS = 80, 10**12
PIECE, PAUSE = 2000, 0.05
"""Octets, seconds."""


def main() -> None:
    device, address, file = sys.argv[1:]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * PIECE)  # else it would drink in great draughts
        connection.connect((address, PORT))
        connection.sendall(f"GET /{OCTETS} HTTP/1.0\r\n\r\n".encode())
        count = 0
        while octets := connection.recv(PIECE):
            count += len(octets)
            Path(file).write_text(f"{count}\n")
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
