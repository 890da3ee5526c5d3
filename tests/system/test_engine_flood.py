"""A hundred thousand junk frames a second from the line: sessions with short keepalives live on."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.api.commands import Add
from engine.run.thread import Engine
from engine.settings.values import KeepaliveSettings
from tests.program import PATIENCE, until
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
        "well-formed, in the session's name": [
            own + concentrator + b"\x88\x64" + pppoe(0, session_ids[0], payload)
            for payload in (
                echo,
                b"\xc0\x21\x0a\x63\x00\x08\x00\x00\x00\x01",  # Echo-Reply
                b"\xc0\x21\x0b\x01\x00\x08\x00\x00\x00\x01",  # Discard-Request
                b"\xc2\x23\x03\x63\x00\x04",  # CHAP Success
                b"\x80\xfd\x01\x01\x00\x04",  # a protocol that we don't speak
            )
        ],
    }


Record = Callable[[str, object], None]


class Flood:
    """Frames sent round and round by a program on the far side, from construction to `outcome`."""

    def __init__(self, far: Provider, program: Path, frames: list[bytes], folder: Path) -> None:
        file = folder / "frames"
        file.write_text("".join(frame.hex() + "\n" for frame in frames))
        # A line does not wait for our processors.
        command = far.command("nice", "-n", "-20", str(program), FAR_CARD, str(RATE), str(SECONDS), str(file))
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @property
    def going_on(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it, should it be going on."""
        self._process.kill()
        self._process.communicate()

    def outcome(self, engine: Engine, seen_before: int, record: Record) -> None:
        """See that the flood was one, by what our own card has seen of it.

        Fewer frames than that are a flood only where the sender had no processor: what it was given it must have used.
        """
        output, _ = self._process.communicate(timeout=PATIENCE)
        sent, seconds, waited = (float(word) for word in output.split())
        seen = seen_frames(engine) - seen_before
        told = f"{seen / seconds:,.0f} frames/s seen by our card"
        if sent < RATE * seconds * 0.98:
            told += f", fewer than {RATE:,}: the sender waited {waited:.1f} of {seconds:.1f} s for a processor"
            assert sent / (seconds - waited) > RATE, f"{told}: not why"
        record("flood", told)
        assert seen > sent * 0.98, f"{told}, but {sent / seconds:,.0f} were sent"


def seen_frames(engine: Engine) -> int:
    """PPPoE frames that have come out of the cable, whatever became of them then."""
    return sum(queue.redirected + queue.failed for queue in engine.snapshot().queues)


def echo_replies(engine: Engine, name: str, since: float) -> int:
    """How many Echo-Replies a session has had since a moment, of the ten echoes that are kept."""
    details = until(lambda: engine.details(views(engine)[name].id), "its details")
    return sum("Echo-Reply" in entry.summary and not entry.sent and entry.at > since for entry in details.ladder)


@pytest.mark.parametrize(
    "kinds",
    [
        ["PADO and PADS of strangers", "PADT of strangers", "PADT of other sessions"],
        ["session frames of strangers", "session frames of other sessions"],
        ["malformed", "malformed, in the session's name"],
        ["well-formed, in the session's name"],
    ],
    ids=["discovery", "session", "malformed", "well-formed"],
)
def test_sessions_live_on(flood: Path, tmp_path: Path, record_property: Record, kinds: list[str]) -> None:
    sessions = [session(f"s{n}", keepalive=KeepaliveSettings(0.5, 4)) for n in range(8)]
    with provider() as far, dialling(sessions) as engine:
        wait_up(engine)
        before = views(engine)
        one = before["s0"]
        assert one.local_mac is not None
        assert one.ac_mac is not None
        own, concentrator = (bytes.fromhex(mac.replace(":", "")) for mac in (one.local_mac, one.ac_mac))
        frames = junk(own, concentrator, [found.session_id or 0 for found in before.values()])
        seen_before, began = seen_frames(engine), time.time()
        flooding = Flood(far, flood, [frame for kind in kinds for frame in frames[kind]], tmp_path)
        try:
            flooding.outcome(engine, seen_before, record_property)
        finally:
            flooding.stop()
        # Those of s0 are pushed out by the echoes that come in its name: only the latest are kept.
        replies = {name: echo_replies(engine, name, began) for name in before if name != "s0"}
        record_property("Echo-Replies meanwhile", f"{min(replies.values())} to {max(replies.values())} a session")
        assert not events(engine, "session-down"), story(engine)[-4000:]
        assert not events(engine, "internal-error"), story(engine)[-4000:]
        assert {n: v.session_id for n, v in views(engine).items()} == {n: v.session_id for n, v in before.items()}
        assert min(replies.values()) > 0, replies
        for found in before.values():
            assert found.device is not None
            assert fetch(found.device) == found.ipv4


def test_sessions_come_up_in_a_flood(flood: Path, tmp_path: Path, record_property: Record) -> None:
    frames = [frame for kind in junk(BROADCAST, STRANGER, [1]).values() for frame in kind]
    with provider() as far, dialling([]) as engine:
        seen_before = seen_frames(engine)
        flooding = Flood(far, flood, frames, tmp_path)
        try:
            for n in range(8):
                engine.submit(Add(session(f"s{n}")))
            until(lambda: events(engine, "ipv4-up") or not flooding.going_on, "the first one")
            in_time = len(events(engine, "ipv4-up"))
            flooding.outcome(engine, seen_before, record_property)
        finally:
            flooding.stop()
        assert in_time, "none came up while the flood went on"
        wait_up(engine)
        assert len(events(engine, "ipv4-up")) >= 8
