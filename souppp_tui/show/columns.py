"""The session table's columns: what each shows, sorts by and how wide it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from rich.cells import cell_len

from engine.api.values import TRAFFIC_FIELDS, SessionState, SessionView
from engine.settings.own_kinds import MARK
from souppp_tui.show import words
from souppp_tui.show.carried import carried, octets
from souppp_tui.show.rates import Readings


class Column(Struct, frozen=True):
    """One column; `text` is what stands in it, `value` what it is sorted and compared by (None: nothing known)."""

    key: str
    title: str
    width: int
    text: Callable[[SessionView, Readings], str]
    value: Callable[[SessionView, Readings], Any]
    right: bool = False
    live: bool = False
    """Changes although the session's view does not."""
    most: bool = False
    """Whoever sorts by it wants the highest first."""
    grow: int = 0
    """How many characters it may take of the space that is left over."""
    help: str = ""


_DIGITS = re.compile(r"(\d+)")


@lru_cache(maxsize=65536)
def natural(text: str) -> tuple[str | int, ...]:
    """A sort key that puts `home-9` before `home-10`: text and numbers in turn, text first, empty or not."""
    parts: list[str | int] = [*_DIGITS.split(text.casefold())]
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts)


@lru_cache(maxsize=65536)
def number(name: str) -> int | None:
    """The last number in a name: that of `{n}` where an entry of the file makes many sessions."""
    found = re.search(r"(\d+)\D*$", name)
    return int(found[1][-18:]) if found else None


@lru_cache(maxsize=65536)
def _numeric(text: str) -> bytes:
    """A sort key of addresses or prefixes with spaces between: the first as a number, IPv4 before IPv6."""
    first = text.partition(" ")[0].partition("/")[0]
    try:
        return b"6" + inet_pton(AF_INET6, first) if ":" in first else b"4" + inet_pton(AF_INET, first)
    except OSError:
        return b"?" + text.encode(errors="replace")


_LIFE = {state: place for place, state in enumerate(SessionState)}


def _plain(
    key: str,
    title: str,
    width: int,
    get: Callable[[SessionView], str | None],
    by: Callable[[str], Any] = natural,
    **more: Any,
) -> Column:
    """A column of text; `by` makes of it what it is sorted by."""
    return Column(
        key, title, width, lambda v, m: get(v) or words.DASH, lambda v, m: by(t) if (t := get(v)) else None, **more
    )


def _prefixes(view: SessionView) -> str:
    return " ".join(view.ipv6_prefixes)


def _ipv6(view: SessionView) -> str | None:
    """The global addresses; where there are none, the link-local one says at least that IPv6 is open."""
    return " ".join(view.ipv6_addresses) or view.ipv6


def _number(key: str, title: str, width: int, get: Callable[[SessionView], float | None], **more: Any) -> Column:
    return Column(
        key,
        title,
        width,
        lambda v, m: words.DASH if (n := get(v)) is None else str(n),
        lambda v, m: get(v),
        right=True,
        **more,
    )


def _rate(key: str, title: str, field: str, tells: str) -> Column:
    def text(view: SessionView, meter: Readings) -> str:
        return words.metric(getattr(meter.rates(view.id), field)) if view.up_since is not None else words.DASH

    def value(view: SessionView, meter: Readings) -> float:
        rate: float = getattr(meter.rates(view.id), field)
        return rate

    return Column(key, title, 6, text, value, right=True, live=True, most=True, help=tells)


def _carried(key: str, title: str, field: str, tells: str) -> Column:
    place = TRAFFIC_FIELDS.index(field)

    def value(view: SessionView, meter: Readings) -> int:
        return carried(view, meter.numbers(view.id))[place]

    return Column(key, title, 7, lambda v, m: octets(value(v, m)), value, right=True, live=True, most=True, help=tells)


def _time(key: str, title: str, get: Callable[[SessionView], float | None], tells: str) -> Column:
    return Column(
        key,
        title,
        7,
        lambda v, m: words.DASH if (ms := get(v)) is None else words.milliseconds(ms),
        lambda v, m: get(v),
        right=True,
        most=True,
        help=tells,
    )


def _both(view: SessionView, meter: Readings) -> float:
    rates = meter.rates(view.id)
    return rates.rx_bits + rates.tx_bits


def _sum(view: SessionView, meter: Readings) -> int:
    numbers = carried(view, meter.numbers(view.id))
    return numbers[1] + numbers[3]


TALKING = ("both", "recent", "sum")
"""What top talkers are sorted by, in turn."""
ENGINE = "engine"
"""The column that stands there only where several engines are looked at."""
COLUMNS: dict[str, Column] = {
    column.key: column
    for column in (
        _plain("name", "NAME", 12, lambda v: v.name, grow=12, help="the session's name"),
        _plain(ENGINE, "ENGINE", 8, lambda v: v.engine, grow=12, help="the engine, where there are several"),
        Column(
            "state",
            "STATE",
            18,
            lambda v, m: words.state(v, m.now),
            lambda v, m: (_LIFE[v.state], words.is_silent(v)),
            help="what it does",
        ),
        _plain("address", "ADDRESS", 15, lambda v: v.ipv4, _numeric, help="the IPv4 address"),
        _plain("prefix", "IPv6 PREFIX", 18, _prefixes, _numeric, grow=6, help="the delegated IPv6 prefix"),
        _plain("ac", "AC", 10, lambda v: v.ac_name, grow=8, help="the concentrator"),
        Column(
            "sid",
            "SID",
            4,
            lambda v, m: words.DASH if v.session_id is None else f"{v.session_id:04x}",
            lambda v, m: v.session_id,
            help="the PPPoE session id",
        ),
        _number("mtu", "MTU", 4, lambda v: v.mtu, help="the largest IP packet"),
        Column(
            "uptime",
            "UPTIME",
            7,
            lambda v, m: words.DASH if v.up_since is None else words.duration(m.now - v.up_since),
            lambda v, m: None if v.up_since is None else m.now - v.up_since,
            right=True,
            live=True,
            most=True,
            help="for how long it has been up",
        ),
        _rate("rx", "▼ b/s", "rx_bits", "bits received per second"),
        _rate("tx", "▲ b/s", "tx_bits", "bits sent per second"),
        _rate("rxp", "▼ pkt", "rx_packets", "packets received per second"),
        _rate("txp", "▲ pkt", "tx_packets", "packets sent per second"),
        _plain("user", "USER", 16, lambda v: v.user, grow=8, help="the user name"),
        _plain("service", "SERVICE", 10, lambda v: v.service, help="the Service-Name asked for"),
        _plain(
            "device",
            "DEVICE",
            10,
            lambda v: v.device if v.egress == "device" else f"({v.egress})",
            grow=5,
            help="the network device",
        ),
        _plain("peer", "PEER", 15, lambda v: v.ipv4_peer, _numeric, help="the far end's IPv4 address"),
        _plain("dns", "DNS", 15, lambda v: " ".join(v.dns), _numeric, grow=16, help="the name servers"),
        _plain("ipv6", "IPv6", 25, _ipv6, _numeric, grow=6, help="the IPv6 addresses"),
        _plain("mac", "MAC", 17, lambda v: v.local_mac, str, help="the session's own MAC address"),
        _plain("acmac", "AC MAC", 17, lambda v: v.ac_mac, str, help="the concentrator's MAC address"),
        _plain("vlan", "VLAN", 9, lambda v: ".".join(map(str, v.vlans)), help="VLAN ids, outer first"),
        _time("rtt", "RTT", lambda v: v.rtt_ms, "round trip of the latest echo"),
        _time("setup", "SET-UP", lambda v: v.setup_ms, "from the first PADI to the address"),
        _number("flaps", "FLAPS", 5, lambda v: v.flaps, most=True, help="how often it was lost"),
        _plain("tags", "TAGS", 10, lambda v: " ".join(v.tags), grow=8, help="words that name sessions together"),
        Column(
            "mark",
            "MARK",
            6,
            lambda v, m: words.DASH if v.mark is None else MARK.show(v.mark),
            lambda v, m: v.mark,
            right=True,
            help="what bears it leaves by the session",
        ),
        Column(
            "proxy",
            "PROXY",
            15,
            lambda v, m: v.proxy or words.DASH,
            lambda v, m: int(v.proxy.rpartition(":")[2]) if v.proxy else None,
            grow=6,
            help="where its own proxy listens",
        ),
        _number(
            "connections", "CONNS", 5, lambda v: v.connections, most=True, help="proxied connections that are open"
        ),
        _carried("rxsum", "▼ SUM", "rx_bytes", "octets received, over all dials; C counts anew"),
        _carried("txsum", "▲ SUM", "tx_bytes", "octets sent, over all dials; C counts anew"),
        Column(
            "both",
            "▼▲ b/s",
            6,
            lambda v, m: words.metric(_both(v, m)) if v.up_since is not None else words.DASH,
            lambda v, m: _both(v, m),
            right=True,
            live=True,
            most=True,
            help="bits per second, both ways",
        ),
        Column(
            "recent",
            "5 MIN",
            7,
            lambda v, m: octets(m.recent(v.id)),
            lambda v, m: m.recent(v.id),
            right=True,
            live=True,
            most=True,
            help="octets in five minutes, both ways, as far as the console has seen them",
        ),
        Column(
            "sum",
            "SUM",
            7,
            lambda v, m: octets(_sum(v, m)),
            lambda v, m: _sum(v, m),
            right=True,
            live=True,
            most=True,
            help="octets both ways, over all dials; C counts anew",
        ),
        _number("n", "N", 5, lambda v: number(v.name), help="the number in its name"),
        _plain("reason", "REASON", 16, lambda v: v.reason, grow=20, help="why it is down or failed"),
        Column(
            "since",
            "SINCE",
            7,
            lambda v, m: words.duration(m.now - v.since),
            lambda v, m: m.now - v.since,
            right=True,
            live=True,
            most=True,
            help="for how long it has been in its state",
        ),
    )
}
LETTERS = {
    "name": "n",
    "engine": "E",
    "state": "s",
    "address": "a",
    "prefix": "p",
    "ac": "c",
    "sid": "i",
    "mtu": "m",
    "uptime": "u",
    "rx": "r",
    "tx": "t",
    "rxp": "R",
    "txp": "T",
    "user": "U",
    "service": "v",
    "device": "d",
    "peer": "P",
    "dns": "D",
    "ipv6": "6",
    "mac": "M",
    "acmac": "A",
    "vlan": "l",
    "rtt": "e",
    "setup": "S",
    "flaps": "f",
    "tags": "g",
    "mark": "k",
    "proxy": "x",
    "connections": "o",
    "rxsum": "h",
    "txsum": "H",
    "both": "b",
    "recent": "5",
    "sum": "z",
    "n": "#",
    "reason": "w",
    "since": "y",
}
"""What each is chosen by, as for sorting."""
SINCE = replace(
    COLUMNS["uptime"],
    title="UP AT",
    text=lambda v, m: words.DASH if v.up_since is None else words.short_clock(v.up_since, m.now),
)
"""The column `uptime` where times are shown by the clock."""
USUAL = ("name", "state", "address", "device", "prefix", "ac", "sid", "mtu", "rtt", "uptime", "rx", "tx")
_IMPORTANCE = ("name", "state", ENGINE, "address", "uptime", "rx", "tx", "device", "ac", "sid", "mtu", "prefix", "rtt")
"""Who stays when space runs out, first to last; columns not named here go before those."""
GAP = 2


def offered(several: bool) -> list[str]:
    """The columns there are to choose from, with one engine or with several."""
    return [key for key in COLUMNS if several or key != ENGINE]


def wanted(keys: Sequence[str], several: bool) -> tuple[str, ...]:
    """The columns that are to be shown, where the operator chose these; nothing takes the usual ones."""
    if not keys:
        return (USUAL[0], ENGINE, *USUAL[1:]) if several else USUAL
    return tuple(key for key in keys if several or key != ENGINE)


class Fitted(Struct, frozen=True):
    """A column as wide as it stands on the screen."""

    column: Column
    width: int


def layout(
    keys: Sequence[str], width: int, times: words.Times = words.Times.USUAL, sort: str | None = None
) -> list[Fitted]:
    """The columns that fit into `width` characters, in the order of `keys`; depends on nothing else, so nothing jumps.

    One column always stays, however narrow it is; what the table is sorted by stands there too, after the others, and
    goes after the name and the state only.
    """
    rank: dict[str, float] = {key: place for place, key in enumerate(_IMPORTANCE)}
    if sort in COLUMNS:
        rank[sort] = min(rank.get(sort, 1.5), 1.5)
    wanted = [key for key in (*keys, *([sort] if sort and sort not in keys else [])) if key in COLUMNS]
    chosen: set[str] = set()
    left = width
    for key in sorted(wanted, key=lambda key: rank.get(key, len(rank))):
        need = COLUMNS[key].width + (GAP if chosen else 0)
        if need <= left:
            chosen.add(key)
            left -= need
        elif not chosen:
            return [Fitted(COLUMNS[key], max(1, width))]
    places = []
    for key in wanted:
        if key in chosen:
            extra = min(COLUMNS[key].grow, left)
            left -= extra
            column = SINCE if key == "uptime" and times is words.Times.CLOCK else COLUMNS[key]
            places.append(Fitted(column, column.width + extra))
    return places


def cells(view: SessionView, places: Sequence[Fitted], meter: Readings) -> list[tuple[str, str]]:
    """One row: for each cell its column's key and its text, cut and aligned, with the gap after it.

    A state with a reason runs on over the cells after it as long as there is nothing in them.
    """
    row: list[tuple[str, str]] = []
    texts = [place.column.text(view, meter) for place in places]
    at = 0
    while at < len(places):
        place, text, width = places[at], texts[at], places[at].width
        key, right, at = place.column.key, place.column.right, at + 1
        if key == "state":
            while cell_len(text) > width and at < len(places) and texts[at] == words.DASH:
                width += GAP + places[at].width
                at += 1
            text = text if cell_len(text) <= width else words.state(view, meter.now, width)
        gap = " " * GAP if at < len(places) else ""
        fitted = words.fit_name(text, width) if key == "name" else words.fit(text, width, right)
        row.append((key, fitted + gap))
    return row
