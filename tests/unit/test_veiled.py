"""No value tells a secret in its repr, which may end in a log, a traceback or on the screen: all of them are tried."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rich.pretty import pretty_repr

import engine
import souppp_tui
from engine.api.codec import CodecError, decode, encode
from engine.api.commands import Add, Amend, Edit, Request
from engine.api.messages import SettingsOf
from engine.settings.values import SessionSettings
from engine.wire.value import Veiled

SECRET = "hunter2-\N{GREEK SMALL LETTER XI}"
HOLDS = re.compile(
    r"(^|_)(password|secret|digest|salt|challenge|response|accounts|texts|frame|users)$|^(payload|data)$"
)
"""Fields that are a secret, or octets of the line, where PAP's password stands as it is."""
NO_SECRET = {
    ("ProxySettings", "users"): "values that are veiled themselves",
    ("Ipv6Packet", "payload"): "what routers and DHCPv6 servers say",
    ("Datagram", "payload"): "what routers and DHCPv6 servers say",
    ("Field", "secret"): "whether it is one",
    ("Key", "secret"): "whether it is one",
}


def kinds(of: type[msgspec.Struct] = msgspec.Struct) -> Iterator[type[msgspec.Struct]]:
    for kind in of.__subclasses__():
        if kind.__module__.partition(".")[0] in (engine.__name__, souppp_tui.__name__):
            yield kind
        yield from kinds(kind)


def all_kinds() -> list[type[msgspec.Struct]]:
    for package in (engine, souppp_tui):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", ".survivor")):  # which are programs
                importlib.import_module(module.name)
    return sorted({*kinds()}, key=lambda kind: (kind.__module__, kind.__qualname__))


def told(value: object) -> str:
    return f"{value!r} {value} {pretty_repr(value)} {pretty_repr([value])}"


def veiled(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return kind.VEILED if issubclass(kind, Veiled) and kind is not Veiled else ()


def test_what_holds_a_secret_is_veiled() -> None:
    found = {
        (kind.__name__, name)
        for kind in all_kinds()
        for name in kind.__struct_fields__
        if HOLDS.search(name) and name not in veiled(kind)
    }
    assert found == {*NO_SECRET}


def test_a_veiled_field_is_told_by_none() -> None:
    tried = 0
    for kind in all_kinds():
        if fields := veiled(kind):
            assert {*fields} <= {*kind.__struct_fields__}, kind
            value = kind(**{name: SECRET if name in fields else None for name in kind.__struct_fields__})
            assert SECRET not in told(value), kind
            assert kind.__name__ in told(value)
            tried += 1
    assert tried >= 10


def test_no_value_tells_what_is_veiled_in_another() -> None:
    """Whatever can hold settings: commands, steps that can be undone, answers."""
    inner, tried = SessionSettings("one", "alice", SECRET), 0
    for kind in all_kinds():
        for name, hint in vars(kind).get("__annotations__", {}).items():
            if "SessionSettings" in str(hint) and name in kind.__struct_fields__:
                value = kind(**{each: ((inner,), inner) if each == name else None for each in kind.__struct_fields__})
                assert SECRET not in told(value), kind
                tried += 1
    assert tried >= 4


@pytest.mark.parametrize(
    "value",
    [
        Request(1, Edit(0, SessionSettings("one", "alice", SECRET))),
        Request(1, Add(SessionSettings("one", "alice", SECRET))),
        Request(1, Amend((0,), (("password", SECRET),))),
        SettingsOf(1, ((0, SessionSettings("one", "alice", SECRET)),)),
    ],
    ids=lambda value: type(getattr(value, "command", value)).__name__,
)
def test_octets_that_are_no_value_are_refused_without_what_they_hold(value: Any) -> None:
    """Each part of a message in turn is something else; what is said of it names the place and no more."""
    octets = encode(value, secrets=True)
    assert SECRET.encode() in octets
    told_of: list[str] = []
    for path in _paths(whole := msgspec.msgpack.decode(octets)):
        inside = _at(whole, path) == SECRET
        for wrong in ([SECRET], {SECRET: SECRET}) if inside else (7, [7], {"x": 7}, None):
            try:
                decode(msgspec.msgpack.encode(_put(whole, path, wrong)))
            except CodecError as error:
                told_of.append(str(error))
    assert len(told_of) > 10
    assert not [text for text in told_of if SECRET in text]


def _at(value: Any, path: list[Any]) -> Any:
    return _at(value[path[0]], path[1:]) if path else value


def _paths(value: Any) -> Iterator[list[Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield [key]
        yield from ([key, *path] for path in _paths(each))


def _put(value: Any, path: list[Any], new: Any) -> Any:
    if not path:
        return new
    changed = value.copy()
    changed[path[0]] = _put(value[path[0]], path[1:], new)
    return changed
