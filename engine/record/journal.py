"""The journal of open PPPoE sessions on disk: what a crash would leave open at the concentrator.

A concentrator answers no PADI of a client whose session it believes to be open, for half an hour or more, until it gets
that session's PADT. So every session is noted here before LCP starts; what an earlier run has left in the journal are
ghosts. The owner sends `padt_frame` for each, and then says that they are `closed`.

The file is text, one record a line: `+` opened or `-` closed, own MAC, concentrator's MAC, session id, VLAN tags as
TPID and TCI, and the CRC-32 of all that. Records are only appended; a line that is torn or whose sum is wrong says
nothing. A file that has grown long is replaced, by rename, by one that says the same in fewer lines. That the host was
restarted since makes no difference: the concentrator knows nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from engine.host.errors import Trouble
from engine.host.replacing import sync_folder, write_all
from engine.wire import ethernet, pppoe
from engine.wire.ethernet import ETH_PPPOE_DISCOVERY, EthernetFrame, VlanTag
from engine.wire.place import Place
from engine.wire.pppoe import PppoePacket

SLACK = 4096
"""Lines that may be superfluous before the file is replaced; about 50 octets each."""

_MAGIC = b"souppp ghosts 1\n"
_TRIES = 100
"""How often the file may vanish between its opening and its lock, as others leave that had it."""


class GhostError(Trouble):
    """The journal can't be used or written: one line for the operator."""


def journal_of(folder: Path, card: str) -> Path:
    """Where the journal of a card is."""
    return folder / f"{card}.ghosts"


def padt_frame(place: Place) -> bytes:
    """The Ethernet frame with the PADT that ends this session (RFC 2516 section 5.5)."""
    packet = pppoe.encode(PppoePacket(pppoe.Code.PADT, place.session_id, b""))
    return ethernet.encode(EthernetFrame(place.peer_mac, place.own_mac, ETH_PPPOE_DISCOVERY, packet, place.vlans))


class _Noted:
    """A session that is open by the file."""

    __slots__ = ("ours", "record")

    def __init__(self, place: Place, *, ours: bool) -> None:
        self.ours = ours
        """Of this run, and no ghost."""
        self.record = _record(b"+", place)
        """Kept, as writing the file anew with thousands of them would else hold the loop."""


class GhostJournal:
    """The journal of one card, locked for as long as this object is open; for one thread."""

    def __init__(self, path: Path) -> None:
        """Take the journal over from an earlier run, or begin one; makes its folder, mode 0700, where there is none.

        Raises GhostError if another instance holds it, if the file is not a journal, or if it can't be opened. Nothing
        is written yet, so that ghosts can be ended even on a full disk. The lock is a flock(2): it ends with the
        process, and with children that were forked and have not called exec.
        """
        self.path = path
        self._stale = True
        """The file may lack something, or be from an earlier run: the next record replaces it."""
        self._lines = 0
        try:
            self._fd: int | None = self._lock()
            try:
                self._noted = {place: _Noted(place, ours=False) for place in self._read(self._fd)}
                """Every session that is open by the file."""
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            remedy = "Open sessions are noted there: name a folder that can be written, by --state-dir."
            raise GhostError(f"{path}: {error.strerror}. {remedy}") from None

    def ghosts(self) -> list[Place]:
        """The sessions that an earlier run left open, less those since closed or opened anew; oldest first."""
        return [place for place, noted in self._noted.items() if not noted.ours]

    def opened(self, sessions: list[Place]) -> None:
        """Note sessions as open; they are on the disk when this returns. One disk flush a call, however many they are.

        Raises GhostError if the disk fails; the next call that succeeds makes up for it.
        """
        new = [place for place in sessions if place not in self._noted]
        noted = {place: _Noted(place, ours=True) for place in sessions}
        self._noted |= noted
        self._append([noted[place].record for place in new])

    def closed(self, sessions: list[Place], *, last: bool = False) -> None:
        """Note sessions as closed, ghosts too, after their PADT was sent; as `opened`, which see.

        If these are the `last`, and no session is left open, nothing is written: the file goes with `close`.
        """
        known = [place for place in dict.fromkeys(sessions) if place in self._noted]
        for place in known:
            del self._noted[place]
        if self._noted or not last:
            self._append([_record(b"-", place) for place in known])

    def rename(self, card: str) -> None:
        """The card has another name now: move the file to where the next start looks. Raises GhostError.

        What another card has left there stays, and so does our file then.
        """
        new = journal_of(self.path.parent, card)
        if self._fd is None or new == self.path:
            return
        try:
            os.link(self.path, new)
            self.path.unlink()
            sync_folder(new.parent)
        except FileExistsError:
            raise GhostError(f"{new} is there already: open sessions are noted in {self.path} all the same.") from None
        except OSError as error:
            raise self._failed(error) from None
        self.path = new

    def close(self) -> None:
        """Unlock. The file, and its folder if nothing else is in it, stay if sessions are still noted as open.

        They stay as well on a disk that lets nothing be removed. That is no news: what the file lacks was told when it
        could not be written. Closing twice does no harm.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if not self._noted:
            with suppress(OSError):
                # Whoever waits for the lock sees that the file it opened is gone, and makes a new one.
                self.path.unlink(missing_ok=True)
                # It may have come and gone since, and have taken the folder with it: then nothing is left to sync.
                sync_folder(self.path.parent)
                self.path.parent.rmdir()
        os.close(fd)

    def _lock(self) -> int:
        """Open the file, locked; again if it was replaced or removed in between."""
        folder = self.path.parent
        for _ in range(_TRIES):
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(folder.parent)
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                here, there = os.fstat(fd), os.stat(self.path, follow_symlinks=False)
            except BlockingIOError:
                os.close(fd)
                raise GhostError(
                    f"{self.path} is in use: another souppp-tui works on this card. End that first, "
                    "or look at it with `souppp-tui attach`."
                ) from None
            except FileNotFoundError:
                os.close(fd)
                continue
            if os.path.samestat(here, there):
                return fd
            os.close(fd)
        raise GhostError(f"{self.path} can't be made, or vanishes again and again.")

    def _read(self, fd: int) -> list[Place]:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise GhostError(f"{self.path} is not a plain file. Move it away.")
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
            raise GhostError(f"{self.path} is not a journal of open sessions. Move it away.")
        return replay(data)

    def _append(self, records: list[bytes]) -> None:
        if self._fd is None or not (records or self._stale):
            return
        try:
            if self._stale or self._lines + len(records) > len(self._noted) + SLACK:
                self._replace()
            else:
                self._stale = True
                write_all(self._fd, b"".join(records))
                os.fdatasync(self._fd)
                self._stale = False
                self._lines += len(records)
        except OSError as error:
            raise self._failed(error) from None

    def _replace(self) -> None:
        """Put a new file in the place of the old one, and the lock with it."""
        assert self._fd is not None
        self._stale = True
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(fd, _MAGIC + b"".join(noted.record for noted in self._noted.values()))
            os.fsync(fd)
            new.rename(self.path)
        except OSError:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        old, self._fd = self._fd, fd
        os.close(old)
        sync_folder(self.path.parent)
        self._lines = len(self._noted)
        self._stale = False

    def _failed(self, error: OSError) -> GhostError:
        return GhostError(
            f"{self.path}: {error.strerror}. Sessions left open by a crash may not be ended at the next start."
        )


def replay(data: bytes) -> list[Place]:
    """The sessions open at the end of a journal's octets, which may be cut anywhere; never raises."""
    opened: dict[Place, None] = {}
    for line in data.split(b"\n")[1:]:
        match _parse(line):
            case b"+", place:
                opened[place] = None
            case b"-", place:
                opened.pop(place, None)
    return list(opened)


def _record(sign: bytes, place: Place) -> bytes:
    vlans = ",".join(f"{tag.tpid:04x}{tag.tci:04x}" for tag in place.vlans) or "-"
    told = f"{place.own_mac.hex()} {place.peer_mac.hex()} {place.session_id:04x} {vlans}".encode()
    text = sign + b" " + told
    return text + b" %08x\n" % crc32(text)


def _parse(line: bytes) -> tuple[bytes, Place] | None:
    text, _, checksum = line.rpartition(b" ")
    if checksum != b"%08x" % crc32(text):
        return None
    try:
        sign, own, peer, session_id, vlans = text.decode().split(" ")
        tags = tuple(_vlan(tag) for tag in vlans.split(",")) if vlans != "-" else ()
        return sign.encode(), Place(bytes.fromhex(own), bytes.fromhex(peer), int(session_id, 16), tags)
    except ValueError:
        return None


def _vlan(text: str) -> VlanTag:
    number = int(text, 16)
    return VlanTag(number & 0xFFF, number >> 13 & 7, number >> 16, bool(number & 0x1000))
