"""The option negotiation automaton of RFC 1661 section 4.1, as data.

LCP, IPCP and IPv6CP all move through the same ten states. What happens is decided by one table and by nothing else:
a cell of `TABLE` tells the actions to carry out and the state that follows. Who carries
them out (sends the packets, runs the timer, counts) is `engine.ppp.negotiator`.

How a layer usually comes up, seen from one side:

    Initial --Up--> Closed --Open--> Req-Sent            we may talk, and have sent our Configure-Request
    Req-Sent --RCA--> Ack-Rcvd --RCR+--> Opened          the peer took our options first, then we took its
    Req-Sent --RCR+--> Ack-Sent --RCA--> Opened          or the other way round

and down: `Close` leads through Closing (our Terminate-Request is out) to Closed; a Terminate-Request from the peer
leads through Stopping to Stopped, where a new Configure-Request of the peer starts all over.

The table below is the RFC's own, cell by cell, so that it can be laid beside the text and compared. A cell reads
`action,action/state`; a dash is an illegal transition. The letter behind a state is one of the RFC's footnotes:

    r  restart option: an Open in this state may be treated as Down followed by Up; we stay where we are
    p  passive option: one may wait in Stopped for the peer; we don't, the session gives up and dials again
    x  crossed connection: an Ack that arrives twice; see the RCA event in section 4.3

Actions: tlu this-layer-up, tld this-layer-down, tls this-layer-started, tlf this-layer-finished, irc
initialise-restart-count, zrc zero-restart-count, scr/sca/scn send-configure-request/ack/nak-or-reject, str/sta
send-terminate-request/ack, scj send-code-reject, ser send-echo-reply.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class State(IntEnum):
    """The ten states (RFC 1661 section 4.2), numbered as in its table."""

    INITIAL = 0
    STARTING = 1
    CLOSED = 2
    STOPPED = 3
    CLOSING = 4
    STOPPING = 5
    REQ_SENT = 6
    ACK_RCVD = 7
    ACK_SENT = 8
    OPENED = 9


class Event(StrEnum):
    """The sixteen events (RFC 1661 section 4.3), by its short names."""

    UP = "Up"
    DOWN = "Down"
    OPEN = "Open"
    CLOSE = "Close"
    TO_PLUS = "TO+"
    """Time-out, and the restart counter is above zero."""
    TO_MINUS = "TO-"
    """Time-out, and it is not."""
    RCR_PLUS = "RCR+"
    """A Configure-Request that we accept."""
    RCR_MINUS = "RCR-"
    """A Configure-Request that we don't."""
    RCA = "RCA"
    RCN = "RCN"
    """A Configure-Nak or Configure-Reject."""
    RTR = "RTR"
    RTA = "RTA"
    RUC = "RUC"
    """A packet with an unknown code."""
    RXJ_PLUS = "RXJ+"
    """A Code-Reject or Protocol-Reject that we can live with."""
    RXJ_MINUS = "RXJ-"
    """One that we can't."""
    RXR = "RXR"
    """An Echo-Request, Echo-Reply or Discard-Request."""


class Action(StrEnum):
    """The thirteen actions (RFC 1661 section 4.4), by its short names."""

    TLU = "tlu"
    TLD = "tld"
    TLS = "tls"
    TLF = "tlf"
    IRC = "irc"
    ZRC = "zrc"
    SCR = "scr"
    SCA = "sca"
    SCN = "scn"
    STR = "str"
    STA = "sta"
    SCJ = "scj"
    SER = "ser"


class Transition(NamedTuple):
    """One cell of the table."""

    actions: tuple[Action, ...]
    """In the order in which they are carried out."""
    state: State
    footnote: str = ""


_RFC1661_SECTION_4_1 = """
       0         1           2         3                 4         5
 Up    2         irc,scr/6   -         -                 -         -
 Down  -         -           0         tls/1             0         1
 Open  tls/1     1           irc,scr/6 3r                5r        5r
 Close 0         tlf/0       2         2                 4         4
 TO+   -         -           -         -                 str/4     str/5
 TO-   -         -           -         -                 tlf/2     tlf/3
 RCR+  -         -           sta/2     irc,scr,sca/8     4         5
 RCR-  -         -           sta/2     irc,scr,scn/6     4         5
 RCA   -         -           sta/2     sta/3             4         5
 RCN   -         -           sta/2     sta/3             4         5
 RTR   -         -           sta/2     sta/3             sta/4     sta/5
 RTA   -         -           2         3                 tlf/2     tlf/3
 RUC   -         -           scj/2     scj/3             scj/4     scj/5
 RXJ+  -         -           2         3                 4         5
 RXJ-  -         -           tlf/2     tlf/3             tlf/2     tlf/3
 RXR   -         -           2         3                 4         5

       6         7           8         9
 Up    -         -           -         -
 Down  1         1           1         tld/1
 Open  6         7           8         9r
 Close irc,str/4 irc,str/4   irc,str/4 tld,irc,str/4
 TO+   scr/6     scr/6       scr/8     -
 TO-   tlf/3p    tlf/3p      tlf/3p    -
 RCR+  sca/8     sca,tlu/9   sca/8     tld,scr,sca/8
 RCR-  scn/6     scn/7       scn/6     tld,scr,scn/6
 RCA   irc/7     scr/6x      irc,tlu/9 tld,scr/6x
 RCN   irc,scr/6 scr/6x      irc,scr/8 tld,scr/6x
 RTR   sta/6     sta/6       sta/6     tld,zrc,sta/5
 RTA   6         6           8         tld,scr/6
 RUC   scj/6     scj/7       scj/8     scj/9
 RXJ+  6         6           8         9
 RXJ-  tlf/3     tlf/3       tlf/3     tld,irc,str/5
 RXR   6         7           8         ser/9
"""


def _parse_cell(cell: str) -> Transition:
    actions, _, state = cell.rpartition("/")
    return Transition(
        tuple(Action(name) for name in actions.split(",") if name),
        State(int(state[0])),
        footnote=state[1:],
    )


def _parse_table(text: str) -> dict[tuple[State, Event], Transition]:
    table = {}
    for block in text.strip("\n").split("\n\n"):
        header, *rows = block.splitlines()
        states = [State(int(number)) for number in header.split()]
        for row in rows:
            name, *cells = row.split()
            for state, cell in zip(states, cells, strict=True):
                if cell != "-":
                    table[state, Event(name)] = _parse_cell(cell)
    return table


TABLE = _parse_table(_RFC1661_SECTION_4_1)
"""Every legal transition; a pair that is missing is a dash in the RFC."""

TIMER_STATES = frozenset(state for state in State if (state, Event.TO_PLUS) in TABLE)
"""The states in which the Restart timer runs: those that have TO events (RFC 1661 section 4.1)."""
