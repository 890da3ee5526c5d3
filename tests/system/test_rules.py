"""The tree of routing rules in the kernel, which reads and deletes rules as the model of it in unit tests does."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest
from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETRULE
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from engine.egress.confinement import HARMLESS, Confinement
from engine.egress.instances import Instance
from engine.egress.requests import parse_rule, rule_request
from engine.egress.rule_tree import Rule, RuleTree
from engine.host.nft import Nft
from engine.host.rtnl import Rtnl, request
from tests.conftest import run
from tests.unit.test_rule_tree import FIRST, LAST, Kernel

pytestmark = pytest.mark.usefixtures("own_net")

QUESTION = request(fibmsg, RTM_GETRULE, NLM_F_DUMP, family=socket.AF_INET)
UNRESOLVED = 1 << 2
"""linux/fib_rules.h: FIB_RULE_UNRESOLVED, of a `goto` that leads nowhere."""
POOL = 0x64400000


@pytest.fixture
def rtnl() -> Iterator[Rtnl]:
    made = Rtnl()
    yield made
    made.close()


def there(rtnl: Rtnl) -> list[Rule]:
    """All of ours, in the kernel's order; each `goto` of them leads somewhere."""
    bodies = [body for body in rtnl.ask(QUESTION) if parse_rule(body) is not None]
    assert not any(body[8] & UNRESOLVED for body in bodies)
    return [rule for rule in map(parse_rule, bodies) if rule is not None]


def test_the_kernel_does_as_its_model_does(rtnl: Rtnl) -> None:
    chance = random.Random(7)
    tree, model = RuleTree(32, FIRST, LAST), Kernel(32)
    had: list[int] = []
    for number in range(900):
        coming = number < 500 or chance.random() < 0.2
        address = POOL + chance.randrange(1 << 11) if coming else chance.choice(had)
        steps = tree.lead(address, 1000 + number) if coming else tree.forget(address)
        if coming:
            had.append(address)
        for step in steps:
            model.do(step)
            rtnl.do([rule_request(step.add, socket.AF_INET, step.rule)])
        if number % 50 == 49:
            assert there(rtnl) == model.rules


def test_what_an_administrator_deletes_is_put_back_whatever_it_was(rtnl: Rtnl) -> None:
    chance = random.Random(7)
    instance = Instance()
    confinement = Confinement(rtnl, instance, time.monotonic())
    addresses = [POOL + each for each in chance.sample(range(1 << 11), 300)]
    for number, address in enumerate(addresses):
        confinement.open([IPv4Address(address)], 1000 + number, 1)
    whole = {*there(rtnl)}
    for _ in range(10):
        gone = chance.sample(sorted(whole, key=str), chance.randrange(1, len(whole)))
        rtnl.do([rule_request(False, socket.AF_INET, rule) for rule in gone], HARMLESS)
        assert confinement.mend_rules() == len(gone)
        assert {*there(rtnl)} == whole
        model = Kernel(32)
        model.rules = there(rtnl)
        assert [model.look_up(address)[0] for address in addresses] == [1000 + n for n in range(len(addresses))]
    confinement.close()
    instance.close()
    assert there(rtnl) == []


@pytest.mark.parametrize("last_words", range(0, 60, 7))
def test_a_next_process_takes_over_what_one_left_between_two_steps(rtnl: Rtnl, last_words: int) -> None:
    """It was killed while a row was being divided: nothing of it stays but that its addresses lead nowhere."""
    tree, left = RuleTree(32, FIRST, LAST), [POOL + 3 * number for number in range(40)]
    steps = [step for address in left for step in tree.lead(address, 0x50000000 + address % 250)]
    for step in steps[: len(steps) - last_words]:
        rtnl.do([rule_request(step.add, socket.AF_INET, step.rule)])
    led = {rule.source for rule in there(rtnl) if rule.table is not None}
    instance = Instance()
    confinement = Confinement(rtnl, instance, time.monotonic())
    model = Kernel(32)
    model.rules = there(rtnl)
    assert {address for address in left if model.look_up(address)[0] == instance.dead_end} == led
    assert {rule.table for rule in model.rules} <= {instance.dead_end, None}
    confinement.close()
    instance.close()
    assert there(rtnl) == []


class Killed(BaseException):
    """As good as: nothing is done after it."""


@pytest.mark.parametrize("second_layer", [True, False])
def test_a_take_over_that_is_cut_short_is_made_up_for_by_the_next(
    rtnl: Rtnl, second_layer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each call of the kernel: what one layer does not hold by then the other does."""
    if not second_layer:
        monkeypatch.setattr(Nft, "__init__", _refuse)
    addresses = [IPv4Address(POOL + 5 * number) for number in range(40)]
    instance = Instance()
    confinement = Confinement(rtnl, instance, time.monotonic())
    for number, address in enumerate(addresses):
        confinement.open([address], instance.table(number), 1)
    confinement.leave()
    confinement.close()
    calls, whole = 0, False
    while not whole:
        calls += 1
        with monkeypatch.context() as patched:
            left = iter(range(calls))
            patched.setattr(Rtnl, "do", lambda *words, do=Rtnl.do, left=left: _do_if_any(do, left, *words))
            try:
                Confinement(rtnl, instance, time.monotonic()).leave()
                whole = next(left, None) is not None
            except Killed:
                whole = False
        model = Kernel(32)
        model.rules = there(rtnl)
        led = {address for address in addresses if model.look_up(int(address))[0] is not None}
        assert led == {*addresses} or second_layer
        held = run("nft", "list", "ruleset") if second_layer else ""
        assert all(f"{address}" in held for address in addresses if address not in led)
    assert led == {*addresses}
    assert calls > 5
    Confinement(rtnl, instance, time.monotonic()).close()
    instance.close()
    assert there(rtnl) == []


def _refuse(*_: object) -> None:
    raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")


def _do_if_any(do: Callable[..., None], left: Iterator[int], *words: object) -> None:
    if next(left, None) is None:
        raise Killed
    do(*words)
