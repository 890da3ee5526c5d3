"""MS-CHAPv2's arithmetic (RFC 2759 section 8): pure functions over octets.

MD4 and DES are long broken; they are here because concentrators ask for them, not to protect anything.
"""

from __future__ import annotations

import hashlib
import hmac

from engine.ppp.ciphers import DES, MD4

CHALLENGE_SIZE = 16
"""Octets of either side's challenge (RFC 2759 sections 3 and 4)."""
RESPONSE_SIZE = 49
"""Peer challenge 16, reserved 8, NT-Response 24, flags 1 (RFC 2759 section 4)."""

# RFC 2759 section 8.7
_MAGIC_1 = b"Magic server to client signing constant"
_MAGIC_2 = b"Pad to make it do more than one iteration"


def without_domain(user: bytes) -> bytes:
    """The user name as ChallengeHash wants it: a leading `DOMAIN\\` left out (RFC 2759 section 4)."""
    return user.rpartition(b"\\")[2]


def nt_password_hash(password: str) -> bytes:
    """16 octets from the password in UTF-16LE (RFC 2759 section 8.3)."""
    return MD4.new(password.encode("utf-16-le")).digest()


def challenge_hash(peer_challenge: bytes, authenticator_challenge: bytes, user: bytes) -> bytes:
    """8 octets from both challenges of 16 octets and the user name without its domain (RFC 2759 section 8.2)."""
    return hashlib.sha1(peer_challenge + authenticator_challenge + user).digest()[:8]


def nt_response(authenticator_challenge: bytes, peer_challenge: bytes, user: bytes, password_hash: bytes) -> bytes:
    """The 24 octets that prove knowledge of the password by its `nt_password_hash` (RFC 2759 sections 8.1 and 8.5)."""
    challenge = challenge_hash(peer_challenge, authenticator_challenge, user)
    key = password_hash.ljust(21, b"\0")
    return b"".join(DES.new(_with_parity(key[i : i + 7]), DES.MODE_ECB).encrypt(challenge) for i in (0, 7, 14))


def authenticator_response(
    password_hash: bytes,
    response: bytes,
    peer_challenge: bytes,
    authenticator_challenge: bytes,
    user: bytes,
) -> str:
    """`S=` and 40 hex digits: what a concentrator that knows the password says in a Success (RFC 2759 section 8.7)."""
    hash_of_hash = MD4.new(password_hash).digest()
    digest = hashlib.sha1(hash_of_hash + response + _MAGIC_1).digest()
    challenge = challenge_hash(peer_challenge, authenticator_challenge, user)
    return "S=" + hashlib.sha1(digest + challenge + _MAGIC_2).hexdigest().upper()


def success_is_genuine(message: bytes, expected: str) -> bool:
    """Whether a Success begins with the `S=` we expect, its hex digits in either case (RFC 2759 section 8.8)."""
    return hmac.compare_digest(message[:42].upper(), expected.encode())


def encode_response(peer_challenge: bytes, response: bytes) -> bytes:
    """The Response's value of 49 octets, flags 0 (RFC 2759 section 4)."""
    return peer_challenge + bytes(8) + response + b"\0"


def parse_failure(message: bytes) -> dict[str, str]:
    """The fields of `E=… R=… C=… V=… M=…`, as far as they are there; M may hold spaces (RFC 2759 section 6)."""
    text = message.decode("utf-8", "replace")
    head, found, note = text.partition("M=")
    fields = dict(word.split("=", 1) for word in head.split() if "=" in word)
    return fields | {"M": note.strip()} if found else fields


FAILURES = {
    "646": "not allowed at this hour",
    "647": "the account is disabled",
    "648": "the password has expired",
    "649": "no permission to dial in",
    "691": "wrong user name or password",
    "709": "the password could not be changed",
}
"""What `E=` means (RFC 2759 section 6)."""


def _with_parity(seven: bytes) -> bytes:
    """56 bits spread over 8 octets (RFC 2759 section 8.6); DES ignores the parity bit itself."""
    bits = int.from_bytes(seven, "big")
    return bytes((bits >> shift & 0x7F) << 1 for shift in range(49, -1, -7))
