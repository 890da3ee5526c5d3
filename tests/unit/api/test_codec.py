"""The codec of `engine.api`: every value comes back as it was, no secret leaves unasked, bad octets are one error."""

from __future__ import annotations

import pkgutil
from contextlib import suppress
from importlib import import_module
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

import engine.api
from engine.api.codec import CodecError, Value, _described, _within, decode, encode, version
from engine.api.commands import Add, Command, Dial, Edit, Request, StartCapture
from engine.api.messages import SettingsOf
from engine.api.values import Details, Snapshot
from engine.settings.fields import SESSION, check
from engine.settings.values import SessionSettings
from tests.unit.api.strategies import values_of

SECRET = "correct horse"


def own(module: Any) -> list[type]:
    """The values that a module of the room defines."""
    return [
        it
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, Struct) and it.__module__ == module.__name__
    ]


ENVELOPES = ("codec", "hello")
"""What values come in, and what is said before the first."""
MODULES = [
    import_module(f"engine.api.{info.name}")
    for info in pkgutil.iter_modules(engine.api.__path__)
    if info.name not in ENVELOPES
]
KINDS = sorted({SessionSettings, *(kind for module in MODULES for kind in own(module))}, key=lambda kind: kind.__name__)
"""Every value there is, found and not listed: a new one that the codec doesn't know fails here."""
HOLDING_SETTINGS = [kind for kind in KINDS if SessionSettings in _within(kind, set())]


def test_all_values_are_found() -> None:
    assert {Snapshot, Details, Request, Edit, SessionSettings} <= set(KINDS)
    assert set(KINDS) == set(get_args(Value))


def test_no_two_values_have_one_name() -> None:
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_value_comes_back(kind: type, data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    octets = encode(value, secrets=True)
    back = decode(octets)
    assert back == value
    assert type(back) is kind
    assert encode(back, secrets=True) == octets, "fields that don't count for equality too"


@pytest.mark.parametrize("kind", HOLDING_SETTINGS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_secret_leaves_unasked(kind: type, data: st.DataObject) -> None:
    session = replace(data.draw(values_of(SessionSettings)), password=SECRET)
    value: Any = {
        SessionSettings: lambda: session,
        Add: lambda: Add(session),
        Edit: lambda: Edit(7, session),
        SettingsOf: lambda: SettingsOf(1, ((7, session),)),
        Request: lambda: data.draw(st.sampled_from((Request(1, Add(session)), Request(2, Edit(7, session))))),
    }[kind]()
    assert SECRET.encode() in encode(value, secrets=True)
    octets = encode(value)
    assert SECRET.encode() not in octets
    assert decode(octets) == without(value)


def without(value: Any) -> Any:
    if isinstance(value, SessionSettings):
        return replace(value, password=None)
    if isinstance(value, Request):
        return replace(value, command=without(value.command))
    if isinstance(value, tuple):
        return tuple(without(each) if isinstance(each, tuple | SessionSettings) else each for each in value)
    return replace(value, settings=without(value.settings))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_a_secret_is_in_settings_alone(kind: type) -> None:
    """The codec hides what the rule book calls a secret; of other values nobody would know."""
    secret = {str(key.field) for key in SESSION.values() if key.secret}
    assert secret == {"password"}
    assert kind is SessionSettings or not secret & get_type_hints(kind).keys()


def test_an_empty_password_is_not_one_that_is_not_told() -> None:
    assert decode(encode(SessionSettings("one", password=""), secrets=True)) == SessionSettings("one", password="")
    assert decode(encode(SessionSettings("one", password=""))) == SessionSettings("one", password=None)
    assert decode(encode(SessionSettings("one", password=None), secrets=True)) == SessionSettings("one", password=None)


def test_another_version_is_told_as_such() -> None:
    octets = msgspec.msgpack.encode((version() ^ 1, "SomethingNew", {"what": 1}))
    with pytest.raises(CodecError, match=f"version {version() ^ 1:x}.*{version():x}.*same release"):
        decode(octets)


def test_any_change_of_a_field_is_another_version() -> None:
    lines = list(_described(_within(Value, set())))
    assert any(line.startswith("SessionView: id int, name str") for line in lines)
    assert any(line.startswith("SessionState: down, dialling") for line in lines)
    assert any(line.startswith("VlanTag: vid int") for line in lines), "those of settings too"
    assert {line.split(":")[0] for line in lines} >= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xc0",
        b"\x93",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        msgspec.msgpack.encode((version(), "Dial")),
        msgspec.msgpack.encode((version(), "Dial", {})),
        msgspec.msgpack.encode((version(), "Dial", {"keys": ["1"]})),
        msgspec.msgpack.encode((version(), "Dial", {"keys": [1]}, 4)),
        msgspec.msgpack.encode((version(), "Dial", {"keys": [1]})) + b"\x00",
        msgspec.msgpack.encode((version(), "Nonsense\n" * 1000, {})),
        msgspec.msgpack.encode((version(), "Request", (1, ("Snapshot", {})))),
        msgspec.msgpack.encode((version(), "Request", (1, ("Request", (1, ("Dial", {"keys": [1]})))))),
        msgspec.msgpack.encode((version(), "Step", {"name": "x", "took_ms": None, "more": 0}))[:-1] + b"\x91" * 100_000,
        msgspec.msgpack.encode((version(), "End", {"kind": "no\nsuch\x1b[2Jkind", "text": ""})),
    ],
)
def test_what_is_malformed_is_one_error_on_one_line(octets: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        decode(octets)
    assert str(caught.value).isprintable()
    assert 0 < len(str(caught.value)) < 300


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xc1")
def test_random_octets_raise_nothing_else(octets: bytes) -> None:
    with pytest.raises(CodecError):
        decode(octets)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_with_octets_changed_raise_nothing_else(data: st.DataObject) -> None:
    """Most of what random octets can't reach: the inside of each value."""
    octets = bytearray(encode(data.draw(values_of(data.draw(st.sampled_from(KINDS)))), secrets=True))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(octets) - 1))
        octets[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not octets:
            break
    with suppress(CodecError):
        assert type(decode(bytes(octets))) in KINDS


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(session=values_of(SessionSettings))
def test_settings_that_no_file_could_hold_are_refused_in_words(session: SessionSettings) -> None:
    """Who writes octets by hand gets no further than the rule book."""
    decoded = decode(encode(session, secrets=True))
    assert isinstance(decoded, SessionSettings)
    with suppress(ValueError):
        assert check(check(decoded)) == check(decoded)


@pytest.mark.parametrize("value", [StartCapture((1,), "/tmp/\udc80"), Dial((2**64,)), Request(1, Dial((-(2**64),)))])
def test_what_octets_can_not_hold_is_one_error(value: Command | Request) -> None:
    with pytest.raises(CodecError, match=r"can't be told"):
        encode(value)
