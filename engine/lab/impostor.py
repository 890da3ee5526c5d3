"""A concentrator that knows no password: it takes any proof, and can give none of its own."""

from __future__ import annotations

from engine.ppp.authentication import Authentication, ChapAuthenticator, Entropy, PapAuthenticator
from engine.settings.values import AuthMethod


class CredulousPap(PapAuthenticator):
    """Takes any password, which is what it wants to hear."""

    def _check(self, user: bytes, password: bytes) -> bool:
        return True


class CredulousChap(ChapAuthenticator):
    """Takes any response; by MS-CHAPv2 it would have to prove itself, and makes something up."""

    def _check(self, value: bytes, user: bytes) -> tuple[bool, str]:
        proof = f"S={self._entropy(20).hex().upper()} M=" if self._method is AuthMethod.MSCHAPV2 else ""
        return True, f"{proof}Welcome"


def credulous(method: AuthMethod, name: str, entropy: Entropy) -> Authentication:
    """The machine that takes whatever a client says by that method."""
    if method is AuthMethod.PAP:
        return CredulousPap(lambda user: None, "")
    return CredulousChap(method, name, lambda user: None, entropy, "")
