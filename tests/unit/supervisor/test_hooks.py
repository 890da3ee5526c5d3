"""Which hook runs when, and what it is told: in virtual time, with the real supervisor."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.api.commands import Dial, Edit, HangUp, Redial, Remove, Rotate
from engine.api.values import SessionState
from engine.lab.concentrator import LabSettings
from engine.lab.faults import FAULTS
from engine.settings.values import HookSettings
from engine.supervisor.hooks import AT_ONCE, HookResult, HookRun, clean
from tests.unit.supervisor.world import World, session

UP = SessionState.UP
HOOKS = HookSettings(("/bin/up", "fast"), ("/bin/down",), ("/bin/changed",))


class Programs:
    """Implements `HookRunner`: programs that end at once, or when they are told to."""

    def __init__(self, slow: bool = False) -> None:
        self.world: World | None = None
        self.slow = slow
        self.runs: list[HookRun] = []
        self.running: list[HookRun] = []

    def start(self, run: HookRun) -> None:
        self.runs.append(run)
        self.running.append(run)
        assert len({each.key for each in self.running}) == len(self.running), "one at a time per session"
        assert len(self.running) <= AT_ONCE

    def end(self, **result: Any) -> None:
        """The first that runs ends."""
        run = self.running.pop(0)
        assert self.world is not None
        self.world.supervisor.note_hook(HookResult(run.key, **result), self.world.now)

    @property
    def events(self) -> list[str]:
        return [run.event for run in self.runs]


def made(*sessions: Any, slow: bool = False) -> tuple[World, Programs]:
    programs = Programs(slow)
    world = World(sessions, hooks=programs)
    programs.world = world
    return world.open(), programs


def run_on(world: World, programs: Programs, seconds: float) -> None:
    """Let time go by; programs end at once."""
    end = world.now + seconds
    while world.now < end:
        world.run(0.05)
        while programs.running and not programs.slow:
            programs.end()


def test_a_session_tells_that_it_is_up_what_has_changed_and_that_it_is_down() -> None:
    world, programs = made(session("one", hooks=HOOKS, dns=("192.0.2.53", "2001:db8::53")))
    run_on(world, programs, 2.0)
    view = world.view()
    assert view.dns == ("192.0.2.53", "2001:db8::53"), "the operator's, not the provider's"
    assert programs.events == ["up"]
    run = programs.runs[0]
    assert (run.arguments, run.timeout) == (("/bin/up", "fast"), 30.0)
    told = dict(run.environment)
    assert told["SOUPPP_EVENT"] == "up"
    assert told["SOUPPP_SESSION"] == "one"
    assert told["SOUPPP_DEVICE"] == "soup0"
    assert told["SOUPPP_IPV4"] == view.ipv4
    assert told["SOUPPP_DNS"] == " ".join(view.dns)
    assert told["SOUPPP_REASON"] == ""
    assert "lab" not in told.values(), "no password"
    world.do(Rotate((0,)))
    run_on(world, programs, 3.0)
    assert programs.events == ["up", "down", "up"]
    down = programs.runs[1].environment
    assert (down["SOUPPP_IPV4"], down["SOUPPP_REASON"]) == (told["SOUPPP_IPV4"], "Hung up for another address.")
    assert programs.runs[2].environment["SOUPPP_IPV4"] == world.view().ipv4 != told["SOUPPP_IPV4"]
    world.do(Remove((0,)))
    run_on(world, programs, 1.0)
    assert programs.events == ["up", "down", "up", "down"]
    assert not world.supervisor.hooks.busy
    assert not world.events("hook")


def test_other_addresses_while_it_is_up_are_a_change_and_little_else_is() -> None:
    world, programs = made(session("one", hooks=HOOKS))
    run_on(world, programs, 2.0)
    view, hooks = world.view(), world.supervisor.hooks
    programs.runs.clear()
    others = {"ipv4": "192.0.2.9", "ipv6_addresses": ("2001:db8::9",), "ipv6_prefixes": ("2001:db8:9::/56",)}
    for name, value in {**others, "dns": ("192.0.2.53", "2001:db8::53")}.items():
        hooks.look(0, replace(view, **{name: value, "mtu": 1400, "rtt_ms": 7.0}), HOOKS)
        programs.end()
        told = programs.runs[-1].environment
        assert told["SOUPPP_EVENT"] == "changed"
        assert told["SOUPPP_IPV4_BEFORE"] == (view.ipv4 if name == "ipv4" else "192.0.2.9")
        view = replace(view, **{name: value})
    assert (told["SOUPPP_IPV6"], told["SOUPPP_PREFIX"]) == ("2001:db8::9", "2001:db8:9::/56")
    assert told["SOUPPP_DNS"] == "192.0.2.53 2001:db8::53"
    assert len(programs.runs) == 4
    hooks.look(0, replace(view, mtu=1500, rtt_ms=1.0, connections=5), HOOKS)
    assert len(programs.runs) == 4


def test_a_slow_hook_is_followed_by_what_is_so_by_then() -> None:
    world, programs = made(session("one", hooks=HOOKS), slow=True)
    run_on(world, programs, 2.0)
    first = world.view().ipv4
    for _ in range(5):
        world.do(Rotate((0,)))
        run_on(world, programs, 3.0)
    assert programs.events == ["up"]
    programs.end()
    assert programs.events == ["up", "down"]
    assert programs.runs[1].environment["SOUPPP_IPV4"] == first
    programs.end()
    assert programs.events == ["up", "down", "up"]
    assert programs.runs[2].environment["SOUPPP_IPV4"] == world.view().ipv4
    programs.end()
    assert len(programs.runs) == 3

    world.do(HangUp((0,)))
    run_on(world, programs, 2.0)
    world.do(Dial((0,)))
    run_on(world, programs, 2.0)
    world.do(HangUp((0,)))
    run_on(world, programs, 2.0)
    programs.end()
    assert programs.events[3:] == ["down"]
    assert programs.runs[-1].environment["SOUPPP_REASON"] == "Hung up by you."


def test_no_more_than_so_many_run_at_once() -> None:
    world, programs = made(*(session(f"s{n}", hooks=HOOKS) for n in range(30)), slow=True)
    run_on(world, programs, 3.0)
    assert world.states() == {UP}
    assert len(programs.running) == AT_ONCE
    world.do(HangUp((29,)))
    run_on(world, programs, 2.0)
    while programs.running:
        programs.end()
    assert programs.events == ["up"] * 29, "the last one went before its turn"
    assert {run.key for run in programs.runs} == set(range(29))


def test_what_a_hook_says_and_how_it_ends_are_events() -> None:
    world, programs = made(session("one", hooks=HOOKS), session("two", hooks=HOOKS), slow=True)
    run_on(world, programs, 2.0)
    programs.end(output="all \x1b[31mwell\x00\n" * 100)
    programs.end(failure="ended with exit status 3", output="no such route\n")
    (said,), (failed,) = world.events("hook"), world.events("hook-failed")
    assert said.text.startswith("The hook up says: all [31mwell all")
    assert len(said.text) < 500
    assert said.text.isprintable()
    assert failed.text == "The hook up (/bin/up) ended with exit status 3: no such route"
    assert failed.session == 1


def test_a_hook_that_is_set_later_is_told_of_a_session_that_is_up() -> None:
    world, programs = made(session("one"))
    run_on(world, programs, 2.0)
    assert not programs.runs
    world.do(Edit(0, session("one", hooks=HookSettings(down=("/bin/down",)))))
    assert not programs.runs
    world.do(Edit(0, session("one", hooks=HOOKS)))
    world.do(Redial((0,)))
    run_on(world, programs, 3.0)
    assert programs.events == ["down", "up"]
    world.do(Edit(0, session("one")))
    world.do(Redial((0,)))
    run_on(world, programs, 3.0)
    assert len(programs.runs) == 2


def test_sessions_that_go_on_in_another_process_are_no_news() -> None:
    world, programs = made(session("one", hooks=HOOKS), session("two", hooks=HOOKS, autodial=False))
    run_on(world, programs, 2.0)
    kept = world.supervisor.fleet.keep()
    other = Programs()
    after = World([session("one", hooks=HOOKS), session("two", hooks=HOOKS, autodial=False)], hooks=other)
    other.world = after
    after.segment.concentrators[:] = world.segment.concentrators
    after.segment.now = world.now
    after.supervisor.open(after.now, kept)
    run_on(after, other, 3.0)
    assert after.view().ipv4 == world.view().ipv4
    assert not other.runs
    after.do(Dial((1,)))
    after.do(HangUp((0,)))
    run_on(after, other, 3.0)
    assert sorted(other.events) == ["down", "up"]


def test_what_comes_from_the_line_is_plain_text() -> None:
    assert clean("a\x00b\n c\u2028\x1b[0m" + "x" * 1000, 20) == "a b c [0mxxxxxxxxxxx"
    lab = LabSettings(any_account=True, any_password="lab")
    programs = Programs()
    world = World([session("one", hooks=HOOKS)], lab=lab, hooks=programs)
    programs.world = world
    world.open()
    run_on(world, programs, 2.0)
    FAULTS["PADT"](world.concentrator, next(iter(world.concentrator.subscribers)), world.now)
    run_on(world, programs, 3.0)
    assert programs.events[:2] == ["up", "down"]
    assert all(value.isprintable() for run in programs.runs for value in run.environment.values())
    assert programs.runs[1].environment["SOUPPP_REASON"]
