"""How many of the frames that have come the loop looks at together."""

from __future__ import annotations

from collections import deque

from engine.datapath import BATCH_FRAMES
from engine.run.loop import FEW, few
from engine.wire import control, ppp, pppoe
from engine.wire.control import Code, ControlPacket
from engine.wire.ethernet import VlanTag

HEADER = pppoe.session_header(bytes(6), bytes(6), 1)
TAGGED = pppoe.session_header(bytes(6), bytes(6), 1, (VlanTag(7), VlanTag(8)))


def lcp(code: Code, header: bytes = HEADER) -> bytes:
    packet = control.encode(ControlPacket(code, 1, bytes(4)))
    return pppoe.behind(header, ppp.encode(ppp.Protocol.LCP, packet))


def test_few_that_may_be_much_work_are_looked_at_together() -> None:
    """Each may bring a device, or take one."""
    waiting = deque([lcp(Code.CONFIGURE_ACK)] * 10)
    assert few(waiting) == [lcp(Code.CONFIGURE_ACK)] * FEW
    assert len(waiting) == 10 - FEW


def test_echoes_are_looked_at_by_the_batch() -> None:
    """After each look there is a round of all that may have something to say, which costs as much as some echoes."""
    waiting = deque([lcp(Code.ECHO_REPLY), lcp(Code.ECHO_REQUEST, TAGGED)] * BATCH_FRAMES)
    assert len(few(waiting)) == BATCH_FRAMES
    waiting.insert(1, lcp(Code.CONFIGURE_ACK))
    assert len(few(waiting)) == BATCH_FRAMES


def test_all_are_looked_at_in_their_order_whatever_they_are() -> None:
    frames = [b"", b"\x88\x64", *(lcp(code, header) for code in Code for header in (HEADER, TAGGED))]
    waiting, found = deque(frames), []
    while waiting:
        found += few(waiting)
    assert found == frames
