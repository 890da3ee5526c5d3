"""The rates on the screen, beside what the kernel counts for the session's device."""

from __future__ import annotations

import json

import pytest

from engine.api.values import Snapshot
from engine.settings.values import DatapathChoice
from souppp_tui.model.traffic import Meter
from tests.conftest import run
from tests.program import until
from tests.provider import provider

from .engines import dialling, pings, session, view, wait_up

pytestmark = pytest.mark.usefixtures("needs_root", "own_net")


def counted(device: str) -> tuple[int, int]:
    """What `ip -s link` says: octets received and sent."""
    (link,) = json.loads(run("ip", "-s", "-j", "link", "show", device))
    return link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"]


def test_rates_are_what_ip_counts_over_the_same_time() -> None:
    with provider(), dialling([session("one", datapath=DatapathChoice.AFXDP)]) as engine:
        wait_up(engine)
        one = view(engine, "one")
        assert one.device is not None
        device = one.device

        def quiet() -> tuple[Snapshot, tuple[int, int]] | None:
            """Both at a moment when nothing is carried, or the numbers would be of two moments."""
            before, snapshot = counted(device), engine.snapshot()
            return (snapshot, before) if counted(device) == before else None

        found = until(quiet, "a quiet moment")
        assert found is not None
        first, before = found
        assert pings(device, 1000, 20)

        def agree() -> bool:
            latest = quiet()
            if latest is None:
                return False
            meter = Meter()
            meter.take(first)
            meter.take(latest[0])
            rates, span = meter.rates(one.id), latest[0].at - first.at
            told = round(rates.rx_bits * span / 8), round(rates.tx_bits * span / 8)
            kernel = latest[1][0] - before[0], latest[1][1] - before[1]
            return told == kernel and min(kernel) >= 20 * 1028

        until(agree, "the same numbers")
