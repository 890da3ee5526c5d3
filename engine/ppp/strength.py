"""How strong authentication methods are, and what may still be done with a peer that once did better. Pure.

PAP gives the password away; CHAP keeps it; MS-CHAPv2 also makes the concentrator prove that it knows it. Who gets
between a client and its concentrator asks for the weakest method that the client will do, so what a concentrator has
once done is the least that it may ask for later.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.settings.values import AuthMethod

_WEAKEST_FIRST = (AuthMethod.NONE, AuthMethod.PAP, AuthMethod.CHAP, AuthMethod.MSCHAPV2)
_RANKS = {method: rank for rank, method in enumerate(_WEAKEST_FIRST)}


def stronger(one: AuthMethod, other: AuthMethod | None) -> AuthMethod:
    """The stronger of two methods; None is weaker than any."""
    return one if other is None or _RANKS[one] >= _RANKS[other] else other


def allowed_after(floor: AuthMethod | None, allowed: Iterable[AuthMethod]) -> tuple[AuthMethod, ...]:
    """Of the methods that an operator allows those that are left with a peer that once did `floor`, in their order.

    Where the operator allows nothing as strong, that is his word: all of it stands. So does NONE, which is allowed by
    his word alone.
    """
    allowed = tuple(allowed)
    if floor is None:
        return allowed
    strong = [method for method in allowed if _RANKS[method] >= _RANKS[floor]]
    return tuple([method for method in allowed if method is AuthMethod.NONE or method in strong]) if strong else allowed
