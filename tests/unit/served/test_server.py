"""The engine's socket with real connections: pictures, commands, rights, rubbish, slow readers, ends."""

from __future__ import annotations

import gc
import math
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from selectors import EVENT_READ

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.codec import decode, encode, version
from engine.api.commands import (
    Add,
    Dial,
    Edit,
    HangUp,
    Redial,
    Refused,
    Remove,
    Reply,
    Request,
    Shutdown,
    StartCapture,
    Watch,
)
from engine.api.hello import LIMIT_TO_ENGINE, Hello, decode_hello, encode_hello, framed
from engine.api.messages import AskLedgers, AskSettings, Farewell, Follow, LedgersOf, Picture, SettingsOf
from engine.api.values import SessionState, Severity
from engine.host import peers
from engine.host.peers import Peer, may
from engine.run import server as server_module
from engine.run.client import Client, ClientError, _message, open_path, wait_for
from engine.run.connection import BEHIND
from engine.run.server import EVENTS_AT_ONCE, FOR_OWNERS, MAX_CLIENTS, Server
from engine.run.sockets import SocketError, listen
from engine.settings.values import HookSettings, SessionSettings
from tests.program import until
from tests.unit.served.world_engine import WorldEngine

RELEASE = "1.2.3"


@pytest.fixture
def engine() -> WorldEngine:
    return WorldEngine()


@pytest.fixture
def server(engine: WorldEngine, tmp_path: Path) -> Iterator[Server]:
    it = Server(engine, listen(tmp_path / "it.sock"), release=RELEASE, card="eth9")
    it.start()
    yield it
    it.close()


def attach(server: Server, **options: object) -> Client:
    return Client(open_path(server.path), **{"program": "test", "release": RELEASE, "period": 0.05, **options})  # type: ignore[arg-type]


def raw(server: Server) -> socket.socket:
    it = socket.socket(socket.AF_UNIX)
    it.settimeout(20)
    it.connect(str(server.path))
    return it


def greeted(server: Server) -> socket.socket:
    it = raw(server)
    assert not decode_hello(_message(it)).refused
    it.sendall(framed(encode_hello(Hello(release=RELEASE, program="raw"))))
    return it


def last_word(connection: socket.socket) -> str:
    """Why the engine closed a connection."""
    said = ""
    with suppress(EOFError, ConnectionResetError):
        while True:
            message = decode(_message(connection))
            said = message.reason if isinstance(message, Farewell) else said
    return said


def test_a_client_sees_what_there_is_and_what_becomes_of_it(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        assert (client.hello.card, client.hello.release, client.hello.writes) == ("eth9", RELEASE, True)
        assert client.snapshot().sessions == engine.snapshot().sessions
        assert client.submit(Dial((0, 2))).result(20) == Reply(1, (0, 2))
        engine.run(5.0)
        assert wait_for(client, lambda it: it.sessions == engine.snapshot().sessions, 20)
        assert [view.state for view in client.snapshot().sessions] == [
            SessionState.UP,
            SessionState.DOWN,
            SessionState.UP,
        ]
        events = until(lambda: _same_events(client, engine), "all events")
        assert any("Dial: 2 sessions, by root (test" in event.text for event in events)


def _same_events(client: Client, engine: WorldEngine) -> list[object]:
    ours, lost = client.events_since(0)
    theirs, _ = engine.events_since(0)
    assert not lost
    return [*ours] if [*ours] == [*theirs] else []


def test_a_reply_comes_with_what_it_tells_of(engine: WorldEngine, server: Server) -> None:
    """Who waits for the reply needn't wait for a picture."""
    with attach(server, period=30.0) as client:
        key = client.submit(Add(SessionSettings("new", "u", "p"))).result(20).done[0]
        assert client.snapshot().sessions[-1].name == "new"
        client.submit(Remove((key,))).result(20)
        engine.run(0.1)
        client.submit(Remove((0,))).result(20)
        assert [view.name for view in client.snapshot().sessions] == ["s1", "s2"]


@pytest.mark.parametrize("period", [0.0, 30.0])
def test_all_events_come_however_many_there_are(engine: WorldEngine, server: Server, period: float) -> None:
    """One picture holds so many of them, and who wants no more pictures wants the rest of the events."""
    for number in range(2 * EVENTS_AT_ONCE + 1):
        engine.world.supervisor.tell(Severity.INFO, "test", f"number {number}")
    with attach(server, period=period) as client:
        until(lambda: not client.behind, "all of them", 20)
        assert client.events_since(0) == engine.events_since(0)


def test_an_event_with_what_is_no_character_comes(engine: WorldEngine, server: Server) -> None:
    """A folder's name may hold any octet; that must not cut a client off."""
    engine.submit(StartCapture((0,), "/nowhere/\udc80/x.pcapng"))
    with attach(server) as client:
        events = until(lambda: _same_events(client, engine), "all events")
        assert any("\\udc80" in event.text for event in events)


def test_what_can_not_be_told_ends_the_conversation_with_the_reason(
    engine: WorldEngine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the server's patience: it would try the same again and again."""
    pictures = 0
    picture = Server._picture

    def told(self: Server, client: server_module._Client) -> Picture:
        nonlocal pictures
        pictures += 1
        return replace(picture(self, client), try_line="\udc80")

    monkeypatch.setattr(Server, "_picture", told)
    with pytest.raises(ClientError, match="can't be told"):
        attach(server, again=False)
    assert pictures == 1


def test_what_can_not_be_done_is_said(server: Server) -> None:
    with attach(server) as client:
        reply = client.submit(HangUp((0, 99))).result(20)
        assert reply.done == (0,)
        assert reply.refused == (Refused(99, "There is no such session any more."),)
        (refused,) = client.submit(Shutdown()).result(20).refused
        assert "belongs to a console" in refused.reason


def test_details_come_while_they_are_looked_at(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        client.submit(Dial((1,))).result(20)
        engine.run(3.0)
        details = until(lambda: client.details(1), "the details")
        assert details == engine.watched(1)
        assert details.ladder
        assert client.details(99) is None


def test_passwords_never_leave_the_engine(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        reply = client.submit(Add(SessionSettings("new", "u", "open sesame"))).result(20)
        known = client.settings(reply.done[0])
        assert known == SessionSettings("new", "u", None)
        assert set(client.all_settings()) == {0, 1, 2, reply.done[0]}
        assert all(settings.password is None for settings in client.all_settings().values())
        client.submit(Edit(reply.done[0], SessionSettings("newer", "u", None))).result(20)
        there = engine.settings(reply.done[0])
        assert there == SessionSettings("newer", "u", "open sesame"), "None is as it was"
        assert client.settings(99) is None


def test_traffic_goes_along_when_it_changes(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        engine.traffic = b"\1" + engine.traffic[1:]
        assert wait_for(client, lambda it: it.traffic == engine.traffic, 20)


def test_who_is_attached(server: Server) -> None:
    with attach(server) as one, attach(server) as two:
        assert until(lambda: len(one.clients) == 2 and one.clients, "both")
        assert {client.process for client in two.clients} == {os.getpid()}
    until(lambda: not server.clients, "both gone")


def test_a_client_that_never_reads_costs_nobody_anything(
    engine: WorldEngine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = 0
    picture = Server._picture

    def counted(self: Server, client: server_module._Client) -> Picture:
        nonlocal pictures
        pictures += client.view.program == "raw"
        return picture(self, client)

    monkeypatch.setattr(Server, "_picture", counted)
    engine.traffic = bytes(2_000_000)
    with closing(greeted(server)) as deaf, attach(server) as client:
        deaf.sendall(framed(encode(Follow(0.05))))
        for number in range(20):
            engine.traffic = bytes([number]) + engine.traffic[1:]
            assert client.submit(Redial((0,))).result(20).done == (0,)
            assert wait_for(client, lambda it: it.traffic == engine.traffic, 20)
        assert pictures <= 2, "one on its way, and one that filled the buffers"


def test_who_asks_and_never_takes_the_answers_is_heard_no_further(engine: WorldEngine, server: Server) -> None:
    """What waits for it takes this process's memory: it was 200 MB in 8 s, of one who may only look."""
    asked = framed(encode(AskSettings(1)))
    with closing(greeted(server)) as deaf:
        deaf.setblocking(False)
        sent = b""

        def full() -> bool:
            nonlocal sent
            with suppress(BlockingIOError):
                while True:
                    sent = sent or asked * 1000
                    sent = sent[deaf.send(sent) :]
            (client,) = server._all
            return client.connection.behind and not client.interest & EVENT_READ

        until(full, "that nothing more is taken")
        (client,) = server._all
        assert len(client.connection._unsent) == BEHIND
        deaf.settimeout(20)
        for _ in range(3 * BEHIND):
            assert isinstance(decode(_message(deaf)), SettingsOf), "what it has asked is answered when it takes it"


@pytest.mark.parametrize("period", [math.nan, math.inf, -1.0, 1e7, 1e300])
def test_no_period_that_a_client_names_stops_the_server(server: Server, period: float) -> None:
    """To wait for such a time is an error, and the thread that serves all ended with it."""
    with closing(greeted(server)) as odd:
        odd.sendall(framed(encode(Follow(period))))
        assert last_word(odd).startswith("A picture every ")
    attach(server).close()


def test_who_names_a_session_often_is_answered_once(server: Server) -> None:
    """A megabyte of keys was half a gigabyte of settings, made in 22 s."""
    with closing(greeted(server)) as odd:
        odd.sendall(framed(encode(AskSettings(1, (1, 2, 1, 99) * 100_000))))
        answer = decode(_message(odd))
        assert isinstance(answer, SettingsOf)
        assert [key for key, _ in answer.settings] == [1, 2]
        odd.sendall(framed(encode(AskLedgers(2, (1, 2, 1, 99) * 100_000))))
        ledgers = decode(_message(odd))
        assert isinstance(ledgers, LedgersOf)
        assert sorted(key for key, _ in ledgers.ledgers) == [1, 2]


def test_nothing_is_kept_of_sessions_that_are_not_there(server: Server) -> None:
    with closing(greeted(server)) as odd:
        for key in (1, 99, -7):
            odd.sendall(framed(encode(Request(key, Watch(key)))))
        assert [bool(decode(_message(odd)).refused) for _ in range(3)] == [False, True, True]  # type: ignore[union-attr]
        (client,) = server._all
        assert [*client.watched] == [1]


def test_another_version_is_told_what_to_do(server: Server) -> None:
    with closing(raw(server)) as connection:
        connection.sendall(framed(encode_hello(Hello(release="0.9", values=version() ^ 1))))
        assert decode_hello(_message(connection)).values == version()
        assert "souppp-tui 0.9" in (said := last_word(connection))
        assert RELEASE in said
        assert "same release" in said


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (framed(b"rubbish"), "Not a value of ours"),
        (framed(encode(Reply(1))), "A client doesn't send a Reply"),
        ((LIMIT_TO_ENGINE + 1).to_bytes(4, "big"), "is the limit"),
        (framed(b""), "Not a value of ours"),
    ],
)
def test_rubbish_is_answered_by_a_reason(server: Server, octets: bytes, said: str) -> None:
    with closing(greeted(server)) as connection:
        connection.sendall(octets)
        assert said in last_word(connection)
    until(lambda: not server.clients, "it gone")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(octets=st.binary(max_size=300), hello=st.booleans())
def test_a_fuzzed_client(server: Server, octets: bytes, hello: bool) -> None:
    with closing(greeted(server) if hello else raw(server)) as connection:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        last_word(connection) if hello else connection.recv(1)
    with closing(greeted(server)) as connection:
        connection.sendall(framed(encode(Request(1, Dial(())))))
        assert decode(_message(connection)) == Reply(1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(octets=st.binary(max_size=300), hello=st.booleans())
def test_a_fuzzed_server(tmp_path: Path, octets: bytes, hello: bool) -> None:
    """It is one line for the operator, whatever comes."""
    ours, theirs = socket.socketpair()
    with closing(theirs):
        theirs.sendall((framed(encode_hello(Hello(release="x"))) if hello else b"") + octets)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ClientError, match=r".") as told:
            Client(lambda: ours, program="test", release=RELEASE, again=False)
        assert "\n" not in str(told.value)


def test_clients_that_come_and_go_leave_nothing_that_has_to_be_searched_for(server: Server) -> None:
    """A process that serves looks for no garbage: what refers to itself in a circle would stay until its end."""

    def in_order() -> None:
        with closing(greeted(server)) as connection:
            connection.sendall(framed(encode(Follow(0.05))) + framed(encode(Request(1, Redial((0,))))))
            while not isinstance(decode(_message(connection)), Reply):
                pass

    def in_the_middle() -> None:
        with closing(greeted(server)) as connection:
            connection.sendall(framed(encode(Follow(0.05))) + framed(encode(Request(1, Redial((0,))))))
            connection.recv(1)

    def with_rubbish() -> None:
        with closing(greeted(server)) as connection:
            connection.sendall(framed(b"rubbish"))
            last_word(connection)

    def without_a_word() -> None:
        raw(server).close()

    for _ in range(2):
        gc.collect()
        gc.disable()
        try:
            for way in (in_order, in_the_middle, with_rubbish, without_a_word):
                for _ in range(5):
                    way()
            until(lambda: not server._all, "all gone")
            found = gc.collect()  # that of the first time may be of what is made once and for all
        finally:
            gc.enable()
    assert found == 0


def test_who_reads_nothing_gets_a_picture_when_it_does(engine: WorldEngine, server: Server) -> None:
    """And meanwhile its commands are carried out."""
    engine.traffic = bytes(5_000_000)
    with closing(greeted(server)) as slow:
        slow.sendall(framed(encode(Follow(0.05))))
        until(lambda: any(client.connection.unsent for client in [*server._all]), "one on its way")
        for number in range(1, 6):
            slow.sendall(framed(encode(Request(number, Redial((0,))))))
            until(lambda number=number: len(engine.commands) == number, "it done")  # type: ignore[misc]
        replies: list[int] = []
        while len(replies) < 5:
            if isinstance(message := decode(_message(slow)), Reply):
                replies.append(message.id)
        assert replies == [1, 2, 3, 4, 5]
        while (
            not isinstance(message := decode(_message(slow)), Picture) or message.last_event < engine.snapshot().events
        ):
            pass


def test_a_fault_of_ours_costs_one_client_and_says_so(
    server: Server, engine: WorldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with attach(server) as other, closing(greeted(server)) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(engine, "submit", broken)
            connection.sendall(framed(encode(Request(1, Redial((0,))))))
            assert last_word(connection) == "Internal error, please report it: ZeroDivisionError: a bug"
        assert other.submit(Redial((0,))).result(20).done == (0,)


def test_a_user_with_an_odd_name_keeps_nobody_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that can't be told ends that conversation alone."""
    with monkeypatch.context() as patched:
        patched.setattr(Peer, "user", "\udc80")
        with closing(raw(server)) as odd:
            assert b"Internal error" in _message(odd)
            assert last_word(odd) == ""
    attach(server).close()


def test_clients_are_let_in_again_when_there_are_descriptors(server: Server) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        late = opened.enter_context(closing(socket.socket(socket.AF_UNIX)))
        late.settimeout(20)
        with ExitStack() as taken:
            resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 20, before[1]))
            taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
            with suppress(OSError):
                while True:
                    taken.callback(os.close, os.dup(late.fileno()))
            late.connect(str(server.path))
            until(lambda: not server._accepting, "that there is no room")
        assert not decode_hello(_message(late)).refused


def test_there_is_room_for_so_many(server: Server) -> None:
    there = [greeted(server) for _ in range(MAX_CLIENTS)]
    until(lambda: len(server.clients) == MAX_CLIENTS, "all of them")
    with pytest.raises(ClientError, match=f"{MAX_CLIENTS} clients are attached already"):
        attach(server)
    for connection in there:
        connection.close()
    until(lambda: not server.clients, "room")
    attach(server).close()


def test_who_says_nothing_takes_room_too(server: Server) -> None:
    """1,500 connections without a hello were let in, and greeted, one and all."""
    silent = [raw(server) for _ in range(MAX_CLIENTS)]
    until(lambda: len(server._all) == MAX_CLIENTS, "all of them")
    with pytest.raises(ClientError, match=f"{MAX_CLIENTS} clients are attached already"):
        attach(server)
    for connection in silent:
        connection.close()


def test_what_a_client_calls_itself_moves_nobodys_cursor(server: Server) -> None:
    """Who may only look had a say in what `ctl status` and the events of others do to their terminals."""
    with attach(server, program="\x1b]0;owned\a\u202etcl\n") as client:
        assert [each.program for each in until(lambda: client.clients, "itself")] == ["]0;owned tcl"]


def test_others_keep_the_owner_out_by_no_number(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other, ExitStack() as opened:
        other.setattr(peers, "peer", lambda connection, who=peers.peer: replace(who(connection), uid=1000))
        other.setattr(peers, "may", lambda *_: "look")
        for _ in range(MAX_CLIENTS - FOR_OWNERS):
            opened.enter_context(closing(greeted(server)))
        with pytest.raises(ClientError, match=f"{MAX_CLIENTS - FOR_OWNERS} clients are attached already"):
            attach(server)
        other.undo()
        attach(server).close()


def test_the_end_is_told_and_the_socket_goes(server: Server) -> None:
    with attach(server, again=False) as client:
        server.close()
        until(lambda: client.lost, "the end")
        assert client.lost == "The engine has ended."
        assert "engine has ended" in client.submit(Dial((0,))).result(20).refused[0].reason
    assert not server.path.exists()


def test_a_console_comes_back_when_the_engine_does(engine: WorldEngine, server: Server) -> None:
    engine.submit(Dial((0,)))
    with attach(server) as client:
        sessions = client.snapshot().sessions
        server.close()
        until(lambda: client.lost, "the end")
        before = client.snapshot()  # a picture may have come meanwhile
        assert before.sessions == sessions, "the last one stays"
        other = WorldEngine(5)
        for _ in range(2 * before.events):
            other.world.supervisor.tell(Severity.INFO, "test", "Another engine has events of its own.")
        again = Server(other, listen(server.path), release=RELEASE, card="eth9")
        again.start()
        try:
            until(lambda: not client.lost, "the other one")
            assert wait_for(client, lambda it: len(it.sessions) == 5, 20)
            until(lambda: client.snapshot().events >= before.events + other.snapshot().events, "its events")
            time.sleep(0.2)
            numbers = [event.seq for event in client.events_since(0)[0]]
            assert numbers == [*range(1, len(numbers) + 1)], "as if it were one engine"
            assert client.snapshot().events == before.events + other.snapshot().events
        finally:
            again.close()


def test_what_a_dead_engine_left_is_no_obstacle(engine: WorldEngine, tmp_path: Path) -> None:
    path, other = tmp_path / "eth9.sock", tmp_path / "eth8.sock"
    for left in (path, other):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
    it = Server(engine, listen(path), release=RELEASE, card="eth9")
    it.start()
    attach(it).close()
    assert not other.exists()
    with pytest.raises(SocketError, match="something is there already"):
        listen(path)
    it.close()


@pytest.mark.parametrize(
    ("uid", "groups", "rights"),
    [
        (0, {0}, "write"),
        (7, {7}, "write"),
        (1000, {1000, 50}, "write"),
        (1000, {60, 50}, "write"),
        (1000, {60}, "look"),
        (1000, {1000}, ""),
        (1000, set(), ""),
    ],
)
def test_rights(uid: int, groups: set[int], rights: str) -> None:
    assert may(Peer(1, uid, frozenset(groups)), 7, 50, 60) == rights


def test_groups_that_are_not_there_give_no_rights() -> None:
    assert may(Peer(1, 1000, frozenset({1000})), 0, None, None) == ""


def test_who_may_only_look_can_not_command(
    engine: WorldEngine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "may", lambda *_: "look")
    with attach(server) as client:
        assert not client.hello.writes
        (refused,) = client.submit(HangUp((0,))).result(20).refused
        assert "You may look" in refused.reason
        assert not engine.commands
        assert client.details(0) is not None or until(lambda: client.details(0), "details")


def test_hooks_are_set_by_root_and_the_engine_s_user_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in the group that may command would have any program run with the engine's rights."""
    with attach(server) as client:
        settings = client.settings(0)
        assert settings is not None
        hooked = replace(settings, hooks=HookSettings(up=("/bin/true",)))
        assert not client.submit(Edit(0, hooked)).result(20).refused
    monkeypatch.setattr(peers, "peer", lambda connection, who=peers.peer: replace(who(connection), uid=1000))
    monkeypatch.setattr(peers, "may", lambda *_: "write")
    with attach(server) as client:
        for command in (Edit(0, settings), Edit(1, replace(hooked, name="other")), Add(replace(hooked, name="new"))):
            (refused,) = client.submit(command).result(20).refused
            assert "only its user and root" in refused.reason
        assert not client.submit(Edit(0, replace(hooked, service="gold"))).result(20).refused


def test_the_last_hour_can_be_asked_for(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        client.submit(Dial((0,))).result(20)
        assert client.hours() == {}
        engine.run(95.0)
        (hour,) = client.hours().values()
        assert (len(hour.rx), hour.step) == (3, 30.0)


def test_what_is_remembered_of_sessions_can_be_asked_for(engine: WorldEngine, server: Server) -> None:
    with attach(server) as client:
        client.submit(Dial((0,))).result(20)
        engine.run(2.0)
        assert client.ledgers([0])[0].addresses
        assert client.ledgers().keys() == {view.id for view in client.snapshot().sessions}
        assert client.ledgers([77]) == {}


def test_who_may_nothing_is_told_why(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "may", lambda *_: "")
    with pytest.raises(ClientError, match="neither of the groups souppp and souppp-ro"):
        attach(server)


def test_a_silent_client_is_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HELLO_TIMEOUT", 0.1)
    with closing(raw(server)) as connection:
        decode_hello(_message(connection))
        until(lambda: connection.recv(1) == b"", "its end")


def test_many_at_once(engine: WorldEngine, server: Server) -> None:
    """Commands that race: each is answered, and all see the same in the end."""
    clients = [attach(server) for _ in range(5)]
    try:
        futures = [
            client.submit(Add(SessionSettings(f"c{place}-{number}", "u", "p")))
            for number in range(10)
            for place, client in enumerate(clients)
        ]
        keys = [future.result(30).done[0] for future in futures]
        assert len({*keys}) == 50
        for client in clients:
            assert wait_for(client, lambda it: len(it.sessions) == 53, 30)
            assert client.snapshot().sessions == engine.snapshot().sessions
    finally:
        for client in clients:
            client.close()


def test_one_picture_only(server: Server) -> None:
    with attach(server, period=0.0) as client:
        at = client.snapshot().at
        time.sleep(0.3)
        assert client.snapshot().at == at
        assert not client.lost
