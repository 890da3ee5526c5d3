"""A hundred thousand junk frames a second from the line: sessions with short keepalives live on."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from engine.settings import KeepaliveSettings
from tests.program import until
from tests.provider import FAR_CARD, Provider, provider
from tests.system.engines import dialling, events, fetch, session, story, views, wait_up

pytestmark = pytest.mark.usefixtures("own_net")

RATE = 100_000
SECONDS = 3
STRANGER = bytes.fromhex("02bad0000001")
BROADCAST = b"\xff" * 6


def pppoe(code: int, session_id: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack("!BBHH", 0x11, code, session_id, len(payload) if length is None else length) + payload


def tag(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def junk(own: bytes, concentrator: bytes, session_ids: list[int]) -> dict[str, list[bytes]]:
    """Frames that must do nothing, by what they are."""
    discovery, data = own + STRANGER + b"\x88\x63", own + STRANGER + b"\x88\x64"
    offer = tag(0x0101, b"") + tag(0x0102, b"stranger") + tag(0x0103, bytes(12))
    echo = b"\xc0\x21\x09\x01\x00\x08\x00\x00\x00\x01"
    return {
        "PADO and PADS of strangers": [discovery + pppoe(0x07, 0, offer), discovery + pppoe(0x65, 77, offer)],
        "PADT of strangers": [discovery + pppoe(0xA7, number, b"") for number in session_ids]
        + [own + BROADCAST + b"\x88\x63" + pppoe(0xA7, session_ids[0], b"")],
        "PADT of other sessions": [own + concentrator + b"\x88\x63" + pppoe(0xA7, n, b"") for n in range(900, 930)],
        "session frames of strangers": [data + pppoe(0, number, echo) for number in session_ids],
        "session frames of other sessions": [
            own + concentrator + b"\x88\x64" + pppoe(0, n, echo) for n in range(900, 930)
        ],
        "malformed": [
            discovery,
            discovery + b"\x12\x07\0\0\0\0",
            discovery + pppoe(0x07, 0, offer, 60000),
            discovery + pppoe(0x07, 0, b"\x01\x02\xff\xff" + bytes(20)),
            data + pppoe(0, session_ids[0], b"\xc0", 1400),
            BROADCAST + STRANGER + b"\x88\x63" + pppoe(0x09, 0, b""),
        ],
        "malformed, in the session's name": [
            own + concentrator + b"\x88\x64" + pppoe(0, session_ids[0], payload)
            for payload in (
                b"",
                b"\xc0",
                b"\xc0\x21\x09",
                b"\xc0\x21\x09\x01\xff\xff",
                b"\x80\x21\x01\x01\x00\x02",
                b"\0",
            )
        ],
    }


def send(far: Provider, flood: Path, frames: list[bytes], folder: Path) -> int:
    """Send the frames round and round; how many went out."""
    file = folder / "frames"
    file.write_text("".join(frame.hex() + "\n" for frame in frames))
    return int(far.run(str(flood), FAR_CARD, str(RATE), str(SECONDS), str(file)))


@pytest.mark.parametrize(
    "kinds",
    [
        ["PADO and PADS of strangers", "PADT of strangers", "PADT of other sessions"],
        ["session frames of strangers", "session frames of other sessions"],
        ["malformed", "malformed, in the session's name"],
    ],
    ids=["discovery", "session", "malformed"],
)
def test_sessions_live_on(flood: Path, tmp_path: Path, kinds: list[str]) -> None:
    sessions = [session(f"s{n}", keepalive=KeepaliveSettings(0.5, 3)) for n in range(8)]
    with provider() as far, dialling(sessions) as engine:
        wait_up(engine)
        before = views(engine)
        one = before["s0"]
        assert one.local_mac is not None
        assert one.ac_mac is not None
        own, concentrator = (bytes.fromhex(mac.replace(":", "")) for mac in (one.local_mac, one.ac_mac))
        frames = junk(own, concentrator, [found.session_id or 0 for found in before.values()])
        sent = send(far, flood, [frame for kind in kinds for frame in frames[kind]], tmp_path)
        assert sent > RATE * SECONDS / 4, "this machine can't make a flood"
        assert not events(engine, "session-down"), story(engine)[-4000:]
        assert not events(engine, "internal-error"), story(engine)[-4000:]
        assert {n: v.session_id for n, v in views(engine).items()} == {n: v.session_id for n, v in before.items()}
        for found in before.values():
            assert found.device is not None
            assert fetch(found.device) == found.ipv4


def test_sessions_come_up_in_a_flood(flood: Path, tmp_path: Path) -> None:
    with provider() as far:
        frames = junk(BROADCAST, STRANGER, [1])
        file = tmp_path / "frames"
        everything = [frame for kind in frames.values() for frame in kind]
        file.write_text("".join(frame.hex() + "\n" for frame in everything))
        command = far.command(str(flood), FAR_CARD, str(RATE), str(SECONDS), str(file))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as flooding:
            with dialling([session(f"s{n}") for n in range(8)]) as engine:
                until(lambda: events(engine, "ipv4-up") or flooding.poll() is not None, "the first one")
                wait_up(engine)
            flooding.wait(30)
