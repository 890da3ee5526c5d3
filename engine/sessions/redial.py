"""When a session that ended is dialled again: a table, and one pure function."""

from __future__ import annotations

from msgspec import Struct

from engine.api.ending import End, EndKind
from engine.settings.values import DialSettings


class RedialRule(Struct, frozen=True):
    """How long to wait after one kind of end."""

    first: float = 1.0
    """The first pause, in multiples of the settings' `retry_min`."""
    cap: float = 1.0
    """The longest, in multiples of `retry_max`."""
    at_once: bool = False
    """Whether a session that was up is dialled again without a pause, unless it is lost over and over."""


ORDINARY = RedialRule()
LOST = RedialRule(at_once=True)
SLOW = RedialRule(first=30.0, cap=10.0)
"""For refusals that asking again soon would only make worse: locked accounts, session limits. And for what fails here
after the concentrator has done all its work for nothing."""

RULES: dict[EndKind, RedialRule | None] = {
    EndKind.HUNG_UP: None,
    EndKind.ALL_STOPPED: None,  # dialled when that is taken back
    EndKind.PROGRAM_ENDS: None,
    EndKind.CARD_DOWN: None,  # dialled again when the card is back
    EndKind.NO_CONCENTRATOR: RedialRule(first=2.0),
    EndKind.NONE_WANTED: RedialRule(first=2.0),
    EndKind.NO_ANSWER: ORDINARY,
    EndKind.REFUSED: RedialRule(first=5.0),
    EndKind.TOO_MANY: SLOW,
    EndKind.WRONG_PASSWORD: SLOW,
    EndKind.AUTH_METHOD: SLOW,
    EndKind.WEAKER: SLOW,
    EndKind.NO_BETTER: ORDINARY,
    EndKind.NO_ADDRESS: RedialRule(first=5.0),
    EndKind.ADDRESS_REFUSED: RedialRule(first=5.0, cap=10.0),
    EndKind.UNWANTED_ADDRESS: ORDINARY,
    EndKind.ECHO_TIMEOUT: LOST,
    EndKind.PEER_ENDED: LOST,
    EndKind.LOOPED_BACK: SLOW,
    EndKind.NOT_CONVERGING: SLOW,
    EndKind.LOCAL_ERROR: SLOW,
    EndKind.NOT_POSSIBLE: None,
}
"""What happens after each kind of end; None means nothing until someone says so."""


def pause(end: End, losses: int, failures: int, settings: DialSettings, chance: float) -> float | None:
    """Seconds until the next dial, or None for never.

    `losses` and `failures` count the ends since the session was last stable, this one included: how often it had been
    up and was lost, and all others. The pause doubles with each failure, and with each loss too many.
    `chance`, 0.0 to 1.0, spreads sessions that failed together.
    """
    rule = RULES[end.kind]
    if rule is None:
        return None
    if is_loss(end) and losses <= settings.max_flaps:
        return 0.0
    doublings = failures + max(losses - settings.max_flaps, 0) - 1
    doubled = settings.retry_min * rule.first * 2.0 ** min(max(doublings, 0), 30)
    return min(doubled, settings.retry_max * rule.cap) * (1.0 + settings.jitter * (2.0 * chance - 1.0))


def is_loss(end: End) -> bool:
    """Whether the other side took away a session that was up."""
    rule = RULES[end.kind]
    return rule is not None and rule.at_once and end.was_up


def is_failure(end: End) -> bool:
    """Whether the session itself failed: not where it was to end, nor where its card was lost with all others."""
    return RULES[end.kind] is not None and not is_loss(end)
