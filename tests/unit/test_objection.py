"""What a driver's words mean for an operator. The words are those of drivers in Linux 6.1 to 6.18."""

from __future__ import annotations

import pytest

from engine.api.values import ReceiveRules
from engine.card.ethtool import Channels
from engine.card.facts import Card
from engine.card.objection import locked_queues, remedy


def card(driver: str = "igb", mtu: int = 1500) -> Card:
    return Card("eth0", 2, bytes(6), mtu, True, True, 4, 4, driver, False, ReceiveRules.NONE)


FOUR = Channels(0, 0, 4, 0, 0, 4)


@pytest.mark.parametrize(
    ("words", "mtu", "switchable", "said"),
    [
        (
            "can't set XDP while LRO is on, disable LRO first",
            1500,
            ["rx-lro"],
            "`ethtool -K eth0 lro off`, or start with --fix-card",
        ),
        (
            "Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
            1500,
            [],
            "switch guest_tso4, guest_tso6, guest_ecn, guest_ufo and guest_csum off for eth0 in the hypervisor",
        ),
        (
            "can't set XDP while HW-GRO/LRO is on, disable them first",
            1500,
            ["rx-lro", "rx-gro-hw"],
            "`ethtool -K eth0 lro off rx-gro-hw off`, or start with --fix-card",
        ),
        (
            "XDP RX buffer size 3072 is too small for the frame size 4022",
            4000,
            [],
            "a smaller MTU, as in `ip link set eth0 mtu 1508`",
        ),
        ("MTU is too large for XDP", 9000, [], "a smaller MTU, as in `ip link set eth0 mtu 1508`"),
        ("MTU is too large for XDP", 1500, [], ""),
        ("Not enough free queues for XDP", 1500, [], "fewer queues, as in `ethtool -L eth0 combined 2`"),
        ("Underlying driver does not support XDP in native mode", 1500, [], ""),
        ("Device or resource busy", 1500, [], ""),
    ],
)
def test_the_remedy(words: str, mtu: int, switchable: list[str], said: str) -> None:
    assert remedy(words, card(mtu=mtu), switchable, FOUR) == said


@pytest.mark.parametrize(
    ("driver", "queues", "said"),
    [
        ("igb", FOUR, ""),
        ("virtio_net", None, ""),
        ("virtio_net", Channels(0, 0, 2, 0, 0, 4), ""),
        ("virtio_net", FOUR, "(4 in use, of 4): sessions in the kernel share one behind a lock, which is slower; "),
        ("virtio_net", FOUR, "; `ethtool -L eth0 combined 2` before the start."),
        ("virtio_net", Channels(0, 0, 1, 0, 0, 1), "; give it 3 queues or more in the hypervisor."),
    ],
)
def test_a_virtio_card_without_spare_queues_is_told(driver: str, queues: Channels | None, said: str) -> None:
    text = locked_queues(card(driver), queues, 2)
    assert said in text
    assert bool(text) == bool(said)
