"""Capture files, read back by a small reader of our own and by the tools that operators use."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.record.pcapng import COMMENT, CaptureError, CaptureFile

ECHO = bytes.fromhex("02acacac00010211223344aa886411000001000ac02109070008aafc326c").ljust(60, b"\0")
REPLY = bytes.fromhex("0211223344aa02acacac0001886411000001000ac0210a070008975f5133").ljust(60, b"\0")
AT = 1_700_000_000.25
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Read:
    """One packet read back."""

    session: str
    at: float
    sent: bool
    frame: bytes


def options(body: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(body):
        code, length = struct.unpack_from("<HH", body, at)
        if code == 0:
            assert at + 4 == len(body), "octets after the end of options"
            break
        found[code] = body[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
    return found


def read(path: Path) -> list[Read]:
    """All packets, with every length and magic number of the file checked on the way."""
    data, at, names, packets = path.read_bytes(), 0, list[str](), []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        body = data[at + 8 : at + length - 4]
        if kind == 0x0A0D0D0A:
            assert at == 0
            assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
            assert options(body[16:])[1].decode() == COMMENT
        elif kind == 1:
            link, _, snaplen = struct.unpack_from("<HHI", body)
            assert (link, snaplen) == (1, 262144)
            found = options(body[8:])
            assert found[9] == b"\x06"
            names.append(found[2].decode())
        else:
            assert kind == 6
            number, high, low, kept, original = struct.unpack_from("<IIIII", body)
            assert kept == original
            end = 20 + (kept + 3) // 4 * 4
            (flags,) = struct.unpack("<I", options(body[end:])[2])
            assert flags in (1, 2)
            packets.append(Read(names[number], (high << 32 | low) / 1e6, flags == 2, body[20 : 20 + kept]))
        at += length
    assert at == len(data)
    return packets


def test_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with CaptureFile(path) as capture:
        capture.write(ECHO, AT, True, "home-01")
        capture.write(REPLY, AT + 0.003, False, "home-01")
        capture.write(ECHO, AT + 1, True, "büro")
        assert capture.size == path.stat().st_size, "frames must be in the file at once"
    assert read(path) == [
        Read("home-01", AT, True, ECHO),
        Read("home-01", AT + 0.003, False, REPLY),
        Read("büro", AT + 1, True, ECHO),
    ]


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=70),
            st.integers(0, 2**52).map(lambda microseconds: microseconds / 1e6),
            st.booleans(),
            st.sampled_from(["a", "home-01", "büro", "x" * 300]),
        ),
        max_size=20,
    ),
    st.integers(200, 2000),
)
def test_anything_reads_back_within_the_limit(frames: list[tuple[bytes, float, bool, str]], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pcapng"
        limit += 200
        with CaptureFile(path, limit) as capture:
            for frame, at, sent, name in frames:
                capture.write(frame, at, sent, name)
        got = read(path)
        assert path.stat().st_size == capture.size <= limit
        assert capture.full == (len(got) < len(frames))
        for packet, (frame, at, sent, name) in zip(got, frames, strict=False):
            assert (packet.session, packet.sent, packet.frame) == (name[:255], sent, frame)
            assert packet.at == pytest.approx(at, abs=1e-6)


def test_stops_at_the_limit_for_good(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with CaptureFile(path, 1000) as capture:
        while not capture.full:
            capture.write(ECHO, AT, True, "a")
        size = capture.size
        capture.write(b"", AT, True, "a")
        assert capture.size == size == path.stat().st_size <= 1000
    assert len(read(path)) >= 3


def test_limit_without_room_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="higher limit"):
        CaptureFile(tmp_path / "a.pcapng", 20)
    assert not list(tmp_path.iterdir())


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    old = os.umask(0)
    try:
        CaptureFile(path).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_leaves_an_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_text("precious")
    with pytest.raises(CaptureError, match=r"a\.pcapng exists already"):
        CaptureFile(path)
    assert path.read_text() == "precious"


def test_never_follows_a_link(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.pcapng"
    path.symlink_to(victim)
    for there in (False, True):
        if there:
            victim.write_text("precious")
        with pytest.raises(CaptureError):
            CaptureFile(path)
        assert victim.exists() == there
    assert victim.read_text() == "precious"
    assert path.is_symlink()


def test_never_replaces_what_is_not_a_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(CaptureError, match="exists already"):
            CaptureFile(path)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_no_such_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file or directory") as caught:
        CaptureFile(tmp_path / "none" / "a.pcapng")
    assert "\n" not in str(caught.value)


def test_closing_twice_and_writing_after_it_is_harmless(tmp_path: Path) -> None:
    capture = CaptureFile(tmp_path / "a.pcapng")
    capture.close()
    capture.close()
    capture.write(ECHO, AT, True, "a")
    assert not read(tmp_path / "a.pcapng")


@contextmanager
def files_no_larger_than(octets: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_echoes(capture: CaptureFile, count: int) -> None:
    for _ in range(count):
        capture.write(ECHO, AT, True, "a")


def test_failing_write_is_told_once_and_leaves_whole_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    capture = CaptureFile(path)
    with files_no_larger_than(1000):
        with pytest.raises(CaptureError, match="stopped: File too large") as caught:
            write_echoes(capture, 20)
        write_echoes(capture, 20)
    assert "\n" not in str(caught.value)
    capture.close()
    assert path.stat().st_size == capture.size
    assert 3 <= len(read(path)) < 20


FULL_DISK = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from engine.record.pcapng import CaptureFile, CaptureError
folder = Path(sys.argv[1])
capture = CaptureFile(folder / "a.pcapng")
errors = []
for number in range(5000):
    try:
        capture.write(bytes(1000), 1.7e9, True, "a")
    except CaptureError as error:
        errors.append(str(error))
capture.close()
(folder / "pad").write_bytes(b"x" * (os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize))
try:
    CaptureFile(folder / "b.pcapng")
except CaptureError as error:
    errors.append(str(error))
assert not (folder / "b.pcapng").exists()
Path(sys.argv[2]).write_bytes((folder / "a.pcapng").read_bytes())
print("\\n".join(errors))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_full_disk(tmp_path: Path) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy.pcapng"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=256k none "{disk}" && exec "$0" -c "$1" "{disk}" "{copy}"'
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, FULL_DISK],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()
    assert len(told) == 2
    assert all("No space left on device" in line for line in told)
    assert 100 < len(read(copy)) < 260


def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.pcapng"
    with CaptureFile(path) as capture:
        capture.write(ECHO, AT, True, "home-01")
        capture.write(ECHO, AT + 0.001, True, "home-02")
        capture.write(REPLY, AT + 0.0025, False, "home-01")
    return path


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
def test_tcpdump_reads_it(tmp_path: Path) -> None:
    args = ["tcpdump", "-nn", "-tt", "-r", str(sample(tmp_path))]
    run = subprocess.run(args, capture_output=True, text=True, check=True, timeout=60)
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stderr
    assert lines[0].startswith("1700000000.250000")
    assert "Echo-Request" in lines[0]
    assert lines[2].startswith("1700000000.252500")
    assert "Echo-Reply" in lines[2]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_shows_session_and_direction(tmp_path: Path) -> None:
    fields = ["frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch", "ppp.code"]
    args = ["tshark", "-r", str(sample(tmp_path)), "-T", "fields", *(arg for name in fields for arg in ("-e", name))]
    run = subprocess.run(args, capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    assert [row[0] for row in rows] == ["home-01", "home-02", "home-01"]
    assert [int(row[1], 16) for row in rows] == [2, 2, 1]
    assert rows[2][2].startswith("1700000000.252500")
    assert [row[3] for row in rows] == ["9", "9", "10"]
