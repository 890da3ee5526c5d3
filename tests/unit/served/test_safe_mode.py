"""Safe mode of a client elsewhere: what it did is taken back when it goes, however it goes, and by the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.api.commands import Add, Command, HangUp, Keep, Remove, Reply, Safe, ServiceCommand, Undo
from engine.host import peers
from engine.run import client as client_module
from engine.run import server as server_module
from engine.run.client import Client, open_path
from engine.run.server import Server
from engine.run.sockets import listen
from engine.settings.values import HookSettings, SessionSettings
from souppp_tui.app.console import Console
from souppp_tui.desk.options import ConsoleOptions
from tests.console.conftest import Stage
from tests.program import until
from tests.unit.served.world_engine import WorldEngine


class Kept:
    """Implements `Service`: what would be written."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def carry_out(self, command: ServiceCommand, by: str) -> Reply:
        raise AssertionError(f"{command} is the server's own")

    def keep(self, command: Command, reply: Reply, before: Mapping[int, str]) -> tuple[str, ...]:
        self.commands.append(command)
        return ()


@pytest.fixture
def engine() -> WorldEngine:
    return WorldEngine(3, autodial=True)


@pytest.fixture
def service() -> Kept:
    return Kept()


@pytest.fixture
def server(engine: WorldEngine, service: Kept, tmp_path: Path) -> Iterator[Server]:
    it = Server(engine, listen(tmp_path / "it.sock"), release="1", card="eth9", service=service)
    it.start()
    yield it
    it.close()


def attach(server: Server, program: str = "one") -> Client:
    return Client(open_path(server.path), program=program, release="1", period=0.05)


def do(client: Client, *commands: Command | ServiceCommand) -> Reply:
    replies = [client.submit(command).result(20) for command in commands]
    assert not any(reply.refused for reply in replies)
    return replies[-1]


def names(engine: WorldEngine) -> set[str]:
    return {settings.name for settings in engine.all_settings().values()}


def told(engine: WorldEngine) -> list[str]:
    return [event.text for event in engine.events_since(0)[0] if event.kind == "safe-mode"]


def test_who_goes_leaves_nothing_of_what_was_done(engine: WorldEngine, server: Server, service: Kept) -> None:
    with attach(server, "other") as other:
        with attach(server) as one:
            do(one, Remove((2,)), Safe(True), Remove((0,)), Add(SessionSettings("new")))
            do(other, Remove((1,)))
            assert [client.safe for client in until(lambda: len(one.clients) == 2 and one.clients, "both")] == [
                False,
                True,
            ]
            assert names(engine) == {"new"}
        until(lambda: names(engine) == {"s0"}, "what it had removed in safe mode, and only that")
        until(lambda: service.commands[-1] == Undo(2, own=True), "that the configuration hears of it")
    who = f"root (one {os.getpid()})"
    assert told(engine) == [f"{who} has gone in safe mode: what it did is taken back."]


def test_who_has_left_safe_mode_goes_as_any_other(engine: WorldEngine, server: Server) -> None:
    with attach(server) as one:
        do(one, Safe(True), Remove((0,)), Safe(False))
    until(lambda: not server.clients, "its end")
    assert names(engine) == {"s1", "s2"}
    assert not told(engine)


def test_another_one_can_have_it_stay(engine: WorldEngine, server: Server) -> None:
    with attach(server, "other") as other:
        (refused,) = other.submit(Keep(7)).result(20).refused
        assert refused.reason == "That one is not in safe mode."
        with attach(server) as one:
            do(one, Safe(True), Remove((0,)))
            (number,) = (client.id for client in server.clients if client.safe)
            reply = do(other, Keep(number))
            process = os.getpid()
            assert reply.remarks == (f"What root (one {process}) did in safe mode stays, by root (other {process}).",)
            do(one, Remove((1,)))
        until(lambda: names(engine) == {"s1", "s2"}, "what it did after that")


def test_who_says_nothing_any_more_has_gone(
    engine: WorldEngine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a network that has been cut: the connection is there, and nobody at its other end."""
    monkeypatch.setattr(server_module, "SILENCE", 0.5)
    monkeypatch.setattr(client_module, "SIGN", 0.1)
    with attach(server) as one:
        do(one, Safe(True), HangUp((0,)), Remove((1,)))
        seen = one.snapshot().at
        engine.run(1.0)
        until(lambda: one.snapshot().at > seen, "that pictures come")
        for _ in range(8):
            engine.run(1.0)
            time.sleep(0.1)
        assert names(engine) == {"s0", "s2"}, "it gives signs of life"
        monkeypatch.setattr(client_module, "SIGN", 1000.0)
        until(lambda: names(engine) == {"s0", "s1", "s2"}, "that it is taken for gone")
        until(lambda: one.breaks[0] > 0, "that it hears of that")


def test_an_engine_that_ends_takes_it_back_before(engine: WorldEngine, server: Server, service: Kept) -> None:
    with attach(server) as one:
        do(one, Safe(True), Remove((0,)))
        server.take_back()
        assert names(engine) == {"s0", "s1", "s2"}
        assert service.commands[-1] == Undo(1, own=True)


def test_no_hooks_come_back_by_going(engine: WorldEngine, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are root's to set; others' steps keep nobody from taking back its own."""
    with attach(server, "root's") as root:
        settings = replace(SessionSettings("hooked"), hooks=HookSettings(up=("/bin/true",)))
        (key,) = do(root, Add(settings)).done
        monkeypatch.setattr(peers, "peer", lambda connection, who=peers.peer: replace(who(connection), uid=1000))
        monkeypatch.setattr(peers, "may", lambda *_: "write")
        with attach(server) as one:
            do(one, Safe(True), Remove((0,)))
            do(root, Remove((key,)))
        until(lambda: "s0" in names(engine), "its own")
        (key,) = do(root, Add(settings)).done
        with attach(server) as one:
            do(one, Safe(True), Remove((key,)))
        until(lambda: len(told(engine)) == 2, "that it is told")
    assert told(engine)[-1].endswith("What it did stays: hooks of sessions are among it.")
    assert "hooked" not in names(engine)


async def test_the_console_shows_it_and_hears_when_it_ends(engine: WorldEngine, server: Server) -> None:
    with attach(server, "other") as other, attach(server, "console") as one:
        app = Console(one, ConsoleOptions(theme="dark", attached=True, period=0))
        async with app.run_test(size=(120, 30)) as pilot:
            stage = Stage(app, engine, pilot)  # type: ignore[arg-type]

            async def shows(text: str) -> None:
                for _ in range(500):
                    await pilot.pause(0.02)
                    app.tick()
                    await pilot.pause()
                    if text in stage.text():
                        return
                raise AssertionError(f"never {text!r}:\n{stage.text()}")

            await stage.press("colon", *"safe", "enter")
            await shows("what you do is taken back when the connection or the terminal goes")
            await shows(" safe mode ")
            await stage.press("D", "y")
            await shows("Removing s0")
            view = next(client for client in server.clients if client.program == "console")
            assert view.safe
            await stage.press("colon", *"keep")
            await shows(f"keep root {os.getpid()}")
            await stage.press("escape")
            do(other, Keep(view.id))
            await shows("did in safe mode stays")
            await stage.press("D", "y")
            await shows("Removing s1")
            one._socket.shutdown(2)
            await shows("Safe mode ended with the connection")
            assert app.safe is None
            until(lambda: names(engine) == {"s1", "s2"}, "what was not kept")
            await shows("s1")

            await stage.press("colon", *"safe", "enter")
            await shows(" safe mode ")
            await stage.press("colon", *"unsafe", "enter")
            await shows("Left safe mode: what you did stays.")
            until(lambda: not any(client.safe for client in server.clients), "that the engine knows")
        app.take_back()
