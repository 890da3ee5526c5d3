"""The values of `engine.api` as octets and back, for a console in another process: msgpack, by msgspec.

A message is an array of three: a version, the name of the value's type, and the value. A value is a map of all its
fields by name, and so are those within it; only a request is an array: its id, and of its command the type's name and
itself.

The version follows from the types: change a field anywhere, and it is another one. So two sides that don't mean the
same can't talk past each other, and nobody has to remember to count it up.

No secret is written unless `encode` is asked to. In its place stands nil, which is no text, so that no password looks
like it and it can't be taken for one: decoded it is None, "as it was" (`engine.settings.values.kept`). So a console
may have a session's settings, change what it likes and send them back without ever having known the password.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache, reduce
from typing import Any, TypeGuard, get_args, get_type_hints
from zlib import crc32

import msgspec
from msgspec.structs import replace

from engine.api.commands import Command, Refused, Reply, Request, ServiceCommand
from engine.api.ending import End
from engine.api.messages import (
    AskHours,
    AskLedgers,
    AskSettings,
    ClientView,
    Enter,
    Farewell,
    Follow,
    HoursOf,
    LedgersOf,
    Lend,
    Picture,
    SettingsOf,
)
from engine.api.values import (
    AddressSpan,
    BusyMonth,
    CardView,
    Changes,
    Connection,
    Details,
    Event,
    Fact,
    Halted,
    Hour,
    LadderEntry,
    Ledger,
    QueueView,
    SessionView,
    Snapshot,
    Step,
    Talker,
    Totals,
    UndoStep,
)
from engine.settings.fields import SESSION, with_value
from engine.settings.values import SessionSettings
from engine.wire.text import printable

Value = (
    Command
    | ServiceCommand
    | Request
    | Reply
    | Refused
    | End
    | Snapshot
    | Changes
    | SessionView
    | QueueView
    | CardView
    | Event
    | Details
    | LadderEntry
    | AddressSpan
    | BusyMonth
    | Talker
    | Ledger
    | Fact
    | Halted
    | Connection
    | Step
    | Totals
    | UndoStep
    | SessionSettings
    | Follow
    | ClientView
    | Picture
    | AskSettings
    | SettingsOf
    | AskLedgers
    | LedgersOf
    | Hour
    | AskHours
    | HoursOf
    | Enter
    | Lend
    | Farewell
)
"""What can be told."""


class CodecError(Exception):
    """Octets that are no value of ours, or a value that can't be told in octets: one line for the operator."""


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    kind: str
    value: msgspec.Raw


class _Tagged(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: str
    value: msgspec.Raw


class _Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    id: int
    command: _Tagged


def encode(value: Value, *, secrets: bool = False) -> bytes:
    """A value as octets, with nil for its passwords unless `secrets`. Raises CodecError, as for half a surrogate."""
    told: Any = value if secrets else _masked(value)
    kind = type(told).__name__
    if isinstance(told, Request):
        told = told.id, (type(told.command).__name__, told.command)
    try:
        return _ENCODER.encode((version(), kind, told))
    except _FAILURES as error:
        raise CodecError(f"This {kind} can't be told: {_line(error)}") from None


def decode(octets: bytes) -> Value:
    """The value that `encode` made these of. Raises CodecError for all else."""
    try:
        message = _MESSAGE.decode(octets)
        if message.version != version():
            raise CodecError(
                f"The other side speaks version {message.version:x} of the values, this one {version():x}: "
                "run the same release on both."
            )
        if message.kind == Request.__name__:
            request = _REQUEST.decode(message.value)
            return Request(request.id, _decoded(request.command, _COMMANDS))
        value: Value = _decoded(message, _VALUES)
        return value
    except _FAILURES as error:
        raise CodecError(f"Not a value of ours: {_line(error)}") from None


def _decoded(tagged: _Tagged | _Message, kinds: Mapping[str, Any]) -> Any:
    kind = kinds.get(tagged.kind)
    if kind is None:
        raise ValueError(f"there is no {tagged.kind}")
    return _decoder(kind).decode(tagged.value)


# Made when they are first wanted: together they would take 40 ms of each start.
_decoder = cache(msgspec.msgpack.Decoder)


@cache
def version() -> int:
    """Of what is written here, 32 bits."""
    return crc32("\n".join(_described(_within(Value, set()))).encode())


@cache
def _holding(kind: type[Any]) -> tuple[str, ...]:
    """Where settings are to be found in a value of this type."""
    hints = get_type_hints(kind) if _has_fields(kind) else {}
    return tuple(name for name, hint in hints.items() if SessionSettings in _within(hint, set()))


def _line(error: BaseException) -> str:
    return printable(str(error).encode(errors="replace")) or type(error).__name__


def _masked(value: Any) -> Any:
    """The same with None for each secret."""
    if isinstance(value, tuple):
        return tuple(map(_masked, value))
    if isinstance(value, SessionSettings):
        return reduce(lambda settings, field: with_value(settings, field, None), _SECRETS, value)
    holding = _holding(type(value))  # type: ignore[arg-type]  # mypy takes the hash of what a type makes
    return replace(value, **{name: _masked(getattr(value, name)) for name in holding}) if holding else value


def _within(hint: Any, known: set[type]) -> set[type]:
    """All types that a value of this one may hold, itself among them; `known` are added to."""
    for part in get_args(hint):
        _within(part, known)
    if isinstance(hint, type) and not get_args(hint) and hint not in known:
        known.add(hint)
        for inner in get_type_hints(hint).values() if _has_fields(hint) else ():
            _within(inner, known)
    return known


def _has_fields(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _annotations(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Its fields' names and types as they are written, inherited ones first."""
    written = {
        name: hint for each in reversed(kind.__mro__) for name, hint in vars(each).get("__annotations__", {}).items()
    }
    return ((name, written[name]) for name in kind.__struct_fields__)


def _described(kinds: set[type]) -> Iterator[str]:
    """A line for each, with all that its octets depend on."""
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        if _has_fields(kind):
            yield f"{kind.__name__}: " + ", ".join(f"{name} {hint}" for name, hint in _annotations(kind))
        elif issubclass(kind, Enum):
            yield f"{kind.__name__}: " + ", ".join(str(member.value) for member in kind)


_FAILURES = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, MemoryError)
_SECRETS = tuple(key.field for key in SESSION.values() if key.secret)
"""Fields of SessionSettings."""
_ENCODER = msgspec.msgpack.Encoder()
_MESSAGE = msgspec.msgpack.Decoder(_Message)
_REQUEST = msgspec.msgpack.Decoder(_Request)
_VALUES = {kind.__name__: kind for kind in get_args(Value) if kind is not Request}
_COMMANDS = {kind.__name__: kind for kind in get_args(Command | ServiceCommand)}
