"""A process that serves engines: what it tells its service manager of them."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from engine.settings.values import Settings
from souppp_tui.commands.run import Attachable
from souppp_tui.commands.serve import Served
from tests.provider import provider
from tests.system.engines import dialling


def test_an_engine_whose_loop_is_stuck_does_not_answer(own_net: None, tmp_path: Path) -> None:
    with provider(), dialling([]) as engine:
        options = argparse.Namespace(lab=False, socket=tmp_path / "socket", state_dir=tmp_path, config=None)
        served = Served(engine, Attachable(engine, options), options, Settings(), None)
        assert served.answers(45.0)
        go_on = threading.Event()
        engine._loop.call_soon_threadsafe(go_on.wait)
        try:
            assert not served.answers(0.2)
        finally:
            go_on.set()
        assert served.answers(45.0)
        served.stop()
        assert served.has_ended(45.0)
        assert not (tmp_path / "socket").exists()
