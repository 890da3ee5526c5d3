"""What sessions have carried: over redials, resets and restarts, and how busy they were in a month."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

import msgspec
import pytest

from engine.api.commands import Redial, Remove, ResetCounters
from engine.api.values import SessionState, SessionView
from engine.record.counters import (
    CLASSES,
    RESOLUTION,
    Account,
    CountersError,
    CountersFile,
    Month,
    class_of,
    percentile,
)
from engine.supervisor.counting import SAMPLE, SHARE
from engine.supervisor.handed import Proxied
from souppp_tui.show.carried import carried
from tests.unit.supervisor.world import EPOCH, World, session


def had(world: World, key: int = 0) -> tuple[int, ...]:
    view: SessionView = world.view(key)
    return carried(view, world.traffic[4 * key : 4 * key + 4])


def grow(world: World, *numbers: int, key: int = 0) -> None:
    world.traffic += [0] * (4 * key + 4 - len(world.traffic))
    for place, number in enumerate(numbers, 4 * key):
        world.traffic[place] += number
    world.run(0.01)


def lines(world: World) -> dict[str, Account]:
    for share in world.supervisor.counting.finish():
        share()
    accounts = [msgspec.json.decode(line, type=Account) for line in world.supervisor.counting.lines()]
    return {account.name: account for account in accounts}


def test_what_is_carried_is_counted_over_redials_and_until_it_is_reset() -> None:
    world = World([session("one"), session("two")]).open()
    world.until(lambda: world.states() == {SessionState.UP})
    grow(world, 1, 100, 2, 200)
    world.do(Redial((0,)))
    world.run(2.0)
    grow(world, 1, 100, 2, 200)
    assert had(world) == (2, 200, 4, 400)
    assert world.view().counted_since == EPOCH
    version = world.supervisor.board.version
    reply = world.do(ResetCounters((0, 9)))
    assert (reply.done, [each.key for each in reply.refused]) == ((0,), [9])
    assert had(world) == (0, 0, 0, 0)
    assert world.view().counted_since == EPOCH + world.now
    assert world.supervisor.board.version == version + 1
    grow(world, 0, 7)
    assert had(world) == (0, 7, 0, 0)
    assert world.traffic[:4] == [2, 207, 4, 400], "what others measure goes on"


def test_another_run_goes_on_where_one_ended() -> None:
    world = World([session("one"), session("two")]).open()
    grow(world, 1, 100, 2, 200)
    known = lines(world)
    for ahead in (0, 1000):  # a process that was left the counters, and one that wasn't
        after = World([session("new"), session("one")], accounts=known)
        after.traffic = [0] * 4 + [ahead] * 4
        after.supervisor.board.keys = 2
        after.open()
        assert had(after, 1) == (1, 100, 2, 200)
        assert had(after, 0) == (0, 0, 0, 0)
        grow(after, 0, 11, key=1)
        assert had(after, 1) == (1, 111, 2, 200)
        assert lines(after).keys() == {"one"}, "who is not there any more is forgotten"
        after.do(Remove((1,)))
        after.run(1.0)
        assert not lines(after)


def test_proxied_connections_count_over_restarts_of_the_proxy() -> None:
    world = World([session("one")]).open()
    for opened, up, down in ((1, 10, 100), (3, 30, 300), (2, 20, 200)):
        world.supervisor.note_proxied({0: Proxied(opened=opened, up=up, down=down)}, world.now)
    assert world.supervisor.ledger(0).proxied == (5, 500, 50)
    world.do(ResetCounters((0,)))
    world.supervisor.note_proxied({0: Proxied(opened=4, up=20, down=201)}, world.now)
    assert world.supervisor.ledger(0).proxied == (2, 1, 0)
    assert lines(world)["one"].proxied == (2, 1, 0)


def test_samples_are_taken_every_five_minutes_and_put_into_months() -> None:
    world = World([session("one", autodial=False)]).open()
    world.run(30.0)
    for _ in range(20):
        grow(world, 0, 3_750_000, 0, 375_000)
        world.run(SAMPLE - 0.01)
    (month,) = world.supervisor.ledger(0).months
    assert month.month == datetime.fromtimestamp(EPOCH + world.now, UTC).strftime("%Y-%m")
    assert month.samples == 20
    assert 100_000 <= month.rx <= 100_000 * RESOLUTION
    assert 10_000 <= month.tx <= 10_000 * RESOLUTION
    world.run(40 * 86400.0)
    last, this = world.supervisor.ledger(0).months
    assert last.month < this.month
    assert (this.rx, this.tx) == (0.0, 0.0)


def test_the_samples_of_thousands_are_seen_to_in_shares() -> None:
    world = World([session(f"s{n}", autodial=False) for n in range(2 * SHARE + 1)]).open()
    world.run(SAMPLE)
    counting = world.supervisor.counting
    assert all(counting.months(key)[0].samples == 1 for key in counting)


def test_a_percentile_is_right_to_one_per_cent() -> None:
    chance = random.Random(5)
    for _ in range(50):
        rates = [chance.expovariate(1.0) * 10 ** chance.uniform(0, 11) for _ in range(chance.randint(1, 500))]
        month = Month("2026-11")
        for rate in rates:
            month.add(rate, 0.0)
        exact = sorted(rates)[ceil(len(rates) * 0.95) - 1]
        assert exact <= month.busy.rx <= max(exact, 1.0) * RESOLUTION * 1.0001
        assert month.busy.tx == 0.0
    assert percentile({}) == 0.0
    assert class_of(1e30) == CLASSES - 1


def test_a_month_of_a_session_takes_little(tmp_path: Path) -> None:
    month = Month("2026-11")
    for sample in range(31 * 288):
        month.add(1e4 * 1.001**sample, 1e9 / (1 + sample))
    assert len(Account("a", 0.0, months=[month, month]).line()) < 60_000


def test_the_file_is_read_again_and_what_is_torn_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "eth9.counters"
    assert CountersFile(path).load() == {}
    month = Month("2026-11")
    month.add(1e6, 1.0)
    account = Account("a name", 5.0, (1, 2, 3, 4), (5, 6, 7), [month])
    file = CountersFile(path)
    assert not file.save([account.line(), b'{"name": "torn', b"\xff", Account("other", 6.0).line()])
    assert CountersFile(path).load() == {"a name": account, "other": Account("other", 6.0)}
    file.rename("wan0")
    assert [each.name for each in tmp_path.iterdir()] == ["wan0.counters"]
    for octets in (b"", b"what?", b"souppp addresses 1\n"):
        path.write_bytes(octets)
        with pytest.raises(CountersError, match="move it away"):
            CountersFile(path).load()


def test_a_disk_that_fails_is_told_once(tmp_path: Path) -> None:
    file, line = CountersFile(tmp_path / "none" / "x.counters"), Account("one", 5.0, (1, 1, 1, 1)).line()
    assert "No such file" in file.save([line])
    assert file.save([line]) == ""
    (tmp_path / "none").mkdir()
    assert file.save([line]) == ""
    assert [*(tmp_path / "none").iterdir()]
    assert file.save([]) == ""
    assert not [*(tmp_path / "none").iterdir()], "nothing to remember"


def test_who_has_carried_nothing_leaves_nothing_to_remember() -> None:
    world = World([session("one"), session("two")]).open()
    grow(world, 1, 1, 0, 0, key=1)
    world.run(2 * SAMPLE)
    assert lines(world).keys() == {"two"}


def test_at_the_end_sessions_are_brought_up_to_now_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.supervisor.counting.SHARE", 2)
    world = World([session(f"s{number}") for number in range(3)]).open()
    for key in range(3):
        grow(world, 1, 1, 0, 0, key=key)
    counting = world.supervisor.counting
    had = []
    for share in counting.finish():
        share()
        had.append(len(counting.lines()))
        world.do(Remove((0,)))  # who goes meanwhile is nobody's loss
        world.run(1.0)
    assert had == [2, 2]
    assert lines(world).keys() == {"s1", "s2"}
    assert counting.fresh is False
