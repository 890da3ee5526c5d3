"""Why a session ended; its kind decides when it is dialled again (`engine.sessions.redial`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EndKind(StrEnum):
    """What ended a session or kept it from coming up."""

    HUNG_UP = "hung up by you"
    NO_CONCENTRATOR = "no concentrator answers"
    NONE_WANTED = "no wanted concentrator"
    """Concentrators answered, but none that the filter or the service lets pass."""
    NO_ANSWER = "concentrator stopped answering"
    """It answered at first, then no more: PADR, LCP or authentication ran out of tries."""
    REFUSED = "refused"
    """An error tag in PADO or PADS, or a PADT during authentication, which says no without words."""
    TOO_MANY = "too many sessions"
    """A refusal or a PADT that speaks of a limit."""
    WRONG_PASSWORD = "wrong password"
    AUTH_METHOD = "no common authentication"
    NO_ADDRESS = "no address"
    """The concentrator gave none, or speaks no protocol that we do."""
    ADDRESS_REFUSED = "address refused"
    """The concentrator gave, or has, one that this host may not have: see `engine.sessions.policy`."""
    UNWANTED_ADDRESS = "unwanted address"
    ECHO_TIMEOUT = "no echo"
    PEER_ENDED = "ended by the concentrator"
    """A PADT or Terminate-Request without a better reason."""
    LOOPED_BACK = "line is looped back"
    NOT_CONVERGING = "negotiation never settles"
    CARD_DOWN = "card is down"
    LOCAL_ERROR = "local error"
    """This host could not do its part, as with a device that can't be made."""
    NOT_POSSIBLE = "not possible here"
    """This host can't do what the settings ask for, and that stays so until someone changes something: not dialled."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of one attempt or session."""

    kind: EndKind
    text: str
    """A sentence for the operator, with what the other side said."""
    was_up: bool = False
    """Whether it had an address."""
