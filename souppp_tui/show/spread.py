"""How PPPoE is spread over the card's queues, and what its operator can do when it isn't. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.values import CardView, ReceiveRules

LOPSIDED = 0.95
"""One queue with more than this share of all frames, where there are several, is worth a word."""
SEVERAL = 4
"""Fewer sessions than this for each queue may share one by chance."""
ENOUGH = 1000.0
"""Packets per second below which nothing is said about it."""


def busiest(rates: Sequence[float], receiving: int) -> int | None:
    """The place of the queue that receives nearly all packets, None if none does or it may be chance.

    `rates` are packets received per second, by queue; `receiving` is how many sessions receive.
    """
    total = sum(rates)
    if len(rates) < 2 or total < ENOUGH or max(rates) < LOPSIDED * total or receiving < SEVERAL * len(rates):
        return None
    return rates.index(max(rates))


def advice(card: CardView, queue: int, own_mac: str | None) -> str:
    """What spreads sessions on this card, in a line; `queue` is one to steer to, `own_mac` a session's own address."""
    if card.receive_rules is ReceiveRules.NONE:
        driver = card.driver or "its driver"
        return f"One core receives for all: {driver} takes no receive rules, so only another card spreads sessions."
    steer = f"`ethtool -N {card.name} flow-type ether dst {own_mac or 'MAC'} action {queue}`"
    steps = (
        "" if own_mac else "give sessions `mac: derived`, then ",
        f"`ethtool -K {card.name} ntuple on`, then " if card.receive_rules is ReceiveRules.OFF else "",
        f"a rule for each session: {steer}.",
    )
    text = "".join(steps)
    return text[0].upper() + text[1:]
