"""Order, cursor, marks, rates and totals."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.commands import Add, Dial, HangUp, Redial, Remove
from engine.api.values import SessionState, Severity, pack_traffic, unpack_traffic
from engine.settings.values import SessionSettings
from souppp_tui.model.model import CALM, KEPT_EVENTS, EventLog, Model
from souppp_tui.model.traffic import Meter
from souppp_tui.show.columns import COLUMNS, GAP, USUAL, cells, layout, natural
from souppp_tui.show.overview import overview
from souppp_tui.show.words import life
from tests.console.scripted import ScriptedEngine


def told(engine: ScriptedEngine, looks: int = 3) -> Model:
    """A model that has looked a few times."""
    model = Model()
    model.take(engine.snapshot())
    for _ in range(looks):
        engine.advance(0.5)
        model.take(engine.snapshot())
    return model


def test_the_cursor_stays_on_its_session_through_sort_and_filter() -> None:
    model = told(ScriptedEngine(100))
    model.move_to(41)
    here = model.cursor
    model.sort_by("name", reverse=True)
    assert model.cursor == here
    assert model.position[41] == 58
    model.filter("ac:bras-3")
    assert model.cursor == here
    model.filter("")
    assert model.cursor == here


def silenced(model: Model, *sessions: int) -> Model:
    """These sessions have had no answer for 12 s."""
    snapshot = model.snapshot
    assert snapshot is not None
    views = [
        replace(view, silent_since=snapshot.at - 12 if view.id in sessions else None, rtt_ms=None)
        for view in snapshot.sessions
    ]
    model.take(replace(snapshot, sessions=tuple(views)))
    return model


def test_sessions_without_an_answer_are_counted_filtered_and_sorted_as_that() -> None:
    model = silenced(told(ScriptedEngine(8)), 2, 5)

    def header(width: int) -> str:
        return "".join(text for text, _ in overview(model.snapshot, model.totals(), frozen=False, width=width))

    assert "6 up · 2 no answer" in header(160)
    assert "● 6  ! 2" in header(30)
    for text, wanted in (("state:silent", [2, 5]), ("no answer", [2, 5]), ("!silent", [0, 1, 3, 4, 6, 7])):
        model.filter(text)
        assert model.shown == wanted
    model.filter("state:up")
    assert len(model.shown) == 8, "they are up all the same"
    model.sort_by("state")
    assert model.shown[-2:] == [2, 5]
    row = "".join(text for _, text in cells(model.views[2], layout(USUAL, 76), model.meter))
    assert "no answer for 12 s" in row
    assert model.views[2].ipv4 is not None
    assert model.views[2].ipv4 in row
    model = silenced(model)
    assert "8 up" in header(160)
    assert "no answer" not in header(160)


def test_a_session_that_is_filtered_away_hands_the_cursor_to_its_neighbour() -> None:
    model = told(ScriptedEngine(9))
    model.move_to(4)
    model.filter("ac:bras-1")
    assert model.cursor in model.shown


def test_the_cursor_survives_the_removal_of_its_session() -> None:
    engine = ScriptedEngine(5)
    model = told(engine)
    model.move_to(4)
    model.marks = {4, 1}
    engine.submit(Remove((4,)))
    engine.advance(0.5)
    model.take(engine.snapshot())
    assert model.cursor == 3
    assert model.marks == {1}
    engine.submit(Remove(tuple(range(4))))
    engine.advance(0.5)
    model.take(engine.snapshot())
    assert model.cursor is None
    assert model.targets() == []


@given(st.lists(st.tuples(st.sampled_from(["move", "sort", "filter", "mark", "range", "all", "none", "step", "remove"]),
                          st.integers(-40, 40)), max_size=25))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_one_does_cursor_and_marks_are_sessions_that_exist(doings: list[tuple[str, int]]) -> None:
    engine = ScriptedEngine(30, failing=4)
    model = told(engine, 1)
    keys = [None, *COLUMNS]
    filters = ["", "failed", "ac:bras-2", "rx>1", "!up"]
    for what, number in doings:
        marks = set(model.marks)
        match what:
            case "move":
                model.move(number)
            case "sort":
                model.sort_by(keys[number % len(keys)], number < 0)
                assert model.marks == marks
            case "filter":
                model.filter(filters[number % len(filters)])
                assert model.marks == marks
            case "mark":
                model.toggle_mark()
            case "range":
                model.mark_range()
            case "all":
                model.mark_shown()
            case "none":
                model.unmark()
            case "remove":
                engine.submit(Remove((abs(number) % 30,)))
                engine.advance(0.5)
                model.take(engine.snapshot())
            case _:
                engine.submit(Redial(tuple({abs(number) % 30} & model.views.keys())))
                engine.advance(0.5)
                model.take(engine.snapshot())
        assert (model.cursor in model.position) == bool(model.shown)
        assert model.marks <= model.views.keys()
        assert [model.position[session] for session in model.shown] == list(range(len(model.shown)))
        sessions = engine.snapshot().sessions
        assert +model.lives == Counter(map(life, sessions))
        assert model.flaps == sum(view.flaps for view in sessions)
        assert list(model.views.values()) == list(sessions)
        if not model.query.text:
            assert sorted(model.shown) == [view.id for view in sessions]
        elif model.query.text in ("failed", "!up"):
            wanted = {view.id for view in sessions if model.query.matches(view, model.meter, model.marks)}
            assert set(model.shown) == wanted


def test_a_range_goes_from_the_last_mark_to_the_cursor_in_the_order_shown() -> None:
    model = told(ScriptedEngine(20))
    model.sort_by("name", reverse=True)
    model.move_to(2)
    model.toggle_mark()
    model.move_to(5)
    assert model.mark_range() == 4
    assert model.marks == {17, 16, 15, 14}


def test_sorting_puts_what_is_unknown_last_either_way() -> None:
    engine = ScriptedEngine(6)
    engine.submit(HangUp((1, 4)))
    model = told(engine)
    model.sort_by("address")
    assert model.shown == [0, 2, 3, 5, 1, 4]
    model.sort_by("address", reverse=True)
    assert model.shown == [5, 3, 2, 0, 1, 4]


def test_names_sort_as_people_count() -> None:
    assert sorted(["home-10", "home-9", "Home-1", "home"], key=natural) == ["home", "Home-1", "home-9", "home-10"]


def test_addresses_sort_as_numbers() -> None:
    """As text `2001:db8:a::` is before `2001:db8:9::`, and `…:1::` of eight groups before `::2`."""
    engine = ScriptedEngine(5)
    addresses = ["2001:db8:a::/56", "2001:db8:9::/56", "::2/64", "not an address", ""]
    views = [
        replace(view, ipv6_prefixes=(text,) if text else (), dns=("10.0.0.10", text) if place else ("9.9.9.9",))
        for place, (view, text) in enumerate(zip(engine.snapshot().sessions, addresses, strict=True))
    ]
    model = Model()
    model.take(replace(engine.snapshot(), sessions=tuple(views)))
    model.sort_by("prefix")
    assert model.shown == [2, 1, 0, 3, 4]
    model.sort_by("dns")
    assert model.shown == [0, 1, 2, 3, 4]


def test_rates_follow_traffic_and_order_stays_calm_between_sorts() -> None:
    engine = ScriptedEngine(10, busy=0)
    model = told(engine)
    model.sort_by("rx", reverse=True)
    snapshot = engine.snapshot()
    numbers = unpack_traffic(snapshot.traffic)
    for second, first in ((1.0, 0), (2.0, 7)):
        numbers[7 * 4 + 1] += 1_000_000
        model.take(replace(snapshot, at=snapshot.at + second, traffic=pack_traffic(numbers)))
        assert model.meter.rates(7).rx_bits == 8_000_000
        assert model.shown[0] == first, f"sorted every {CALM} s"
    model.take(replace(snapshot, at=snapshot.at + 3.0, traffic=pack_traffic(numbers)))
    assert model.meter.rates(7).rx_bits == 0


def test_a_session_added_later_has_no_rate_yet() -> None:
    engine = ScriptedEngine(1, busy=5)
    model = told(engine)
    engine.submit(Add(SessionSettings("new")))
    engine.advance(0.5)
    model.take(engine.snapshot())
    assert model.meter.rates(1).rx_bits == 0
    assert model.shown == [0, 1]


def test_totals_and_set_up_rate() -> None:
    engine = ScriptedEngine(20, up=False, failing=5)
    model = told(engine, 1)
    engine.submit(Dial(tuple(range(20))))
    for _ in range(4):
        engine.advance(0.5)
        model.take(engine.snapshot())
    assert model.lives["up"] == 16
    assert model.lives["failed"] == 4
    assert model.setup_rate() == 16 / 5
    engine.advance(6)
    model.take(engine.snapshot())
    assert model.setup_rate() == 0


def test_the_zero_baseline_counts_flaps_from_now() -> None:
    engine = ScriptedEngine(3)
    engine.change(1, flaps=7)
    model = told(engine)
    assert model.flaps - model.baseline_flaps == 7
    model.zero()
    engine.change(1, flaps=9)
    engine.advance(0.5)
    model.take(engine.snapshot())
    assert model.flaps - model.baseline_flaps == 2


def test_the_meter_draws_a_graph_of_the_last_minutes() -> None:
    engine = ScriptedEngine(2, busy=1)
    meter = Meter()
    for _ in range(40):
        engine.advance(0.5)
        meter.take(engine.snapshot())
    received, _ = meter.graph(0)
    assert len(received) == 3
    assert all(value > 1_000_000 for value in received)
    assert meter.graph(1)[0] == [0.0, 0.0, 0.0]


@given(st.integers(1, 300), st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
def test_columns_fit_whatever_the_width(width: int, keys: list[str]) -> None:
    places = layout(keys, width)
    assert places
    assert sum(place.width for place in places) + GAP * (len(places) - 1) <= max(width, 1)
    assert [place.column.key for place in places] == [key for key in keys if key in {p.column.key for p in places}]


def test_the_most_important_columns_stay_longest() -> None:
    kept = [place.column.key for place in layout(USUAL, 75)]
    assert kept == ["name", "state", "address", "uptime", "rx", "tx"]


def test_a_reason_runs_over_the_empty_cells_after_it() -> None:
    engine = ScriptedEngine(1, up=False)
    engine.change(0, state=SessionState.FAILED, reason="wrong password", retry_at=engine.wall + 42)
    model = told(engine, 0)
    row = cells(model.views[0], layout(USUAL, 75), model.meter)
    assert row[1][1].strip() == "failed · wrong password (retry in 42 s)"


@pytest.mark.parametrize("width", [54, 60, 74])
def test_the_time_of_the_next_try_is_there_in_a_narrow_window(width: int) -> None:
    engine = ScriptedEngine(1, up=False)
    engine.change(0, state=SessionState.FAILED, reason="no common authentication", retry_at=engine.wall + 600)
    model = told(engine, 0)
    assert cells(model.views[0], layout(USUAL, width), model.meter)[1][1].rstrip().endswith("in 10 min)")


def test_the_log_counts_what_it_cannot_keep() -> None:
    engine = ScriptedEngine(1)
    log = EventLog()
    for number in range(2100):
        engine.emit(f"Event {number}.", Severity.ERROR if number % 2 else Severity.INFO)
    log.take(*engine.events_since(0))
    assert log.lost == 100
    assert len(log.matching(Severity.ERROR, "event 21")) == 5
    for _round in range(KEPT_EVENTS // 2000):
        for _ in range(2000):
            engine.emit("More.")
        log.take(*engine.events_since(log.seq))
    assert len(log.events) == KEPT_EVENTS
    assert log.lost == 100 + 2000


def test_looking_at_one_that_is_lost_fills_no_memory() -> None:
    """It shows the same moment again and again."""
    engine, model = ScriptedEngine(3, busy=3), Model()
    for _ in range(4):
        engine.advance(0.5)
        model.take(engine.snapshot())
    meter = model.meter
    assert isinstance(meter, Meter)
    rates, sparks, held = meter.total(), len(meter.sparks[0]), len(meter._recent)
    for _ in range(50):
        model.take(engine.snapshot())
    assert (meter.total(), len(meter.sparks[0]), len(meter._recent)) == (rates, sparks, held)


def test_a_clock_that_jumps_makes_no_number_absurd() -> None:
    """A host that gets its time only after the console has begun, or puts it back."""
    engine, model = ScriptedEngine(6, busy=6, failing=3), Model()
    model.sort_by("rx", reverse=True)
    model.filter("since>1s")
    places = layout(tuple(COLUMNS), 1000)
    for jump in (0.0, 0.0, 86_400.0, 0.0, -7_200.0, 0.0, 0.0, 0.0):
        engine.epoch += jump
        engine.advance(0.5)
        model.take(engine.snapshot())
        rates = model.totals().rates
        assert 0 <= rates.rx_bits < 1e12
        shown = [text.strip() for view in model.views.values() for _, text in cells(view, places, model.meter)]
        assert not [text for text in shown if text.startswith("-")]
    assert rates.rx_bits > 0
    assert model.setup_rate() >= 0
