"""Kinds of values that only this program has: addresses, names of devices, keys, concentrators and VLAN tags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.settings import limits
from engine.settings.console import PLACEHOLDERS
from engine.settings.kinds import (
    Key,
    Kind,
    Record,
    Typed,
    choice,
    list_of,
    optional,
    read_all,
    record,
    text,
    typed,
    whole,
)
from engine.settings.nodes import Problem, quote, scalar
from engine.settings.values import AcFilter, MacPolicy, Marks
from engine.wire.ethernet import MAX_VLANS, VLAN_TPIDS, VlanTag


def _parse_station(given: str) -> bytes:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", given):
        raise ValueError("must be a MAC address such as 02:00:00:00:00:01")
    octets = bytes.fromhex(re.sub("[:-]", "", given))
    if octets[0] & 1 or not any(octets):
        raise ValueError("must be the address of one station: neither multicast nor zero")
    return octets


STATION = typed(
    _parse_station,
    lambda mac: mac.hex(":"),
    "a MAC address such as 02:00:00:00:00:01",
    {"type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"},
)
_MAC_POLICY = choice(MacPolicy.CARD, MacPolicy.DERIVED)


def _parse_mac(given: str) -> tuple[MacPolicy, bytes | None]:
    if given.lower() in _MAC_POLICY.words:
        return _MAC_POLICY.parse(given), None
    if given.count(":") + given.count("-") != 5:
        raise ValueError("must be card or derived, or a MAC address, as 02:00:00:00:00:01")
    return MacPolicy.FIXED, STATION.parse(given)


def _show_mac(value: tuple[MacPolicy, bytes | None]) -> str:
    policy, mac = value
    return STATION.show(mac) if policy is MacPolicy.FIXED and mac is not None else policy.value


OWN_MAC = typed(
    _parse_mac,
    _show_mac,
    "card or derived, or a MAC address",
    {"anyOf": [_MAC_POLICY.schema, STATION.schema]},
    words=_MAC_POLICY.words,
)


def _parse_host_uniq(given: str) -> bytes:
    if not given.startswith("0x"):
        octets = given.encode()
    elif re.fullmatch("0x([0-9A-Fa-f]{2})*", given):
        octets = bytes.fromhex(given[2:])
    else:
        raise ValueError("must have two hexadecimal digits for each octet behind 0x")
    if len(octets) > limits.MAX_HOST_UNIQ:
        raise ValueError(f"must not be longer than {limits.MAX_HOST_UNIQ} octets")
    return octets


def _show_host_uniq(value: bytes) -> str:
    """Text where that says every octet."""
    readable = all(0x21 <= octet < 0x7F for octet in value) and not value.startswith(b"0x")
    return value.decode("ascii") if readable else f"0x{value.hex()}"


HOST_UNIQ = typed(
    _parse_host_uniq, _show_host_uniq, "text, or hexadecimal behind 0x", {"type": ["string", "integer"]}, "str", "int"
)


def _parse_device(given: str, most: int = limits.MAX_DEVICE) -> str:
    name: str = text(most).parse(given)
    if re.search(r"[\s/:%]", name) or name in (".", ".."):
        raise ValueError(f"must be a device name: {most} octets at most, no blank, /, : or %")
    return name


# No length in the schema: with `count` the name stands in the file with a placeholder in it.
DEVICE = typed(_parse_device, str, "the name of a device", {"type": "string"}, "str")
DEVICES = typed(
    partial(_parse_device, most=limits.MAX_DEVICES),
    str,
    "what devices are called before their number",
    {"type": "string", "maxLength": limits.MAX_DEVICES},
    "str",
)


def _parse_network(given: str) -> str:
    try:
        return str(ipaddress.IPv4Network(given))
    except ValueError:
        raise ValueError("must be an IPv4 network such as 100.64.0.0/10, with no bit set past the prefix") from None


NETWORK = typed(_parse_network, str, "an IPv4 network such as 100.64.0.0/10", {"type": "string"}, "str")

_NO_HOSTS = [
    ipaddress.ip_network(each)
    for each in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8")
]


def _parse_routed(given: str) -> str:
    try:
        network = ipaddress.ip_network(given)
    except ValueError:
        raise ValueError(
            "must be a network such as 203.0.113.8/29 or 2001:db8:5::/48, with no bit set past the prefix"
        ) from None
    shortest = limits.MIN_ROUTED if network.version == 4 else limits.MIN_ROUTED6
    if network.prefixlen < shortest:
        raise ValueError(f"must not have a prefix shorter than {shortest} bits")
    if any(network.version == each.version and network.overlaps(each) for each in _NO_HOSTS):
        raise ValueError("must be a network of addresses that a host can have")
    return str(network)


ROUTED = typed(_parse_routed, str, "a network such as 203.0.113.8/29 or 2001:db8:5::/48", {"type": "string"}, "str")


def _parse_name_server(given: str) -> str:
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        raise ValueError("must be an IP address such as 192.0.2.53") from None
    if any(address.version == each.version and address in each for each in _NO_HOSTS):
        raise ValueError("must be an address that is reached through the session")
    return str(address)


NAME_SERVER = typed(_parse_name_server, str, "an IP address such as 192.0.2.53", {"type": "string"}, "str")


def _parse_netns(given: str) -> str:
    name: str = _NETNS_NAME.parse(given)
    if "/" in name or name.startswith(".") or not name.isascii():
        raise ValueError("must be the name of a network namespace, as `ip netns` lists them")
    return name


_NETNS_NAME = text(limits.MAX_NAME)
NETNS = typed(_parse_netns, str, "the name of a network namespace", {"type": "string"}, "str")

_METRIC = whole(1, limits.MAX_METRIC)
METRIC = typed(
    lambda given: _METRIC.parse(given) if given else None,
    lambda metric: "" if metric is None else str(metric),
    "a metric, a whole number from 1",
    {"anyOf": [{**_METRIC.schema}, {"const": ""}]},
    "int",
    "str",
)
_MARK = whole(1, limits.MAX_MARK)


def _show_mark(mark: int | None) -> str:
    """As others show it who mean bits: in hexadecimal where it is long."""
    return "" if mark is None else str(mark) if mark < 0x1000 else hex(mark)


MARK = typed(
    lambda given: _MARK.parse(given) if given else None,
    _show_mark,
    "a mark, a whole number from 1 to 0xffffffff",
    {"anyOf": [{**_MARK.schema}, {"const": ""}]},
    "int",
    "str",
    write=lambda mark: _show_mark(mark) or '""',
)


def _parse_marks(given: str) -> Marks | None:
    if not given:
        return None
    first, slash, many = given.partition("/")
    most = limits.MAX_SESSIONS
    try:
        number = int(many.encode("ascii"), 0) if slash else most
    except ValueError:
        number = 0
    if not 1 <= number <= most:
        raise ValueError(f"must be the first mark, or it and how many, as in 0x5000/1000; up to {most}: it is no mask")
    mark = _MARK.parse(first)
    if mark + number - 1 > limits.MAX_MARK:
        number = limits.MAX_MARK - mark + 1
    return Marks(mark, number)


def _show_marks(marks: Marks | None) -> str:
    if marks is None:
        return ""
    return hex(marks.first) + (f"/{marks.many}" if marks.many != limits.MAX_SESSIONS else "")


MARKS = typed(
    _parse_marks,
    _show_marks,
    "the first mark, or it and how many, as in 0x5000/1000",
    {"type": ["string", "integer"]},
    "int",
    "str",
)


def _parse_listening(given: str) -> str:
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise ValueError("must be an address of this host, such as 127.0.0.1 or ::1") from None


LISTENING = typed(_parse_listening, str, "an address such as 127.0.0.1 or ::1", {"type": "string"}, "str")
PORT = whole(limits.MIN_PORT, limits.MAX_PORT)
ANY_PORT = whole(1, limits.MAX_PORT)


def split_endpoint(endpoint: str, ports: Typed = PORT) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Address and port of text such as `127.0.0.1:1080` or `[::1]:1080`; raises ValueError, for the operator."""
    host, colon, port = endpoint.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    with suppress(ValueError):
        address = ipaddress.ip_address(bare)
    if address is None or not colon or (address.version == 6) != (bare != host):
        raise ValueError("must be an address and a port, such as 127.0.0.1:1080 or [::1]:1080")
    return address, ports.parse(port)


def join_endpoint(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    """The reverse."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _parse_service(given: str) -> str:
    protocol, slash, port = given.strip().lower().partition("/")
    if protocol != "tcp" or not slash or not port.isdecimal() or not 0 < int(port) <= limits.MAX_PORT:
        raise ValueError("must be a protocol and a port, such as tcp/443")
    return f"tcp/{int(port)}"


TARGET = typed(
    lambda given: join_endpoint(*split_endpoint(given, ANY_PORT)),
    str,
    "an address and a port, such as 127.0.0.1:80",
    {"type": "string"},
    "str",
)
SERVICE = typed(_parse_service, str, "a protocol and a port, such as tcp/443", {"type": "string"}, "str")
ENDPOINT = typed(
    lambda given: join_endpoint(*split_endpoint(given)),
    str,
    "an address and a port, such as 127.0.0.1:1080",
    {"type": "string"},
    "str",
)
OWN_ENDPOINT = optional(
    typed(lambda given: ENDPOINT.parse(given) if given else "", str, "an address and a port", ENDPOINT.schema, "str")
)


def _parse_tag(given: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{limits.MAX_TAG}}}", given):
        raise ValueError(f"must be a word of at most {limits.MAX_TAG} letters, digits, _, . and -")
    return given


TAG = typed(_parse_tag, str, "a word", {"type": "string"}, "str")

_PREFIX_WORDS = {"no": None, "any": 0, "false": None, "off": None, "yes": 0, "true": 0, "on": 0}


def _parse_prefix(given: str) -> int | None:
    if given.lower() in _PREFIX_WORDS:
        return _PREFIX_WORDS[given.lower()]
    return _PREFIX_LENGTH.parse(given.removeprefix("/"))  # type: ignore[no-any-return]


def _show_prefix(value: int | None) -> str:
    return next((word for word, meant in _PREFIX_WORDS.items() if meant == value), str(value))


_PREFIX_LENGTH = whole(limits.MIN_DELEGATED, limits.MAX_DELEGATED)
PREFIX = typed(
    _parse_prefix,
    _show_prefix,
    "no, any, or the length of a prefix such as 56",
    {"anyOf": [{"enum": ["no", "any"]}, {"type": "boolean"}, _PREFIX_LENGTH.schema]},
    "str",
    "int",
    "bool",
    words=("no", "any"),
)

_KEY = r"[!-~]|((ctrl|alt|shift)-)*([a-z0-9]|f[1-9][0-9]?|[a-z]{2,9})"


def _parse_keys(given: str) -> str:
    words = given.split()
    if not words or not all(re.fullmatch(_KEY, word) for word in words):
        raise ValueError("must be one or more keys with blanks between, such as x, f5, ctrl-x, space")
    return " ".join(words)


KEYS = typed(_parse_keys, str, "keys", {"type": "string", "pattern": rf"^\s*({_KEY})(\s+({_KEY}))*\s*$"}, "str")


def _parse_own_argument(given: str) -> str:
    if not given or not given.isprintable() or len(given) > limits.MAX_ARGUMENT:
        raise ValueError(f"must be text without control characters, of 1 to {limits.MAX_ARGUMENT} characters")
    for name in re.findall(r"\{(\w+)\}", given):
        if name not in PLACEHOLDERS:
            raise ValueError(f"has an unknown {{{name[:20]}}}; there are {', '.join(PLACEHOLDERS)}")
    return given


OWN_ARGUMENT = typed(_parse_own_argument, str, "text", {"type": "string", "minLength": 1}, "str", "int", "float")


def by_key(kind: Kind) -> Kind:
    """A mapping from keys of the console to values of one kind."""

    def read(node: Node, problems: list[Problem]) -> dict[str, Any]:
        if not isinstance(node, MappingNode):
            raise Problem(node, "must be a mapping from keys, as in {f5: …}")
        found: dict[str, Any] = {}
        for key, value in node.value:
            inner: list[Problem] = []
            try:
                pressed = KEYS.read(key, problems)
                if " " in pressed or pressed in found:
                    raise Problem(key, "must be one key, and each but once")
                found |= zip([pressed], read_all([value], kind.read, inner), strict=False)
            except Problem as problem:
                problems.append(problem)
            problems.extend(problem.within(str(key.value)) for problem in inner)
        return found

    def write(values: Mapping[str, Any]) -> str:
        return "{" + ", ".join(f"{quote(key)}: {kind.write(value)}" for key, value in values.items()) + "}"

    schema = {"type": "object", "propertyNames": {"pattern": rf"^({_KEY})$"}, "additionalProperties": kind.schema}
    return Kind(read, write, lambda values: {KEYS.check(k): kind.check(v) for k, v in values.items()}, schema)


# --- filters that have a name ---

FILTER_NAME = rf"[a-z0-9][a-z0-9_.-]{{0,{limits.MAX_FILTER_NAME - 1}}}"
_FILTER = text(limits.MAX_FILTER, 1)


def _check_filters(filters: Mapping[str, str]) -> dict[str, str]:
    if len(filters) > limits.MAX_FILTERS:
        raise ValueError(f"there may be at most {limits.MAX_FILTERS}")
    for name in filters:
        if not re.fullmatch(FILTER_NAME, name):
            raise ValueError("a name is of small letters, digits, - _ and ., at most 32, as in failed-gold")
    return {name: _FILTER.check(written) for name, written in filters.items()}


def _read_filters(node: Node, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(node, MappingNode):
        raise Problem(node, "must be a mapping of names to filters, as in {failed-gold: state=failed service=gold}")
    if len({key.value for key, _ in node.value}) < len(node.value):
        raise Problem(node, "the same name stands there twice")
    found = {key.value: scalar(value, "a filter") for key, value in node.value}
    try:
        return _check_filters(found)
    except ValueError as error:
        raise Problem(node, str(error)) from None


FILTERS = Kind(
    _read_filters,
    lambda filters: "{" + ", ".join(f"{quote(name)}: {quote(written)}" for name, written in filters.items()) + "}",
    _check_filters,
    {
        "type": "object",
        "maxProperties": limits.MAX_FILTERS,
        "propertyNames": {"pattern": f"^{FILTER_NAME}$"},
        "additionalProperties": _FILTER.schema,
    },
)

# --- a page to fetch, and programs to run ---


def _parse_url(given: str) -> str:
    """Nothing is a URL too, for `optional`."""
    if not given:
        return ""
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://www.example.com/") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be a URL such as https://www.example.com/")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    if not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError("must be ASCII without blanks, other characters as %XX")
    if len(given) > limits.MAX_URL:
        raise ValueError(f"must not be longer than {limits.MAX_URL} octets")
    return given.partition("#")[0]


_URL_SCHEMA = {"type": "string", "pattern": "^(https?://.*)?$", "maxLength": limits.MAX_URL}
URL = typed(_parse_url, str, "a URL", _URL_SCHEMA, "str")

# One string would have to be taken apart by a shell; a list says itself where each argument ends.
PROGRAM = list_of(text(limits.MAX_ARGUMENT), 0, limits.MAX_ARGUMENTS, unique=False)

# --- the concentrator wanted: its name, or name and MAC address ---

_AC_NAME = optional(text(limits.MAX_AC_NAME))
_AC = record(
    AcFilter,
    {
        "name": Key("name", _AC_NAME, "The AC-Name, exactly.", "concentrator", "its AC-Name; empty: the first"),
        "mac": Key("mac", optional(STATION), "The concentrator's MAC address.", "its MAC", "empty: any"),
    },
    AcFilter(),
)


def _read_ac(node: Node, problems: list[Problem]) -> Any:
    return _AC.read(node, problems) if isinstance(node, MappingNode) else AcFilter(name=_AC_NAME.read(node, problems))


def _write_ac(value: AcFilter) -> str:
    return _AC_NAME.write(value.name) if value.mac is None else _AC.write(value)


CONCENTRATOR = Record(_read_ac, _write_ac, _AC.check, {"anyOf": [_AC_NAME.schema, _AC.schema]}, _AC.keys)

# --- VLAN tags: one, two, or written out ---

_VID = whole(limits.MIN_VID, limits.MAX_VID)
_TAG = record(
    VlanTag,
    {
        "vid": Key("vid", _VID, "The VLAN id."),
        "priority": Key("priority", whole(0, limits.MAX_PRIORITY), "The priority (PCP) of every frame sent."),
        "tpid": Key("tpid", choice(*sorted(VLAN_TPIDS), show=hex), "0x8100, or 0x88a8 for a service tag (802.1ad)."),
    },
    VlanTag(limits.MIN_VID),
    "vid",
)


def _read_tag(node: Node, problems: list[Problem]) -> Any:
    return _TAG.read(node, problems) if isinstance(node, MappingNode) else VlanTag(_VID.read(node, problems))


def _write_tag(tag: VlanTag) -> str:
    return _VID.write(tag.vid) if tag == VlanTag(tag.vid) else _TAG.write(tag)


_TAGS = list_of(
    Kind(_read_tag, _write_tag, _TAG.check, {"anyOf": [_VID.schema, _TAG.schema]}), 0, MAX_VLANS, unique=False
)


def _read_vlans(node: Node, problems: list[Problem]) -> tuple[VlanTag, ...]:
    if isinstance(node, SequenceNode):
        return _TAGS.read(node, problems)  # type: ignore[no-any-return]
    if isinstance(node, ScalarNode) and "." in node.value:
        try:
            return _parse_vlans(node.value)
        except ValueError as error:
            raise Problem(node, str(error)) from None
    return (_read_tag(node, problems),)


def _write_vlans(tags: tuple[VlanTag, ...]) -> str:
    return _write_tag(*tags) if len(tags) == 1 else _TAGS.write(tags)


def _parse_vlans(given: str) -> tuple[VlanTag, ...]:
    vids = given.split(".") if given else []
    if len(vids) > MAX_VLANS or not all(vid.isascii() and vid.isdecimal() for vid in vids):
        raise ValueError("must be a VLAN id such as 100, or two such as 100.200")
    return tuple(VlanTag(_VID.parse(vid)) for vid in vids)


def _show_vlans(tags: tuple[VlanTag, ...]) -> str:
    """Their ids alone: priorities and TPIDs can be set in a file only."""
    return ".".join(_VID.show(tag.vid) for tag in tags)


VLANS = Typed(
    _read_vlans,
    _write_vlans,
    _TAGS.check,
    {"anyOf": [{"type": "number"}, {"type": "string"}, _TAG.schema, _TAGS.schema]},
    _parse_vlans,
    _show_vlans,
)
