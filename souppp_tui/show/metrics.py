"""An engine's values as metrics, by Prometheus' conventions: base units, `_total` for what is counted. Pure.

Labels hold words of ours alone, and with `sessions` the sessions' names, but nothing that a client or a concentrator
says of itself: each other value of a label is another series, which the monitoring keeps for weeks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from engine.api.ending import EndKind
from engine.api.hello import Hello
from engine.api.messages import ClientView
from engine.api.values import (
    TRAFFIC_FIELDS,
    CardView,
    QueueView,
    SessionState,
    SessionView,
    Severity,
    Snapshot,
    Totals,
    unpack_traffic,
)

RECEIVE, TRANSMIT = "receive", "transmit"
"""Towards this host, and from it."""

Row = tuple[Sequence[str], float]
"""Values of the labels, and the number."""
_Kind = TypeVar("_Kind", bound=Enum)


def lost(release: str) -> Iterator[Metric]:
    """What is to be said while no engine can be reached; `release` is the exporter's."""
    yield from _exporter(False, release)


def metrics(
    snapshot: Snapshot, hello: Hello, clients: Iterable[ClientView], *, release: str, sessions: bool
) -> Iterator[Metric]:
    """All that is known of an engine. With `sessions` also each session's own, ten series each."""
    yield from _exporter(True, release)
    yield from _engine(snapshot, hello, clients)
    yield from _card(snapshot.card)
    yield from _states(snapshot.sessions)
    at_once = "Sessions that may be on their way up at once, as things stand."
    yield _gauge("souppp_dials_at_once", at_once, [], [((), snapshot.pace)])
    yield from _totals(snapshot.totals)
    yield from _echoes(snapshot.sessions)
    traffic = unpack_traffic(snapshot.traffic)
    packets, octets, sent_packets, sent_octets = (sum(traffic[field :: len(TRAFFIC_FIELDS)]) for field in range(4))
    yield _counter("souppp_traffic_packets", "IP packets of all sessions.", ["direction"], _both(packets, sent_packets))
    yield _counter("souppp_traffic_bytes", "Octets of these.", ["direction"], _both(octets, sent_octets))
    yield from _queues(snapshot.queues)
    if sessions:
        yield from _each(snapshot.sessions, traffic)


def _exporter(reached: bool, release: str) -> Iterator[Metric]:
    yield _gauge("souppp_up", "Whether the engine can be reached.", [], [((), reached)])
    yield InfoMetricFamily("souppp_exporter", "What tells this.", {"version": release})


def _engine(snapshot: Snapshot, hello: Hello, clients: Iterable[ClientView]) -> Iterator[Metric]:
    card = snapshot.card
    about = {
        "version": hello.release,
        "card": card.name,
        "driver": card.driver,
        "mode": card.mode,
        "zero_copy": str(card.zero_copy).lower(),
    }
    yield InfoMetricFamily("souppp_engine", "The engine, and how it uses its card.", about)
    yield _gauge("souppp_engine_start_time_seconds", "Unix time of its start.", [], [((), hello.since)])
    access = [client.writes for client in clients]
    rows = [(("command",), access.count(True)), (("look",), access.count(False))]
    yield _gauge("souppp_clients", "Who is attached to it, by what they may do.", ["access"], rows)


def _card(card: CardView) -> Iterator[Metric]:
    yield _gauge("souppp_card_carrier", "Whether the card is up and has a carrier.", [], [((), card.up)])
    yield _gauge("souppp_card_mtu_bytes", "The card's MTU.", [], [((), card.mtu)])


def _states(views: Sequence[SessionView]) -> Iterator[Metric]:
    states = dict.fromkeys(SessionState, 0)
    for view in views:
        states[view.state] += 1
    yield _gauge("souppp_sessions", "Sessions, by what they are doing.", ["state"], _named(SessionState, states))
    silent = sum(view.silent_since is not None for view in views)
    yield _gauge("souppp_sessions_silent", "Those whose echoes go unanswered just now.", [], [((), silent)])
    wanted = sum(view.autodial for view in views)
    yield _gauge("souppp_sessions_autodial", "Those that are dialled without being asked for.", [], [((), wanted)])


def _totals(totals: Totals) -> Iterator[Metric]:
    yield _counter("souppp_dials", "Attempts to open a session.", [], [((), totals.dials)])
    failures, ends = _named(EndKind, dict(totals.failures)), _named(EndKind, dict(totals.ends))
    yield _counter("souppp_dial_failures", "Those that came to no address, by why.", ["reason"], failures)
    yield _counter("souppp_session_ends", "Ends of sessions that had an address, by why.", ["reason"], ends)
    yield SummaryMetricFamily(
        "souppp_session_setup_seconds", "From the first PADI to the address.", totals.setups, totals.setup_seconds
    )
    levels = _named(Severity, dict(totals.events))
    yield _counter("souppp_events", "Events, by level.", ["level"], levels)


def _echoes(views: Sequence[SessionView]) -> Iterator[Metric]:
    times = sorted(view.rtt_ms / 1000 for view in views if view.rtt_ms is not None)
    text = "Round-trip of each session's latest LCP echo: the middle one, that which 95 in 100 don't exceed, the last."
    ranks = {"median": 0.5, "p95": 0.95, "max": 1.0} if times else {}
    rows = [((name,), times[round(share * (len(times) - 1))]) for name, share in ranks.items()]
    yield _gauge("souppp_echo_round_trip_seconds", text, ["rank"], rows)


def _queues(queues: Sequence[QueueView]) -> Iterator[Metric]:
    def rows(*columns: tuple[str, Callable[[QueueView], float]]) -> list[Row]:
        return [((str(queue.index), word), value(queue)) for queue in queues for word, value in columns]

    directed = ["queue", "direction"]
    packets = rows((RECEIVE, lambda it: it.rx_packets), (TRANSMIT, lambda it: it.tx_packets))
    yield _counter("souppp_queue_packets", "Frames of a queue of the card.", directed, packets)
    octets = rows((RECEIVE, lambda it: it.rx_bytes), (TRANSMIT, lambda it: it.tx_bytes))
    yield _counter("souppp_queue_bytes", "Octets of these.", directed, octets)
    drops = [((str(queue.index), reason), count) for queue in queues for reason, count in queue.drops]
    yield _counter("souppp_queue_drops", "Frames that were lost, by reason.", ["queue", "reason"], drops)
    verdicts = rows(
        ("redirected", lambda it: it.redirected), ("passed", lambda it: it.passed), ("failed", lambda it: it.failed)
    )
    text = "What the XDP program did: handed to the engine, left to the kernel, could not be handed over."
    yield _counter("souppp_queue_xdp_frames", text, ["queue", "verdict"], verdicts)
    fill = rows((RECEIVE, lambda it: it.rx_ring_fill), (TRANSMIT, lambda it: it.tx_ring_fill))
    yield _gauge("souppp_queue_ring_fill_ratio", "How full its ring is, 0 to 1.", directed, fill)
    cpu = [((str(queue.index),), queue.cpu) for queue in queues]
    yield _counter("souppp_queue_cpu_seconds", "CPU time of its thread.", ["queue"], cpu)


def _each(views: Sequence[SessionView], traffic: Sequence[int]) -> Iterator[Metric]:
    """Each session's own, by its name."""

    def rows(value: Callable[[SessionView], float | None]) -> Iterator[Row]:
        return (((view.name,), number) for view in views if (number := value(view)) is not None)

    def numbers(received: str, sent: str) -> Iterator[Row]:
        places = (RECEIVE, TRAFFIC_FIELDS.index(received)), (TRANSMIT, TRAFFIC_FIELDS.index(sent))
        for view in views:
            for word, field in places:
                place = view.id * len(TRAFFIC_FIELDS) + field
                yield (view.name, word), traffic[place] if place < len(traffic) else 0

    one, directed = ["session"], ["session", "direction"]
    about = InfoMetricFamily("souppp_session", "A session, and the device it is reached by.", labels=one)
    for view in views:
        about.add_metric([view.name], {"device": view.device or "", "datapath": view.datapath or ""})
    yield about
    up = rows(lambda it: it.state is SessionState.UP)
    yield _gauge("souppp_session_up", "Whether it has an address.", one, up)
    since = rows(lambda it: it.up_since)
    yield _gauge("souppp_session_start_time_seconds", "Unix time since when it has.", one, since)
    silent = rows(lambda it: it.silent_since is not None)
    yield _gauge("souppp_session_silent", "Whether its echoes go unanswered just now.", one, silent)
    echoes = rows(lambda it: it.rtt_ms / 1000 if it.rtt_ms is not None else None)
    yield _gauge("souppp_session_echo_round_trip_seconds", "Of its latest LCP echo.", one, echoes)
    flaps = rows(lambda it: it.flaps)
    yield _counter("souppp_session_flaps", "How often it was lost while it was up.", one, flaps)
    packets = numbers("rx_packets", "tx_packets")
    yield _counter("souppp_session_traffic_packets", "Its IP packets.", directed, packets)
    octets = numbers("rx_bytes", "tx_bytes")
    yield _counter("souppp_session_traffic_bytes", "Octets of these.", directed, octets)


def _named(kinds: type[_Kind], counts: Mapping[_Kind, int]) -> list[Row]:
    """A row for each kind, those that never occurred too: a rate has to begin somewhere."""
    return [((kind.name.lower(),), counts.get(kind, 0)) for kind in kinds]


def _both(received: int, sent: int) -> list[Row]:
    return [((RECEIVE,), received), ((TRANSMIT,), sent)]


def _gauge(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    made = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        made.add_metric(values, number)
    return made


def _counter(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """`name` without the `_total` that it gets."""
    made = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        made.add_metric(values, number)
    return made
