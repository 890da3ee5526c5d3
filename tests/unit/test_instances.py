"""The numbers of sessions' routing tables."""

from __future__ import annotations

from engine.egress.instances import Instance
from engine.settings.limits import MAX_SESSIONS


def test_no_table_of_ours_stands_in_the_way_to_the_hosts_own() -> None:
    """The kernel keeps tables in 256 lists by their last octet: main and local were behind 39 of 10,000 sessions'."""
    instance = Instance()
    tables = [instance.table(key) for key in range(MAX_SESSIONS)]
    assert not {table & 0xFF for table in [*tables, instance.dead_end]} & {253, 254, 255}
    assert [instance.key(table) for table in tables] == [*range(MAX_SESSIONS)]
    assert instance.tables <= min(tables) <= max(tables) < instance.dead_end < instance.tables + (1 << 16)
    instance.close()
