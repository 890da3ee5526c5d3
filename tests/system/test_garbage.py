"""What the engine does on a host leaves nothing that holds itself: a service looks for no garbage (`never_collect`).

What the supervisor and the sessions leave is in tests/unit/supervisor/test_garbage.py.
"""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from engine.api.commands import HangUp, Redial
from engine.api.values import SessionState
from engine.settings.values import DatapathChoice
from tests.conftest import run
from tests.program import until
from tests.provider import provider
from tests.system.engines import dialling, events, session, view, wait_state, wait_up

pytestmark = pytest.mark.usefixtures("own_net")

OURS = ("engine.", "pyroute2.")
TIMES = 4


def test_the_engine_makes_no_garbage_on_a_host() -> None:
    """While it dials, looks at its card, and puts back what others take away."""
    sessions = [session("one"), session("two", datapath=DatapathChoice.KERNEL, prefix=0)]
    with provider(), dialling(sessions) as engine:
        wait_up(engine)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for number in range(1, TIMES + 1):
                engine.submit(Redial(tuple(each.id for each in engine.snapshot().sessions))).result(30)
                until(lambda number=number: len(events(engine, "ipv4-up", "one")) > number, "it up again")
                wait_up(engine)
                device = view(engine, "one").device
                assert device is not None
                run("ip", "link", "set", device, "down")
                until(lambda number=number: len(events(engine, "guard", "one")) >= number, "it put back")
            engine.submit(HangUp((view(engine, "two").id,))).result(30)
            wait_state(engine, SessionState.DOWN, "two")
            gc.collect()
            found = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    frames = {name: count for name, count in found.items() if name.startswith(OURS) or name == "builtins.frame"}
    assert not frames
