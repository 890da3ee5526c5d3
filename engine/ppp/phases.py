"""The phases of a PPP link as a table (RFC 1661 section 3.2), beside the automaton of its control protocols.

RFC 1661 draws them as a figure with five boxes. A row here is what may happen, a column the phase it happens in; a
dash is what can't happen there, or changes nothing. Two things the figure leaves out stand here too: LCP may be
negotiated anew at any time, which leads back to Establish, and a lower layer that goes away leads to Dead at once.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The phases of RFC 1661 section 3.2."""

    DEAD = "dead"
    ESTABLISH = "establish"
    AUTHENTICATE = "authenticate"
    NETWORK = "network"
    TERMINATE = "terminate"


class Occasion(StrEnum):
    """What moves a link from phase to phase."""

    UP = "up"
    """The PPPoE session is open."""
    PROVE = "prove"
    """LCP is open, and one side or both are to prove who they are."""
    PROVEN = "proven"
    """LCP is open, and nobody has anything left to prove."""
    RENEGOTIATE = "renegotiate"
    """LCP is not open any more, and is being negotiated anew."""
    CLOSING = "closing"
    """One side wants the link to end."""
    DOWN = "down"
    """LCP has finished, or the PPPoE session is gone."""


_RFC1661_SECTION_3_2 = """
             dead       establish     authenticate  network    terminate
 up          establish  -             -             -          -
 prove       -          authenticate  -             -          -
 proven      -          network       network       -          -
 renegotiate -          -             establish     establish  -
 closing     -          terminate     terminate     terminate  -
 down        -          dead          dead          dead       dead
"""


def _parse(text: str) -> dict[tuple[Phase, Occasion], Phase]:
    header, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (Phase(before), Occasion(occasion)): Phase(after)
        for occasion, *cells in rows
        for before, after in zip(header, cells, strict=True)
        if after != "-"
    }


PHASES = _parse(_RFC1661_SECTION_3_2)
"""The next phase; what is missing changes nothing."""
