"""Counters that never go back, though the card that counts is given back and taken anew. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import zip_longest
from operator import add

from msgspec.structs import replace

from engine.api.values import QueueView

_SUMS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "redirected", "passed", "failed", "cpu")


def added(now: array[int], before: array[int]) -> array[int]:
    """Both, place by place, of the same length."""
    return array("Q", map(add, now, before))


def joined(now: tuple[QueueView, ...], before: tuple[QueueView, ...]) -> tuple[QueueView, ...]:
    """The queues of a card as it is now, with what was counted on them before; a queue that is gone still counts."""
    return tuple(_join(new or _at_rest(old), old) for new, old in zip_longest(now, before) if new or old)


def _join(new: QueueView, old: QueueView | None) -> QueueView:
    if old is None:
        return new
    sums = {name: getattr(new, name) + getattr(old, name) for name in _SUMS}
    return replace(new, drops=tuple((Counter(dict(new.drops)) + Counter(dict(old.drops))).items()), **sums)


def _at_rest(old: QueueView) -> QueueView:
    return QueueView(old.index, 0, 0, 0, 0)
