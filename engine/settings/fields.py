"""The rule book: every field that an operator can set, with its kind of value, its limits, its default and its meaning.

The tables are all there is: reading YAML, the JSON Schema, edits of a file, the console's form and the `Add` and `Edit`
commands follow them. The keys are those of the file; the defaults are those of `engine.settings.values`.

    python -m engine.settings.fields > docs/config.schema.json
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from engine.settings import limits
from engine.settings.console import ACTIONS, COLUMNS, THEMES, ConsoleSettings, OwnCommand
from engine.settings.kinds import (
    Key,
    Keys,
    Kind,
    boolean,
    choice,
    duration,
    list_of,
    mapping_schema,
    number,
    optional,
    read_defaults,
    read_mapping,
    record,
    text,
    whole,
    words_of,
)
from engine.settings.own_kinds import (
    CONCENTRATOR,
    DEVICE,
    DEVICES,
    ENDPOINT,
    FILTERS,
    HOST_UNIQ,
    KEYS,
    LISTENING,
    MARK,
    MARKS,
    METRIC,
    NAME_SERVER,
    NETNS,
    NETWORK,
    OWN_ARGUMENT,
    OWN_ENDPOINT,
    OWN_MAC,
    PORT,
    PREFIX,
    PROGRAM,
    ROUTED,
    SERVICE,
    TAG,
    TARGET,
    URL,
    VLANS,
    by_key,
)
from engine.settings.values import (
    DEFAULT_MRU,
    AuthMethod,
    Choose,
    DatapathChoice,
    DefaultRoute,
    DelegateSettings,
    Dhcpv6,
    DialSettings,
    EgressChoice,
    Forward,
    HealthSettings,
    HookSettings,
    Inbound,
    KeepaliveSettings,
    PoolPort,
    ProxyLimits,
    ProxySettings,
    ProxyUser,
    RotateSettings,
    SessionPorts,
    SessionSettings,
    Settings,
    XdpMode,
)

# --- a session ---

_LINE_ID = optional(text(limits.MAX_LINE_ID))
_KEEPALIVE = record(
    KeepaliveSettings,
    {
        "interval": Key(
            "interval",
            number(0, limits.MAX_ECHO_INTERVAL),
            "Seconds between Echo-Requests; 0 sends none.",
            "echo every",
            "seconds; 0: none",
        ),
        "failures": Key(
            "failures",
            whole(1, limits.MAX_ECHO_FAILURES),
            "Unanswered Echo-Requests in a row that end the session.",
            "echoes missed",
            "that end it",
        ),
    },
    KeepaliveSettings(),
)

_SPAN = duration(0, limits.MAX_DURATION)
_ROTATE = record(
    RotateSettings,
    {
        "every": Key(
            "every",
            _SPAN,
            "How long a session keeps its address; 0 for as long as it can.",
            "rotate every",
            "as 6h; 0: never",
        ),
        "spread": Key("spread", _SPAN, "Up to so much longer, at random.", "… up to later", "at random, as 10m"),
        "min_interval": Key(
            "min_interval",
            _SPAN,
            "It keeps an address for so long at least, whoever wants another.",
            "… at least",
            "keeps an address for",
        ),
        "at_once": Key(
            "at_once",
            whole(0, limits.MAX_SESSIONS),
            "It waits for its turn while so many sessions are changing their address; 0 for however many.",
            "… at once",
            "sessions; 0: all",
        ),
    },
    RotateSettings(),
)
_HEALTH = record(
    HealthSettings,
    {
        "url": Key(
            "url",
            optional(URL),
            "The page, http or https; a status below 400 is well.",
            "health URL",
            "empty: no check",
        ),
        "every": Key(
            "every",
            duration(limits.MIN_CHECK, limits.MAX_CHECK),
            "From one check to the next.",
            "… checked every",
            "as 30s",
        ),
        "failures": Key(
            "failures",
            whole(1, limits.MAX_CHECK_FAILURES),
            "Failed checks in a row after which the session is dialled for another address.",
            "… failures",
            "that rotate it",
        ),
    },
    HealthSettings(),
)
_DELEGATE = record(
    DelegateSettings,
    {
        "interface": Key(
            "interface",
            optional(DEVICE),
            "The device of a network behind this host that gets a /64 of the delegated prefix.",
            "delegate to",
            "a device; empty: none",
        ),
        "subnet": Key(
            "subnet", whole(0, limits.MAX_SUBNET), "Which one: its number in the prefix.", "subnet", "number of the /64"
        ),
    },
    DelegateSettings(),
)
_DEFAULT_ROUTE = record(
    DefaultRoute,
    {"metric": Key("metric", METRIC, "Its metric; empty: none.", "default route", "the host's: its metric, or empty")},
    DefaultRoute(),
)
_HOOKS = record(
    HookSettings,
    {
        "up": Key("up", PROGRAM, "When it has come up."),
        "down": Key("down", PROGRAM, "When it is up no more."),
        "changed": Key("changed", PROGRAM, "When its addresses, prefix or name servers are others while it is up."),
        "timeout": Key(
            "timeout",
            duration(limits.MIN_HOOK, limits.MAX_HOOK),
            "A program that takes longer is killed, with all that it has started.",
        ),
    },
    HookSettings(),
)

_FORWARD = record(
    Forward,
    {
        "listen": Key("listen", SERVICE, "A port of the session's addresses, as in tcp/443."),
        "to": Key("to", TARGET, "The address and port that the engine connects to."),
    },
    Forward("", ""),
    "listen",
    "to",
)
SESSION: Keys = {
    "name": Key(
        "name",
        text(limits.MAX_NAME, 1),
        "What the session is called; unique. With `count`, {n} or {n:04} is its number.",
        "name",
        "unique",
        unique=True,
    ),
    "user": Key(
        "user", text(limits.MAX_USER), "The user name. With `count`, {n} is its number here too.", label="user"
    ),
    "password": Key(
        "password",
        text(limits.MAX_PASSWORD, control=True),
        "The password.",
        "password",
        "empty: as it is",
        secret=True,
    ),
    "password_file": Key("", text(limits.MAX_PATH, 1), "A file that holds the password; relative to this file."),
    "service": Key(
        "service",
        text(limits.MAX_SERVICE),
        "The Service-Name asked for; empty accepts any.",
        "service",
        "empty: any",
    ),
    "ac": Key(
        "ac",
        CONCENTRATOR,
        "The concentrator wanted: its AC-Name, or {name: …, mac: …}; empty takes the first that answers.",
    ),
    "auth": Key(
        "auth",
        words_of(choice(*AuthMethod), 1, len(AuthMethod)),
        "The authentication protocols allowed, best first; with `none` the concentrator may ask for no proof at all.",
        "authentication",
        "best first",
    ),
    "mac": Key(
        ("mac_policy", "mac"),
        OWN_MAC,
        "The session's own MAC address: the card's, a derived one that is always the same, or the one given.",
        "own MAC",
        "card, derived or an address",
    ),
    "vlan": Key(
        "vlans",
        VLANS,
        "VLAN tags: 100, 100.200 (outer first), {vid: 100, priority: 5, tpid: 0x88a8}, or a list of these.",
        "VLANs",
        "100 or 100.200, outer first",
    ),
    "mru": Key(
        "mru",
        whole(limits.MIN_MRU, limits.MAX_MRU),
        f"The largest packet wanted, in octets; more than {DEFAULT_MRU} asks for RFC 4638.",
        "MRU",
        f"more than {DEFAULT_MRU}: RFC 4638",
    ),
    "ipv6": Key("ipv6", boolean, "Whether IPv6 is negotiated too.", "IPv6", "yes or no"),
    "dhcpv6": Key(
        "dhcpv6",
        choice(*Dhcpv6),
        "Whether an IPv6 address is asked for by DHCPv6: where the router says so, always, or never.",
        "DHCPv6",
        "auto, always or never",
    ),
    "prefix": Key(
        "prefix",
        PREFIX,
        "Whether a network is to be delegated to the session by DHCPv6: no, any, or the length of its prefix.",
        "IPv6 prefix",
        "no, any or a length such as 56",
    ),
    "delegate": Key("delegate", _DELEGATE, "Where the delegated network goes: a /64 of it to a device of the host's."),
    "keepalive": Key("keepalive", _KEEPALIVE, "LCP Echo-Requests that watch over the open session."),
    "circuit_id": Key(
        "line_id.circuit_id",
        _LINE_ID,
        "The TR-101 Agent Circuit ID to send in discovery.",
        "circuit id",
        "TR-101; empty: none",
    ),
    "remote_id": Key(
        "line_id.remote_id",
        _LINE_ID,
        "The TR-101 Agent Remote ID to send in discovery.",
        "remote id",
        "TR-101; empty: none",
    ),
    "host_uniq": Key(
        "host_uniq",
        HOST_UNIQ,
        "The Host-Uniq that the provider wants, as text or as 0x and hexadecimal; empty sends our own.",
        "Host-Uniq",
        "text or 0x…; empty: our own",
    ),
    "autodial": Key("autodial", boolean, "Whether the session is dialled at start.", "autodial", "yes or no"),
    "egress": Key(
        "egress",
        choice(*EgressChoice),
        "Where its packets go: to a network device; to a stack in user space, for the proxies alone; or nowhere.",
        "egress",
        "device, stack or none",
    ),
    "datapath": Key(
        "datapath",
        choice(*DatapathChoice),
        "What carries the packets: AF_XDP and a TUN device, XDP programs and a veth device, or the better one here.",
        "data path",
        "afxdp, kernel or auto",
    ),
    "device": Key(
        "device",
        optional(DEVICE),
        f"The device's name, at most {limits.MAX_DEVICE} octets. With `count`, it needs {{n}} too.",
        "device",
        "empty: soup and a number",
        unique=True,
    ),
    "resolved": Key(
        "resolved",
        boolean,
        "Whether systemd-resolved is told of the session's name servers, for domains that the device is given.",
        "resolved",
        "yes or no: tell systemd-resolved",
    ),
    "netns": Key(
        "netns",
        optional(NETNS),
        "The network namespace that the device is put into, with its addresses and a default route there.",
        "namespace",
        "of ip netns; empty: the host's",
    ),
    "default_route": Key(
        "default_route",
        _DEFAULT_ROUTE,
        "The host's own default route, which goes through the first open session that says so, as in {metric: 50}.",
    ),
    "mark": Key(
        "mark",
        MARK,
        "What bears this mark (SO_MARK) leaves by the session or not at all. Unique: with `count`, use `marks`.",
        "mark",
        "empty: one of `marks`, if any",
        unique=True,
    ),
    "networks": Key(
        "networks",
        words_of(ROUTED, 0, limits.MAX_ROUTED),
        "Networks that the provider routes to the session: let in, and let out as sources, beside its own address.",
        "networks",
        "routed to the session",
    ),
    "dns": Key(
        "dns",
        words_of(NAME_SERVER, 0, limits.MAX_NAME_SERVERS),
        "Servers that are asked for names through the session, in this order; empty: those that the provider names.",
        "name servers",
        "empty: the provider's",
    ),
    "inbound": Key(
        "inbound",
        choice(*Inbound),
        "Whether what the host has not begun may come in: closed lets in only answers to what it has.",
        "inbound",
        "open or closed",
    ),
    "forwards": Key(
        "forwards",
        list_of(_FORWARD, 0, limits.MAX_FORWARDS),
        "What comes in with `egress: stack`, and where it goes, as in [{listen: tcp/443, to: 127.0.0.1:8443}].",
    ),
    "rotate": Key("rotate", _ROTATE, "When it is dialled for another address by itself, and what bounds that."),
    "drain": Key(
        "drain",
        duration(0, limits.MAX_DRAIN),
        "How long connections may go on before a rotation ends them; the pool chooses other sessions meanwhile.",
        "drain",
        "before a rotation, as 30s",
    ),
    "health": Key("health", _HEALTH, "A page that is fetched through it now and then; it is rotated where that fails."),
    "hooks": Key(
        "hooks",
        Kind(_HOOKS.read, _HOOKS.write, _HOOKS.check, _HOOKS.schema),
        "Programs with their arguments, as in {up: [/etc/souppp/up, fast]}; README.md says what they are told.",
    ),
    "tags": Key(
        "tags",
        words_of(TAG, 0, limits.MAX_TAGS),
        "Words that name sessions together: a proxy user called app-tag-blue gets one with the tag blue.",
        "tags",
        "words, for the proxy's pool",
    ),
    "proxy": Key(
        "proxy",
        OWN_ENDPOINT,
        "Address and port of the session's own proxy, in place of the one that `proxy: sessions:` gives it.",
        "proxy",
        "as in 127.0.0.1:20050",
        unique=True,
    ),
    "count": Key("", whole(1, limits.MAX_SESSIONS), "How many sessions this entry makes, numbered from 1."),
    "except": Key(
        "",
        Kind(
            lambda node, _: node,
            str,
            lambda value: value,
            {
                "type": "object",
                "propertyNames": {"pattern": "^[1-9][0-9]*$"},
                "additionalProperties": {"anyOf": [{"const": False}, {"type": "object"}]},
            },
        ),
        "With `count`: what is different for some of them, as in {3: no, 7: {service: silver}}; no leaves it out.",
    ),
}
"""The keys of an entry of the file. `password_file`, `count` and `except` are about the entry, not the session."""

UNIQUE = tuple(name for name, key in SESSION.items() if key.unique)
DEFAULTS: Keys = {name: key for name, key in SESSION.items() if not key.unique and name not in ("count", "except")}
EXCEPTION: Keys = {name: key for name, key in SESSION.items() if name not in ("count", "except")}
"""What one session of an entry with `count` can have of its own."""


def make_session(values: Mapping[str, Any]) -> SessionSettings:
    """A session's settings from its values by key; `name` must be among them."""
    whole_ones: dict[str, Any] = {}
    parts: list[tuple[str, Any]] = []
    for key, value in values.items():
        field = SESSION[key].field
        if isinstance(field, tuple):
            whole_ones |= zip(field, value, strict=True)
        elif "." in field:
            parts.append((field, value))
        else:
            whole_ones[field] = value
    session = SessionSettings(**whole_ones)
    for field, value in parts:
        session = with_value(session, field, value)
    return session


def values_of(session: SessionSettings) -> dict[str, Any]:
    """All values by key of a session's settings: the inverse of `make_session`."""
    return {name: value_of(session, key.field) for name, key in SESSION.items() if key.field}


def value_of(settings: Any, field: str | tuple[str, ...]) -> Any:
    """What stands in a key's field."""
    return attrgetter(*((field,) if isinstance(field, str) else field))(settings)


def with_value(settings: Any, field: str | tuple[str, ...], value: Any) -> Any:
    """The same settings with another value in a key's field."""
    if isinstance(field, tuple):
        return replace(settings, **dict(zip(field, value, strict=True)))
    name, _, rest = field.partition(".")
    return replace(settings, **{name: with_value(getattr(settings, name), rest, value) if rest else value})


def check(session: SessionSettings) -> SessionSettings:
    """Settings that came otherwise than by reading, as reading would have made them.

    Raises ValueError with a line for each key that is wrong: `mru: 9000 is out of range (128 to 1500)`.
    """
    checked, wrong = {}, []
    for name, value in values_of(session).items():
        try:
            checked[name] = SESSION[name].kind.check(value)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise ValueError("\n".join(wrong))
    return make_session(checked)


# --- all else ---

DIAL: Keys = {
    "rate": Key("rate", number(limits.MIN_RATE, limits.MAX_RATE), "Dials started per second, over all sessions."),
    "max_outstanding": Key(
        "max_outstanding",
        whole(1, limits.MAX_SESSIONS),
        "Sessions that may be on their way up at once; one without answer counts for 3 s where later ones are let in.",
    ),
    "retry_min": Key(
        "retry_min",
        number(limits.MIN_RETRY, limits.MAX_FIRST_RETRY),
        "Seconds before the second try; doubled before each further one.",
    ),
    "retry_max": Key(
        "retry_max", number(limits.MIN_RETRY, limits.MAX_RETRY), "The longest pause between two tries, in seconds."
    ),
    "jitter": Key(
        "jitter",
        number(0, limits.MAX_JITTER),
        "Each pause is made longer or shorter at random by up to this part of it.",
    ),
    "max_flaps": Key(
        "max_flaps", whole(0, limits.MAX_FLAPS), "How often in a row a lost session is dialled again without a pause."
    ),
    "pado_window": Key(
        "pado_window",
        number(0, limits.MAX_PADO_WINDOW),
        "Seconds to collect offers in; 0 takes the first that fits.",
    ),
}

_AT_ONCE = whole(0, limits.MAX_PROXY_CONNECTIONS)
_POOL = record(
    PoolPort,
    {
        "listen": Key("listen", ENDPOINT, "Address and port of the proxy that stands for all sessions."),
        "choose": Key(
            "choose", choice(*Choose), "Which session a connection gets whose user name asks for none in particular."
        ),
    },
    PoolPort(""),
    "listen",
)
_USER = record(
    ProxyUser,
    {
        "name": Key("name", text(limits.MAX_NAME, 1), "The user name; what follows behind a dash chooses a session."),
        "password_file": Key(
            "password_file",
            text(limits.MAX_PATH, 1),
            "A file that holds the password; relative to this file.",
        ),
    },
    ProxyUser("", ""),
    "name",
    "password_file",
)
_LIMITS = record(
    ProxyLimits,
    {
        "user": Key("user", _AT_ONCE, "Connections of one user at once; 0: any number."),
        "session": Key("session", _AT_ONCE, "Connections through one session at once; 0: any number."),
        "source": Key("source", _AT_ONCE, "Connections from one address at once; 0: any number."),
    },
    ProxyLimits(),
)
_PORTS = record(
    SessionPorts,
    {
        "listen": Key("listen", LISTENING, "The address that sessions' proxies listen on."),
        "first_port": Key("first_port", PORT, "The first session's port; the others' follow in the order of the file."),
    },
    SessionPorts(),
)
PROXY: Keys = {
    "sessions": Key("sessions", _PORTS, "A proxy port for each session."),
    "pool": Key("pool", _POOL, "One port for all sessions, where the user name chooses."),
    "users": Key(
        "users",
        list_of(_USER, 0, limits.MAX_PROXY_USERS),
        "Who may use the proxies; needed to listen beyond loopback.",
    ),
    "limits": Key("limits", _LIMITS, "How many connections there may be at once."),
    "idle": Key(
        "idle",
        number(0, limits.MAX_IDLE),
        "Seconds after which a connection that carries nothing is ended; 0: never.",
    ),
    "allow_private": Key(
        "allow_private", boolean, "Whether the host's own and private networks may be reached through the proxies."
    ),
}

_ACTIONS: Keys = {name: Key(name, KEYS, "Other keys, with blanks between.") for name in ACTIONS}


def _check_keys(keys: Mapping[str, str]) -> dict[str, str]:
    return {name: KEYS.check(value) for name, value in keys.items()}


_OWN_COMMAND = record(
    OwnCommand,
    {
        "run": Key("run", list_of(OWN_ARGUMENT, 1, limits.MAX_ARGUMENTS, unique=False), "The program and arguments."),
        "title": Key("title", text(40), "What the palette calls it."),
        "pane": Key("pane", boolean, "Show what it says in a box, in place of handing the terminal over."),
    },
    OwnCommand(()),
    "run",
)
CONSOLE: Keys = {
    "theme": Key("theme", choice(*THEMES), "The colours; auto is dark, but ansi on a terminal with 16 colours."),
    "columns": Key(
        "columns", words_of(choice(*COLUMNS), 0, len(COLUMNS)), "The columns in order; empty: the usual ones."
    ),
    "keys": Key(
        "keys",
        Kind(
            lambda node, problems: read_mapping(node, _ACTIONS, problems),
            str,
            _check_keys,
            mapping_schema(_ACTIONS, {}),
        ),
        "Other keys for actions, as in {dial: f5}.",
    ),
    "commands": Key(
        "commands",
        by_key(_OWN_COMMAND),
        'Own programs on keys, with the session\'s values, as in {f5: {run: [mtr, -I, "{device}", 192.0.2.1]}}.',
    ),
    "filters": Key("filters", FILTERS, "Filters of the table by their names: @NAME in the filter stands for one."),
    "mouse": Key("mouse", boolean, "Whether the console takes the mouse; without it the terminal can select text."),
    "confirm_above": Key(
        "confirm_above",
        whole(0, limits.MAX_SESSIONS),
        "Ask before an action on more sessions than this; where it ends any, or is on more than half, it asks anyway.",
    ),
    "event_file": Key(
        "event_file", optional(text(limits.MAX_PATH)), "Every event is appended here; relative to this file."
    ),
}


def _as_is(schema: Mapping[str, Any]) -> Kind:
    """What `engine.settings.reading` takes apart itself."""
    return Kind(lambda node, _: node, str, lambda value: value, schema)


_USUAL = values_of(SessionSettings("")) | {"name": None}
_ENTRY_SCHEMA = {**mapping_schema(SESSION, _USUAL, "name"), "not": {"required": ["password", "password_file"]}}

TOP: Keys = {
    "sessions": Key("sessions", _as_is({"type": "array", "items": _ENTRY_SCHEMA}), "The sessions."),
    "defaults": Key("", _as_is(mapping_schema(DEFAULTS, _USUAL)), "Values for all sessions that don't set their own."),
    "dial": Key(
        "dial", record(DialSettings, DIAL, DialSettings()), "How fast sessions are dialled, and dialled again."
    ),
    "unwanted_networks": Key(
        "unwanted_networks",
        list_of(NETWORK, 0, limits.MAX_NETWORKS),
        "An IPv4 address in one of these networks is given back and the session dialled again.",
    ),
    "xdp": Key(
        "xdp",
        choice(*XdpMode),
        "How the card's frames come: the best it can, by zero-copy or an error, copied in the driver, or without it.",
    ),
    "devices": Key(
        "devices",
        optional(DEVICES),
        f"What sessions' devices are called, before a number; at most {limits.MAX_DEVICES} octets. Empty: soup.",
    ),
    "marks": Key(
        "marks",
        MARKS,
        "Sessions without a `mark` are given this one, and the ones after it, in order; 0x5000/1000: so many.",
    ),
    "proxy": Key("proxy", record(ProxySettings, PROXY, ProxySettings()), "SOCKS and HTTP proxies over the sessions."),
    "console": Key(
        "console", record(ConsoleSettings, CONSOLE, ConsoleSettings()), "How the console looks and is used."
    ),
}


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file (draft 2020-12), for editors; reading checks more than it can say."""
    usual = Settings()
    document = mapping_schema(TOP, {"unwanted_networks": usual.unwanted_networks, "xdp": usual.xdp}, "sessions")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "souppp-tui configuration"}
    return {**head, **read_defaults(document)}


if __name__ == "__main__":
    import json

    print(json.dumps(schema(), indent=2))
