"""All proxies of the process: who connects, what it may have, and what becomes of it. Callbacks on one loop, no task.

A client is one of these things after the other: heard out (`Client`), connected to what it wants by `Dialler`, handed
to the relay's thread. A plain HTTP request and UDP ASSOCIATE stay here: `plain.py`, `datagrams.py`.

What a client can do to others is bounded: how many are heard out at once, for how long, how much of what they say is
kept.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from engine.proxy.asked import How, Refusal, Refused, Wanted, target
from engine.proxy.clients import Client, Machine, Passing, Port
from engine.proxy.datagrams import Association
from engine.proxy.dialling import DialError, DialKind, Dialler, kind_of
from engine.proxy.exits import Exit
from engine.proxy.http import Http
from engine.proxy.http import refusal as refusal_http
from engine.proxy.limits import Limits
from engine.proxy.messages import (
    SHARE,
    Begin,
    Counted,
    Counts,
    Doubts,
    Message,
    NotNew,
    Serve,
    Session,
    Sessions,
    Tell,
    Through,
    WantsNew,
)
from engine.proxy.plain import Plain
from engine.proxy.pool import Pool
from engine.proxy.relay import Ended, Relay, RelayError, Why
from engine.proxy.socks import VERSION_4, VERSION_5, Socks4, Socks5, refusal_4, refusal_5
from engine.proxy.stack import Connection, Taken
from engine.proxy.talkers import Talker, Talkers
from engine.proxy.users import Choice, Kind, User, Users
from engine.settings.own_kinds import split_endpoint

HEARD_OUT = 10.0
"""Seconds in which a client has to say what it wants."""
MOST_HEARD = 4096
"""Clients that are heard out at once: beyond that the one that takes longest is let go."""
CONNECTED_IN = 20.0
"""Seconds in which a server has to answer."""
NEW_IN = 90.0
"""Seconds that a client waits for a session to have a new address."""
NEW_AGAIN = 10.0
"""Seconds in which a session is given no second new address."""
MOST_WAITING = 1024
"""Clients that wait for that."""
AT_ONCE = 64
"""Clients that are let in before anything else is looked at."""
READ = 4096
BACKLOG = 1024
AGAIN = 5.0
"""Seconds until a port that is taken is tried again."""
SWEEP = 1.0
LINGER = 2.0
"""Seconds in which a client can read why it gets nothing, before what it still says resets the connection."""
MOST_SHOWN = 200
MOST_CONNECTING = 20_000
"""Clients whose servers haven't answered yet."""
QUIET = 60.0
MOST_TALKERS = 10
WARNING, INFO = 2, 1

_TCP_DEFER_ACCEPT = 9
_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))

REFUSALS = {
    DialKind.FORBIDDEN: Refusal.FORBIDDEN,
    DialKind.SESSION_GONE: Refusal.DOWN,
    DialKind.REFUSED: Refusal.REFUSED,
    DialKind.UNREACHABLE: Refusal.UNREACHABLE,
    DialKind.TIMED_OUT: Refusal.TIMED_OUT,
    DialKind.NO_SUCH_NAME: Refusal.NO_NAME,
    DialKind.NO_ADDRESS: Refusal.UNREACHABLE,
    DialKind.NAME_FAILED: Refusal.NO_NAME,
    DialKind.SHORT: Refusal.FAULT,
}

_RELAYED = {How.SOCKS4: refusal_4, How.SOCKS5: refusal_5, How.CONNECT: refusal_http}
"""What the relay takes while it is being connected, and how it is refused then."""

_MACHINES: dict[int, Callable[..., Machine]] = {VERSION_4: Socks4, VERSION_5: Socks5}
"""By a client's first octet."""


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
        self._loop = loop
        self._dialler = dialler
        self._watch = dialler.names.watch
        self._relay = relay
        self._send = send
        self._pool = Pool(chance)
        self._limits = Limits()
        self._users = Users()
        self._idle = 0.0
        self._sessions: dict[int, Session] = {}
        self._exits: dict[int, Exit] = {}
        """Of sessions that are up."""
        self._ports: dict[str, Port] = {}
        """By endpoint."""
        self._own_ports: dict[int, Port] = {}
        """By session."""
        self._heard_out: OrderedDict[Client, None] = OrderedDict()
        """Those that have not said yet what they want, the oldest first."""
        self._connecting: dict[Client, int] = {}
        """By session."""
        self._relayed: dict[int, Passing] = {}
        """By the relay's id."""
        self._stay: dict[Plain | Association | Taken, Passing] = {}
        self._lingering: OrderedDict[socket.socket, float] = OrderedDict()
        self._waiting: dict[Client, tuple[int, float]] = {}
        """Who waits for a new address: session, and until when."""
        self._renewed: dict[int, float] = {}
        """When a session was last given a new address for a client."""
        self._opened = Counter[int]()
        self._carried: dict[int, tuple[int, int]] = {}
        """Octets of what stays here and has ended, by session."""
        self._touched: set[int] = set()
        """Sessions of which something has changed since that was told."""
        self._told: dict[int, Counted] = {}
        self._looked_at: frozenset[int] = frozenset()
        self._talkers = Talkers()
        self._strangers = Counter[str]()
        """Wrong names and passwords, by source, since that was told."""
        self._short = False
        self._doubted: set[int] = set()
        """Sessions that were asked after in this second."""
        self._quiet: dict[str, float] = {}
        """Until when a kind of complaint is not told again."""
        self._watch.reads(relay.fileno(), self._relay_news)
        self._sweep_timer = loop.call_later(SWEEP, self._sweep)
        self._retry_timer = loop.call_later(AGAIN, self._retry)

    # What the engine tells

    def serve(self, order: Serve) -> None:
        """What there is to be."""
        self._users = Users(order.salt, [User(*user) for user in order.users])
        self._limits.most = order.limits
        self._idle = order.idle
        self._pool.choose = order.choose
        self._dialler.allow_private = order.allow_private
        for port in [port for port in self._ports.values() if port.key is None and port.endpoint != order.pool]:
            self._close_port(port)
        for port in self._ports.values():
            if port.socket is not None and not self._may_be_open(port):
                self._silence(port)
        if order.pool and order.pool not in self._ports:
            self._open_port(Port(order.pool, None))

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

    def look(self, keys: tuple[int, ...]) -> None:
        """Whose connections are to be told."""
        self._looked_at = frozenset(keys)
        self._tell_counts(self._looked_at)

    def not_new(self, told: NotNew) -> None:
        """No new address is to be had."""
        for client in [client for client, (key, _) in self._waiting.items() if key == told.key]:
            del self._waiting[client]
            self._refuse(client, Refusal.LIMIT)

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
            self._move_port(session)
        if now_exit is not None and (before is None or not before.up or before.since != session.since):
            self._renew(session.key)

    def _forget(self, key: int) -> None:
        """A session is there no more."""
        self._cut(key)
        self._sessions.pop(key, None)
        self._talkers.forget(key)
        self._exits.pop(key, None)
        self._pool.take_out(key)
        if key in self._own_ports:
            self._close_port(self._own_ports[key])
        self._told.pop(key, None)
        self._renewed.pop(key, None)
        self._relay.forget(key)

    def _cut(self, key: int) -> None:
        """A session is gone, or another one: so is all that went through it."""
        self._relay.cut(key)
        self._dialler.drop(key)
        for it in [it for it, through in self._stay.items() if through.key == key]:
            it.close()

    # Ports

    def _move_port(self, session: Session) -> None:
        if session.key in self._own_ports:
            self._close_port(self._own_ports[session.key])
        if not session.listen:
            return
        taken = self._ports.get(session.listen)
        if taken is not None:
            owner = self._sessions.get(taken.key) if taken.key is not None else None
            whose = f"session {owner.name}" if owner is not None else "the pool"
            text = f"The proxy of session {session.name} can't listen on {session.listen}: {whose} does already."
            self._send(Tell(WARNING, "proxy-port", text, session.key))
            return
        self._open_port(Port(session.listen, session.key))

    def _open_port(self, port: Port) -> None:
        self._ports[port.endpoint] = port
        if port.key is not None:
            self._own_ports[port.key] = port
        self._listen(port)
        self._tell_port(port)

    def _close_port(self, port: Port) -> None:
        del self._ports[port.endpoint]
        if port.key is not None:
            del self._own_ports[port.key]
        self._silence(port)
        self._tell_port(port)

    def _silence(self, port: Port) -> None:
        """Listen there no more."""
        if port.socket is not None:
            self._watch.forget(port.socket.fileno())
            port.socket.close()
            port.socket = None

    def _may_be_open(self, port: Port) -> bool:
        """Beyond loopback only where clients need a password."""
        return split_endpoint(port.endpoint)[0].is_loopback or not self._users.open_to_all

    def _tell_port(self, port: Port) -> None:
        if port.key is not None:
            self._tell_counts((port.key,))

    def _listen(self, port: Port) -> None:
        """Raises nothing: where it can't, that is told once and tried again."""
        address, number = split_endpoint(port.endpoint)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        whose = f"session {self._sessions[port.key].name}" if port.key is not None else "the pool"
        if not self._may_be_open(port):
            if not port.told:
                text = (
                    f"The proxy of {whose} doesn't listen on {port.endpoint}: beyond loopback it needs `proxy: users:`."
                )
                self._send(Tell(WARNING, "proxy-port", text, port.key))
                port.told = True
            return
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.version == 6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.is_unspecified))
            listening.setsockopt(socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, int(HEARD_OUT))
            listening.bind((str(address), number))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            if not port.told:
                why = (
                    "another program has that port"
                    if error.errno == errno.EADDRINUSE
                    else (error.strerror or str(error)).lower()
                )
                text = f"The proxy of {whose} can't listen on {port.endpoint}: {why}; it is tried again and again."
                self._send(Tell(WARNING, "proxy-port", text, port.key))
                port.told = True
            return
        if port.told:
            port.told = False
            self._send(Tell(INFO, "proxy-port", f"The proxy of {whose} listens on {port.endpoint} now.", port.key))
        port.socket = listening
        self._watch.reads(listening.fileno(), self._accept, port)

    def _retry(self) -> None:
        self._retry_timer = self._loop.call_later(AGAIN, self._retry)
        for port in [port for port in self._ports.values() if port.socket is None]:
            self._listen(port)
            self._tell_port(port)

    # Clients that are heard out

    def _accept(self, port: Port) -> None:
        for _ in range(AT_ONCE):
            if port.socket is None:
                return
            try:
                its_socket, address = port.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _RESOURCES:
                    self._pause()
                return
            its_socket.setblocking(False)
            client = Client(port, its_socket, address, self._loop.time())
            self._heard_out[client] = None
            if len(self._heard_out) > MOST_HEARD:
                self._let_go(next(iter(self._heard_out)))
            self._readable(client)

    def _pause(self) -> None:
        """Descriptors are short: nobody is let in until the next look."""
        if not self._short:
            self._short = True
            self._complain("proxy-short", "The proxies are short of descriptors: new clients wait (`ulimit -n`).")
        for port in self._ports.values():
            if port.socket is not None:
                self._watch.forget(port.socket.fileno())

    def _readable(self, client: Client) -> None:
        try:
            octets = client.socket.recv(READ)
        except BlockingIOError:
            self._listen_to(client)
            return
        except OSError:
            octets = b""
        if not octets:
            self._let_go(client)
            return
        if client.machine is None:
            client.machine = self._machine(octets[0])
            if client.machine is None:
                self._let_go(client)
                return
        try:
            wanted = client.machine.receive(octets)
        except Refused as refused:
            if refused.why is Refusal.NOT_ALLOWED:
                self._strangers[client.source] += 1
            self._refuse(client, refused.why)
            return
        if answers := client.machine.octets_to_send():
            try:
                client.socket.send(answers)  # a few octets into an empty buffer
            except OSError:
                self._let_go(client)
                return
        if wanted is None:
            self._listen_to(client)
        else:
            self._listen_no_more(client)
            self._heard_out.pop(client, None)
            self.find(client, wanted)

    def _machine(self, first: int) -> Machine | None:
        """What understands a client that begins with this octet."""
        if first not in (VERSION_4, VERSION_5) and not chr(first).isalpha():
            return None
        return _MACHINES.get(first, Http)(self._may, open_to_all=self._users.open_to_all)

    def _may(self, name: str, password: bytes | None) -> bool:
        """By what holds now, also for a client that was there before."""
        return self._users.may(name, password)

    def _listen_to(self, client: Client) -> None:
        if not client.listening:
            client.listening = True
            self._watch.reads(client.socket.fileno(), self._readable, client)

    def _listen_no_more(self, client: Client) -> None:
        if client.listening:
            client.listening = False
            self._watch.forget(client.socket.fileno())

    # What a client gets

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
            self._refuse(client, Refusal.NOT_ALLOWED)
            return
        if key is None or key not in self._exits:
            self._refuse(client, Refusal.DOWN)
        elif choice.kind is Kind.NEW:
            self._wait_for_new(client, key, user)
        else:
            self._let_in(client, key, user)

    def _wait_for_new(self, client: Client, key: int, user: str) -> None:
        now = self._loop.time()
        under_way = any(waits_for == key for waits_for, _ in self._waiting.values())
        if len(self._waiting) >= MOST_WAITING or (
            not under_way and now - self._renewed.get(key, -NEW_AGAIN) < NEW_AGAIN
        ):
            self._refuse(client, Refusal.LIMIT)
            return
        self._waiting[client] = key, now + NEW_IN
        if not under_way:
            self._renewed[key] = now
            self._send(WantsNew(key, user))

    def _renew(self, key: int) -> None:
        """A session has come up: those who waited for that go on."""
        for client in [client for client, (waits_for, _) in self._waiting.items() if waits_for == key]:
            del self._waiting[client]
            assert client.wanted is not None
            user, _ = self._users.understood(client.wanted.user) or ("", Choice())
            self._let_in(client, key, user)

    def _let_in(self, client: Client, key: int, user: str) -> None:
        wanted = client.wanted
        assert wanted is not None
        full = len(self._connecting) + self._relay.connecting >= MOST_CONNECTING
        if full or not self._limits.take(user, key, client.source):
            self._refuse(client, Refusal.LIMIT)
            return
        through = Passing(
            key, user, client.source, client.peer, target(wanted.host, wanted.port), wanted.how, self._loop.time()
        )
        client.let_in = through
        self._pool.opened(key)
        self._opened[key] += 1
        if wanted.how is How.UDP:
            self._associate(client, through)
            return
        exit_, relayed = self._exits[key], wanted.how in _RELAYED
        if relayed and not exit_.stack and not isinstance(wanted.host, str):
            self._connect_at_once(client, exit_, wanted.host, wanted.port)
            return
        self._connecting[client] = key
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
        self._connecting.pop(client, None)
        through, machine = client.let_in, client.machine
        assert through is not None
        assert machine is not None
        if isinstance(found, DialError):
            self._refuse(client, self._refusal(through.key, found.kind))
            return
        if isinstance(machine, Http) and through.how is How.HTTP:
            if isinstance(found, Connection):
                found = found.as_socket()
            plain = Plain(self._loop, client, machine, found, through, self._idle, self._plain_ended)
            self._stay[plain] = through
            plain.begin()
            return
        if isinstance(found, Connection):
            self._hand_over(client, machine, found, through)
            return
        self._pass_on(client, found, under_way=False)

    def _pass_on(self, client: Client, server: socket.socket, under_way: bool = True) -> None:
        """The relay has the rest; where the server is still being connected, it waits for that as well."""
        client.cancel = None
        self._connecting.pop(client, None)
        through, machine = client.let_in, client.machine
        assert through is not None
        assert machine is not None
        try:
            address, port = server.getsockname()[:2]
        except OSError:
            server.close()
            self._end(client)
            return
        source = self._exits[through.key].source(6 if ":" in address else 4)
        answer = machine.success((source or ip_address(address), port))
        patience = max(through.since + CONNECTED_IN - self._loop.time(), SWEEP) if under_way else 0.0
        try:
            id_ = self._relay.add(
                client.socket.detach(), server.detach(), through.key, machine.rest, b"", self._idle, answer, patience
            )
        except RelayError as error:
            self._complain("proxy-relay", f"{str(error).capitalize()}.")
            self._leave(through)
            return
        through.id = id_
        self._relayed[id_] = through

    def _hand_over(self, client: Client, machine: Machine, found: Connection, through: Passing) -> None:
        """A connection of a session with a stack: the stack program passes on from here."""
        address, port = found.local
        answer = machine.success((ip_address(address), port))
        try:
            if client.socket.send(answer) != len(answer):
                raise BlockingIOError
        except OSError:
            found.close()
            self._end(client)
            return
        found.hand_over(client.socket.detach(), machine.rest, self._idle)
        taken = Taken(self._dialler.names.stack, found, through, self._taken_ended)
        self._stay[taken] = through

    def _taken_ended(self, taken: Taken) -> None:
        through = self._gone_from_here(taken)
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
            self._refuse(client, Refusal.FAULT)
            return
        self._stay[association] = through
        association.begin()

    def _association_ended(self, association: Association, client: Client) -> None:
        self._gone_from_here(association)
        self._end(client)

    def _plain_ended(self, plain: Plain, client: Client, why: Refusal | None) -> None:
        """A plain request is over: with an answer to be read, if there is any, or the next one."""
        through = self._gone_from_here(plain)
        client.let_in = through
        if why is not None:
            self._refuse(client, why)
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
            self._refuse(client, refused.why)
            return
        client.since = self._loop.time()
        if wanted is not None:
            self.find(client, wanted)
        else:
            self._heard_out[client] = None
            self._listen_to(client)

    def _gone_from_here(self, it: Plain | Association | Taken) -> Passing | None:
        through = self._stay.pop(it, None)
        if through is not None:
            up, down = self._carried.get(through.key, (0, 0))
            self._carried[through.key] = up + through.up, down + through.down
            self._talkers.add(through.key, through.target, through.up, through.down)
        return through

    # Its end

    def _refuse(self, client: Client, why: Refusal) -> None:
        answer = b""
        if client.machine is not None:
            answer = client.machine.octets_to_send() + client.machine.refusal(why)
        with suppress(OSError):
            client.socket.send(answer)
        self._linger(client)

    def _linger(self, client: Client) -> None:
        """Close it when the client has had the time to read what it was told last."""
        self._heard_out.pop(client, None)
        self._listen_no_more(client)
        if client.let_in is not None:
            self._leave(client.let_in)
            client.let_in = None
        self._linger_with(client.socket)

    def _linger_with(self, its_socket: socket.socket) -> None:
        try:
            its_socket.shutdown(socket.SHUT_WR)
        except OSError:
            its_socket.close()
            return
        self._lingering[its_socket] = self._loop.time() + LINGER
        self._watch.reads(its_socket.fileno(), self._drain, its_socket)
        if len(self._lingering) > MOST_HEARD:
            self._close_lingering(next(iter(self._lingering)))

    def _drain(self, its_socket: socket.socket) -> None:
        try:
            octets = its_socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._close_lingering(its_socket)

    def _close_lingering(self, its_socket: socket.socket) -> None:
        del self._lingering[its_socket]
        self._watch.forget(its_socket.fileno())
        its_socket.close()

    def _let_go(self, client: Client) -> None:
        """Close it without a word."""
        self._heard_out.pop(client, None)
        self._end(client)

    def _end(self, client: Client) -> None:
        self._listen_no_more(client)
        if client.cancel is not None:
            client.cancel()
            client.cancel = None
        client.socket.close()
        if client.let_in is not None:
            self._leave(client.let_in)
            client.let_in = None

    def _leave(self, through: Passing) -> None:
        self._limits.give_back(through.user, through.key, through.source)
        self._pool.opened(through.key, -1)
        self._touched.add(through.key)

    def _relay_news(self) -> None:
        for ended in self._relay.ended():
            through = self._relayed.pop(ended.id)
            if ended.client >= 0:
                self._unconnected(ended, through)
            else:
                self._talkers.add(through.key, through.target, ended.up, ended.down)
            self._leave(through)

    def _unconnected(self, ended: Ended, through: Passing) -> None:
        """The relay could not connect one: it is a client again that gets nothing."""
        kind = {Why.UNCONNECTED: kind_of(ended.error), Why.CUT: DialKind.SESSION_GONE}.get(ended.why, DialKind.SHORT)
        its_socket = socket.socket(fileno=ended.client)
        its_socket.setblocking(False)
        with suppress(OSError):
            its_socket.send(_RELAYED[through.how](self._refusal(through.key, kind)))
        self._linger_with(its_socket)

    # Now and then

    def _sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(SWEEP, self._sweep)
        now = self._loop.time()
        while self._heard_out and (oldest := next(iter(self._heard_out))).since + HEARD_OUT <= now:
            self._let_go(oldest)
        while self._lingering:
            its_socket, until = next(iter(self._lingering.items()))
            if until > now:
                break
            self._close_lingering(its_socket)
        for client in [client for client, (_, until) in self._waiting.items() if until <= now]:
            del self._waiting[client]
            self._refuse(client, Refusal.TIMED_OUT)
        for it in [*self._stay]:
            it.look(now)
        if self._short:
            self._short = False
            for port in self._ports.values():
                if port.socket is not None:
                    self._watch.reads(port.socket.fileno(), self._accept, port)
        if self._strangers:
            self._tell_strangers()
        self._tell_counts({*self._pool.connections, *self._touched, *self._looked_at})
        self._touched.clear()
        self._doubted.clear()

    def _complain(self, kind: str, text: str) -> None:
        """Tell what goes wrong again and again, but of each kind no more than once a minute."""
        now = self._loop.time()
        if now >= self._quiet.get(kind, 0.0):
            self._quiet[kind] = now + QUIET
            self._send(Tell(WARNING, kind, text))

    def _tell_strangers(self) -> None:
        if self._loop.time() < self._quiet.get("proxy-password", 0.0):
            return
        many, sources = sum(self._strangers.values()), [source for source, _ in self._strangers.most_common(3)]
        more = "" if len(self._strangers) <= len(sources) else f" and {len(self._strangers) - len(sources)} others"
        attempts = "One attempt" if many == 1 else f"{many} attempts"
        text = f"{attempts} at the proxies with a wrong user name or password, from {', '.join(sources)}{more}."
        self._complain("proxy-password", text)
        self._strangers.clear()

    def _tell_counts(self, keys: Iterable[int]) -> None:
        """Of those of these sessions for which something has changed."""
        through = self._collected()
        changed = [self._counted(key, tuple(through.get(key, ()))) for key in keys if key in self._sessions]
        changed = [counted for counted in changed if self._told.get(counted.key) != counted]
        self._told |= {counted.key: counted for counted in changed}
        short = [counted for counted in changed if not (counted.through or counted.talkers)]
        for at in range(0, len(short), SHARE):
            self._send(Counts(tuple(short[at : at + SHARE])))
        for counted in changed:
            if counted.through or counted.talkers:  # as large as a message may be
                self._send(Counts((counted,)))

    def _counted(self, key: int, through: tuple[Through, ...]) -> Counted:
        up, down, _ = self._relay.counters(key)
        more_up, more_down = self._carried.get(key, (0, 0))
        port = self._own_ports.get(key)
        return Counted(
            key,
            port.endpoint if port is not None and port.socket is not None else "",
            self._pool.connections.get(key, 0),
            self._opened[key],
            up + more_up,
            down + more_down,
            through,
            self._busiest(key),
        )

    def _busiest(self, key: int) -> tuple[Talker, ...]:
        """The hosts with which most was talked through a session that somebody looks at."""
        if key not in self._looked_at:
            return ()
        under_way = [
            (passing.target, *(self._relay.traffic(passing.id) if passing.id >= 0 else (passing.up, passing.down)))
            for passing in (*self._relayed.values(), *self._stay.values())
            if passing.key == key
        ]
        return tuple(self._talkers.top(key, MOST_TALKERS, under_way))

    def _collected(self) -> dict[int, list[Through]]:
        """The connections of sessions that somebody looks at."""
        found: dict[int, list[Through]] = {key: [] for key in self._looked_at}
        if not found:
            return {}
        now = self._loop.time()
        for passing in (*self._relayed.values(), *self._stay.values()):
            shown = found.get(passing.key)
            if shown is not None and len(shown) < MOST_SHOWN:
                up, down = self._relay.traffic(passing.id) if passing.id >= 0 else (passing.up, passing.down)
                age = now - passing.since
                shown.append(Through(age, passing.peer, passing.target, passing.how, passing.user, up, down))
        return found

    def close(self) -> None:
        """End all of it."""
        self._sweep_timer.cancel()
        self._retry_timer.cancel()
        for port in [*self._ports.values()]:
            self._close_port(port)
        for client in [*self._heard_out, *self._waiting]:
            self._let_go(client)
        self._dialler.close()
        for it in [*self._stay]:
            it.close()
        for its_socket in [*self._lingering]:
            self._close_lingering(its_socket)
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
