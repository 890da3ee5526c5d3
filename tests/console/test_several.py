"""Several engines in one console: the column, the filter, marks and commands across them, what is told of each."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

from engine.api.commands import Add, Dial, FixCard, HangUp, Refused, Reload, Reply, Shutdown, StartCapture
from engine.api.values import CardView, Severity
from souppp_tui.desk.options import ConsoleOptions
from souppp_tui.model.completing import complete
from souppp_tui.model.model import Model
from souppp_tui.show.columns import ENGINE, USUAL, offered, wanted
from souppp_tui.show.masking import event, view
from souppp_tui.show.words import event_line
from tests.console.conftest import Both, Stage, Start
from tests.console.scripted import ScriptedEngine

ATTACHED = ConsoleOptions(theme="dark", attached=True)


class Served(ScriptedEngine):
    """Takes what only a served one does."""

    def submit(self, command: object) -> Future[Reply]:
        if isinstance(command, Reload | Shutdown):
            self.commands.append(command)  # type: ignore[arg-type]
            future = Future[Reply]()
            future.set_result(Reply(1, remarks=("Nothing is different.",) * isinstance(command, Reload)))
            return future
        return super().submit(command)  # type: ignore[arg-type]


def opened(
    start: Start, both: Both, size: tuple[int, int] = (140, 40), options: ConsoleOptions = ATTACHED
) -> AbstractAsyncContextManager[Stage]:
    return start(engine=both, size=size, options=options)


def rows(stage: Stage, name: str) -> list[str]:
    return [line for line in stage.text().splitlines() if f" {name} " in line]


async def test_one_table_tells_of_each_session_which_engine_it_is_of(start: Start) -> None:
    async with opened(start, Both(ScriptedEngine(2), ScriptedEngine(3))) as stage:
        await stage.tick(2)
        assert "2 engines" in stage.line("souppp")
        assert "5 up" in stage.line("souppp")
        assert "ENGINE" in stage.line("NAME")
        one, two = rows(stage, "home-0001")
        assert " gate " in one
        assert " hub " in two
        await stage.press("slash", *"engine:hub", "enter")
        assert "3 of 5" in stage.text()
        assert not any(" gate " in line for line in rows(stage, "home-0001"))
        await stage.press("escape", "s", "s")
        assert "sort: engine" in stage.text()


async def test_with_one_engine_there_is_no_such_column(start: Start) -> None:
    async with start(2, size=(140, 40)) as stage:
        assert "ENGINE" not in stage.text()
        await stage.press("o")
        assert "ENGINE" not in stage.text()
        await stage.press("escape", "colon", *"sort engine")
        assert "the engine" not in stage.text()


def test_which_columns_there_are() -> None:
    assert wanted((), several=False) == USUAL
    assert wanted((), several=True)[:3] == ("name", ENGINE, "state")
    assert wanted(("name", ENGINE), several=False) == ("name",)
    assert ENGINE not in offered(several=False)
    assert ENGINE in offered(several=True)
    assert complete("eng") == ""
    assert complete("eng", several=True) == "engine:"
    assert complete("engine:ga", True, lambda column: ["gate"]) == "engine:gate"


async def test_marks_and_a_dial_across_them(start: Start) -> None:
    both = Both(ScriptedEngine(3, up=False), ScriptedEngine(3, up=False))
    async with opened(start, both) as stage:
        await stage.press("asterisk", "space", "d")
        assert "Dial 5 sessions, such as " in stage.text()
        await stage.press("y")
        assert both.scripted[0].commands == [Dial((1, 2))]
        assert both.scripted[1].commands == [Dial((0, 1, 2))]
        assert "Dialling 5 sessions." in stage.text()
        await stage.tick(4)
        assert "5 up" in stage.line("souppp")
        await stage.press("h")
        assert "Hang up 5 sessions" in stage.text()
        await stage.press("y")
        assert both.scripted[1].commands[-1] == HangUp((0, 1, 2))


async def test_an_engine_that_may_be_looked_at_refuses_for_its_own_alone(start: Start) -> None:
    class Looking(ScriptedEngine):
        def submit(self, command: object) -> Future[Reply]:
            future = Future[Reply]()
            future.set_result(Reply(1, refused=(Refused(None, "You may look, not command."),)))
            return future

    both = Both(ScriptedEngine(2, up=False), Looking(2, up=False))
    both.rights[1] = False
    async with opened(start, both) as stage:
        assert "may look" in stage.line("hub")
        await stage.press("asterisk", "d", "y")
        assert both.scripted[0].commands == [Dial((0, 1))]
        assert "Dialling 2 sessions. Not 2 sessions: hub: You may look, not command." in stage.text()
        await stage.press("backslash", "G", "d")
        assert "You may look at hub, not command." in stage.text()
        await stage.press("g", "d")
        assert both.scripted[0].commands[-1] == Dial((0,))


async def test_one_that_is_lost_greys_its_own_sessions(start: Start) -> None:
    both = Both(ScriptedEngine(2), ScriptedEngine(3))
    async with opened(start, both) as stage:
        both.scripted[1].lost = "The connection to the engine was lost. Trying again."
        await stage.tick(3)
        assert "hub lost" in stage.line("souppp")
        assert "2 up · 3 unknown" in stage.line("souppp")
        assert " hub    The connection to the engine was lost. Trying again." in stage.text()
        assert stage.painted("up").count("up") == 3, "two rows and the header"
        assert stage.painted("dim").count("hub") == 3
        both.scripted[0].advance(3600)
        stage.app.tick()
        await stage.pilot.pause()
        one, two = rows(stage, "home-0001")
        assert "1h 16m" in one
        assert " 16m " in two, "time stands still for what can't be reached"
        await stage.press("G", "enter")
        assert " 18m" in stage.line("up for")
        await stage.press("escape", "g")
        both.scripted[1].step(both.scripted[0].now)
        both.scripted[1].lost = ""
        await stage.tick()
        assert "5 up" in stage.line("souppp")
        assert stage.painted("up").count("up") == 6
        for engine in both.scripted:
            engine.lost = "Nobody answers."
        await stage.tick()
        assert "Nobody answers." in stage.line("souppp")


def test_rates_of_one_that_is_lost_are_not_counted() -> None:
    both, model = Both(ScriptedEngine(3, busy=3), ScriptedEngine(3, busy=3)), Model()
    for _ in range(4):
        both.advance(0.5)
        model.take(both.snapshot())
    whole = model.totals().rates.rx_bits
    both.scripted[0].lost = "gone"
    model.take(both.snapshot())
    assert 0 < model.totals().rates.rx_bits < whole
    assert model.meter.rates(0).rx_bits > 0, "the last that is known of each stays"


def test_rates_and_octets_of_each_are_its_own() -> None:
    both, model = Both(ScriptedEngine(3, busy=1), ScriptedEngine(3, busy=3)), Model()
    for _ in range(4):
        both.advance(0.5)
        model.take(both.snapshot())
    assert [model.meter.rates(key).rx_bits > 0 for key in range(6)] == [True, True, False, True, False, True]
    assert [model.octets(key)[0] > 0 for key in range(6)] == [True, True, False, True, False, True]
    model.zero()
    assert [model.octets(key) for key in range(6)] == [(0, 0)] * 6
    model.unzero()
    assert model.octets(5)[0] > 0
    assert len(model.meter.graph(5)[0]) == len(model.meter.graph(0)[0])


async def test_each_card_stands_on_its_page(start: Start) -> None:
    cards = [CardView(name, "02:00:00:00:00:01", 1500, True) for name in ("eth0", "eth7")]
    both = Both(*(ScriptedEngine(2, card=card, queues=2) for card in cards))
    async with opened(start, both, size=(120, 90)) as stage:
        await stage.press("i")
        assert "2 cards" in stage.text()
        assert "gate  card eth0" in stage.text()
        assert "hub  card eth7" in stage.text()
        assert stage.text().count(" q1 ") == 2
        await stage.press("z")
        assert "since zero" in stage.text()


async def test_a_card_is_fixed_where_something_is_in_the_way(start: Start) -> None:
    cards = [CardView("eth0", "02:00:00:00:00:01", 1500, True, fixes=fixes) for fixes in ("", "lro")]
    both = Both(*(ScriptedEngine(2, card=card) for card in cards))
    async with opened(start, both) as stage:
        await stage.press("i", "F")
        assert "Switch lro off on eth0 of hub?" in stage.text()
        await stage.press("y")
        assert both.scripted[0].commands == []
        assert both.scripted[1].commands == [FixCard()]


async def test_a_link_that_is_down_is_told_of_its_engine(start: Start) -> None:
    both = Both(ScriptedEngine(1), ScriptedEngine(1, card=CardView("eth0", "02:00:00:00:00:01", 1500, False)))
    async with opened(start, both) as stage:
        assert "hub without a link" in stage.line("souppp")
        assert "hub   link down" in stage.text()


async def test_many_engines_share_a_line(start: Start) -> None:
    both = Both(*(ScriptedEngine(1) for _ in range(4)))
    async with opened(start, both, size=(80, 24)) as stage:
        assert "8 queues" in stage.text()
        assert "4 engines" in stage.line("souppp")


async def test_events_tell_where_they_come_from(start: Start) -> None:
    both = Both(ScriptedEngine(2), ScriptedEngine(2))
    async with opened(start, both) as stage:
        both.scripted[0].emit("Something happened.", session=1)
        both.scripted[1].emit("The cable is loose.", Severity.ERROR)
        await stage.tick()
        assert "gate        home-0002     Something happened." in stage.text()
        await stage.press("e")
        assert "hub                       The cable is loose." in stage.text()
        await stage.press("slash", *"gate", "enter")
        assert "1 of 2" in stage.text()
        assert "info  gate  home-0002" in stage.text()
        await stage.press("enter")
        assert stage.app.model.cursor == 2


async def test_details_of_a_session_of_any(start: Start) -> None:
    both = Both(ScriptedEngine(2, up=False), ScriptedEngine(2))
    async with opened(start, both, size=(140, 60)) as stage:
        await stage.press("G", "enter")
        assert "engine          hub" in stage.text()
        assert "home-0002  ● up" in stage.text()
        assert "curl --interface soup1" in stage.text()
        assert "LCP Configure-Request" in stage.text()
        assert "as last seen" not in stage.text()
        both.scripted[1].lost = "gone"
        await stage.tick()
        assert "as last seen: its engine can't be reached" in stage.line("home-0002")


async def test_a_new_session_is_for_the_engine_that_is_chosen(start: Start) -> None:
    """Names of the other one's sessions are free."""
    both = Both(ScriptedEngine(1), ScriptedEngine(0))
    async with opened(start, both) as stage:
        await stage.press("a")
        assert "Add a session on which engine?" in stage.text()
        await stage.press("down", "enter")
        assert "Add a session on hub" in stage.text()
        await stage.press(*"home-0001", "down", *"me", "ctrl+s")
        assert both.scripted[0].commands == []
        (command,) = both.scripted[1].commands
        assert isinstance(command, Add)
        assert command.settings.name == "home-0001"
        await stage.press("a", "escape")
        assert len(both.scripted[1].commands) == 1


async def test_which_engines_end_is_asked(start: Start) -> None:
    both = Both(Served(2), Served(3))
    async with opened(start, both) as stage:
        await stage.press("Q")
        assert "End which engine?" in stage.text()
        await stage.press("j", "enter")
        assert "End hub and hang up 3 sessions?" in stage.text()
        await stage.press("y")
        assert [engine.commands for engine in both.scripted] == [[], [Shutdown()]]
        assert stage.app.is_running
        await stage.press("Q", "j", "j", "enter")
        assert "End all 2 engines and hang up 5 sessions?" in stage.text()
        await stage.press("y")
        assert both.scripted[0].commands == [Shutdown()]
        assert not stage.app.is_running


async def test_leaving_leaves_all(start: Start) -> None:
    both = Both(Served(2), Served(3))
    async with opened(start, both) as stage:
        await stage.press("q")
        assert not stage.app.is_running
    assert [engine.commands for engine in both.scripted] == [[], []]


async def test_which_configuration_is_read_again_is_asked(start: Start) -> None:
    both = Both(Served(2), Served(3))
    async with opened(start, both) as stage:
        await stage.press("L", "enter")
        assert "gate: Nothing is different." in stage.text()
        await stage.press("L", "j", "j", "enter")
        assert "gate: Nothing is different. hub: Nothing is different." in stage.text()


async def test_a_capture_of_two_says_that_it_is_two_files(start: Start) -> None:
    both = Both(ScriptedEngine(1), ScriptedEngine(1))
    async with opened(start, both, size=(200, 40)) as stage:
        await stage.press("asterisk", "c", "y")
        paths = [command.path for it in both.scripted for command in it.commands if isinstance(command, StartCapture)]
        assert [path.rpartition("-")[2] for path in paths] == ["gate.pcapng", "hub.pcapng"]
        assert "each engine with its name in the file's" in stage.text()


async def test_names_with_addresses_are_hidden_too(start: Start) -> None:
    both = Both(ScriptedEngine(1), ScriptedEngine(1), names=("192.0.2.7", "hub"))
    async with opened(start, both) as stage:
        both.scripted[0].emit("Something.", session=0)
        await stage.tick()
        assert "192.0.2.7" in stage.text()
        await stage.press("x")
        for keys in (("i",), ("escape", "e"), ("escape", "Q"), ("escape", "enter")):
            assert "192.0.2.7" not in stage.text()
            await stage.press(*keys)
        assert "192.0.2.7" not in stage.text()
    hidden = view(both.snapshot().sessions[0])
    assert hidden.engine
    assert "192.0.2.7" not in hidden.engine
    assert "192.0.2.7" not in event(both.events_since(0)[0][0], {}).engine


def test_an_event_in_a_file_tells_where_it_comes_from() -> None:
    both = Both(ScriptedEngine(1), ScriptedEngine(1))
    both.scripted[1].emit("Something.", session=0)
    both.advance(0.1)
    assert event_line(both.events_since(0)[0][0]).endswith("  INFO     hub  home-0001  Something.")
