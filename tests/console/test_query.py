"""The filter language."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.api.commands import Dial, HangUp
from souppp_tui.model.model import Model
from souppp_tui.model.query import _NUMERIC, QueryError, complete, parse
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
    ],
)
def test_a_filter_that_means_nothing_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(QueryError, match=r"\w+"):
        parse(text)


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
    ],
)
def test_a_filter_is_completed(text: str, becomes: str) -> None:
    assert complete(text) == becomes


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
    view = replace(model.views[0], vlans=(417, 2003), dns=("192.0.2.77",), **more)
    for column in [COLUMNS[key] for key in offered(several=False)]:
        if column.key not in _NUMERIC:
            assert parse(f'"{column.text(view, model.meter)}"').matches(view, model.meter, ()), column.key
