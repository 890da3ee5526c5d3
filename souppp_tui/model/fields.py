"""A session's settings as lines of text to edit, and back. Pure.

The limits are those of the configuration file (`engine.settings.reading`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.settings.values import (
    AcFilter,
    AuthMethod,
    DatapathChoice,
    KeepaliveSettings,
    LineId,
    MacPolicy,
    SessionSettings,
    VlanTag,
)


@dataclass(frozen=True, slots=True)
class Field:
    """One line of the form; `read` raises ValueError with a text for the operator."""

    key: str
    label: str
    hint: str
    write: Callable[[SessionSettings], str]
    read: Callable[[str, SessionSettings], Mapping[str, Any]]
    """From the text and the settings so far to the settings' new attributes."""


def _text(key: str, most: int, least: int = 0) -> Callable[[str, SessionSettings], Mapping[str, Any]]:
    def read(text: str, base: SessionSettings) -> Mapping[str, Any]:
        if not text.isprintable():
            raise ValueError("must not hold control characters")
        if not least <= len(text.encode()) <= most:
            raise ValueError(f"must not be longer than {most} octets" if text else "is needed")
        return {key: text}

    return read


def _yes(key: str) -> Callable[[str, SessionSettings], Mapping[str, Any]]:
    def read(text: str, base: SessionSettings) -> Mapping[str, Any]:
        if text.casefold() not in ("yes", "no", "y", "n"):
            raise ValueError("is yes or no")
        return {key: text.casefold().startswith("y")}

    return read


def station(text: str) -> bytes:
    """A station's MAC address. Raises ValueError."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", text):
        raise ValueError("is a MAC address such as 02:00:00:00:00:01")
    octets = bytes.fromhex(re.sub("[:-]", "", text))
    if octets[0] & 1 or not any(octets):
        raise ValueError("must be neither a multicast address nor zero")
    return octets


def _password(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if len(text.encode()) > 255:
        raise ValueError("must not be longer than 255 octets")
    return {"password": text} if text else {}


def _ac_name(text: str, base: SessionSettings) -> Mapping[str, Any]:
    checked = _text("name", 255)(text, base)["name"]
    return {"ac": AcFilter(checked or None, base.ac.mac)}


def _ac_mac(text: str, base: SessionSettings) -> Mapping[str, Any]:
    return {"ac": AcFilter(base.ac.name, station(text) if text else None)}


def _auth(text: str, base: SessionSettings) -> Mapping[str, Any]:
    words = text.replace(",", " ").casefold().split()
    known = [method.value for method in AuthMethod]
    if not words or len(set(words)) < len(words) or not set(words) <= set(known):
        raise ValueError(f"is one or more of {', '.join(known)}, best first")
    return {"auth": tuple(AuthMethod(word) for word in words)}


def _mac(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if text in (MacPolicy.CARD, MacPolicy.DERIVED):
        return {"mac_policy": MacPolicy(text), "mac": None}
    try:
        return {"mac_policy": MacPolicy.FIXED, "mac": station(text)}
    except ValueError:
        raise ValueError("is card, derived, or an address such as 02:00:00:00:00:01") from None


def _write_vlans(settings: SessionSettings) -> str:
    return ".".join(str(tag.vid) for tag in settings.vlans)


def _vlans(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if text == _write_vlans(base):
        return {}
    if not re.fullmatch(r"(\d{1,4}(\.\d{1,4})?)?", text):
        raise ValueError("is empty, one VLAN id such as 100, or two such as 100.200")
    vids = [int(vid) for vid in text.split(".") if vid]
    if not all(1 <= vid <= 4094 for vid in vids):
        raise ValueError("holds VLAN ids from 1 to 4094")
    return {"vlans": tuple(VlanTag(vid) for vid in vids)}


def _mru(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if not text.isdecimal() or not 128 <= int(text) <= 1500:
        raise ValueError("is a number from 128 to 1500")
    return {"mru": int(text)}


def _interval(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or float(text) > 3600:
        raise ValueError("is a number of seconds up to 3600; 0 sends none")
    return {"keepalive": KeepaliveSettings(float(text), base.keepalive.failures)}


def _failures(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise ValueError("is a number from 1 to 100")
    return {"keepalive": KeepaliveSettings(base.keepalive.interval, int(text))}


def _circuit(text: str, base: SessionSettings) -> Mapping[str, Any]:
    return {"line_id": LineId(_text("id", 63)(text, base)["id"] or None, base.line_id.remote_id)}


def _remote(text: str, base: SessionSettings) -> Mapping[str, Any]:
    return {"line_id": LineId(base.line_id.circuit_id, _text("id", 63)(text, base)["id"] or None)}


def _datapath(text: str, base: SessionSettings) -> Mapping[str, Any]:
    try:
        return {"datapath": DatapathChoice(text)}
    except ValueError:
        raise ValueError(f"is {', '.join(DatapathChoice)}") from None


def _device(text: str, base: SessionSettings) -> Mapping[str, Any]:
    if len(text.encode()) > 15 or re.search(r"[\s/:%]", text) or text in (".", "..") or not text.isprintable():
        raise ValueError("is at most 15 octets, none of them a blank, /, : or %")
    return {"device": text or None}


FIELDS = (
    Field("name", "name", "unique", lambda s: s.name, _text("name", 64, 1)),
    Field("user", "user", "", lambda s: s.user, _text("user", 255)),
    Field("password", "password", "empty: as it is", lambda s: "", _password),
    Field("service", "service", "empty: any", lambda s: s.service, _text("service", 255)),
    Field("ac", "concentrator", "its AC-Name; empty: the first", lambda s: s.ac.name or "", _ac_name),
    Field("ac_mac", "its MAC", "empty: any", lambda s: s.ac.mac.hex(":") if s.ac.mac else "", _ac_mac),
    Field("auth", "authentication", "best first", lambda s: " ".join(m.value for m in s.auth), _auth),
    Field(
        "mac", "own MAC", "card, derived or an address", lambda s: s.mac.hex(":") if s.mac else s.mac_policy.value, _mac
    ),
    Field("vlans", "VLANs", "100 or 100.200, outer first", _write_vlans, _vlans),
    Field("mru", "MRU", "more than 1492: RFC 4638", lambda s: str(s.mru), _mru),
    Field("ipv6", "IPv6", "yes or no", lambda s: "yes" if s.ipv6 else "no", _yes("ipv6")),
    Field("interval", "echo every", "seconds; 0: none", lambda s: f"{s.keepalive.interval:g}", _interval),
    Field("failures", "echoes missed", "that end it", lambda s: str(s.keepalive.failures), _failures),
    Field("circuit", "circuit id", "TR-101; empty: none", lambda s: s.line_id.circuit_id or "", _circuit),
    Field("remote", "remote id", "TR-101; empty: none", lambda s: s.line_id.remote_id or "", _remote),
    Field("autodial", "autodial", "yes or no", lambda s: "yes" if s.autodial else "no", _yes("autodial")),
    Field("datapath", "data path", "afxdp, kernel or auto", lambda s: s.datapath.value, _datapath),
    Field("device", "device", "empty: soup and a number", lambda s: s.device or "", _device),
)


def write(settings: SessionSettings) -> dict[str, str]:
    """The text of each field; the password never leaves."""
    return {field.key: field.write(settings) for field in FIELDS}


def read(
    texts: Mapping[str, str], base: SessionSettings, taken: frozenset[str]
) -> tuple[SessionSettings, dict[str, str]]:
    """The settings that the texts mean, and what is wrong with each field that is wrong; `taken` are others' names."""
    settings, errors = base, {}
    for field in FIELDS:
        text = texts[field.key]
        try:
            settings = replace(settings, **field.read(text if field.key == "password" else text.strip(), settings))
        except ValueError as error:
            errors[field.key] = str(error)
    if settings.name in taken and "name" not in errors:
        errors["name"] = "is taken by another session"
    return settings, errors


def differences(old: SessionSettings, new: SessionSettings) -> list[str]:
    """What changes from one to the other, a line each; never the password itself."""
    before, after = write(old), write(new)
    told = [
        f"{field.label} {before[field.key] or 'none'} → {after[field.key] or 'none'}"
        for field in FIELDS
        if before[field.key] != after[field.key]
    ]
    told += ["another password"] if old.password != new.password else []
    return told or ["details that this form does not show"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What reading the configuration again would change."""

    add: tuple[SessionSettings, ...]
    edit: tuple[tuple[int, SessionSettings], ...]
    remove: tuple[int, ...]


def plan(running: Mapping[int, SessionSettings], wanted: tuple[SessionSettings, ...]) -> Plan:
    """Compare the sessions there are, by id, with those of a configuration; names say which is which."""
    ids = {settings.name: session for session, settings in running.items()}
    names = {settings.name for settings in wanted}
    return Plan(
        tuple(new for new in wanted if new.name not in ids),
        tuple((ids[new.name], new) for new in wanted if new.name in ids and running[ids[new.name]] != new),
        tuple(session for name, session in ids.items() if name not in names),
    )
