"""What is said to the stack program (`engine/egress/stack`), and what it says: a JSON object a message, by SEQPACKET.

The engine speaks by one socket; whoever dials through the program (the process of the proxies) by another. Descriptors
come with the messages that say so. The program says "in" for what came from the far side.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from engine.proxy.messages import Key, Number, Seconds, Text

PROTOCOL = 3
Id = Number
"""What something is asked, or told of, by."""
Endpoint = Annotated[str, Meta(pattern=r"^([0-9a-f.:\[\]]*:[0-9]{1,5})?$")]
"""An address and port; empty for none."""


class Said(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, omit_defaults=True):
    """Any message."""


# Between the engine and the program


class Hello(Said, frozen=True):
    """The first message of each side."""

    protocol: int
    release: str = ""
    """The program's: souppp-tui's."""
    stack: str = ""
    budget: int = 0
    """The engine's: octets of all connections' buffers together."""


class Duct(Said, frozen=True):
    """Packets go to and from a worker of the data path by what comes along, in place of what came before.

    That is memory which both have, and a socket by which each wakes the other.
    """

    id: int


class Session(Said, frozen=True):
    """The MTU and addresses of a session, which may be new, from now on."""

    key: int
    mtu: int
    addresses: tuple[str, ...]
    link_local: str = ""


class Gone(Said, frozen=True):
    """The session has ended, and what went through it."""

    key: int


class Forward(msgspec.Struct, frozen=True):
    """What comes to a port of a session's addresses goes to an address and port of the host."""

    protocol: str
    port: int
    to: str


class Forwards(Said, frozen=True):
    """All of a session."""

    key: int
    forwards: tuple[Forward, ...]


class Client(Said, frozen=True):
    """With a descriptor: the end of one who dials."""


class Refuse(Said, frozen=True):
    """An arrival has nowhere to go."""

    id: int


class Ping(Said, frozen=True):
    """Ask for an echo; answered by a Pong with this id."""

    id: int
    key: int
    to: str
    size: int = 56


class Beat(Said, frozen=True):
    """The program says the same, if packets move."""

    id: Id


class List(Said, frozen=True):
    """Ask for a session's connections."""

    id: int
    key: int


class Arrival(Said, frozen=True, rename={"from_": "from"}):
    """Somebody has connected to a port that is forwarded: the engine answers by a Take with a socket, or a Refuse."""

    id: Id
    key: Key
    to: Text
    from_: Text


class Pong(Said, frozen=True):
    """An echo came, or what came of it."""

    id: Id
    ms: Seconds = 0.0
    error: Text = ""


class Count(msgspec.Struct, frozen=True, rename={"in_": "in"}):
    """Numbers of a session's, octets in and out among them."""

    connections: Number = 0
    in_: Number = 0
    out: Number = 0
    opened: Number = 0
    refused: Number = 0


class Counts(Said, frozen=True):
    """Of sessions for which something has changed."""

    sessions: dict[Key, Count]
    memory: Number = 0


class Connection(msgspec.Struct, frozen=True, rename={"in_": "in"}):
    """One of a session's connections."""

    protocol: Text
    local: Endpoint
    remote: Text
    in_: Number = 0
    out: Number = 0
    state: Text = ""
    since: Seconds = 0.0


class Connections(Said, frozen=True):
    """What was asked for by a List."""

    id: Id
    connections: tuple[Connection, ...] = ()


# Between the program and who dials


class Dial(Said, frozen=True):
    """Connect to an address and port; of UDP with an empty one each datagram bears the far side's."""

    id: int
    key: int
    network: str
    source: str
    to: str
    timeout: float = 0.0


class Take(Said, frozen=True):
    """With the descriptor of a socket: pass on what it and the connection say, beginning with these octets (base64)."""

    id: int
    first: bytes = b""
    idle: float = 0.0


class Drop(Said, frozen=True):
    """Reset it, or dial no more."""

    id: int


class Dialled(Said, frozen=True):
    """It is connected, of UDP with a descriptor for its datagrams; or why it isn't."""

    id: Id
    local: Endpoint = ""
    error: Text = ""


class Ended(Said, frozen=True, rename={"in_": "in"}):
    """A connection that was taken is over."""

    id: Id
    in_: Number = 0
    out: Number = 0
    why: Text = ""


class Traffic(Said, frozen=True):
    """Octets in and out of connections that have carried some."""

    connections: dict[Id, tuple[Number, Number]]


encode = msgspec.json.Encoder().encode
TO_ENGINE: msgspec.json.Decoder[Hello | Arrival | Pong | Beat | Counts | Connections] = msgspec.json.Decoder(
    Hello | Arrival | Pong | Beat | Counts | Connections
)
TO_CLIENT: msgspec.json.Decoder[Dialled | Ended | Traffic] = msgspec.json.Decoder(Dialled | Ended | Traffic)
