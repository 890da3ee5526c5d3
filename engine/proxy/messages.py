"""What the engine and the process of its proxies tell each other: values, a message each, over a socket that keeps them
apart. Neither side answers the other: each tells what is, and the other does what follows.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import Choose, ProxyLimits
from engine.wire.value import Veiled

LARGEST = 1 << 17
"""Octets of a message."""
SHARE = 100
"""Sessions that a message tells of at most."""


# What the engine takes from a process without rights: numbers that all who get them can hold, texts that fit a line.
# Whatever says more makes no sense, and is ended.
Key = Annotated[int, Meta(ge=0, lt=MAX_SESSIONS)]
Number = Annotated[int, Meta(ge=0, lt=1 << 53)]
Seconds = Annotated[float, Meta(ge=0, lt=1 << 32)]
Text = Annotated[str, Meta(max_length=1024)]


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Any of them."""


# From the engine


class Serve(Message, Veiled, frozen=True, array_like=True, tag=True):
    """What there is to be: it replaces what there was."""

    VEILED = ("salt", "users")

    pool: str
    """Address and port; empty for none."""
    choose: Choose
    salt: bytes
    users: tuple[tuple[str, bytes], ...]
    """Names, and what is kept of passwords (`engine.proxy.users.digest`)."""
    limits: ProxyLimits
    idle: float
    allow_private: bool


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A session as the proxies see it."""

    key: int
    name: str
    tags: tuple[str, ...]
    listen: str
    """Address and port of its own proxy; empty for none."""
    up: bool
    draining: bool = False
    since: float = 0.0
    """When it came up: with another one, it is another session to who is connected through it."""
    device: str = ""
    index: int = 0
    ipv4: str = ""
    ipv6: str = ""
    """A global one."""
    dns: tuple[str, ...] = ()
    stack: bool = False
    """It has no device: the stack program connects."""


class Begin(Message, frozen=True, array_like=True, tag=True):
    """All is told from the beginning: the first message after `Ready`, and whenever what there is to be changes."""

    keys: tuple[int, ...]
    """The sessions that there are."""


class Sessions(Message, frozen=True, array_like=True, tag=True):
    """What has become of sessions."""

    there: tuple[Session, ...] = ()
    gone: tuple[int, ...] = ()


class Look(Message, frozen=True, array_like=True, tag=True):
    """Tell the connections of these sessions too, from now on until it is said anew."""

    keys: tuple[int, ...]


class NotNew(Message, frozen=True, array_like=True, tag=True):
    """A session that was to get a new address doesn't get one."""

    key: int


class StackLine(Message, frozen=True, array_like=True, tag=True):
    """With a descriptor: the stack program connects over that from now on."""


# From the process


class Ready(Message, frozen=True, array_like=True, tag=True):
    """It is there and knows nothing yet."""


class Through(msgspec.Struct, frozen=True, array_like=True):
    """A connection."""

    age: Seconds
    """Seconds since it was asked for."""
    source: Text
    target: Text
    how: Text
    user: Text
    up: Number
    down: Number


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """What goes through a session's own proxy and the pool; numbers count from the process's start."""

    key: Key
    listens: Text
    """Where its own proxy does; empty where it doesn't."""
    connections: Number
    opened: Number
    up: Number
    down: Number
    through: tuple[Through, ...] = ()
    talkers: tuple[tuple[Text, Number, Number, Number], ...] = ()
    """As `Talker`, of those that are looked at."""


class Counts(Message, frozen=True, array_like=True, tag=True):
    """Of sessions for which something has changed."""

    counted: tuple[Counted, ...]


class Tell(Message, frozen=True, array_like=True, tag=True):
    """Something that an operator should know."""

    severity: Annotated[int, Meta(ge=1, le=3)]
    kind: Annotated[str, Meta(pattern="^proxy(-[a-z]+)*$")]
    text: Text
    key: Key | None = None


class WantsNew(Message, frozen=True, array_like=True, tag=True):
    """A client wants a session to have a new address first."""

    key: Key
    user: Text


class Doubts(Message, frozen=True, array_like=True, tag=True):
    """A session is told to be up, and nothing can be bound to it: its device may be another one by now."""

    key: Key


ToProcess = Begin | Serve | Sessions | Look | NotNew | StackLine
ToEngine = Ready | Counts | Tell | WantsNew | Doubts


ENCODER = msgspec.msgpack.Encoder()
TO_PROCESS: msgspec.msgpack.Decoder[ToProcess] = msgspec.msgpack.Decoder(ToProcess)
TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
