"""The states of a session, in the operator's words, as a table.

A session is dialled (discovery, RFC 2516), then its link goes through the phases of RFC 1661, and it is up once it has
an address that serves. A row is what happens, a column the state it happens in, a dash changes nothing.
The two rows of an end are full, for hang-up and loss may come at any time, and a renegotiation leads back from every
state of an open session: that is what the table is there to show.
"""

from __future__ import annotations

from enum import StrEnum

from engine.api.values import SessionState


class Step(StrEnum):
    """What moves a session from state to state."""

    DIAL = "dial"
    """The operator or the fleet wants it up: the first PADI."""
    ESTABLISH = "establish"
    """A PADS opened it, or LCP is negotiated anew."""
    AUTHENTICATE = "authenticate"
    NETWORK = "network"
    """Authentication is done, or none was asked for: IPCP and IPv6CP begin."""
    ADDRESS = "address"
    """It has an address that serves."""
    NO_ADDRESS = "no-address"
    """It has none any more."""
    TERMINATE = "terminate"
    """One side wants the link to end: Terminate-Request, then PADT."""
    HUNG_UP = "hung-up"
    """It is over because the operator wanted that."""
    FAILED = "failed"
    """It is over for any other reason."""
    REFUSED = "refused"
    """It couldn't even be dialled, perhaps for another reason than it failed for before."""


_STATES = {
    "down": SessionState.DOWN,
    "failed": SessionState.FAILED,
    "dial": SessionState.DIALLING,
    "nego": SessionState.NEGOTIATING,
    "auth": SessionState.AUTHENTICATING,
    "addr": SessionState.GETTING_ADDRESS,
    "up": SessionState.UP,
    "hang": SessionState.HANGING_UP,
}

_TABLE = """
              down    failed  dial    nego    auth    addr    up      hang
 dial         dial    dial    -       -       -       -       -       -
 establish    -       -       nego    -       nego    nego    nego    -
 authenticate -       -       -       auth    -       -       -       -
 network      -       -       -       addr    addr    -       -       -
 address      -       -       -       -       -       up      -       -
 no-address   -       -       -       -       -       -       addr    -
 terminate    -       -       -       hang    hang    hang    hang    -
 hung-up      -       down    down    down    down    down    down    down
 failed       -       -       failed  failed  failed  failed  failed  failed
 refused      failed  failed  -       -       -       -       -       -
"""


def _parse(text: str) -> dict[tuple[SessionState, Step], SessionState]:
    header, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (_STATES[before], Step(step)): _STATES[after]
        for step, *cells in rows
        for before, after in zip(header, cells, strict=True)
        if after != "-"
    }


TABLE = _parse(_TABLE)
"""The next state; what is missing changes nothing."""

SETTING_UP = frozenset((SessionState.NEGOTIATING, SessionState.AUTHENTICATING, SessionState.GETTING_ADDRESS))
"""On the way from the PADS to an address."""
ON_THE_WAY = SETTING_UP | {SessionState.DIALLING}
IDLE = frozenset((SessionState.DOWN, SessionState.FAILED))
"""Nothing is on the line."""
