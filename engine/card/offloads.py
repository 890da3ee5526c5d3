"""What a card does to received frames that an XDP program had better see untouched; switched off, and on again.

Some take VLAN tags off, into notes of the driver that no program can read; some join packets (LRO, hardware GRO), and
then the driver takes no program. Some drivers switch such things off themselves for a program, and so does the kernel
in generic mode, and neither puts them back. We do, at the end; a note on disk tells the next start what a run that was
killed left off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.card import ethtool
from engine.host.errors import HostError
from engine.host.replacing import replace_file

STRIPPING = ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse")
"""VLAN tags are taken off."""
FILTERING = ("rx-vlan-filter", "rx-vlan-stag-filter")
"""Frames of VLANs that the kernel knows nothing of are taken away, unless the card is promiscuous."""
_ETHTOOLS_WORDS = {"rx-vlan-hw-parse": "rxvlan", "rx-lro": "lro"}


def active(name: str, wanted: Iterable[str], *, changeable: bool = False) -> list[str]:
    """Those of the features that are on, or those that are and can be switched off."""
    there = ethtool.features(name)
    return [f for f in wanted if f in there and there[f].active and (there[f].changeable or not changeable)]


def words(features: Iterable[str]) -> str:
    """The features as ethtool's manual calls them, as in `rxvlan, lro`."""
    return ", ".join(_ETHTOOLS_WORDS.get(feature, feature) for feature in features)


def command(name: str, features: Iterable[str]) -> str:
    """The command line that switches features off, in backquotes."""
    return f"`ethtool -K {name} {' '.join(f'{_ETHTOOLS_WORDS.get(feature, feature)} off' for feature in features)}`"


class Offloads:
    """What is off on one card because of us, until `restore`."""

    def __init__(self, name: str, note: Path | None) -> None:
        """`note` is the file that tells the next start what this run has left off, if it is killed."""
        self._name = name
        self._note = note
        self._off = dict.fromkeys(_read(note))
        self.left_off = list(self._off)
        """What an earlier run has left off."""

    def switch_off(self, features: Iterable[str]) -> list[str]:
        """Switch off those of the features that are on and can be; returns them. Raises HostError."""
        found = active(self._name, features, changeable=True)
        if found:
            self._remember(found)
            ethtool.set_features(self._name, dict.fromkeys(found, False))
        return found

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Whatever goes off within the block is put back as well; it is in the list after it."""
        gone: list[str] = []
        before = {feature for feature, state in ethtool.features(self._name).items() if state.active}
        try:
            yield gone
        finally:
            after = {f for f, state in ethtool.features(self._name).items() if not state.active and state.changeable}
            gone += sorted((before & after) - self._off.keys())
            with suppress(HostError):  # it has happened, noted or not
                self._remember(gone)

    def restore(self) -> list[str]:
        """Switch everything on again; returns what was. Raises HostError for what can't be."""
        there = ethtool.features(self._name)
        if not there:
            return []  # the card is gone, and what is put in its place has its own
        off = [feature for feature in self._off if feature in there and not there[feature].active]
        if off:
            ethtool.set_features(self._name, dict.fromkeys(off, True))
        self._off.clear()
        if self._note is not None:
            with suppress(OSError):  # there may be no such folder, or no way to make one
                self._note.unlink(missing_ok=True)
                self._note.parent.rmdir()
        return off

    def rename(self, name: str, note: Path | None) -> None:
        """The card has another name now, and the note with it."""
        self._name = name
        if self._note is not None and note is not None:
            with suppress(OSError):  # there is one only while something is off
                self._note.rename(note)
        self._note = note

    def _remember(self, features: list[str]) -> None:
        """Put them on disk: before they are switched off, so that a crash leaves none unknown. Raises HostError."""
        self._off.update(dict.fromkeys(features))
        if self._note is None or not features:
            return
        try:
            self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._note, "".join(f"{feature}\n" for feature in self._off).encode())
        except OSError as error:
            raise HostError(f"{self._note}: {error.strerror}.") from None


def _read(note: Path | None) -> list[str]:
    try:
        return note.read_text().split() if note is not None else []
    except (OSError, UnicodeDecodeError):
        return []
