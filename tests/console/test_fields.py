"""The form's texts and what they mean; what reading the configuration again changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.settings.values import AcFilter, AuthMethod, LineId, MacPolicy, SessionSettings, VlanTag
from souppp_tui.model.fields import FIELDS, differences, plan, read, write

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
    device="wan0",
)


@pytest.mark.parametrize("settings", [FULL, SessionSettings("a")])
def test_what_is_written_reads_back_unchanged(settings: SessionSettings) -> None:
    assert read(write(settings), settings, frozenset()) == (settings, {})


def test_the_password_never_leaves() -> None:
    assert "wonderland" not in str(write(FULL))


def test_an_empty_password_keeps_the_old_one_and_a_new_one_replaces_it() -> None:
    texts = write(FULL) | {"password": " x "}
    assert read(texts, FULL, frozenset())[0].password == " x "


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("name", "", "needed"),
        ("name", "x" * 65, "64"),
        ("name", "home-02", "taken"),
        ("user", "a\x1bb", "control"),
        ("ac_mac", "02:00", "MAC address"),
        ("ac_mac", "01:00:5e:00:00:01", "multicast"),
        ("auth", "eap", "mschapv2"),
        ("auth", "pap pap", "best first"),
        ("mac", "mine", "card, derived"),
        ("vlans", "100.200.300", "100.200"),
        ("vlans", "4095", "4094"),
        ("mru", "9000", "1500"),
        ("ipv6", "maybe", "yes or no"),
        ("interval", "-1", "seconds"),
        ("failures", "0", "100"),
        ("device", "a/b", "/"),
        ("device", "x" * 16, "15"),
    ],
)
def test_what_is_wrong_is_said(key: str, text: str, says: str) -> None:
    _, errors = read(write(FULL) | {key: text}, FULL, frozenset({"home-02"}))
    assert list(errors) == [key]
    assert says in errors[key]


@given(st.fixed_dictionaries({field.key: st.text(max_size=20) for field in FIELDS}))
def test_any_texts_are_settings_or_errors(texts: dict[str, str]) -> None:
    settings, errors = read(texts, FULL, frozenset())
    assert errors or read(write(settings), settings, frozenset()) == (settings, {})


def test_differences_are_told_without_the_password() -> None:
    changed = replace(FULL, user="carol", ac=AcFilter(), password="another")
    assert differences(FULL, changed) == [
        f"user {FULL.user} → carol",
        f"concentrator {FULL.ac.name} → none",
        f"its MAC {write(FULL)['ac_mac']} → none",
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
