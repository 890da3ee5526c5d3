"""IPv6 in whole sessions: what their egress is told, what others may not have, what goes on in another process."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from engine.api.commands import HangUp
from engine.api.values import SessionState
from engine.lab.concentrator import LabSettings
from engine.sessions.policy import Way
from engine.settings.values import Dhcpv6
from tests.unit.supervisor.world import World, session
from tests.unit.test_resumed import next_world

LAB = LabSettings(any_account=True, any_password="lab")
BLOCKS = [IPv6Network(f"3fff:64:{n}::/48") for n in (2, 3)]
PREFIXES = [IPv6Network((int(block[0]) + (0x100 << 64), 56)) for block in BLOCKS]


def world(count: int = 2) -> World:
    settings = [session(f"s{n}", dhcpv6=Dhcpv6.ALWAYS, prefix=56) for n in range(count)]
    return World(settings, lab=LAB).open()


def configured(it: World) -> World:
    it.until(lambda: all(view.ipv6_prefixes for view in it.supervisor.board.views))
    return it


def test_the_egress_is_told_what_a_session_has() -> None:
    it = configured(world())
    for key, (block, prefix) in enumerate(zip(BLOCKS, PREFIXES, strict=True)):
        told, view = it.egress.addresses[key], it.supervisor.board.views[key]
        assert told.ipv6 is not None
        assert told.prefixes6 == (prefix,)
        assert len(told.global6) == 2
        assert all(address in block for address in told.global6)
        assert view.ipv6_addresses == tuple(map(str, told.global6))
        assert view.ipv6_prefixes == (str(prefix),)
        assert "3fff:64::53" in view.dns


def test_a_hang_up_gives_everything_back_first() -> None:
    it = configured(world(1))
    (subscriber,) = it.concentrator.subscribers.values()
    assert subscriber.router is not None
    server = subscriber.router.dhcp
    it.do(HangUp((0,)))
    it.until(lambda: it.state(0) is SessionState.DOWN)
    assert server.released == 1
    view = it.supervisor.board.views[0]
    assert (view.ipv6_addresses, view.ipv6_prefixes, 0 in it.egress.addresses) == ((), (), False)


def test_what_the_host_has_or_uses_is_not_taken() -> None:
    it = World([session("s", dhcpv6=Dhcpv6.ALWAYS, prefix=56)], lab=LAB)
    leased = BLOCKS[0][0xD]
    it.egress.ways[leased] = Way("lan0", IPv6Network((leased, 64), strict=False))
    it.egress.claims[PREFIXES[0]] = "has 3fff:64:2:101::1 in it, this host's own address on lan0"
    it.open()
    it.run(10.0)
    view = it.supervisor.board.views[0]
    assert view.state is SessionState.UP
    assert len(view.ipv6_addresses) == 1
    assert view.ipv6_prefixes == ()
    assert [event.text for event in it.events("notice")] == [
        f"The IPv6 address {leased} isn't taken: it is in 3fff:64:2::/64, a network of this host on lan0.",
        f"The delegated prefix {PREFIXES[0]} isn't taken: it {it.egress.claims[PREFIXES[0]]}.",
    ]


def test_what_another_session_has_is_not_taken() -> None:
    it = configured(world())
    for subscriber in it.concentrator.subscribers.values():
        assert subscriber.router is not None
        subscriber.router.dhcp.prefix = PREFIXES[0].supernet(4)
        subscriber.router.dhcp.address = IPv6Address(BLOCKS[0][0xD])
    it.run(1900.0)  # to the renewals
    texts = [event.text for event in it.events("notice")]
    assert f"The IPv6 address {BLOCKS[0][0xD]} isn't taken: it belongs to session s0." in texts
    assert f"The delegated prefix {PREFIXES[0].supernet(4)} isn't taken: it has something of session s0." in texts


def test_another_process_goes_on_with_all_of_it() -> None:
    settings = [session(f"s{n}", dhcpv6=Dhcpv6.ALWAYS, prefix=56) for n in range(2)]
    before = configured(world())
    before.run(100.0)
    had = {view.name: view for view in before.supervisor.board.views}
    after = next_world(before, settings)
    after.run(0.2)
    for view in after.supervisor.board.views:
        for what in ("state", "ipv6", "ipv6_addresses", "ipv6_prefixes", "dns"):
            assert getattr(view, what) == getattr(had[view.name], what), what
        told = after.egress.addresses[view.id]
        assert tuple(map(str, told.prefixes6)) == view.ipv6_prefixes
    assert not after.events("notice")
    after.run(8000.0)
    assert {view.name: view.ipv6_prefixes for view in after.supervisor.board.views} == {
        name: view.ipv6_prefixes for name, view in had.items()
    }
