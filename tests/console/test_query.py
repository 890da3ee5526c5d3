"""The filter language."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.commands import Dial, HangUp
from souppp_tui.model.completing import candidates, complete
from souppp_tui.model.model import Model
from souppp_tui.model.query import QueryError, haystack, parse
from souppp_tui.model.spans import NUMERIC, addresses
from souppp_tui.show.columns import COLUMNS, offered
from tests.console.scripted import ScriptedEngine


@pytest.fixture(scope="module")
def model() -> Model:
    """Sessions 1 to 30: 1 to 10 busy, every fifth failed, the last two hung up."""
    engine = ScriptedEngine(30, busy=10, failing=5, up=False)
    engine.submit(Dial(tuple(range(30))))
    engine.advance(0.5, 4)
    engine.submit(HangUp((28, 29)))
    model = Model()
    for _ in range(4):
        engine.advance(0.5)
        model.take(engine.snapshot())
    return model


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("home-0007", [7]),
        ("state:up", [n for n in range(1, 29) if n % 5]),
        ("state:open home-000", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("failed", [5, 10, 15, 20, 25]),
        ("state:failed !home-0005", [10, 15, 20, 25]),
        ("state:password home-000", [5]),
        ("FAILED home-0025|home-0005", [5, 25]),
        ("rx>1k", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("rx>1k ac:bras-2", [2, 8]),
        ("!rx>=1k state:up ac:bras-1|bras-2 name:home-001", [11, 13, 14, 16, 17, 19]),
        ("mtu=1492 name:home-000", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("mtu<1492", []),
        ("uptime<1m name:home-002", [21, 22, 23, 24, 26, 27, 28]),
        ("sid=01a0", [1]),
        ("100.64.0.2", [3, 21, 22, 23, 24, 26, 27, 28]),
        ('"down · hung up"', [29, 30]),
        ("user:user12@", [12]),
        ("2001:db8:b:", [12]),
        ("autodial:no", []),
        ("autodial=true name:home-000", list(range(1, 10))),
        ("datapath:kernel|afxdp", []),
        ("connections=0 rxsum>1k name:home-000", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("", list(range(1, 31))),
        ("name=home-0007", [7]),
        ("name=home-000", []),
        ("name~0007|0009", [7, 9]),
        ("name!=home-0007 n:1-9", [1, 2, 3, 4, 5, 6, 8, 9]),
        ("n:3", [3]),
        ("n:3-5|29", [3, 4, 5, 29]),
        ("n=3|4 n<4", [3]),
        ("address=100.64.0.8", [9]),
        ("address=100.64.0.8/29", [9, 11, 12, 13, 14, 16]),
        ("address:100.64.0.8/30|100.64.0.12/32", [9, 11, 12, 13]),
        ("address:100.64.0.1-100.64.0.3", [2, 3, 4]),
        ("100.64.0.12/30 !n=13", [14, 16]),
        ("prefix:2001:db8::/44 n:1-4", [1, 2, 3, 4]),
        ("2001:db8:7::/48", [8]),
        ("reason:password n:1-10", [5, 10]),
        ('reason="wrong password" n<6', [5]),
        ("state=failed n<11", [5, 10]),
        ("state=down", [29, 30]),
        ("is:failed is:retrying n<6", [5]),
        ("is:up n<3", [1, 2]),
        ("since:5m since>1s n:3", [3]),
        ("since>1h", []),
        ("since:00:00 n=30", [30]),
        ("since<00:00:00", []),
        ("mtu:1000-1500 n<3", [1, 2]),
        ("uptime=0m n:1-2", [1, 2]),
        ("rx>10k rx<100M n:1", [1]),
    ],
)
def test_filters(model: Model, text: str, wanted: list[int]) -> None:
    model.filter(text)
    assert model.filter_error == ""
    assert [session + 1 for session in model.shown] == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(
            "proxy:20001",
            "proxy=20001",
            "port>=20001",
            "20001",
            "connections>11",
            "conns=12",
            "mark=0x5001",
            "mark:0x50",
        ),
        *("mark>20480", "0x5001", "tag:blue", "tags:fast|slow", "blue", "ipv6:2001:db8", "prefix:db8:77", "db8:77::1"),
        *("state:draining", "draining"),
    ],
)
def test_how_a_session_is_used_can_be_asked_for(model: Model, text: str) -> None:
    view = replace(
        model.views[0],
        proxy="127.0.0.1:20001",
        connections=12,
        mark=0x5001,
        tags=("blue", "fast"),
        ipv6_addresses=("2001:db8:77::1",),
        ipv6_prefixes=("2001:db8:77::/56",),
        draining=True,
    )
    query = parse(text)
    assert query.matches(view, model.meter, ())
    assert not query.matches(replace(view, **NOT_USED), model.meter, ())


NOT_USED: dict[str, Any] = {
    "proxy": None,
    "connections": 0,
    "mark": None,
    "tags": (),
    "ipv6_addresses": (),
    "ipv6_prefixes": (),
    "draining": False,
}


def test_marked_sessions_can_be_shown(model: Model) -> None:
    model.filter("")
    model.marks = {3, 5}
    model.filter("is:marked")
    assert model.shown == [3, 5]
    model.unmark()


@pytest.mark.parametrize(
    "text",
    [
        *("!", "colour=red", "rx>fast", "name>5", "is:pretty", "rx>", "sid=xyz", "uptime>3M3"),
        *("mark=blue", "mark>0xg", "proxy>x", "tags>5"),
        *("autodial:maybe", "datapath:tun", "autodial:"),
        *("colour:red", "address=blue", "address:1.2.3.4/99", "n:9-1", "n:a-b", "uptime:5x", "state=faild", "@gone"),
        *("since>25:99", "@", "is:", "prefix=x/y", "address>1.2.3.4"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(QueryError, match=r"\w+"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *(("adress:1.2", "did you mean `address`"), ("is:marekd", "did you mean `marked`")),
        *(("state=faild", "did you mean `failed`"), ("conection>3", "did you mean `connections`")),
        *(
            ("@golf", "did you mean `gold`"),
            ("zzz:1q", "they are name, engine, state"),
            ("autodail:no", "did you mean `autodial`"),
        ),
    ],
)
def test_an_unknown_word_is_refused_with_what_may_be_meant(text: str, meant: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse(text, {"gold": "service=gold"})
    assert meant in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("faild", "did you mean `failed`"), ("reason:wrong-password", "did you mean `wrong password`")),
        *(("ac:bras-9", "ac:bras-9 finds none; did you mean `bras-"), ("n:1-4 home-0007", "each term finds some")),
        *(("n:1-4 is:marked", "is:marked finds none"), ("name=hme-0007", "did you mean `home-0007`")),
    ],
)
def test_a_filter_that_finds_nothing_says_which_word_it_is(model: Model, text: str, why: str) -> None:
    model.filter(text)
    assert model.shown == []
    assert why in model.why_none()
    model.filter("up")
    assert model.why_none() == ""


def test_filters_with_a_name_stand_for_what_they_say(model: Model) -> None:
    model.filters = {"bad": "state=failed", "low": "n<11", "badlow": "@bad @low", "loop": "@loop"}
    model.filter("@badlow")
    assert [session + 1 for session in model.shown] == [5, 10]
    assert model.query.named == ("badlow", "bad", "low")
    model.filter("!@bad @low n>8")
    assert [session + 1 for session in model.shown] == [9]
    model.filter("@loop")
    assert model.filter_error == "@loop names itself; write out what it stands for"


def test_names_within_names_are_bounded(model: Model) -> None:
    """Thirty short lines of a file would look at each session a thousand million times."""
    model.filters = {"n0": "up", **{f"n{place}": f"@n{place - 1} @n{place - 1}" for place in range(1, 31)}}
    model.filter("@n30")
    assert model.filter_error == "@n30 names others more than 100 times; write out what it stands for"
    model.filters = {"n0": "n<4", **{f"n{place}": f"!@n{place - 1}" for place in range(1, 100)}}
    model.filter("@n99")
    assert model.filter_error == ""
    assert len(model.shown) == 27


@pytest.mark.parametrize(
    "text", ["home-0012", "100.64.0.1", "state:failed", "!fail", "open", "ac:bras-2", "since:5m", "@badlow"]
)
@pytest.mark.parametrize("before", ["", "n<30 ", "is:marked "])
def test_a_filter_typed_letter_by_letter_finds_what_it_finds_at_once(model: Model, before: str, text: str) -> None:
    """Letter by letter it only looks through what it has found; a longer word may be another one (ope, open)."""
    model.filters = {"bad": "state=failed", "low": "n<11", "badlow": "@bad @low"}
    model.marks = {1, 3}
    model.sort_by("address", reverse=True)
    for place in range(1, len(before + text) + 1):
        written = (before + text)[:place]
        model.filter(written)
        typed = model.shown
        if model.filter_error:
            continue
        model.filter("")
        model.filter(written)
        assert typed == model.shown, written
    model.marks = set()
    model.sort_by(None)


def test_the_history_keeps_each_filter_once_and_not_too_many() -> None:
    model = Model()
    for text in ("up", "failed", " ", "up ", *map(str, range(60))):
        model.remember(text)
    assert model.history[-1] == "59"
    assert len(model.history) == len(set(model.history)) == 50
    model.remember("30")
    assert model.history.count("30") == 1
    assert model.history[-1] == "30"


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "1.2.3.4/", "1.2.3.4/33", "9.9.9.9-1.1.1.1", "::1-1.1.1.1", "1::/8-2::"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert addresses(text) is None


@given(st.ip_addresses(), st.integers(0, 32), st.ip_addresses())
def test_networks_hold_what_they_hold(network: Any, prefix: int, other: Any) -> None:
    wanted = ipaddress.ip_network(f"{network}/{prefix}", strict=False)
    found = addresses(f"{network}/{prefix}")
    assert found is not None
    assert str(network) in found
    assert (str(other) in found) == (other in wanted)


def test_what_is_looked_through_is_never_out_of_date(model: Model) -> None:
    view = model.views[0]
    assert "home-0001" in haystack(view)
    assert "Übel".casefold() in haystack(replace(view, name="ÜBEL"))
    assert "home-0001" in haystack(view)


def test_a_refused_filter_leaves_the_one_in_force(model: Model) -> None:
    model.filter("failed")
    model.filter("rx>fast")
    assert "not a number" in model.filter_error
    assert len(model.shown) == 5
    model.filter("up")
    assert model.filter_error == ""


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("", ""),
        ("add", "address:"),
        ("rx>1k !aut", "rx>1k !autodial:"),
        ("datap", "datapath:"),
        ("datapath:k", "datapath:kernel"),
        ("datapath:kernel|a", "datapath:kernel|afxdp"),
        ("autodial:n", "autodial:no"),
        ("autodial:no", ""),
        ("state:f", "state:failed"),
        ("name:h", ""),
        ("failed ", ""),
        ("rea", "reason:"),
        ("ac:b", "ac:bras-1"),
        ("ac=bras-1|bras-3|", "ac=bras-1|bras-3|bras-1"),
        ("reason:w", ""),
        ('reason:"w', 'reason:"wrong password"'),
        ("reason:", 'reason:"wrong password"'),
        ("is:s", "is:silent"),
        ("up @g", "up @gold"),
    ],
)
def test_a_filter_is_completed(text: str, becomes: str) -> None:
    values = {"ac": ["bras-1", "bras-2"], "reason": ["wrong password"]}
    assert complete(text, values=lambda column: values.get(column, ()), names={"gold": "service=gold"}) == becomes


def test_all_that_a_word_may_become_is_offered(model: Model) -> None:
    assert candidates("s", values=model.values) == ["tate:", "id:", "ervice:", "etup:", "um:", "ince:"]
    assert candidates("ac:bras-", values=model.values)[:2] == ["1", "2"]


@given(st.text() | st.sampled_from(["autodial:", "state:", "!a", "name:|"]))
def test_completion_only_makes_a_filter_longer(text: str) -> None:
    assert complete(text).startswith(text) or not complete(text)


@given(st.text())
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    model = Model()
    model.take(ScriptedEngine(2).snapshot())
    model.filter(text)
    assert set(model.shown) <= {0, 1}
    assert model.query.text == ("" if model.filter_error else text.strip())
    assert not model.filter_error or model.shown == [0, 1]


def test_a_bare_word_is_looked_for_in_every_column_of_text(model: Model) -> None:
    more = {"service": "gold", "ipv6": "fe80::77", "ipv6_prefixes": ("2001:db8:77::/56",), "tags": ("blue",)}
    view = replace(model.views[0], vlans=(417, 2003), reason="no echo", dns=("192.0.2.77",), **more)
    for column in [COLUMNS[key] for key in offered(several=False)]:
        if column.key not in NUMERIC:
            assert parse(f'"{column.text(view, model.meter)}"').matches(view, model.meter, ()), column.key
