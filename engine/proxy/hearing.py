"""Clients that have not said yet what they want: how many are heard out at once, for how long, and how much of each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from engine.proxy.asked import Refusal, Refused, Wanted
from engine.proxy.clients import HEARD_OUT, Client, Machine
from engine.proxy.complaints import Complaints
from engine.proxy.http import Http
from engine.proxy.socks import VERSION_4, VERSION_5, Socks4, Socks5
from engine.proxy.users import Users
from engine.proxy.watch import Watch

MOST = 4096
"""Beyond that the one that takes longest is let go."""
READ = 4096

_MACHINES: dict[int, Callable[..., Machine]] = {VERSION_4: Socks4, VERSION_5: Socks5}
"""By a client's first octet."""


class Heard(Protocol):
    """What becomes of a client then."""

    def find(self, client: Client, wanted: Wanted) -> None:
        """It wants that."""

    def refuse(self, client: Client, why: Refusal) -> None:
        """It makes no sense, or may not use the proxies."""

    def end(self, client: Client) -> None:
        """It is gone, or is to go without a word."""


class Hearing:
    """All of them."""

    def __init__(self, watch: Watch, clock: Callable[[], float], heard: Heard, complaints: Complaints) -> None:
        self._watch = watch
        self._clock = clock
        self._heard = heard
        self._complaints = complaints
        self._users = Users()
        self._there: OrderedDict[Client, None] = OrderedDict()
        """The oldest first."""

    def serve(self, users: Users) -> None:
        """Who may use the proxies: it counts for those as well that are there already."""
        self._users = users

    def take(self, client: Client) -> None:
        """Hear a new one out."""
        self._there[client] = None
        if len(self._there) > MOST:
            self._let_go(next(iter(self._there)))
        self._readable(client)

    def take_again(self, client: Client) -> None:
        """Hear out what one wants next."""
        self._there[client] = None
        self._listen_to(client)

    def forget(self, client: Client) -> None:
        """It is heard out no more; nothing if it isn't."""
        self._there.pop(client, None)
        if client.listening:
            client.listening = False
            self._watch.forget(client.socket.fileno())

    def sweep(self) -> None:
        """Let those go that take too long."""
        now = self._clock()
        while self._there and (oldest := next(iter(self._there))).since + HEARD_OUT <= now:
            self._let_go(oldest)

    def close(self) -> None:
        """Let all go."""
        for client in [*self._there]:
            self._let_go(client)

    def _let_go(self, client: Client) -> None:
        self.forget(client)
        self._heard.end(client)

    def _listen_to(self, client: Client) -> None:
        if not client.listening:
            client.listening = True
            self._watch.reads(client.socket.fileno(), self._readable, client)

    def _readable(self, client: Client) -> None:
        try:
            octets = client.socket.recv(READ)
        except BlockingIOError:
            self._listen_to(client)
            return
        except OSError:
            octets = b""
        if octets and client.machine is None:
            client.machine = self._machine(octets[0])
        if not octets or client.machine is None:
            self._let_go(client)
            return
        try:
            wanted = client.machine.receive(octets)
        except Refused as refused:
            if refused.why is Refusal.NOT_ALLOWED:
                self._complaints.note_stranger(client.source)
            self.forget(client)
            self._heard.refuse(client, refused.why)
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
            self.forget(client)
            self._heard.find(client, wanted)

    def _machine(self, first: int) -> Machine | None:
        """What understands a client that begins with this octet."""
        if first not in (VERSION_4, VERSION_5) and not chr(first).isalpha():
            return None
        return _MACHINES.get(first, Http)(self._may, open_to_all=self._users.open_to_all)

    def _may(self, name: str, password: bytes | None) -> bool:
        """By what holds now, also for a client that was there before."""
        return self._users.may(name, password)
