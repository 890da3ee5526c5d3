"""Why a session ended; its kind decides when it is dialled again (`engine.sessions.redial`)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class EndKind(StrEnum):
    """What ended a session or kept it from coming up."""

    HUNG_UP = "hung up by you"
    ALL_STOPPED = "all sessions were stopped"
    PROGRAM_ENDS = "the program ends"
    NO_CONCENTRATOR = "no concentrator answers"
    NONE_WANTED = "no wanted concentrator"
    """Concentrators answered, but none that the filter or the service lets pass, or whose offer can be used."""
    NO_ANSWER = "concentrator stopped answering"
    """It answered at first, then no more: PADR, LCP or authentication ran out of tries."""
    REFUSED = "refused"
    """An error tag in PADO or PADS, a PADS without a session, or an end during authentication that gives no verdict."""
    TOO_MANY = "too many sessions"
    """A refusal, PADT or Terminate-Request that speaks of a limit."""
    WRONG_PASSWORD = "wrong password"
    AUTH_METHOD = "no common authentication"
    WEAKER = "weaker authentication refused"
    """The concentrator asks for less than it did before: see `engine.ppp.strength`."""
    NO_BETTER = "won't do better authentication"
    """It ended the session when it was asked for a better method than its own; it isn't asked again."""
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


WISHED = frozenset({EndKind.HUNG_UP, EndKind.ALL_STOPPED, EndKind.PROGRAM_ENDS})
"""What this side wanted: a session that ends so is down, not failed."""


class End(Struct, frozen=True):
    """The end of one attempt or session."""

    kind: EndKind
    text: str
    """A sentence for the operator, with what the other side said."""
    was_up: bool = False
    """Whether it had an address."""


_LIMIT_WORDS = (
    "too many",
    "session limit",
    "limit exceeded",
    "limit reached",
    "max session",
    "maximum",
    "no more session",
    "no client slots",  # rp-pppoe
)


def speaks_of_limit(text: str) -> bool:
    """Whether what a concentrator says is about too many sessions; nothing else tells that from other errors."""
    return any(word in text.lower() for word in _LIMIT_WORDS)


def refusal(text: str, where: str) -> End:
    """The end of an attempt that an error tag in a PADO or PADS refused."""
    kind = EndKind.TOO_MANY if speaks_of_limit(text) else EndKind.REFUSED
    return End(kind, f'The concentrator refused the session in its {where}: "{text}".')


def dismissal(how: str, said: str, authenticating: bool) -> End:
    """The end of a session by a PADT or a Terminate-Request, and what that says, if it says anything.

    While it is `authenticating` that is a refusal: the one in words may be lost, or overtaken on another queue.
    """
    quoted = f': "{said}"' if said else ""
    if said and speaks_of_limit(said):
        return End(EndKind.TOO_MANY, f"The concentrator ended the session ({how}){quoted}.")
    if authenticating:
        asked = f"The concentrator ended the session during authentication ({how}){quoted}"
        return End(EndKind.REFUSED, f"{asked}. Are user name and password right?")
    return End(EndKind.PEER_ENDED, f"The concentrator ended the session ({how}){quoted}.")
