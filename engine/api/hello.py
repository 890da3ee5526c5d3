"""The first message of each side on an engine's socket, and how messages are told apart there.

A message is its length in four octets, most significant first, and so many octets. The first of each side is a hello, a
map in msgpack that every release of both sides can read; all others are values by `engine.api.codec`, which both sides
must know alike.
"""

from __future__ import annotations

import msgspec

from engine.api.codec import CodecError, version

PROTOCOL = 1
HEADER = 4
"""Octets of a message's length."""
LIMIT_TO_ENGINE = 1 << 20
"""Octets of a message; the longest command names all sessions there can be."""
LIMIT_TO_CLIENT = 1 << 26
"""Octets; the first picture of all sessions there can be, with many events, has about 10 MB."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What one side says of itself. Fields that a reader doesn't know are passed over."""

    souppp: int = PROTOCOL
    release: str
    values: int = msgspec.field(default_factory=version)
    """The version of the values (`engine.api.codec.version`)."""
    program: str = ""
    """A client's: what it calls itself."""
    card: str = ""
    """The engine's, as all that follow."""
    instance: str = ""
    """Another one for each engine that ever ran."""
    network: int = 0
    """The number of the network namespace that its card is in."""
    since: float = 0.0
    """Unix time of its start."""
    user: str = ""
    """Whom it takes the client for."""
    writes: bool = False
    """Whether the client may give commands."""
    refused: str = ""
    """Why it ends the conversation, if it does: one line."""


def encode_hello(hello: Hello) -> bytes:
    """A hello as the octets of a message."""
    return msgspec.msgpack.encode(hello)


def decode_hello(octets: bytes) -> Hello:
    """The reverse. Raises CodecError."""
    try:
        return msgspec.msgpack.decode(octets, type=Hello)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"Not a hello of ours: {error}") from None


def length_of(header: bytes, limit: int) -> int:
    """How long the message behind its length is. Raises CodecError where that is too long."""
    length = int.from_bytes(header, "big")
    if length > limit:
        raise CodecError(f"A message of {length:,} octets: {limit:,} is the limit.")
    return length


def mismatch(own: Hello, other: Hello) -> str:
    """Why two sides can't talk, and what to do: one line; empty where they can."""
    if other.souppp == own.souppp and other.values == own.values:
        return ""
    return (
        f"This is souppp-tui {own.release}, the engine's is {other.release}, and they don't know the same values: "
        "use the same release, or start the engine anew with this one."
    )


def framed(message: bytes) -> bytes:
    """A message with its length before it."""
    return len(message).to_bytes(HEADER, "big") + message
