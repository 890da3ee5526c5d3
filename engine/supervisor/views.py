"""Sessions as the console sees them: pure functions from a fleet's member to the values of `engine.api.values`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from engine.api.values import Details, Fact, LadderEntry, Ledger, SessionState, SessionView, Step
from engine.ppp.judge import Address
from engine.record.describe import describe
from engine.sessions.fleet import Member
from engine.sessions.session import Session
from engine.supervisor.handed import Proxied
from engine.wire.ethernet import format_mac


def session_view(
    key: int,
    member: Member,
    wall: Callable[[float], float],
    device: str | None,
    datapath: str | None,
    capturing: bool,
    draining: bool,
    queued: bool,
    netns: str | None,
    mark: int | None,
    proxied: Proxied,
    counted: tuple[int, int, int, int],
    counted_since: float,
    version: int,
) -> SessionView:
    """One session as it stands, for a version of the board; `wall` turns the engine's time into Unix time."""
    session = member.session
    settings = session.settings
    place, ipv4 = session.place, session.ipv4
    up = session.state is SessionState.UP
    return SessionView(
        id=key,
        name=settings.name,
        user=settings.user,
        service=settings.service,
        autodial=settings.autodial,
        state=session.state,
        since=wall(member.since),
        reason=session.lack or member.reason,
        retry_at=wall(member.redial_at) if member.redial_at is not None else None,
        ipv4=str(ipv4.address) if ipv4 is not None else None,
        ipv4_peer=str(ipv4.peer) if ipv4 is not None and ipv4.peer is not None else None,
        dns=settings.dns or tuple(map(str, _name_servers(session))),
        ipv6=str(session.ipv6.address) if session.ipv6 is not None else None,
        ipv6_addresses=tuple(map(str, session.ipv6_config.addresses)),
        ipv6_prefixes=tuple(map(str, session.ipv6_config.prefixes)),
        device=device,
        egress=settings.egress,
        datapath=datapath,
        session_id=place.session_id if place is not None else None,
        ac_name=session.ac_name,
        ac_mac=format_mac(place.peer_mac) if place is not None else None,
        local_mac=format_mac(session.own_mac),
        vlans=tuple(tag.vid for tag in settings.vlans),
        mtu=session.mtu,
        setup_ms=setup_ms(session) if up else None,
        up_since=wall(member.up_since) if member.up_since is not None else None,
        rtt_ms=rtt_ms(session),
        silent_since=wall(session.silent_since) if session.silent_since is not None else None,
        flaps=member.flaps,
        capturing=capturing,
        queued=queued,
        draining=draining,
        netns=netns,
        mark=mark,
        tags=session.next_settings.tags,
        proxy=proxied.listens,
        connections=proxied.connections,
        counted=counted,
        counted_since=counted_since,
        version=version,
    )


def _name_servers(session: Session) -> list[Address]:
    """Those that the provider names, but for the session's own addresses: at these this host would ask itself."""
    ipv4, ipv6, config = session.ipv4, session.ipv6, session.ipv6_config
    own = {ipv4.address if ipv4 is not None else None, ipv6.address if ipv6 is not None else None, *config.addresses}
    named: list[Address] = [*(ipv4.dns if ipv4 is not None else ()), *config.dns]
    return [each for each in named if each not in own]


def rtt_ms(session: Session) -> float | None:
    """Milliseconds that the latest answered echo took, while there are answers."""
    return session.rtt * 1000 if session.rtt is not None and session.silent_since is None else None


def addresses_of(view: SessionView) -> list[str]:
    """All that a session has been given by the provider and has now."""
    return [*([view.ipv4] if view.ipv4 else []), *view.ipv6_addresses, *view.ipv6_prefixes]


def setup_ms(session: Session) -> float | None:
    """Milliseconds from the first PADI to the address."""
    times = list(session.steps.values())
    if not times or times[-1][1] is None:
        return None
    return (times[-1][1] - times[0][0]) * 1000


SHOWN = 20
"""Addresses that details tell; the ledger has all."""
NO_LEDGER = Ledger()
STRAYS = {
    "not_for_us": "dropped coming in: not for us",
    "forged": "dropped coming in: source is our own, or nobody's",
    "not_from_us": "dropped going out: not from us",
    "not_open": "dropped coming in: no egress",
}
"""Words for what `Egress.strays` counts."""


def details(
    key: int,
    member: Member,
    now: float,
    wall: Callable[[float], float],
    usage: tuple[tuple[str, str], ...],
    strays: Mapping[str, int],
    proxied: Proxied,
    planned: Iterable[tuple[str, float]] = (),
    ledger: Ledger = NO_LEDGER,
) -> Details:
    """One session at full length; `wall` turns the engine's time into Unix time, `strays` are from its egress.

    `planned` is what else is to come, and when; `ledger` is what is remembered of it.
    """
    session = member.session
    facts = [Fact(name, f.asked, f.offered, f.agreed, f.refused) for name, f in list(session.facts.by_name.items())]
    steps = [
        Step(name, None if ended is None else (ended - began) * 1000)
        for name, (began, ended) in list(session.steps.items())
    ]
    ladder = []
    for seen in session.ladder():
        described = describe(seen.frame)
        ladder.append(LadderEntry(wall(seen.at), seen.sent, described.summary, described.fields))
    timers = [(name, wall(now + left)) for name, left in session.timers(now)]
    if member.redial_at is not None:
        timers.append(("next dial", wall(member.redial_at)))
    timers += [(name, wall(at)) for name, at in planned]
    lost = {words: strays[name] for name, words in STRAYS.items() if strays.get(name)}
    return Details(
        id=key,
        facts=tuple(facts),
        steps=tuple(steps),
        ladder=tuple(ladder),
        counters=tuple(sorted({**session.discards(), **lost}.items())),
        timers=tuple(timers),
        usage=usage,
        connections=proxied.open,
        talkers=proxied.talkers,
        ledger=replace(ledger, addresses=ledger.addresses[-SHOWN:]),
    )
