"""What the exporter says of an engine: by Prometheus' conventions, and in our own words but for sessions' names."""

from __future__ import annotations

from array import array

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from engine.api.commands import Remove
from engine.api.hello import Hello
from engine.api.messages import ClientView
from engine.api.values import Severity, Snapshot, pack_traffic
from souppp_tui.show import metrics
from tests.promtool import judged
from tests.unit.served.world_engine import WorldEngine

HELLO = Hello(release="1.2.3", card="eth9", since=1_800_000_000.0)
CLIENTS = [ClientView(n, "root", n, f"program {n}", 0.0, n > 0) for n in range(3)]


def page(snapshot: Snapshot, sessions: bool = True) -> bytes:
    """As it is fetched."""

    class Collector:
        def collect(self) -> list[Metric]:
            return [*metrics.metrics(snapshot, HELLO, CLIENTS, release="1.2.4", sessions=sessions)]

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    return generate_latest(registry)


def samples(snapshot: Snapshot, sessions: bool = True) -> dict[str, dict[tuple[str, ...], float]]:
    """By name and values of labels, in the labels' order."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(page(snapshot, sessions).decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample} twice"
            found[sample.name][labels] = sample.value
    return found


@pytest.fixture
def engine() -> WorldEngine:
    it = WorldEngine(3, autodial=True)
    it.run(3.0)
    return it


def test_it_says_what_the_engine_does(engine: WorldEngine) -> None:
    numbers = array("Q", range(100, 112))
    engine.traffic = pack_traffic(numbers)
    told = samples(engine.snapshot())
    assert told["souppp_up"] == {(): 1}
    assert told["souppp_engine_start_time_seconds"] == {(): HELLO.since}
    assert told["souppp_clients"] == {("command",): 2, ("look",): 1}
    assert told["souppp_sessions"][("up",)] == sum(told["souppp_sessions"].values()) == 3
    assert told["souppp_dials_at_once"] == {(): engine.snapshot().pace} != {(): 0}
    assert told["souppp_dials_total"] == told["souppp_session_setup_seconds_count"] == {(): 3}
    assert told["souppp_events_total"][("error",)] == 0
    assert sum(told["souppp_events_total"].values()) == engine.snapshot().events
    assert told["souppp_session_up"] == dict.fromkeys([("s0",), ("s1",), ("s2",)], 1)
    assert told["souppp_session_traffic_bytes_total"][("transmit", "s1")] == numbers[4 + 3]
    assert told["souppp_traffic_bytes_total"][("transmit",)] == sum(numbers[3::4])
    assert told["souppp_traffic_packets_total"][("receive",)] == sum(numbers[0::4])


def test_a_judge_finds_nothing_wrong(engine: WorldEngine) -> None:
    judged("check", "metrics", given=page(engine.snapshot()))


def test_without_the_switch_no_session_is_named(engine: WorldEngine) -> None:
    names = [view.name for view in engine.snapshot().sessions]
    told = page(engine.snapshot(), sessions=False).decode()
    assert not [name for name in names if f'"{name}"' in told]
    assert [name for name in names if f'"{name}"' in page(engine.snapshot()).decode()] == names


def test_what_is_gone_leaves_nothing(engine: WorldEngine) -> None:
    engine.submit(Remove((1,)))
    engine.run(3.0)
    told = samples(engine.snapshot())
    assert told["souppp_session_up"].keys() == {("s0",), ("s2",)}
    assert not [name for name, rows in told.items() if any("s1" in labels for labels in rows)]


def test_round_trips_of_many(engine: WorldEngine) -> None:
    snapshot = engine.snapshot()
    views = [replace(snapshot.sessions[0], id=n, name=f"s{n}", rtt_ms=float(n)) for n in range(101)]
    told = samples(replace(snapshot, sessions=tuple(views)))
    assert told["souppp_echo_round_trip_seconds"] == {("median",): 0.05, ("p95",): 0.095, ("max",): 0.1}
    none = replace(snapshot, sessions=tuple(replace(view, rtt_ms=None) for view in snapshot.sessions))
    assert "souppp_echo_round_trip_seconds" not in samples(none)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a{b}", "größer", "a b"])
def test_any_name_comes_through(engine: WorldEngine, name: str) -> None:
    snapshot = engine.snapshot()
    views = tuple(replace(view, name=name) for view in snapshot.sessions[:1])
    assert samples(replace(snapshot, sessions=views))["souppp_session_up"] == {(name,): 1}


def test_labels_are_of_our_own_words(engine: WorldEngine) -> None:
    """What a concentrator, a client or an event says would be a new series each time."""
    views = tuple(
        replace(view, ac_name="evil", user="evil", reason="evil", ipv4="evil") for view in engine.snapshot().sessions
    )
    engine.world.supervisor.tell(Severity.ERROR, "evil", "evil")
    told = page(replace(engine.snapshot(), sessions=views))
    assert b"evil" not in told
    assert b"program 1" not in told


def test_without_an_engine_it_says_that_alone() -> None:
    (up, about) = metrics.lost("1.2.4")
    assert [(sample.name, sample.value) for sample in up.samples] == [("souppp_up", 0)]
    assert about.samples[0].labels == {"version": "1.2.4"}
