"""The command lines by which a session is used."""

from __future__ import annotations

from msgspec.structs import replace

from engine.api.values import SessionState, SessionView
from engine.run.usage import try_line
from engine.settings.options import EngineOptions
from engine.settings.values import ProxySettings

URL = "http://100.64.0.1/"
OPTIONS = EngineOptions(lab=True, command_prefix="nsenter -t 4711 -n ", try_url=URL)
OPEN = ProxySettings(allow_private=True)
DOWN = SessionView(0, "home-01", "alice", "", True, SessionState.DOWN, 0.0)
BARE = replace(DOWN, state=SessionState.UP)
STACK = replace(BARE, proxy="127.0.0.1:20001")
DEVICE = replace(STACK, device="soup0")


def test_what_is_offered_to_try_goes_through_the_first_session_that_can() -> None:
    by_device, by_proxy = (
        f"nsenter -t 4711 -n curl {way} {URL}" for way in ("--interface soup0", "-x 127.0.0.1:20001")
    )
    assert try_line([DOWN, DEVICE], OPTIONS, OPEN) == by_device
    assert try_line([DOWN, BARE, STACK], OPTIONS, OPEN) == by_proxy
    assert try_line([DOWN, BARE], OPTIONS, OPEN) == ""
    assert try_line([STACK], OPTIONS, ProxySettings()) == "", "the lab's page is in a private network"
