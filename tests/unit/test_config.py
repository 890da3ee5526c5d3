"""Configurations: what they mean, every mistake at its place, and edits that keep the rest of the text."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.settings import fields as rules
from engine.settings import reading as config
from engine.settings.console import ConsoleSettings
from engine.settings.editing import replace_session, rewrite, with_filter, with_session, without_session
from engine.settings.fields import check, schema
from engine.settings.reading import ConfigError, load, parse
from engine.settings.values import (
    AcFilter,
    AuthMethod,
    Choose,
    DelegateSettings,
    Dhcpv6,
    DialSettings,
    Forward,
    HealthSettings,
    HookSettings,
    KeepaliveSettings,
    LineId,
    MacPolicy,
    PoolPort,
    RotateSettings,
    SessionPorts,
    SessionSettings,
    Settings,
    XdpMode,
)
from engine.wire.ethernet import VlanTag
from tests.conftest import ROOT

HERE = Path()
FILE = Path("x.yaml")


def read(text: str) -> Settings:
    return parse(text, "x.yaml", HERE)


def session(text: str) -> SessionSettings:
    """The one session of an entry."""
    (only,) = read(f"sessions:\n - {{name: a, {text}}}").sessions
    return only


def errors(text: str) -> tuple[str, ...]:
    """What is wrong with a configuration; empty if nothing is."""
    try:
        read(text)
    except ConfigError as refusal:
        return refusal.errors
    return ()


def error(text: str) -> str:
    (only,) = errors(text)
    return only


# --- meaning ---


def test_least_configuration() -> None:
    made = read("sessions:\n  - {name: home-01, user: alice, password: wonderland, autodial: true}\n")
    assert made == Settings(sessions=(SessionSettings("home-01", "alice", "wonderland", autodial=True),))


URL = "http://192.0.2.1:8080/up"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("service: internet", {"service": "internet"}),
        ("host_uniq: provider-says-so", {"host_uniq": b"provider-says-so"}),
        ("host_uniq: 0x0012ff", {"host_uniq": b"\x00\x12\xff"}),
        ("host_uniq: '0xABcd'", {"host_uniq": b"\xab\xcd"}),
        ("host_uniq: 1234", {"host_uniq": b"1234"}),
        ("host_uniq: ''", {}),
        ("ac: bras-2", {"ac": AcFilter("bras-2")}),
        ("ac: ''", {}),
        ("ac: {mac: 02:ac:00:00:00:01}", {"ac": AcFilter(mac=bytes.fromhex("02ac00000001"))}),
        ("ac: {name: x, mac: 02-AC-00-00-00-01}", {"ac": AcFilter("x", bytes.fromhex("02ac00000001"))}),
        ("auth: [chap, mschapv2]", {"auth": (AuthMethod.CHAP, AuthMethod.MSCHAPV2)}),
        ("mac: derived", {"mac_policy": MacPolicy.DERIVED}),
        # YAML 1.1 reads this one as a number to base 60.
        ("mac: 12:34:56:12:34:56", {"mac_policy": MacPolicy.FIXED, "mac": bytes.fromhex("123456123456")}),
        ("vlan: 100", {"vlans": (VlanTag(100),)}),
        ("vlan: 100.200", {"vlans": (VlanTag(100), VlanTag(200))}),
        ("vlan: [7, 7]", {"vlans": (VlanTag(7), VlanTag(7))}),
        ("vlan: []", {}),
        ("vlan: {vid: 5, priority: 6, tpid: 0x88A8}", {"vlans": (VlanTag(5, 6, 0x88A8),)}),
        ("vlan: [{vid: 5, tpid: 0x88a8}, 6]", {"vlans": (VlanTag(5, tpid=0x88A8), VlanTag(6))}),
        ("mru: 1500", {"mru": 1500}),
        ("ipv6: no", {"ipv6": False}),
        ("circuit_id: 'olt 1/2'", {"line_id": LineId("olt 1/2")}),
        ("remote_id: x", {"line_id": LineId(remote_id="x")}),
        ("keepalive: {interval: 2.5}", {"keepalive": KeepaliveSettings(2.5)}),
        ("keepalive: {interval: 0, failures: 9}", {"keepalive": KeepaliveSettings(0, 9)}),
        ("rotate: {every: 6h, spread: 10m}", {"rotate": RotateSettings(21600.0, 600.0)}),
        ("rotate: {min_interval: 1h30m, at_once: 2}", {"rotate": RotateSettings(min_interval=5400.0, at_once=2)}),
        ("drain: 30", {"drain": 30.0}),
        ("drain: 1.5m", {"drain": 90.0}),
        ("health: {url: 'http://192.0.2.1:8080/up', every: 5s}", {"health": HealthSettings(URL, 5.0)}),
        ("health: {url: ''}", {}),
        ("hooks: {up: [/bin/true, a b], timeout: 1m}", {"hooks": HookSettings(("/bin/true", "a b"), timeout=60.0)}),
        ("device: wan0", {"device": "wan0"}),
        ("password: '0123'", {"password": "0123"}),
        ('password: "tab\\there"', {"password": "tab\there"}),
    ],
)
def test_session_keys(text: str, expected: dict[str, object]) -> None:
    assert session(text) == replace(SessionSettings("a"), **expected)


def test_defaults_are_overridden_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    text = """
defaults: {user: u, password_file: secret, mru: 1400, keepalive: {failures: 2}}
sessions: [{name: a}, {name: b, user: v, password: own, keepalive: {interval: 5}}]
"""
    a, b = parse(text, "x.yaml", tmp_path).sessions
    assert a == SessionSettings("a", "u", "from-file", mru=1400, keepalive=KeepaliveSettings(failures=2))
    assert b == SessionSettings("b", "v", "own", mru=1400, keepalive=KeepaliveSettings(interval=5))


def test_count_makes_many() -> None:
    text = "sessions:\n - {name: 'load-{n:04}', user: 'u{n}', device: 'd{n:02}', password: '{n}', count: 12}\n"
    made = read(text).sessions
    assert len(made) == 12
    assert made[0] == SessionSettings("load-0001", "u1", "{n}", device="d01")
    assert made[11] == SessionSettings("load-0012", "u12", "{n}", device="d12")


def test_braces_mean_nothing_without_count() -> None:
    assert session("user: 'u{n}'").user == "u{n}"


def test_console() -> None:
    made = read(
        "sessions: []\nconsole: {theme: light, columns: [name, rx], keys: {dial: f5, quit: 'Q  ctrl-x'}, mouse: off,"
        " filters: {gold: service=gold},"
        " event_file: log/events, confirm_above: 3}"
    ).console
    keys = {"dial": "f5", "quit": "Q ctrl-x"}
    assert made == ConsoleSettings("light", ("name", "rx"), keys, {"gold": "service=gold"}, False, 3, made.event_file)
    assert made.event_file is not None
    assert made.event_file.parts[-2:] == ("log", "events")
    assert read("sessions: []\nconsole: {}").console == ConsoleSettings()


def test_networks_that_are_routed_to_a_session() -> None:
    made = read("sessions: [{name: a, networks: [203.0.113.8/29, 2001:DB8:5::/48, 198.51.100.7]}]")
    assert made.sessions[0].networks == ("203.0.113.8/29", "2001:db8:5::/48", "198.51.100.7/32")


def test_what_may_come_in_is_said_for_one_or_for_all() -> None:
    made = read("defaults: {inbound: closed}\nsessions: [{name: a}, {name: b, inbound: open}]")
    assert [each.inbound for each in made.sessions] == ["closed", "open"]
    assert read("sessions: [{name: a}]").sessions[0].inbound == "open"


def test_dial_and_unwanted_networks() -> None:
    made = read("sessions: []\ndial: {rate: 5, retry_max: 300, jitter: 0}\nunwanted_networks: [10.0.0.0/8]")
    assert made.dial == DialSettings(rate=5, retry_max=300, jitter=0)
    assert made.unwanted_networks == ("10.0.0.0/8",)


@pytest.mark.parametrize("mode", XdpMode)
def test_how_the_card_is_used(mode: XdpMode) -> None:
    assert read(f"sessions: []\nxdp: {mode}").xdp is mode


def test_what_devices_are_called() -> None:
    assert read("sessions: []\ndevices: wan").devices == "wan"
    assert read("sessions: []\ndevices: ''").devices is None


def test_every_field_can_be_set() -> None:
    """A field added to the settings but not to the tables would never be read."""
    attributes = {
        name.split(".")[0]
        for key in rules.SESSION.values()
        for name in (key.field if isinstance(key.field, tuple) else [key.field])
    }
    assert attributes - {""} == {*SessionSettings.__struct_fields__}
    assert {key.field for key in rules.DIAL.values()} == {*DialSettings.__struct_fields__}
    assert {key.field for key in rules.TOP.values()} - {""} == {*Settings.__struct_fields__} - {"remarks"}


# --- mistakes ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing", "1:1: the file is empty"),
        ("- a", "1:1: must be a mapping"),
        ("sessions: 4", "1:11: sessions: must be a list"),
        ("sessions:", "1:10: sessions: must be a list"),
        ("dial: {}", "1:1: sessions is missing"),
        ("sessions: [3]", "1:12: must be a mapping"),
        ("sessions: [{user: a}]", "1:12: name is missing"),
        ("sessions: [{name: a, pasword: x}]", "1:22: unknown key pasword; did you mean password?"),
        ("sessions: [{name: a, vlan: {prio: 1, vid: 2}}]", "1:29: vlan: unknown key prio; did you mean priority?"),
        ("sessions: []\nsesions: []", "2:1: unknown key sesions; did you mean sessions?"),
        ("sessions: [{name: a, mru: 1400, mru: 1400}]", "1:33: mru is set twice"),
        ("sessions:\n- {name: a}\n- {name: a}", "3:10: name: a is already taken, on line 2"),
        ("sessions:\n- {name: a, mru: x}\n- {name: a, mru: y}", "3:10: name: a is already taken, on line 2"),
        ("sessions: [{name: a, device: x}, {name: b, device: x}]", "1:52: device: x is already taken, on line 1"),
        ("sessions: [{name: '{n}', count: 2}, {name: '2'}]", '1:44: name: "2" is already taken, on line 1'),
        ("sessions: [{name: a, count: 2}]", "1:19: name: needs a number to differ by"),
        ("sessions: [{name: '{n}', count: 2, device: x}]", "1:44: device: needs a number to differ by"),
        ("sessions: [{name: a, device: aaaaaaaaaaaaaaaa}]", "1:30: device: must not be longer than 15 octets"),
        (
            "sessions: [{name: '{n}', device: 'aaaaaaaaaaaaaa{n}', count: 10}]",
            "1:34: device: must not be longer than 15",
        ),
        ("sessions: [{name: a, networks: 203.0.113.8/29}]", "1:32: networks: must be a list of 0 to 16 items"),
        ("sessions: [{name: a, networks: [203.0.113.9/29]}]", "1:33: networks: must be a network such as"),
        ("sessions: [{name: a, networks: [nowhere]}]", "1:33: networks: must be a network such as"),
        ("sessions: [{name: a, networks: [0.0.0.0/0]}]", "1:33: networks: must not have a prefix shorter than 8"),
        ("sessions: [{name: a, networks: ['::/0']}]", "1:33: networks: must not have a prefix shorter than 16"),
        ("sessions: [{name: a, networks: [127.0.0.0/24]}]", "1:33: networks: must be a network of addresses that a"),
        ("sessions: [{name: a, networks: [239.1.2.0/24]}]", "1:33: networks: must be a network of addresses that a"),
        ("sessions: [{name: a, networks: ['fe80::/64']}]", "1:33: networks: must be a network of addresses that a"),
        ("sessions: [{name: a, networks: ['::ffff:0:0/96']}]", "1:33: networks: must be a network of addresses that"),
        ("sessions: [{name: a, networks: [10.0.0.0/24, 10.0.0.0/24]}]", "1:32: networks: has the same item twice"),
        ("sessions: [{name: a, dns: [resolver]}]", "1:28: dns: must be an IP address such as 192.0.2.53"),
        ("sessions: [{name: a, dns: [127.0.0.53]}]", "1:28: dns: must be an address that is reached through the ses"),
        ("sessions: [{name: a, dns: [9.9.9.1, 9.9.9.1]}]", "1:27: dns: has the same item twice"),
        ("sessions: [{name: a, inbound: shut}]", "1:31: inbound: must be open or closed"),
        ("sessions: [{name: a, device: a/b}]", "1:30: device: must be a device name"),
        ("sessions: [{name: 42}]", "1:19: name: must be text; put it in quotes"),
        ("sessions: [{name: ''}]", "1:19: name: must not be empty"),
        ('sessions: [{name: "a\\nb"}]', "1:19: name: must not contain control characters"),
        ("sessions: [{name: a, autodial: maybe}]", "1:32: autodial: must be true or false"),
        ("sessions: [{name: a, mru: big}]", "1:27: mru: must be a whole number from 128 to 1500"),
        ("sessions: [{name: a, mru: '1400'}]", "1:27: mru: must be a whole number from 128 to 1500"),
        ("sessions: [{name: a, mru: 01400}]", "1:27: mru: must be a whole number"),
        ("sessions: [{name: a, mru: 9000}]", "1:27: mru: 9000 is out of range (128 to 1500)"),
        ("sessions: [{name: a, mru: }]", "1:27: mru: has no value"),
        (
            "sessions: [{name: a, keepalive: {interval: .nan}}]",
            "1:44: keepalive: interval: must be a number from 0 to 3600",
        ),
        ("sessions: [{name: a, mac: 01:00:00:00:00:01}]", "1:27: mac: must be the address of one station"),
        ("sessions: [{name: a, mac: 00:00:00:00:00:00}]", "1:27: mac: must be the address of one station"),
        ("sessions: [{name: a, mac: 02:00:00:00:01}]", "1:27: mac: must be card or derived, or a MAC address"),
        ("sessions: [{name: a, ac: {mac: ff:ff:ff:ff:ff:ff}}]", "1:32: ac: mac: must be the address of one station"),
        ("sessions: [{name: a, ac: {mac: bras-2}}]", "1:32: ac: mac: must be a MAC address"),
        ("sessions: [{name: a, mac: }]", "1:27: mac: has no value; it must be card or derived, or a MAC address"),
        ("sessions: [{name: a, vlan: 4095}]", "1:28: vlan: 4095 is out of range (1 to 4094)"),
        ("sessions: [{name: a, vlan: 100.200.300}]", "1:28: vlan: must be a VLAN id such as 100, or two"),
        ("sessions: [{name: a, vlan: ١٠٠.٢٠٠}]", "1:28: vlan: must be a VLAN id such as 100, or two"),
        ("sessions: [{name: a, vlan: 100.0}]", "1:28: vlan: 0 is out of range (1 to 4094)"),
        ("sessions: [{name: a, vlan: [1, 2, 3]}]", "1:28: vlan: must be a list of 0 to 2 items"),
        ("sessions: [{name: a, vlan: [{priority: 1}]}]", "1:29: vlan: vid is missing"),
        ("sessions: [{name: a, vlan: {vid: 1, tpid: 0x9100}}]", "1:43: vlan: tpid: must be 0x8100 or 0x88a8"),
        ("sessions: [{name: a, auth: []}]", "1:28: auth: must be a list of 1 to 4 items"),
        ("sessions: [{name: a, auth: [pap, pap]}]", "1:28: auth: has the same item twice"),
        ("sessions: [{name: a, auth: [eap]}]", "1:29: auth: must be mschapv2 or chap or pap"),
        ("sessions: [{name: a, auth: chap}]", "1:28: auth: must be a list of 1 to 4 items"),
        ("sessions: [{name: a, drain: 2h}]", "1:29: drain: 2h is out of range (0s to 1h)"),
        ("sessions: [{name: a, rotate: {every: soon}}]", "1:38: rotate: every: must be a time such as 30s, 10m, 6h"),
        ("sessions: [{name: a, rotate: {every: 6h 1}}]", "1:38: rotate: every: must be a time such as 30s, 10m, 6h"),
        ("sessions: [{name: a, rotate: {every: -1}}]", "1:38: rotate: every: must be a time such as 30s, 10m, 6h"),
        ("sessions: [{name: a, health: {url: ftp://x/}}]", "1:36: health: url: must be a URL such as https://"),
        ("sessions: [{name: a, health: {url: 'http:///'}}]", "1:36: health: url: must be a URL such as https://"),
        ("sessions: [{name: a, health: {url: 'http://x:99999/'}}]", "1:36: health: url: must be a URL such as"),
        ("sessions: [{name: a, health: {url: 'http://u:p@x/'}}]", "1:36: health: url: must not hold a user name"),
        ("sessions: [{name: a, health: {url: 'http://x/a b'}}]", "1:36: health: url: must be ASCII without blanks"),
        (
            "sessions: [{name: a, forwards: [{listen: udp/1, to: '[::1]:80'}]}]",
            "1:42: forwards: listen: must be a protocol and a port, such as tcp/443",
        ),
        ("sessions: [{name: a, hooks: {up: /bin/true}}]", "1:34: hooks: up: must be a list of 0 to 32 items"),
        ("sessions: [{name: a, hooks: {up: [true]}}]", "1:35: hooks: up: must be text"),
        ("sessions: [{name: a, hooks: {up: [up]}}]", "1:34: hooks: up: up must be an absolute path"),
        ("sessions: [{name: a, hooks: {down: [/none/x]}}]", "1:36: hooks: down: /none/x no such file or directory"),
        ("sessions: [{name: a, hooks: {down: [/etc/passwd]}}]", "1:36: hooks: down: /etc/passwd is not executable"),
        ("sessions: [{name: a, hooks: {changed: [/tmp]}}]", "1:39: hooks: changed: /tmp is not a plain file"),
        ("sessions: [{name: a, count: 0}]", "1:29: count: 0 is out of range (1 to 16384)"),
        ("sessions: [{name: a, password: x, password_file: y}]", "1:50: password_file: there is a password too"),
        ("sessions: []\ndial: {rate: 0}", "2:14: dial: rate: 0 is out of range (0.1 to 10000)"),
        ("sessions: []\ndial: {retry_min: 61}", "2:7: dial: retry_max must not be less than retry_min"),
        ("sessions: []\nunwanted_networks: [10.0.0.1/8]", "2:21: unwanted_networks: must be an IPv4 network"),
        ("sessions: []\ndevices: a/b", "2:10: devices: must be a device name: 10 octets at most"),
        ("sessions: []\ndevices: elevenlong1", "2:10: devices: must not be longer than 10 octets"),
        ("sessions: []\nxdp: native", "2:6: xdp: must be auto or zero-copy or copy or generic"),
        ("sessions: []\nunwanted_networks: [10]", "2:21: unwanted_networks: must be an IPv4 network"),
        ("sessions: []\nconsole: {theme: pink}", "2:18: console: theme: must be auto or dark or light"),
        ("sessions: []\nconsole: {columns: [name, shoe]}", "2:27: console: columns: must be name or state or"),
        ("sessions: []\nconsole: {keys: {fly: f}}", "2:18: console: keys: unknown key fly; there are dial, hang_up"),
        ("sessions: []\nconsole: {keys: {dial: 'ctrl+x'}}", "2:24: console: keys: dial: must be one or more keys"),
        ("sessions: []\nconsole: {keys: {dial: ''}}", "2:24: console: keys: dial: must be one or more keys"),
        ("sessions: []\nconsole: {mouse: never}", "2:18: console: mouse: must be true or false"),
        ("sessions: []\ndefaults: {name: a}", "2:12: unknown key name"),
        ("sessions: []\n---\nsessions: []", "2:1: a second document starts here"),
        ("sessions: &a []", "1:11: anchors (&, *) are not supported"),
        ("sessions: [{<<: {name: a}, name: b}]", "1:13: merge keys (<<) are not supported"),
        ("sessions: [{[a]: b, name: c}]", "1:13: a key must be a plain word"),
        ("sessions: [{name: a\n", "2:1: not YAML: the { on line 1 isn't closed, or a comma is missing"),
        ("sessions:\n- {name: a, password: b #c}\n", "3:1: not YAML: the { on line 2 isn't closed"),
        ("sessions:\n  - {name: a}}\n", "2:14: not YAML: text goes on where a value has ended"),
        ("sessions:\n\t- name: a\n", "2:1: not YAML: lines are indented with blanks, not with tabs"),
        ("sessions:\n  - name: a\n\tuser: b\n", "3:1: not YAML: lines are indented with blanks, not with tabs"),
        ("sessions:\n  - name: a\n   user: b\n", "3:4: not YAML: this line begins further left or right"),
        ("sessions:\n  - name: a\n     user: b\n", "3:10: not YAML: a second `: ` in one value"),
        ("sessions:\n  - name: 'a\n", "3:1: not YAML: the text in quotes that begins on line 2 doesn't end"),
        ("sessions: [{name: 'it's'}]\n", "1:23: not YAML: the { on line 1 isn't closed"),
        ("sessions: [{name: \ta}]\n\x00", "2:1: not YAML: character U+0000 is not allowed"),
    ],
)
def test_each_mistake_has_its_place(text: str, expected: str) -> None:
    found = [line for line in errors(text) if expected in line]
    assert found, errors(text)
    assert all(re.match(r"x\.yaml:\d+:\d+: [^\n]+$", line) for line in errors(text))


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? "])
def test_hostile_depth(piece: str) -> None:
    assert error(piece * 100_000).endswith(": nested deeper than 16 levels")


def test_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    text = """\
sessions:
  - name: a
    mru: big
    vlan: [0, {vid: 5000}]
  - user: b
  - {name: c, nome: d}
dail: {}
"""
    assert [line.split(":")[1] for line in errors(text)] == ["3", "4", "4", "5", "6", "7"]


def test_a_hook_that_others_can_change_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    hook = folder / "up"
    hook.write_text("#!/bin/sh\n")
    text = f"sessions: [{{name: a, hooks: {{up: [{hook}]}}}}]"
    hook.chmod(0o755)
    assert not errors(text)
    hook.chmod(0o757)
    assert "can be written by everybody: `chmod o-w` it" in errors(text)[0]
    hook.chmod(0o755)
    folder.chmod(0o777)
    assert f"can be replaced by everybody, as {folder} is open to all" in errors(text)[0]
    folder.chmod(0o1777)
    assert not errors(text)


def test_password_file(tmp_path: Path) -> None:
    def reads(octets: bytes) -> str:
        (tmp_path / "p").write_bytes(octets)
        (only,) = parse("sessions: [{name: a, password_file: p}]", "x", tmp_path).sessions
        return only.password

    assert reads(b"wonderland\n") == "wonderland"
    assert reads(b" w\xc3\xb6nder \r\n") == " wönder "
    for bad in (b"\xff", b"two\nlines\n", b"x" * 256):
        with pytest.raises(ConfigError, match=r"x:1:37: password_file: .*p "):
            reads(bad)
    with pytest.raises(ConfigError, match=r"x:1:37: password_file: .*/none: no such file"):
        parse("sessions: [{name: a, password_file: none}]", "x", tmp_path)
    with pytest.raises(ConfigError, match="not a regular file"):
        parse("sessions: [{name: a, password_file: /dev/zero}]", "x", tmp_path)


@pytest.mark.parametrize("loader", [config.LOADER, yaml.SafeLoader])
@pytest.mark.parametrize(
    "text",
    [
        "{name: a, password: hunter2, mru: 0}",
        "{name: a, password: 22222222}",
        "{name: a, password: [hunter2]}",
        "{name: a, password: {hunter2: hunter2}}",
        "{name: a, password: x, hunter2}",
        "{name: a, password: x, hunter2: x}",
        "{name: a, password: *hunter2}",
        "{name: a, password: &hunter2 x}",
        "{name: a, password: !hunter2 x}",
        "{name: a, password: !hunter2!x y}",
        "{name: a, password: %hunter2}",
        "{name: a, password: @hunter2}",
        "{name: a, password: 'hunter2'hunter2'}",
        '{name: a, password: "\\qhunter2"}',
        '{name: a, password: "hunter2\\n' + "x" * 300 + '"}',
    ],
)
def test_no_password_in_an_error(text: str, loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "LOADER", loader)
    found = errors(f"sessions: [{text}]")
    assert found
    assert "hunter2" not in str(found)
    assert "22222222" not in str(found)


@given(st.text() | st.text("{}[]:,-&*!|>'\"#%@` \nabcnamesessions"))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(line.startswith("x.yaml:") for line in errors(text))


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_any_value_of_any_key_is_read_or_refused(value: object) -> None:
    for key in rules.SESSION:
        text = yaml.safe_dump({"sessions": [{"name": "a", key: value}]}, sort_keys=False)
        assert all(line.startswith("x.yaml:") for line in errors(text))


def test_load_reports_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    for octets, expected in (
        (b"\xef\xbb\xbfsessions: []", None),
        (b"sessions: []\n# gr\xfcn", ":2:5: not UTF-8"),
        (b"x" * (config.MAX_FILE + 1), ": larger than 8 MiB"),
    ):
        file = tmp_path / "c.yaml"
        file.write_bytes(octets)
        if expected is None:
            assert load(file) == Settings()
        else:
            with pytest.raises(ConfigError, match=re.escape(f"{file}{expected}")):
                load(file)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match=re.escape(f"{path}: ")):
            load(path)


# --- documents ---


def test_example_is_read_and_means_the_defaults() -> None:
    text = (ROOT / "docs" / "example.yaml").read_text()
    example = load(ROOT / "docs" / "example.yaml")
    assert len(example.sessions) == 10
    office = example.sessions[1]
    assert office == SessionSettings("office", "0021345@isp.example", "blue, not green", device="office", mark=101)
    assert example.dial == DialSettings()
    named = {str(key) for key in re.findall(r"\b([a-z_0-9]+):", text)}
    assert named >= {*rules.TOP, *rules.SESSION, *rules.DIAL, *rules.CONSOLE}
    assert example.console == ConsoleSettings()
    jsonschema.validate(yaml.safe_load(text), schema())


def test_schema_tells_the_defaults() -> None:
    made = schema()["properties"]
    entry = made["sessions"]["items"]["properties"]
    assert [entry[key]["default"] for key in ("mru", "auth", "mac", "vlan", "autodial")] == [
        SessionSettings("").mru,
        [method for method in AuthMethod if method is not AuthMethod.NONE],
        "card",
        [],
        False,
    ]
    assert "default" not in entry["name"]
    assert made["dial"]["properties"]["rate"]["default"] == DialSettings().rate


def test_schema_file_is_current() -> None:
    """To write it anew:  python -m engine.settings.fields > docs/config.schema.json"""
    assert json.loads((ROOT / "docs" / "config.schema.json").read_text()) == schema()


def test_schema_refuses_what_is_refused() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for text in ("{name: a, nome: b}", "{user: a}", "{name: a, mru: 9000}", "{name: a, auth: [eap]}"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(f"sessions: [{text}]"), schema())


# --- settings that come otherwise ---


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (SessionSettings(""), "name: must not be empty"),
        (
            SessionSettings("a", user="x" * 256, mru=9000),
            "user: must not be longer than 255 octets\nmru: 9000 is out of",
        ),
        (SessionSettings("a", ac=AcFilter(mac=b"\2")), "ac: mac: must be a MAC address"),
        (SessionSettings("a", mac_policy=MacPolicy.FIXED), "mac: must be card or derived"),
        (SessionSettings("a", auth=()), "auth: must be a list of 1 to 4 items"),
        (SessionSettings("a", auth=(AuthMethod.PAP,) * 2), "auth: has the same item twice"),
        (SessionSettings("a", vlans=(VlanTag(1),) * 3), "vlan: must be a list of 0 to 2 items"),
        (SessionSettings("a", vlans=(VlanTag(5, tpid=0x9100),)), "vlan: tpid: must be 0x8100 or 0x88a8"),
        (SessionSettings("a", keepalive=KeepaliveSettings(float("nan"))), "keepalive: interval: nan is out of range"),
        (SessionSettings("a", device="../x"), "device: must be a device name"),
        (SessionSettings("a", password=None), "password: must be given"),
    ],
)
def test_settings_that_no_file_could_hold_are_refused(settings: SessionSettings, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(wrong)}"):
        check(settings)


# --- edits ---

unicast = st.binary(min_size=6, max_size=6).map(lambda octets: bytes([octets[0] & 0xFE | 2]) + octets[1:])
printable = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=20)
tags = st.builds(VlanTag, st.integers(1, 4094), st.integers(0, 7), st.sampled_from([0x8100, 0x88A8]))
unset = st.none()
spans = st.floats(0, 31 * 86400) | st.integers(0, 31 * 86400).map(float)
lines = unset | printable.filter(bool)


@st.composite
def sessions(draw: st.DrawFn) -> SessionSettings:
    mac = draw(unset | unicast)
    policy = draw(st.sampled_from([MacPolicy.CARD, MacPolicy.DERIVED]))
    return SessionSettings(
        name=draw(printable.filter(bool)),
        user=draw(printable),
        password=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        service=draw(printable),
        ac=draw(st.builds(AcFilter, lines, unset | unicast)),
        auth=tuple(draw(st.lists(st.sampled_from(AuthMethod), min_size=1, max_size=3, unique=True))),
        mac_policy=policy if mac is None else MacPolicy.FIXED,
        mac=mac,
        vlans=tuple(draw(st.lists(tags, max_size=2))),
        mru=draw(st.integers(128, 1500)),
        ipv6=draw(st.booleans()),
        line_id=draw(st.builds(LineId, lines, lines)),
        keepalive=KeepaliveSettings(draw(st.floats(0, 3600)), draw(st.integers(1, 100))),
        autodial=draw(st.booleans()),
        rotate=RotateSettings(draw(spans), draw(spans), draw(spans), draw(st.integers(0, 16384))),
        drain=draw(st.floats(0, 3600)),
        forwards=draw(st.sampled_from([(), (Forward("tcp/443", "127.0.0.1:80"), Forward("tcp/1", "[::1]:8443"))])),
        health=HealthSettings(draw(unset | st.just(URL)), draw(st.floats(1, 86400)), draw(st.integers(1, 100))),
        hooks=HookSettings(up=("/bin/true", *draw(st.lists(printable, max_size=3)))),
        device=draw(unset | st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)),
    )


@given(sessions())
def test_settings_that_a_file_can_hold_pass_the_check_unchanged(made: SessionSettings) -> None:
    assert check(made) == made


LAYOUTS = [
    "sessions: []\n",
    "sessions: [ # none yet\n]",
    "{sessions: []}",
    "sessions: [{name: old-1, user: u}]",
    "sessions: [\n  {name: old-1}, # first\n  {name: old-2, mru: 1400}, # second\n]\n",
    "sessions:\n- name: old-1 # first\n  user: u # his\n\n# second\n- {name: old-2, mru: 1400} # also\n# end\ndial: {}",
    "# top\r\nsessions:\r\n  - name: old-1\r\n    password: |-\r\n      secret\r\n  # end\r\n",
    "defaults: {mru: 1300, mac: derived}\nsessions:\n  -\n    name: old-1\n",
]


def comments(text: str) -> list[str]:
    return re.findall(r"#[^\n\r]*", text)


@settings(max_examples=40)
@given(st.sampled_from(LAYOUTS), sessions(), sessions())
def test_edits_change_one_session_and_nothing_else(
    layout: str, first: SessionSettings, second: SessionSettings
) -> None:
    before = read(layout)
    if first.name.startswith("old") or second.name.startswith("old"):
        return
    added = with_session(layout, first, FILE)
    assert read(added) == replace(before, sessions=(*before.sessions, first))
    assert all(each in added for each in comments(layout))
    replaced = replace_session(added, first.name, second, FILE)
    assert read(replaced) == replace(before, sessions=(*before.sessions, second))
    removed = without_session(replaced, second.name, FILE)
    assert read(removed) == before
    assert all(each in removed for each in comments(layout))


@settings(max_examples=40)
@given(sessions())
def test_any_session_can_replace_one_as_people_write_them(new: SessionSettings) -> None:
    for layout in LAYOUTS[3:]:
        before = read(layout)
        if any(each.name == new.name for each in before.sessions[1:]):
            continue
        edited = replace_session(layout, "old-1", new, FILE)
        assert read(edited) == replace(before, sessions=(new, *before.sessions[1:]))
        assert all(each in edited for each in comments(layout))


def test_edits_touch_only_what_differs() -> None:
    text = LAYOUTS[5]
    edited = replace_session(text, "old-1", SessionSettings("old-1", "v", mru=1400), FILE)
    assert edited == text.replace("user: u # his", "user: v # his\n  mru: 1400")
    assert without_session(text, "old-2", FILE) == text.replace("- {name: old-2, mru: 1400} # also\n", "")
    assert with_session(text, SessionSettings("new"), FILE) == text.replace("# also\n", "# also\n- {name: new}\n")


FILTER_LAYOUTS = [
    "sessions: []\n",
    "sessions: [] # none",
    "{sessions: []} # none",
    "sessions: []\nconsole: {} # ours\n",
    "sessions: []\nconsole: # ours\n  theme: dark # best\n\n# end\n",
    "sessions: []\nconsole: {filters: {}, theme: dark}\n",
    "console:\n  # mine\n  filters:\n    # au\n    gold: service=gold # all\n    red: up # some\nsessions: []\n# end\n",
    "console:\r\n  filters: {gold: service=gold, red: up, }\r\nsessions:\r\n- name: a # one\r\n",
    "console: {filters: {\n  gold: service=gold, # all\n  red: up # some\n}}\nsessions: []\n",
]


@pytest.mark.parametrize("layout", FILTER_LAYOUTS)
def test_a_filter_is_written_changed_and_taken_away_and_nothing_else(layout: str) -> None:
    before = read(layout)
    text, filters = layout, dict(before.console.filters)
    for name, written in [("bad", 'state=failed "a: b" #1'), ("gold", "service=silver"), ("9", "yes"), ("gold", "up")]:
        text = with_filter(text, name, written, FILE)
        filters[name] = written
        assert read(text) == replace(before, console=replace(before.console, filters=filters))
        assert all(each in text for each in comments(layout))
    for name in [*filters]:
        text = with_filter(text, name, None, FILE)
        del filters[name]
        assert read(text) == replace(before, console=replace(before.console, filters=filters))
        assert "# end" not in layout or "# end" in text


def test_a_filter_with_a_name_that_is_none_is_refused() -> None:
    for wrong in ("{A: up}", "{a b: up}", "{a: ''}", "[a]", "{a: up, a: down}"):
        with pytest.raises(ConfigError, match="filters"):
            read(f"sessions: []\nconsole: {{filters: {wrong}}}")


def test_password_file_gives_way_to_a_new_password(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("old")
    text, path = "sessions:\n  - {name: a, password_file: p, mru: 1400}\n", tmp_path / "c.yaml"
    same = replace_session(text, "a", SessionSettings("a", password="old", mru=1300), path)
    assert same == text.replace("1400", "1300")
    new = replace_session(text, "a", SessionSettings("a", password="new", mru=1400), path)
    assert new == text.replace("password_file: p", "password: new")
    not_told = replace_session(text, "a", SessionSettings("a", password=None, mru=1300), path)
    assert not_told == same


def test_a_new_entry_needs_a_password_that_is_known() -> None:
    with pytest.raises(ConfigError, match="password of b is not known here; change the file by hand"):
        with_session("sessions: []\n", SessionSettings("b", password=None), FILE)


def test_edits_that_are_not_safe_are_refused() -> None:
    text = "sessions:\n  - {name: 'a{n}', count: 3}\n"
    with pytest.raises(ConfigError, match="there is no session called b; change the file by hand"):
        without_session(text, "b", FILE)
    with pytest.raises(ConfigError, match="change the file by hand"):
        with_session(text, SessionSettings("a1"), FILE)


def test_rewrite_is_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbfsessions: []\r\n")
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    rewrite(link, lambda text: with_session(text, SessionSettings("a"), link))
    assert file.read_bytes() == b"\xef\xbb\xbfsessions:\r\n  - {name: a}\r\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    with pytest.raises(ConfigError):
        rewrite(file, lambda text: with_session(text, SessionSettings("a"), file))
    assert file.read_bytes() == b"\xef\xbb\xbfsessions:\r\n  - {name: a}\r\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.yaml", "link.yaml"]


def test_rewrite_tells_of_a_file_that_is_no_text_any_more(tmp_path: Path) -> None:
    file = tmp_path / "souppp.yaml"
    file.write_bytes(b"sessions: [{name: caf\xe9}]\n")
    with pytest.raises(ConfigError, match="not UTF-8; save the file as UTF-8"):
        rewrite(file, lambda text: text)
    assert file.read_bytes() == b"sessions: [{name: caf\xe9}]\n"


def with_password(written: str) -> Settings:
    text = f"sessions:\n  - name: a\n    password: {written}\n    autodial: true\n"
    return config.parse(text, "f.yaml", Path())


def test_a_password_that_ends_before_a_comment_is_remarked_on() -> None:
    settings = with_password("pa #ss")
    assert settings.sessions[0].password == "pa"
    (remark,) = settings.remarks
    assert remark.startswith("f.yaml:3:15: the password ends here")
    assert "in quotes" in remark
    assert "pa" not in remark.replace("password", "")


@pytest.mark.parametrize("written", ["plain", "a#b", "'a #b'", "'a'  # a comment", '"a" # a comment'])
def test_a_password_that_is_whole_is_not(written: str) -> None:
    assert with_password(written).remarks == ()


@pytest.mark.parametrize("written", ["@word", "%word", "`word", "|", ">"])
def test_a_password_that_yaml_takes_for_something_else_is_told_to_be_put_in_quotes(written: str) -> None:
    with pytest.raises(config.ConfigError, match=r"f\.yaml:3:15: .*in quotes"):
        with_password(written)


@pytest.mark.parametrize(
    ("mode", "who"), [(0o600, ""), (0o400, ""), (0o640, "its group"), (0o604, "everybody"), (0o644, "everybody")]
)
def test_passwords_that_others_can_read_are_told(tmp_path: Path, mode: int, who: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("sessions: [{name: a, user: b, password: c}]\n")
    path.chmod(mode)
    told = (f"{path}: {who} can read it, and the passwords in it: `chmod 600 {path}`",) if who else ()
    assert load(path).remarks == told


def test_a_fifo_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    """An engine that reads it again would hang: no signal would end it."""
    path = tmp_path / "config.yaml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="the file is empty"):
        load(path)
    with pytest.raises(ConfigError):
        rewrite(path, lambda text: with_session(text, SessionSettings("new"), path))


def test_a_file_without_a_password_may_be_read_by_all(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("c\n")
    for content in ("sessions: [{name: a, user: b}]\n", "sessions: []\n"):
        (tmp_path / "config.yaml").write_text(content)
        (tmp_path / "config.yaml").chmod(0o644)
        assert load(tmp_path / "config.yaml").remarks == ()


# --- proxies ---


def test_proxies_are_read_with_their_users_passwords(tmp_path: Path) -> None:
    (tmp_path / "app").write_text("sesame\n")
    made = parse(
        "proxy:\n"
        "  sessions: {listen: 127.0.0.1, first_port: 20001}\n"
        '  pool: {listen: "[::]:1080", choose: round-robin}\n'
        "  users: [{name: app, password_file: app}]\n"
        "  limits: {user: 5}\n"
        "sessions: [{name: a, tags: [blue, red], proxy: 127.0.0.1:20050}]\n",
        "it",
        tmp_path,
    )
    assert made.proxy.sessions == SessionPorts("127.0.0.1", 20001)
    assert made.proxy.pool == PoolPort("[::]:1080", Choose.ROUND_ROBIN)
    assert [(user.name, user.password) for user in made.proxy.users] == [("app", "sesame")]
    assert made.proxy.limits.user == 5
    assert (made.sessions[0].tags, made.sessions[0].proxy) == (("blue", "red"), "127.0.0.1:20050")
    assert "sesame" not in repr(made)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("proxy: {pool: {listen: 192.0.2.1:1080}}", "1:8: proxy: 192.0.2.1 is not loopback: that needs `users`"),
        ("proxy: {sessions: {listen: '::'}}", "1:8: proxy: :: is not loopback: that needs `users`"),
        ("sessions: [{name: a, proxy: 0.0.0.0:2000}]", "1:1: proxy: 0.0.0.0 is not loopback: that needs `users`"),
        (
            "proxy: {pool: {listen: '1080'}}",
            "1:24: proxy: pool: listen: must be an address and a port, such as 127.0.0.1:1080 or [::1]:1080",
        ),
        ("proxy: {pool: {listen: 127.0.0.1:80}}", "1:24: proxy: pool: listen: 80 is out of range (1024 to 65535)"),
        ("proxy: {users: [{name: a, password_file: gone}]}", "1:16: proxy: users: gone: no such file or directory"),
        (
            "sessions: [{name: a, tags: [two words]}]",
            "1:29: tags: must be a word of at most 32 letters, digits, _, . and -",
        ),
        (
            "sessions: [{name: a, proxy: 127.0.0.1:2000}, {name: b, proxy: 127.0.0.1:2000}]",
            '1:63: proxy: "127.0.0.1:2000" is already taken, on line 1',
        ),
    ],
)
def test_proxies_that_can_not_be(text: str, complaint: str) -> None:
    if "sessions: [" not in text:
        text += "\nsessions: [{name: a}]"
    with pytest.raises(ConfigError) as raised:
        parse(text, "it", Path())
    assert raised.value.errors == (f"it:{complaint}",)


def test_what_is_asked_for_in_ipv6() -> None:
    words = {"no": None, "false": None, "any": 0, "yes": 0, "56": 56, "/48": 48}
    for word, meant in words.items():
        (one,) = read(f"sessions: [{{name: a, prefix: {word}, dhcpv6: always}}]").sessions
        assert (one.prefix, one.dhcpv6) == (meant, Dhcpv6.ALWAYS)
    (one,) = read("sessions: [{name: a, delegate: {interface: lan0, subnet: 3}}]").sessions
    assert (one.prefix, one.wanted_prefix, one.delegate) == (None, 0, DelegateSettings("lan0", 3))
    for wrong, told in (("31", "out of range (32 to 64)"), ("some", "must be"), ("65", "out of range (32 to 64)")):
        with pytest.raises(ConfigError, match=re.escape(told)):
            read(f"sessions: [{{name: a, prefix: {wrong}}}]")


@pytest.mark.parametrize(
    ("sessions", "wanted"),
    [
        ("", False),
        ("{name: a, user: u, password: p, datapath: kernel}", True),
        ("{name: a, user: u, password: p, datapath: kernel, egress: none}", False),
        ("{name: 'a{n}', count: 3, user: u, password: p, datapath: auto}", False),
        ("{name: 'a{n}', count: 4, user: u, password: p, datapath: auto}", True),
        ("{name: 'a{n}', count: 9, user: u, password: p, datapath: afxdp}", False),
    ],
)
def test_the_in_kernel_path_is_wanted_where_sessions_take_it(sessions: str, wanted: bool) -> None:
    assert read(f"sessions: [{sessions}]").wants_kernel_path is wanted
