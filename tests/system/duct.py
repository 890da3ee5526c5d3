"""What the data path and the stack program share, seen from either end: see `engine/datapath/duct.h`.

Indices are written as words of a view: `struct` fills with zeros first, which the other side may read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

START, RECORD, SKIP = 4096, 8, 0xFFFFFFFF
HEAD, TAIL, SLEEPING, OTHER = 0, 64, 128, 192


class Duct:
    """One end: that of the data path, or of the program, for which the rings change places."""

    def __init__(self, memory: int, *, of_program: bool = False) -> None:
        self.size = (os.fstat(memory).st_size - START) // 2
        self.memory = mmap.mmap(memory, 0)
        self._words = memoryview(self.memory).cast("I")
        self._out, self._in = (OTHER, 0) if of_program else (0, OTHER)
        self._leaving, self._arriving = (START + self.size * (n > 0) for n in (self._out, self._in))
        self.head = self.tail = 0
        self.sleep()

    def sleep(self) -> None:
        """Ask to be woken."""
        self.say(self._in + SLEEPING, 1)

    def put(self, key: int, packet: bytes) -> bool:
        """Whether there was room."""
        need, place = _need(len(packet)), self.head % self.size
        skipped = self.size - place if need > self.size - place else 0
        if need + skipped > self.size - (self.head - self._said(self._out + TAIL)) % (1 << 32):
            return False
        if skipped:
            self.mark(place, SKIP, 0)
            place = 0
        self.mark(place, len(packet), key)
        start = self._leaving + place + RECORD
        self.memory[start : start + len(packet)] = packet
        self.head += skipped + need
        self.show(self.head)
        return True

    def mark(self, place: int, length: int, key: int) -> None:
        """Says what a record is."""
        struct.pack_into("II", self.memory, self._leaving + place, length, key)

    def show(self, head: int) -> None:
        """Says that there is something up to here."""
        self.say(self._out + HEAD, head)

    def take(self) -> Iterator[tuple[int, bytes]]:
        """What has come."""
        while self._said(self._in + HEAD) != self.tail % (1 << 32):
            place = self.tail % self.size
            length, key = struct.unpack_from("II", self.memory, self._arriving + place)
            if length == SKIP:
                self.tail += self.size - place
                continue
            start = self._arriving + place + RECORD
            packet = bytes(self.memory[start : start + length])
            self.tail += _need(length)
            self.say(self._in + TAIL, self.tail)
            yield key, packet

    def _said(self, place: int) -> int:
        return self._words[place // 4]

    def say(self, place: int, value: int) -> None:
        """Writes one of the indices."""
        self._words[place // 4] = value & 0xFFFFFFFF

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self.memory.close()


def _need(length: int) -> int:
    return -(-(RECORD + length) // RECORD) * RECORD
