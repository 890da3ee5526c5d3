"""Advice on queues: what is said is true for the card, and the command in it can be typed."""

from __future__ import annotations

import pytest

from engine.api.values import CardView, ReceiveRules
from souppp_tui.show import spread

MAC = "02:00:00:00:00:07"
STEER = f"`ethtool -N eth0 flow-type ether dst {MAC} action 1`"


@pytest.mark.parametrize(
    ("rates", "receiving", "found"),
    [
        ((5000.0, 10.0), 16, 0),
        ((0.0, 0.0, 5000.0), 16, 2),
        ((5000.0,), 16, None),
        ((3000.0, 2000.0), 16, None),
        ((900.0, 0.0), 16, None),
        ((5000.0, 10.0), 7, None),
    ],
    ids=["all on one", "the last", "only one queue", "spread", "next to nothing", "may be chance"],
)
def test_the_busiest_queue(rates: tuple[float, ...], receiving: int, found: int | None) -> None:
    assert spread.busiest(rates, receiving) == found


@pytest.mark.parametrize(
    ("rules", "own_mac", "text"),
    [
        (ReceiveRules.ON, MAC, f"A rule for each session: {STEER}."),
        (ReceiveRules.OFF, MAC, f"`ethtool -K eth0 ntuple on`, then a rule for each session: {STEER}."),
        (
            ReceiveRules.ON,
            None,
            f"Give sessions `mac: derived`, then a rule for each session: {STEER.replace(MAC, 'MAC')}.",
        ),
        (
            ReceiveRules.NONE,
            MAC,
            "One core receives for all: r8169 takes no receive rules, so only another card spreads sessions.",
        ),
    ],
)
def test_advice(rules: ReceiveRules, own_mac: str | None, text: str) -> None:
    card = CardView("eth0", "02:00:00:00:00:01", 1500, True, driver="r8169", receive_rules=rules)
    assert spread.advice(card, 1, own_mac) == text
