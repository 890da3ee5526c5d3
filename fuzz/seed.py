"""Write the seeds of the corpus: healthy lives, recorded afresh, and the captures of the tests.

Run it when the protocol code sends other frames than before.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuzz.targets import METHODS, join, segment  # noqa: E402
from tests.unit.captures import captured  # noqa: E402

CORPUS = ROOT / "fuzz" / "corpus"
MAX_SEED = 4096


def write(target: str, name: str, data: bytes) -> None:
    """One file of the corpus."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data[:MAX_SEED])


def lives() -> None:
    """One life of a session with each authentication method, each side's frames for the other's target."""
    for number, method in enumerate(METHODS):
        line = segment(method)
        up: list[bytes] = []
        down: list[bytes] = []
        line.on_sent, line.on_received = up.append, down.append
        line.fleet.dial(0, 0.0)
        line.run(2.0)
        established = len(down)
        line.fleet.hang_up(0, 2.0)
        line.run(5.0)
        first = bytes((number,))
        write("session", f"life-{method}", first + join(down))
        write("healthy", f"life-{method}", first + join(down[:established]))
        write("healthy", f"end-{method}", first + join(down[established:]))
        write("concentrator", f"life-{method}", first + join(up))
        for index, frame in enumerate(down):
            write("codecs", f"{method}-{index:02}", frame[14:])


def captures() -> None:
    """The first frames of each capture."""
    for path in (ROOT / "tests" / "unit" / "captures").glob("*.pcap"):
        frames = captured(path.stem)[:10]
        for target in ("session", "healthy", "concentrator"):
            write(target, path.stem, b"\0" + join(frames))
        write("codecs", path.stem, frames[0])


CLIENTS = {
    "socks4": [b"\x04\x01\x00\x50\x00\x00\x00\x01app\x00example.org\x00"],
    "socks5": [b"\x05\x02\x00\x02", b"\x01\x03app\x06sesame", b"\x05\x01\x00\x03\x0bexample.org\x00\x50"],
    "connect": [b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n"],
    "plain": [
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"GET http://[2001:db8::1]:8080/x HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
}


def clients() -> None:
    """A client of the proxies in each protocol."""
    for name, pieces in CLIENTS.items():
        write("proxies", name, join(pieces))


if __name__ == "__main__":
    lives()
    clients()
    captures()
