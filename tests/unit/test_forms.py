"""The form's texts and what they mean; what reading the configuration again changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.settings.fields import SESSION
from engine.settings.forms import FIELDS, differences, others, read, write
from engine.settings.reload import plan
from engine.settings.values import (
    AcFilter,
    AuthMethod,
    KeepaliveSettings,
    LineId,
    MacPolicy,
    SessionSettings,
    VlanTag,
)

FULL = SessionSettings(
    name="home-01",
    user="alice",
    password="wonderland",
    service="internet",
    ac=AcFilter("bras-2", bytes.fromhex("02ac00000001")),
    auth=(AuthMethod.CHAP, AuthMethod.PAP),
    mac_policy=MacPolicy.FIXED,
    mac=bytes.fromhex("020000000007"),
    vlans=(VlanTag(100, 5, 0x88A8), VlanTag(200)),
    mru=1500,
    ipv6=False,
    line_id=LineId("slot 1", "alice"),
    autodial=True,
    dns=("192.0.2.53", "2001:db8::53"),
    device="wan0",
)
FOOT = 72
"""Columns of the form's foot, where a mistake stands whole."""


def test_a_form_has_every_setting_of_a_session() -> None:
    attributes = {name for field in FIELDS for name in field.attribute if isinstance(field.attribute, tuple)}
    attributes |= {field.attribute.split(".")[0] for field in FIELDS if isinstance(field.attribute, str)}
    assert attributes == {*SessionSettings.__struct_fields__} - {"hooks", "forwards"}, "in a file alone"


@pytest.mark.parametrize("settings", [FULL, SessionSettings("a")])
def test_what_is_written_reads_back_unchanged(settings: SessionSettings) -> None:
    assert read(write(settings), settings, {}) == (settings, {})


@pytest.mark.parametrize(
    "settings",
    [
        replace(FULL, name=" blanks around "),
        replace(FULL, keepalive=KeepaliveSettings(1234.56789)),
        replace(FULL, vlans=(VlanTag(7, priority=3),)),
    ],
)
def test_a_field_that_is_not_touched_stays_as_it_is(settings: SessionSettings) -> None:
    """Each of these was changed without a word by an edit of something else."""
    assert read(write(settings) | {"mru": "1400"}, settings, {}) == (replace(settings, mru=1400), {})


def test_the_password_never_leaves() -> None:
    assert "wonderland" not in str(write(FULL))


def test_an_empty_password_keeps_the_old_one_and_a_new_one_replaces_it() -> None:
    texts = write(FULL) | {"password": " x "}
    assert read(texts, FULL, {})[0].password == " x "


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("name", "", "must not be empty"),
        ("name", "x" * 65, "64"),
        ("name", "home-02", "taken"),
        ("user", "a\x1bb", "control"),
        ("password", "\ud800", "Unicode"),
        ("ac.mac", "02:00", "MAC address"),
        ("ac.mac", "01:00:5e:00:00:01", "multicast"),
        ("auth", "eap", "mschapv2"),
        ("auth", "pap pap", "same item twice"),
        ("auth", " ", "one or more of mschapv2"),
        ("mac", "mine", "card or derived"),
        ("mac", "ff:ff:ff:ff:ff:ff", "multicast"),
        ("vlan", "100.200.300", "100.200"),
        ("vlan", "4095", "4094"),
        ("vlan", "0100", "leading zeros"),
        ("mru", "9000", "1500"),
        ("mru", "01400", "leading zeros"),
        ("mru", "١٤٠٠", "128 to 1500"),
        ("ipv6", "maybe", "yes or no"),
        ("keepalive.interval", "-1", "0 to 3600"),
        ("keepalive.interval", "nan", "0 to 3600"),
        ("keepalive.failures", "0", "100"),
        ("device", "a/b", "/"),
        ("device", "x" * 16, "15"),
        ("device", "wan1", "taken"),
    ],
)
def test_what_is_wrong_is_said(key: str, text: str, says: str) -> None:
    taken = others([SessionSettings("home-02", device="wan1"), SessionSettings("home-03")])
    _, errors = read(write(FULL) | {key: text}, FULL, taken)
    assert list(errors) == [key]
    assert says in errors[key]
    (label,) = (field.label for field in FIELDS if field.key == key)
    assert len(f"{label} {errors[key]}") <= FOOT


def test_words_are_taken_in_any_case_as_in_a_file() -> None:
    texts = write(SessionSettings("a")) | {"mac": "Derived", "datapath": "AUTO", "ipv6": "False", "auth": "PAP, chap"}
    settings, errors = read(texts, SessionSettings("a"), {})
    assert not errors
    assert (settings.mac_policy, settings.datapath, settings.ipv6) == ("derived", "auto", False)
    assert settings.auth == (AuthMethod.PAP, AuthMethod.CHAP)


@given(st.fixed_dictionaries({field.key: st.text(max_size=20) for field in FIELDS}))
def test_any_texts_are_settings_or_errors(texts: dict[str, str]) -> None:
    settings, errors = read(texts, FULL, {})
    assert errors or read(write(settings), settings, {}) == (settings, {})


def test_no_field_is_without_its_words() -> None:
    assert all(field.label for field in FIELDS)
    assert all(key.help.endswith((".", "…")) for key in SESSION.values())


def test_differences_are_told_without_the_password() -> None:
    changed = replace(FULL, user="carol", ac=AcFilter(), password="another")
    assert differences(FULL, changed) == [
        f"user {FULL.user} → carol",
        f"concentrator {FULL.ac.name} → none",
        f"its MAC {write(FULL)['ac.mac']} → none",
        "another password",
    ]
    priority = replace(FULL, vlans=(VlanTag(100, priority=1), VlanTag(200, priority=2)))
    assert differences(FULL, priority)


def test_the_plan_of_a_reload() -> None:
    a, b, c = (SessionSettings(name) for name in "abc")
    changed = SessionSettings("b", user="other")
    assert plan({0: a, 1: b}, (changed, c)) == plan({1: b, 0: a}, (changed, c))
    todo = plan({0: a, 1: b}, (changed, c))
    assert (todo.add, todo.edit, todo.remove) == ((c,), ((1, changed),), (0,))
    assert plan({0: a}, (a,)) == plan({}, ())
