"""Which of the instances of this program on the host we are, and what of theirs is ours to clear up.

Each holds a socket in the abstract namespace, which the kernel closes with it: whoever can have the name of another
instance knows that this is dead.
"""

from __future__ import annotations

import socket

from engine.egress.rule_tree import Rule
from engine.host.errors import HostError

TABLES = 0x50000000
"""Our tables: this, plus 65,536 for each instance on the host, plus one number for each session."""
MAX_INSTANCES = 256
_BUCKET, _BUCKETS = 256, 252
"""The kernel keeps tables in lists by their last octet, and walks one at each look-up. Those of the host's own tables,
253 to 255 for `default`, `main` and `local`, are left to these: 10,000 of ours would put 40 before each."""
DEAD_END = 0xFF00
"""In place of a session's number: the table that has no way at all."""
BY_DEVICE = 0xFF01
"""Likewise: the table with a way for what is bound to a session's device, of IPv6."""
BY_SOURCE, BY_NETWORK = 0xFF02, 0xFF03
"""Likewise: the tables of IPv6 where sessions' addresses and networks are told apart; see `engine.egress.by_source`."""
NO_SOURCE = 0xFF04
"""Likewise: the table of IPv6 where all of them lead nowhere."""
LAST_RULES = 33024
"""The least preference of rules that are asked when all of the host's own have found no way."""
FIRST_RULE = 10000
"""The least preference of our rules: before the main table's 32766."""
RULES = 4096
"""Preferences for each instance, for as many instances as there is room for; the others share what is left."""
MARK_RULES = 1024
"""Of these, for rules by mark, behind those by address."""
_WITH_ROOM = 5


class Instance:
    """The first free one, held until `close`."""

    def __init__(self) -> None:
        """Raises HostError."""
        for number in range(MAX_INSTANCES):
            claim = _claim(number)
            if claim is not None:
                self.number = number
                self._claim = claim
                self._dead: dict[int, bool] = {number: True}
                return
        raise HostError(f"{MAX_INSTANCES} instances of this program are running here already.")

    @property
    def tables(self) -> int:
        """The first of its tables."""
        return TABLES + (self.number << 16)

    @property
    def own_tables(self) -> range:
        """All that it may have."""
        return range(self.tables, self.tables + (1 << 16))

    def table(self, key: int) -> int:
        """The table of the session with this key."""
        row, place = divmod(key, _BUCKETS)
        return self.tables + row * _BUCKET + place

    def key(self, table: int) -> int:
        """The key of the session that has this table."""
        row, place = divmod(table - self.tables, _BUCKET)
        return row * _BUCKETS + place

    @property
    def dead_end(self) -> int:
        """Its table without any way."""
        return self.tables + DEAD_END

    @property
    def by_device(self) -> int:
        """Its table for what is bound to a device."""
        return self.tables + BY_DEVICE

    @property
    def by_source(self) -> int:
        """Its table of IPv6 addresses."""
        return self.tables + BY_SOURCE

    @property
    def by_network(self) -> int:
        """Its table of IPv6 networks."""
        return self.tables + BY_NETWORK

    @property
    def no_source(self) -> int:
        """Its table where what comes from any of these leads nowhere."""
        return self.tables + NO_SOURCE

    @property
    def no_source_rule(self) -> int:
        """The preference of the rule that leads there, behind all others."""
        return self.last_mark_rule + 1

    @property
    def source_rule(self) -> int:
        """The preference of the rule that leads to the table of addresses, before all others."""
        return self.first_rule - 1

    @property
    def by_device_rules(self) -> tuple[Rule, Rule]:
        """What leads there, behind the host's own tables; but what comes from ::1 leads nowhere."""
        preference = LAST_RULES + 2 * self.number
        return Rule(preference, 1, 128, table=self.dead_end), Rule(preference + 1, table=self.by_device)

    @property
    def first_rule(self) -> int:
        """The least preference of its rules."""
        return FIRST_RULE + min(self.number, _WITH_ROOM) * RULES

    @property
    def last_rule(self) -> int:
        """The greatest of its rules by address; those of networks have it and the next one."""
        return self.first_rule + (RULES - MARK_RULES - 2 if self.number < _WITH_ROOM else 0)

    @property
    def first_mark_rule(self) -> int:
        """The least preference of its rules by mark."""
        return self.last_rule + 2

    @property
    def last_mark_rule(self) -> int:
        """The greatest of all; the one behind it, before the next instance's first, is free."""
        return self.first_mark_rule + (MARK_RULES - 2 if self.number < _WITH_ROOM else 0)

    def inherits(self, rule: Rule) -> bool:
        """Whether a rule, which must be one of ours, is of a dead instance; of our own, before we have any."""
        number = _table_number(rule)
        if number is None:
            number = (rule.preference - FIRST_RULE) // RULES
        return 0 <= number < MAX_INSTANCES and self.is_dead(number)

    def inherits_table(self, table: int) -> bool:
        """Likewise, of a table, which may be anybody's."""
        number = (table - TABLES) >> 16
        return 0 <= number < MAX_INSTANCES and self.is_dead(number)

    def owns(self, rule: Rule) -> bool:
        """Whether a rule, which must be one of ours, is this instance's for certain."""
        number = _table_number(rule)
        if number is None:
            return self.number < _WITH_ROOM and self.first_rule <= rule.preference <= self.last_mark_rule
        return number == self.number

    def is_dead(self, number: int) -> bool:
        """Whether an instance is; looked at once."""
        if number not in self._dead:
            claim = _claim(number)
            self._dead[number] = claim is not None
            if claim is not None:
                claim.close()
        return self._dead[number]

    def close(self) -> None:
        """Let another have it."""
        self._claim.close()


def _table_number(rule: Rule) -> int | None:
    """The number of the instance whose table a rule leads to, None if it leads to none of ours."""
    return (rule.table - TABLES) >> 16 if rule.table is not None and not rule.within else None


def _claim(number: int) -> socket.socket | None:
    """A name that only one process of this network namespace can have, and that dies with it; None if it is taken."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        claim.bind(f"\0souppp-instance-{number}")
    except OSError:
        claim.close()
        return None
    return claim
