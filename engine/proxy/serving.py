"""All proxies of the process: what a client gets, through which session, and what becomes of it. Callbacks, no task.

A client comes to a port (`listening.py`), is heard out (`hearing.py`), connected to what it wants by `Dialler`, and
handed to the relay's thread. A plain HTTP request and UDP ASSOCIATE stay here: `plain.py`, `datagrams.py`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from engine.proxy.asked import How, Refusal, Refused, Wanted, target
from engine.proxy.clients import Client, Machine, Passing, Port
from engine.proxy.complaints import Complaints
from engine.proxy.datagrams import Association
from engine.proxy.dialling import DialError, DialKind, Dialler, kind_of
from engine.proxy.exits import Exit
from engine.proxy.hearing import Hearing
from engine.proxy.http import Http
from engine.proxy.http import refusal as refusal_http
from engine.proxy.limits import Limits
from engine.proxy.lingering import Lingering
from engine.proxy.listening import Listening
from engine.proxy.messages import Begin, Doubts, Look, Message, NotNew, Serve, Session, Sessions, WantsNew
from engine.proxy.plain import Plain
from engine.proxy.pool import Pool
from engine.proxy.relay import Ended, Relay, RelayError, Why
from engine.proxy.renewals import Renewals
from engine.proxy.socks import refusal_4, refusal_5
from engine.proxy.stack import Connection, Taken
from engine.proxy.tally import Tally
from engine.proxy.users import Choice, Kind, User, Users

CONNECTED_IN = 20.0
"""Seconds in which a server has to answer."""
MOST_CONNECTING = 20_000
"""Clients whose servers haven't answered yet."""
SWEEP = 1.0

REFUSALS = {
    DialKind.FORBIDDEN: Refusal.FORBIDDEN,
    DialKind.SESSION_GONE: Refusal.DOWN,
    DialKind.REFUSED: Refusal.REFUSED,
    DialKind.UNREACHABLE: Refusal.UNREACHABLE,
    DialKind.TIMED_OUT: Refusal.TIMED_OUT,
    DialKind.NO_SUCH_NAME: Refusal.NO_NAME,
    DialKind.NO_ADDRESS: Refusal.UNREACHABLE,
    DialKind.NAME_FAILED: Refusal.NAME_FAILED,
    DialKind.SHORT: Refusal.FAULT,
}

_RELAYED = {How.SOCKS4: refusal_4, How.SOCKS5: refusal_5, How.CONNECT: refusal_http}
"""What the relay takes while it is being connected, and how it is refused then."""


class Serving:
    """All of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dialler: Dialler,
        relay: Relay,
        chance: Callable[[], float],
        send: Callable[[Message], None],
    ) -> None:
        clock, watch = loop.time, dialler.names.watch
        self._loop = loop
        self._dialler = dialler
        self._watch = watch
        self._relay = relay
        self._send = send
        self._pool = Pool(chance)
        self._limits = Limits()
        self._users = Users()
        self._idle = 0.0
        self._sessions: dict[int, Session] = {}
        self._exits: dict[int, Exit] = {}
        """Of sessions that are up."""
        self._complaints = Complaints(clock, send)
        self._hearing = Hearing(watch, clock, self, self._complaints)
        self._lingering = Lingering(watch, clock)
        self._renewals = Renewals()
        self._listening = Listening(loop, watch, send, self._complaints, self._name, self._came, self._changed)
        self._tally = Tally(relay, clock, self._sessions, self._pool.connections, self._listening.own, send)
        self._connecting: set[Client] = set()
        """Whose servers haven't answered yet, beside those that the relay waits for."""
        self._doubted: set[int] = set()
        """Sessions that were asked after in this second."""
        watch.reads(relay.fileno(), self._relay_news)
        self._sweep_timer = loop.call_later(SWEEP, self._sweep)

    # What the engine tells

    def serve(self, order: Serve) -> None:
        """What there is to be."""
        self._users = Users(order.salt, [User(*user) for user in order.users])
        self._hearing.serve(self._users)
        self._limits.most = order.limits
        self._idle = order.idle
        self._pool.choose = order.choose
        self._dialler.allow_private = order.allow_private
        self._listening.serve(order.pool, self._users.open_to_all)

    def begin(self, told: Begin) -> None:
        """All is told from the beginning: what there is no more is forgotten."""
        there = set(told.keys)
        for key in [key for key in self._sessions if key not in there]:
            self._forget(key)

    def note_sessions(self, told: Sessions) -> None:
        """What has become of sessions."""
        for key in told.gone:
            self._forget(key)
        for session in told.there:
            self._note(session)

    def look(self, told: Look) -> None:
        """Whose connections are to be told."""
        self._tally.look(told.keys)

    def not_new(self, told: NotNew) -> None:
        """No new address is to be had."""
        for client in self._renewals.of(told.key):
            self.refuse(client, Refusal.LIMIT)

    def _note(self, session: Session) -> None:
        before, had = self._sessions.get(session.key), self._exits.get(session.key)
        self._sessions[session.key] = session
        now_exit = _exit(session) if session.up else None
        if had is not None and before is not None and not _goes_on(before, session, had, now_exit):
            self._cut(session.key)
        if now_exit is None:
            self._exits.pop(session.key, None)
        else:
            self._exits[session.key] = now_exit
        if now_exit is None or session.draining:
            self._pool.take_out(session.key)
        else:
            self._pool.put(session.key, session.name, session.tags)
        if before is None or before.listen != session.listen:
            self._listening.move(session.key, session.listen)
        if now_exit is not None and (before is None or not before.up or before.since != session.since):
            self._renew(session.key)

    def _forget(self, key: int) -> None:
        """A session is there no more."""
        self._cut(key)
        self._sessions.pop(key, None)
        self._tally.forget(key)
        self._exits.pop(key, None)
        self._pool.take_out(key)
        self._listening.drop(key)
        self._renewals.forget(key)
        self._relay.forget(key)

    def _cut(self, key: int) -> None:
        """A session is gone, or another one: so is all that went through it."""
        self._relay.cut(key)
        self._dialler.drop(key)
        for it in self._tally.staying(key):
            it.close()

    def _name(self, key: int) -> str:
        return self._sessions[key].name

    def _changed(self, key: int) -> None:
        self._tally.tell((key,))

    # What a client gets

    def _came(self, port: Port, its_socket: socket.socket, address: tuple[str, int]) -> None:
        self._hearing.take(Client(port, its_socket, address, self._loop.time()))

    def find(self, client: Client, wanted: Wanted) -> None:
        """Find a session for what a client wants, and connect it."""
        client.wanted = wanted
        user, choice = self._users.understood(wanted.user) or ("", Choice())
        key = client.port.key
        if key is None:
            key = self._pool.chosen(user, choice, client.source, self._loop.time())
        elif choice.kind not in (Kind.ANY, Kind.NEW) and not (
            choice.kind is Kind.SESSION and choice.word == self._sessions[key].name
        ):
            self.refuse(client, Refusal.NOT_ALLOWED)
            return
        if key is None or key not in self._exits:
            self.refuse(client, Refusal.DOWN)
        elif choice.kind is Kind.NEW:
            self._wait_for_new(client, key, user)
        else:
            self._let_in(client, key, user)

    def _wait_for_new(self, client: Client, key: int, user: str) -> None:
        ask = self._renewals.wait(client, key, self._loop.time())
        if ask is None:
            self.refuse(client, Refusal.LIMIT)
        elif ask:
            self._send(WantsNew(key, user))

    def _renew(self, key: int) -> None:
        """A session has come up: those who waited for that go on."""
        for client in self._renewals.of(key):
            assert client.wanted is not None
            user, _ = self._users.understood(client.wanted.user) or ("", Choice())
            self._let_in(client, key, user)

    def _let_in(self, client: Client, key: int, user: str) -> None:
        wanted = client.wanted
        assert wanted is not None
        full = len(self._connecting) + self._relay.connecting >= MOST_CONNECTING
        if full or not self._limits.take(user, key, client.source):
            self.refuse(client, Refusal.LIMIT)
            return
        through = Passing(
            key, user, client.source, client.peer, target(wanted.host, wanted.port), wanted.how, self._loop.time()
        )
        client.let_in = through
        self._pool.opened(key)
        self._tally.opened(key)
        if wanted.how is How.UDP:
            self._associate(client, through)
            return
        exit_, relayed = self._exits[key], wanted.how in _RELAYED
        if relayed and not exit_.stack and not isinstance(wanted.host, str):
            self._connect_at_once(client, exit_, wanted.host, wanted.port)
            return
        self._connecting.add(client)
        client.cancel = self._dialler.connect(
            exit_,
            wanted.host,
            wanted.port,
            self._loop.time() + CONNECTED_IN,
            partial(self._connected, client),
            partial(self._pass_on, client) if relayed else None,
        )

    def _connect_at_once(self, client: Client, exit_: Exit, host: IPv4Address | IPv6Address, port: int) -> None:
        """There is one address to go to: the relay waits for it."""
        try:
            begun = self._dialler.begin(exit_, host, port)
        except DialError as error:
            self._connected(client, error)
        else:
            self._pass_on(client, begun)

    def _connected(self, client: Client, found: socket.socket | Connection | DialError) -> None:
        client.cancel = None
        self._connecting.discard(client)
        through, machine = client.let_in, client.machine
        assert through is not None
        assert machine is not None
        if isinstance(found, DialError):
            self.refuse(client, self._refusal(through.key, found.kind))
            return
        if isinstance(machine, Http) and through.how is How.HTTP:
            if isinstance(found, Connection):
                found = found.as_socket()
            plain = Plain(self._loop, client, machine, found, through, self._idle, self._plain_ended)
            self._tally.stays(plain, through)
            plain.begin()
            return
        if isinstance(found, Connection):
            self._hand_over(client, machine, found, through)
            return
        self._pass_on(client, found, under_way=False)

    def _pass_on(self, client: Client, server: socket.socket, under_way: bool = True) -> None:
        """The relay has the rest; where the server is still being connected, it waits for that as well."""
        client.cancel = None
        self._connecting.discard(client)
        through, machine = client.let_in, client.machine
        assert through is not None
        assert machine is not None
        try:
            address, port = server.getsockname()[:2]
        except OSError:
            server.close()
            self.end(client)
            return
        source = self._exits[through.key].source(6 if ":" in address else 4)
        answer = machine.success((source or ip_address(address), port))
        patience = max(through.since + CONNECTED_IN - self._loop.time(), SWEEP) if under_way else 0.0
        try:
            id_ = self._relay.add(
                client.socket.detach(), server.detach(), through.key, machine.rest, b"", self._idle, answer, patience
            )
        except RelayError as error:
            self._complaints.tell("proxy-relay", f"{str(error).capitalize()}.")
            self._leave(through)
            return
        self._tally.relayed(id_, through)

    def _hand_over(self, client: Client, machine: Machine, found: Connection, through: Passing) -> None:
        """A connection of a session with a stack: the stack program passes on from here."""
        address, port = found.local
        answer = machine.success((ip_address(address), port))
        try:
            if client.socket.send(answer) != len(answer):
                raise BlockingIOError
        except OSError:
            found.close()
            self.end(client)
            return
        found.hand_over(client.socket.detach(), machine.rest, self._idle)
        taken = Taken(self._dialler.names.stack, found, through, self._taken_ended)
        self._tally.stays(taken, through)

    def _taken_ended(self, taken: Taken) -> None:
        through = self._tally.gone(taken)
        if through is not None:
            self._leave(through)

    def _refusal(self, key: int, kind: DialKind) -> Refusal:
        """For a client of a session that wasn't connected."""
        if kind is DialKind.SESSION_GONE and key in self._exits:
            self._doubt(key)
        return REFUSALS[kind]

    def _doubt(self, key: int) -> None:
        """Ask what has become of a session, but not for each client anew."""
        if key not in self._doubted:
            self._doubted.add(key)
            self._send(Doubts(key))

    def _associate(self, client: Client, through: Passing) -> None:
        """UDP ASSOCIATE."""
        try:
            association = Association(
                self._loop,
                client,
                self._exits[through.key],
                self._dialler,
                through,
                self._idle,
                self._association_ended,
            )
        except OSError:
            self.refuse(client, Refusal.FAULT)
            return
        self._tally.stays(association, through)
        association.begin()

    def _association_ended(self, association: Association, client: Client) -> None:
        self._tally.gone(association)
        self.end(client)

    def _plain_ended(self, plain: Plain, client: Client, why: Refusal | None) -> None:
        """A plain request is over: with an answer to be read, if there is any, or the next one."""
        through = self._tally.gone(plain)
        client.let_in = through
        if why is not None:
            self.refuse(client, why)
            return
        assert isinstance(client.machine, Http)
        if through is not None:
            self._leave(through)
            client.let_in = None
        try:
            wanted = client.machine.again()
        except EOFError:
            self._linger(client)
            return
        except Refused as refused:
            self.refuse(client, refused.why)
            return
        client.since = self._loop.time()
        if wanted is not None:
            self.find(client, wanted)
        else:
            self._hearing.take_again(client)

    # Its end

    def refuse(self, client: Client, why: Refusal) -> None:
        """It is told that it gets nothing."""
        answer = b""
        if client.machine is not None:
            answer = client.machine.octets_to_send() + client.machine.refusal(why)
        with suppress(OSError):
            client.socket.send(answer)
        self._linger(client)

    def _linger(self, client: Client) -> None:
        """Close it when the client has had the time to read what it was told last."""
        self._leave_client(client)
        self._lingering.take(client.socket)

    def end(self, client: Client) -> None:
        """Close it without a word."""
        if client.cancel is not None:
            client.cancel()
            client.cancel = None
        client.socket.close()
        self._leave_client(client)

    def _leave_client(self, client: Client) -> None:
        if client.let_in is not None:
            self._leave(client.let_in)
            client.let_in = None

    def _leave(self, through: Passing) -> None:
        self._limits.give_back(through.user, through.key, through.source)
        self._pool.opened(through.key, -1)
        self._tally.touch(through.key)

    def _relay_news(self) -> None:
        for ended in self._relay.ended():
            through = self._tally.relay_ended(ended)
            if ended.client >= 0:
                self._unconnected(ended, through)
            self._leave(through)

    def _unconnected(self, ended: Ended, through: Passing) -> None:
        """The relay could not connect one: it is a client again that gets nothing."""
        kind = {Why.UNCONNECTED: kind_of(ended.error), Why.CUT: DialKind.SESSION_GONE}.get(ended.why, DialKind.SHORT)
        its_socket = socket.socket(fileno=ended.client)
        its_socket.setblocking(False)
        with suppress(OSError):
            its_socket.send(_RELAYED[through.how](self._refusal(through.key, kind)))
        self._lingering.take(its_socket)

    # Now and then

    def _sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(SWEEP, self._sweep)
        now = self._loop.time()
        self._hearing.sweep()
        self._lingering.sweep()
        for client in self._renewals.late(now):
            self.refuse(client, Refusal.TIMED_OUT)
        for it in self._tally.staying():
            it.look(now)
        self._listening.sweep()
        self._complaints.sweep()
        self._tally.sweep()
        self._doubted.clear()

    def close(self) -> None:
        """End all of it."""
        self._sweep_timer.cancel()
        self._listening.close()
        self._hearing.close()
        for client in self._renewals.all():
            self.end(client)
        self._dialler.close()
        for it in self._tally.staying():
            it.close()
        self._lingering.close()
        self._watch.forget(self._relay.fileno())


def _exit(session: Session) -> Exit:
    return Exit(
        session.key,
        session.name,
        session.device,
        session.index,
        IPv4Address(session.ipv4) if session.ipv4 else None,
        IPv6Address(session.ipv6) if session.ipv6 else None,
        tuple(map(ip_address, session.dns)),
        session.stack,
    )


def _goes_on(before: Session, after: Session, had: Exit, has: Exit | None) -> bool:
    """Whether what goes through a session can go on: by IPv4 and IPv6 as it began, or IPv6 has come."""
    same = has is not None and (had.device, had.index, had.ipv4) == (has.device, has.index, has.ipv4)
    return same and before.since == after.since and has is not None and had.ipv6 in (None, has.ipv6)
