"""What is picked out of the loader's complaints: one line that says why."""

from __future__ import annotations

import pytest

from engine.card.verifier import reason

STATISTICS = "processed 132 insns (limit 1000000) max_states_per_insn 0 total_states 9 peak_states 9 mark_read 3\n"


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        (
            "bpf: Failed to load program: Permission denied\n"
            "; rest = end - (void *)(pppoe + 1) - length;\n"
            "57: (0f) r1 += r2\n"
            "math between pkt pointer and register with unbounded min value is not allowed\n" + STATISTICS,
            "math between pkt pointer and register with unbounded min value is not allowed",
        ),
        (
            "from 12 to 14: R0=0 R1=pkt(off=0,r=0)\n"
            "14: R0=0\n"
            "R7_w=scalar()\n"
            "invalid access to packet, off=0 size=4, R7(id=3,off=0,r=0)\n"
            "R7 offset is outside of the packet\n" + STATISTICS + "\n",
            "invalid access to packet, off=0 size=4, R7(id=3,off=0,r=0), R7 offset is outside of the packet",
        ),
        ("1 warning generated.\nbpf: Failed to load program: Invalid argument\n", "Invalid argument"),
        (
            "/virtual/main.c:9:1: warning: unused\n/virtual/main.c:1:42: error: use of undeclared identifier 'x'\n",
            "/virtual/main.c:1:42: error: use of undeclared identifier 'x'",
        ),
        (
            "Traceback:\n  ...\nOSError: [Errno 12] Cannot allocate memory\n",
            "OSError: [Errno 12] Cannot allocate memory",
        ),
        ("", ""),
    ],
)
def test_the_reason(complaint: str, said: str) -> None:
    assert reason(complaint) == said
