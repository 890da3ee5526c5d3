"""Reads a configuration: YAML text in, `engine.settings.values.Settings` out.

The tables below hold every key there is, with the kind of value it takes and what it means. Reading, the JSON Schema
and the edits of `engine.settings.editing` all follow them.

The nodes of `yaml.compose` are read rather than loaded values, because a node knows its line and column: every mistake
is reported at its place, and all of them at once. Anchors, aliases and merge keys are refused; `defaults` does their
work.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.settings.console import ACTIONS, COLUMNS, THEMES, ConsoleSettings
from engine.settings.kinds import (
    Key,
    Keys,
    Kind,
    Problem,
    boolean,
    choice,
    in_range,
    list_of,
    mapping_schema,
    nodes_of,
    number,
    optional,
    quote,
    read_mapping,
    record,
    scalar,
    text,
    whole,
)
from engine.settings.values import (
    AcFilter,
    AuthMethod,
    DatapathChoice,
    DialSettings,
    KeepaliveSettings,
    LineId,
    MacPolicy,
    SessionSettings,
    Settings,
    XdpMode,
)
from engine.wire.ethernet import MAX_VLANS, VLAN_TPIDS, VlanTag

MAX_SESSIONS = 16384
MAX_FILE = 8 << 20
"""Octets; 16,384 sessions with everything set take about half of it."""
MAX_PASSWORD = 255
"""Octets: PAP counts them in one (RFC 1334 section 2.2.1)."""
MAX_DEPTH = 16
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

LEAST = "sessions: [{name: home-01, user: alice, password: wonderland, autodial: true}]"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(Exception):
    """A configuration that can't be used. `errors` holds a line for each mistake: `file:line:column: what is wrong`."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


# --- kinds of values that only this program has ---


def read_mac(text: str) -> bytes | None:
    """Six octets in hexadecimal with colons or hyphens; None unless it can be the address of one station."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", text):
        return None
    octets = bytes.fromhex(re.sub("[:-]", "", text))
    return None if octets[0] & 1 or not any(octets) else octets


def _read_station(node: Node, _: list[Problem]) -> bytes:
    if not isinstance(node, ScalarNode) or (octets := read_mac(node.value)) is None:
        raise Problem(node, "must be a MAC address such as 02:00:00:00:00:01, neither multicast nor zero")
    return octets


_STATION = Kind(
    _read_station,
    lambda mac: f'"{mac.hex(":")}"',
    {"type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"},
)
_MAC_POLICY = choice(MacPolicy.CARD, MacPolicy.DERIVED)


def _read_mac(node: Node, problems: list[Problem]) -> tuple[MacPolicy, bytes | None]:
    try:
        return _MAC_POLICY.read(node, problems), None
    except Problem as policy:
        try:
            return MacPolicy.FIXED, _STATION.read(node, problems)
        except Problem as station:
            raise Problem(node, f"{policy.text}, or {station.text.removeprefix('must be ')}") from None


def _write_mac(value: tuple[MacPolicy, bytes | None]) -> str:
    policy, mac = value
    return _MAC_POLICY.write(policy) if mac is None else _STATION.write(mac)


def _read_ac(node: Node, problems: list[Problem]) -> Any:
    return _AC.read(node, problems) if isinstance(node, MappingNode) else AcFilter(name=_AC_NAME.read(node, problems))


def _write_ac(value: AcFilter) -> str:
    return _AC_NAME.write(value.name) if value.mac is None else _AC.write(value)


def _read_tag(node: Node, problems: list[Problem]) -> Any:
    return _TAG.read(node, problems) if isinstance(node, MappingNode) else VlanTag(_VID.read(node, problems))


def _write_tag(tag: VlanTag) -> str:
    return _VID.write(tag.vid) if tag == VlanTag(tag.vid) else _TAG.write(tag)


def _read_vlans(node: Node, problems: list[Problem]) -> tuple[VlanTag, ...]:
    if isinstance(node, SequenceNode):
        return _TAGS.read(node, problems)  # type: ignore[no-any-return]
    if isinstance(node, ScalarNode) and (match := re.fullmatch(r"(\d{1,4})\.(\d{1,4})", node.value)):
        vids = [int(vid) for vid in match.groups()]
        for vid in vids:
            in_range(node, vid, 1, 4094)
        return tuple(map(VlanTag, vids))
    return (_read_tag(node, problems),)


def _write_vlans(tags: tuple[VlanTag, ...]) -> str:
    return _write_tag(*tags) if len(tags) == 1 else _TAGS.write(tags)


def _read_network(node: Node, _: list[Problem]) -> str:
    try:
        return str(ipaddress.IPv4Network(scalar(node, "an IPv4 network such as 100.64.0.0/10", "str")))
    except ValueError:
        raise Problem(node, "must be an IPv4 network such as 100.64.0.0/10, with no bit set past the prefix") from None


def _read_device(node: Node, problems: list[Problem]) -> str:
    name: str = _LINE.read(node, problems) or ""
    if len(name.encode()) > 15 or re.search(r"[\s/:%]", name) or name in (".", ".."):
        raise Problem(node, "must be a device name: at most 15 octets, none of them a blank, /, : or %")
    return name


_KEY = r"[!-~]|((ctrl|alt|shift)-)*([a-z0-9]|f[1-9][0-9]?|[a-z]{2,9})"


def _read_keys(node: Node, _: list[Problem]) -> str:
    words = scalar(node, "keys", "str").split()
    if not words or not all(re.fullmatch(_KEY, word) for word in words):
        raise Problem(node, "must be one or more keys with blanks between, such as x, f5, ctrl-x, space")
    return " ".join(words)


# --- the tables ---

_VID = whole(1, 4094)
_LINE = optional(text(63))
_AC_NAME = optional(text(255))

_AC = record(
    AcFilter,
    {
        "name": Key("name", _AC_NAME, "The AC-Name, exactly."),
        "mac": Key("mac", _STATION, "The concentrator's MAC address."),
    },
)

_TAG = record(
    VlanTag,
    {
        "vid": Key("vid", _VID, "The VLAN id."),
        "priority": Key("priority", whole(0, 7), "The priority (PCP) of every frame sent."),
        "tpid": Key("tpid", choice(*sorted(VLAN_TPIDS), write=hex), "0x8100, or 0x88a8 for a service tag (802.1ad)."),
    },
    "vid",
)
_TAGS = list_of(Kind(_read_tag, _write_tag, {"anyOf": [_VID.schema, _TAG.schema]}), 0, MAX_VLANS, unique=False)

_KEEPALIVE = record(
    KeepaliveSettings,
    {
        "interval": Key("interval", number(0, 3600), "Seconds between Echo-Requests; 0 sends none."),
        "failures": Key("failures", whole(1, 100), "Unanswered Echo-Requests in a row that end the session."),
    },
)

SESSION: Keys = {
    "name": Key("name", text(64, 1), "What the session is called; unique. With `count`, {n} or {n:04} is its number."),
    "user": Key("user", text(255), "The user name. With `count`, {n} is its number here too."),
    "password": Key("password", text(MAX_PASSWORD, control=True), "The password."),
    "password_file": Key("password", text(4096, 1), "A file that holds the password; relative to this file."),
    "service": Key("service", text(255), "The Service-Name asked for; empty accepts any."),
    "ac": Key(
        "ac",
        Kind(_read_ac, _write_ac, {"anyOf": [_AC_NAME.schema, _AC.schema]}),
        "The concentrator wanted: its AC-Name, or {name: …, mac: …}; empty takes the first that answers.",
    ),
    "auth": Key(
        "auth", list_of(choice(*AuthMethod), 1, len(AuthMethod)), "The authentication protocols allowed, best first."
    ),
    "mac": Key(
        "mac",
        Kind(_read_mac, _write_mac, {"anyOf": [_MAC_POLICY.schema, _STATION.schema]}),
        "The session's own MAC address: the card's, a derived one that is always the same, or the one given.",
    ),
    "vlan": Key(
        "vlans",
        Kind(_read_vlans, _write_vlans, {"anyOf": [{"type": "number"}, {"type": "string"}, _TAG.schema, _TAGS.schema]}),
        "VLAN tags: 100, 100.200 (outer first), {vid: 100, priority: 5, tpid: 0x88a8}, or a list of these.",
    ),
    "mru": Key("mru", whole(128, 1500), "The largest packet wanted, in octets; more than 1492 asks for RFC 4638."),
    "ipv6": Key("ipv6", boolean, "Whether IPv6 is negotiated too."),
    "circuit_id": Key("circuit_id", _LINE, "The TR-101 Agent Circuit ID to send in discovery."),
    "remote_id": Key("remote_id", _LINE, "The TR-101 Agent Remote ID to send in discovery."),
    "keepalive": Key("keepalive", _KEEPALIVE, "LCP Echo-Requests that watch over the open session."),
    "autodial": Key("autodial", boolean, "Whether the session is dialled at start."),
    "datapath": Key(
        "datapath",
        choice(*DatapathChoice),
        "What carries the packets: AF_XDP and a TUN device, XDP programs and a veth device, or the better one here.",
    ),
    "device": Key(
        "device",
        optional(Kind(_read_device, quote, _LINE.schema)),
        "The device's name, at most 15 octets. With `count`, it needs {n} too.",
    ),
    "count": Key("", whole(1, MAX_SESSIONS), "How many sessions this entry makes, numbered from 1."),
}

DEFAULTS: Keys = {name: key for name, key in SESSION.items() if name not in ("name", "device", "count")}

DIAL: Keys = {
    "rate": Key("rate", number(0.1, 10000), "Dials started per second, over all sessions."),
    "max_outstanding": Key("max_outstanding", whole(1, MAX_SESSIONS), "Sessions that may be on their way up at once."),
    "retry_min": Key("retry_min", number(0.1, 3600), "Seconds before the second try; doubled before each further one."),
    "retry_max": Key("retry_max", number(0.1, 86400), "The longest pause between two tries, in seconds."),
    "jitter": Key("jitter", number(0, 1), "Each pause is made longer or shorter at random by up to this part of it."),
    "max_flaps": Key(
        "max_flaps", whole(0, 1000), "How often in a row a lost session is dialled again without a pause."
    ),
    "pado_window": Key("pado_window", number(0, 10), "Seconds to collect offers in; 0 takes the first that fits."),
}

_KEYS = Kind(_read_keys, quote, {"type": "string", "pattern": rf"^\s*({_KEY})(\s+({_KEY}))*\s*$"})
_ACTIONS: Keys = {name: Key(name, _KEYS, "Other keys, with blanks between.") for name in ACTIONS}

CONSOLE: Keys = {
    "theme": Key("theme", choice(*THEMES), "The colours; auto is dark, but ansi on a terminal with 16 colours."),
    "columns": Key(
        "columns", list_of(choice(*COLUMNS), 0, len(COLUMNS)), "The columns in order; empty: the usual ones."
    ),
    "keys": Key(
        "keys",
        Kind(lambda node, problems: read_mapping(node, _ACTIONS, problems), str, mapping_schema(_ACTIONS)),
        "Other keys for actions, as in {dial: f5}.",
    ),
    "mouse": Key("mouse", boolean, "Whether the console takes the mouse; without it the terminal can select text."),
    "event_file": Key("event_file", optional(text(4096)), "Every event is appended here; relative to this file."),
}

_ENTRY_SCHEMA = {**mapping_schema(SESSION, "name"), "not": {"required": ["password", "password_file"]}}
_ENTRIES = Kind(lambda node, _: node, str, {"type": "array", "items": _ENTRY_SCHEMA})
_DEFAULTS = Kind(lambda node, _: node, str, mapping_schema(DEFAULTS))
_NETWORKS = list_of(Kind(_read_network, quote, {"type": "string"}), 0, 64)

TOP: Keys = {
    "sessions": Key("sessions", _ENTRIES, "The sessions."),
    "defaults": Key("", _DEFAULTS, "Values for all sessions that don't set their own."),
    "dial": Key("dial", record(DialSettings, DIAL), "How fast sessions are dialled, and dialled again."),
    "unwanted_networks": Key(
        "unwanted_networks",
        _NETWORKS,
        "An IPv4 address in one of these networks is given back and the session dialled again.",
    ),
    "xdp": Key(
        "xdp",
        choice(*XdpMode),
        "How the card's frames come: the best it can, by zero-copy or an error, copied in the driver, or without it.",
    ),
    "console": Key("console", record(ConsoleSettings, CONSOLE), "How the console looks and is used."),
}


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file (draft 2020-12), for editors; `parse` checks more than it can say."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "souppp-tui configuration",
        **mapping_schema(TOP, "sessions"),
    }


# --- reading ---


def load(path: Path) -> Settings:
    """Read and check a configuration file; raises ConfigError with every mistake in it."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {_strerror(error)}.") from None
    if len(octets) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE >> 20} MiB.")
    try:
        return parse(octets.decode("utf-8-sig"), str(path), path.parent)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start)
        column = error.start - (octets.rfind(b"\n", 0, error.start) + 1)
        raise ConfigError(f"{path}:{line + 1}:{column + 1}: not UTF-8; save the file as UTF-8") from None


def parse(text: str, source: str, base: Path) -> Settings:
    """Check a configuration's text; raises ConfigError with every mistake in it.

    `source` names the text in errors; `base` is the folder that `password_file` is relative to.
    """
    root = compose(text, source)
    problems: list[Problem] = []
    try:
        settings = _read_settings(root, base, problems)
    except Problem as problem:
        problems.append(problem)
    if problems:
        raise _config_error(source, problems)
    return settings


def _config_error(source: str, problems: list[Problem]) -> ConfigError:
    lines = sorted({(*problem.place, problem.text) for problem in problems})
    return ConfigError(*(f"{source}:{line}:{column}: {text}" for line, column, text in lines))


def compose(text: str, source: str) -> Node:
    """The root node of YAML text that is one document without anchors; raises ConfigError."""
    if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line, column = (text.count("\n", 0, bad.start()) + 1, bad.start() - text.rfind("\n", 0, bad.start()))
        raise ConfigError(f"{source}:{line}:{column}: not YAML: character U+{ord(bad[0]):04X} is not allowed in it")
    try:
        _check_shape(text)
        root: Node | None = yaml.compose(text, Loader=LOADER)
    except Problem as problem:
        raise _config_error(source, [problem]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        # libyaml 0.2.6 reads ahead of its events, and itself refuses what is much too deep.
        if "nesting depth" in (error.problem or ""):
            raise ConfigError(f"{source}:{place}: {TOO_DEEP}") from None
        # PyYAML may quote what it found, which could be part of a password; single characters are its punctuation.
        problem_text = re.split(r"['\"](?!.['\"])(?<!['\"].['\"])", error.problem or "", maxsplit=1)[0].strip()
        raise ConfigError(f"{source}:{place}: not YAML: {problem_text}") from None
    if root is None:
        raise ConfigError(f"{source}:1:1: the file is empty; the least is   {LEAST}")
    return root


def _check_shape(text: str) -> None:
    """Raise a Problem for what must not even be composed: deep nesting, anchors, a second document."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=LOADER):
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Problem(event, TOO_DEEP)
        if documents > 1:
            raise Problem(event, "a second document starts here; a configuration is one")
        if getattr(event, "anchor", None):
            raise Problem(event, "anchors (&, *) are not supported: use `defaults`, or quote the text that starts so")


def _read_settings(root: Node, base: Path, problems: list[Problem]) -> Settings:
    given = read_mapping(root, TOP, problems, "sessions")
    entries: Node | None = given.pop("sessions", None)
    defaults = given.pop("defaults", None)
    dial = given.get("dial", DialSettings())
    if dial.retry_max < dial.retry_min:
        problems.append(Problem(nodes_of(root)["dial"], "dial: retry_max must not be less than retry_min"))
    if "console" in given and given["console"].event_file is not None:
        given["console"] = replace(given["console"], event_file=base / given["console"].event_file)
    values = {} if defaults is None else read_values(defaults, DEFAULTS, base, problems)
    return Settings(sessions=() if entries is None else _read_sessions(entries, values, base, problems), **given)


def _read_sessions(
    entries: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> tuple[SessionSettings, ...]:
    if not isinstance(entries, SequenceNode):
        raise Problem(entries, f"sessions: must be a list, as in   {LEAST}")
    sessions: list[SessionSettings] = []
    taken: dict[tuple[str, str], Node] = {}
    for entry in entries.value:
        before = len(problems)
        try:
            for session in read_entry(entry, defaults, base, problems):
                _take("name", session.name, entry, taken)
                _take("device", session.device, entry, taken)
                sessions.append(session)
                if len(sessions) > MAX_SESSIONS:
                    raise Problem(entry, f"there are more than {MAX_SESSIONS} sessions")
            if len(problems) > before:
                _take_unread(entry, taken)
        except Problem as problem:
            problems.append(problem)
    return tuple(sessions)


def _take_unread(entry: Node, taken: dict[tuple[str, str], Node]) -> None:
    """The same for an entry with mistakes, so that a name taken twice is told together with them."""
    for key, node in nodes_of(entry).items():
        if key in ("name", "device") and isinstance(node, ScalarNode) and node.value and not _NUMBER.search(node.value):
            _take(key, node.value, entry, taken)


def _take(key: str, value: str | None, entry: Node, taken: dict[tuple[str, str], Node]) -> None:
    """Raise a Problem if another entry has taken this name."""
    if value is not None:
        node = nodes_of(entry)[key]
        if (first := taken.setdefault((key, value), node)) is not node:
            raise Problem(node, f"{key}: {quote(value)} is already taken, on line {Problem(first, '').place[0]}")


def read_entry(
    entry: Node, defaults: Mapping[str, Any], base: Path, problems: list[Problem]
) -> Iterator[SessionSettings]:
    """The sessions that one item of `sessions` makes: one, or `count` of them."""
    nodes = nodes_of(entry)
    before = len(problems)
    own = read_values(_numbered(entry, 1) if "count" in nodes else entry, SESSION, base, problems, "name")
    if len(problems) > before:
        return
    count = own.pop("count", 1)
    yield make_session({**defaults, **own})
    for key in ("name", "device"):
        if count > 1 and key in nodes and not _NUMBER.search(nodes[key].value):
            raise Problem(nodes[key], f'{key}: needs a number to differ by, as in "load-{{n:04}}"')
    for n in range(2, count + 1):
        yield make_session({**defaults, **own, **read_mapping(_numbered(entry, n, only=True), SESSION, problems)})


_NUMBER = re.compile(r"\{n(?::0([1-9]))?\}")
_NUMBERED = ("name", "user", "device")


def _numbered(entry: Node, n: int, *, only: bool = False) -> Node:
    """The entry with its number filled in; `only` with the keys that can have one."""

    def fill(key: Node, value: Node) -> Node:
        if key.value not in _NUMBERED or not isinstance(value, ScalarNode):
            return value
        text = _NUMBER.sub(lambda match: str(n).zfill(int(match[1] or 1)), value.value)
        return ScalarNode(value.tag, text, value.start_mark, value.end_mark, value.style)

    if not isinstance(entry, MappingNode):
        return entry
    pairs = [(key, fill(key, value)) for key, value in entry.value if not only or key.value in _NUMBERED]
    return MappingNode(entry.tag, pairs, entry.start_mark, entry.end_mark, entry.flow_style)


def read_values(node: Node, keys: Keys, base: Path, problems: list[Problem], *required: str) -> dict[str, Any]:
    """A mapping's values by key, with `password` from `password_file` where that is given."""
    values = read_mapping(node, keys, problems, *required)
    if "password_file" in values:
        file = nodes_of(node)["password_file"]
        if "password" in values:
            problems.append(Problem(file, "password_file: there is a password too; keep one of them"))
        try:
            values["password"] = _read_password(base / values.pop("password_file"))
        except OSError as error:
            problems.append(Problem(file, f"password_file: {error.filename}: {_strerror(error)}"))
        except ValueError as error:
            problems.append(Problem(file, f"password_file: {error}"))
    return values


def _read_password(path: Path) -> str:
    """The one line of a file; raises OSError or ValueError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb") as file:
        line = file.read(MAX_PASSWORD + 3).removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line or len(line) > MAX_PASSWORD:
        raise ValueError(f"{path} must hold one line of at most {MAX_PASSWORD} octets")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None


def _strerror(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


_APART = ("mac", "circuit_id", "remote_id")
"""The keys that are not simply a field each."""


def make_session(values: Mapping[str, Any]) -> SessionSettings:
    """A session's settings from its values by key."""
    policy, mac = values.get("mac", (MacPolicy.CARD, None))
    line_id = LineId(values.get("circuit_id"), values.get("remote_id"))
    fields = {SESSION[key].field: value for key, value in values.items() if key not in _APART}
    return SessionSettings(mac_policy=policy, mac=mac, line_id=line_id, **fields)


def values_of(session: SessionSettings) -> dict[str, Any]:
    """All values by key of a session's settings: the inverse of `make_session`."""
    apart = {
        "mac": (session.mac_policy, session.mac),
        "circuit_id": session.line_id.circuit_id,
        "remote_id": session.line_id.remote_id,
    }
    keys = (key for key in SESSION if key not in ("password_file", "count"))
    return {key: apart[key] if key in apart else getattr(session, SESSION[key].field) for key in keys}


if __name__ == "__main__":
    import json

    print(json.dumps(schema(), indent=2))
