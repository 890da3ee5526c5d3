"""Write the seeds of the corpus: healthy lives, recorded afresh, and captures from elsewhere.

    python fuzz/seed.py [pcap …]

Run it when the protocol code sends other frames than before.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engine.settings.values import AuthMethod  # noqa: E402
from fuzz.targets import join, segment  # noqa: E402

CORPUS = ROOT / "fuzz" / "corpus"
MAX_SEED = 4096


def write(target: str, name: str, data: bytes) -> None:
    """One file of the corpus."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data[:MAX_SEED])


def lives() -> None:
    """One life of a session with each authentication method, each side's frames for the other's target."""
    for number, method in enumerate(AuthMethod):
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


def captures(paths: list[Path]) -> None:
    """The first frames of pcap files."""
    for path in paths:
        data = path.read_bytes()
        order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        frames, at = [], 24
        while at < len(data) and len(frames) < 10:
            (kept,) = struct.unpack_from(order + "I", data, at + 8)
            frames.append(data[at + 16 : at + 16 + kept])
            at += 16 + kept
        for target in ("session", "healthy", "concentrator"):
            write(target, path.stem, b"\0" + join(frames))
        write("codecs", path.stem, frames[0])


if __name__ == "__main__":
    lives()
    captures([Path(name) for name in sys.argv[1:]])
