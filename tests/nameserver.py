"""A DNS server for tests, on sockets that are handed in; what it says is a table, which may lie."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Answer = Callable[[bytes, bool], list[bytes]]
"""Of a question, and whether it came by TCP: the messages to send, none for silence."""


def records(*lines: str, rcode: str = "NOERROR", authority: str = "") -> Answer:
    """Records as a zone file has them, of which those that fit the question and all aliases are sent."""

    def answer(octets: bytes, by_tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(octets)
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.from_text(rcode))
        for section, texts in ((response.answer, lines), (response.authority, (authority,) if authority else ())):
            for line in texts:
                name, ttl, class_, type_, *rest = line.split(maxsplit=4)
                rrset = dns.rrset.from_text(name, int(ttl), class_, type_, *rest)
                if section is response.authority or rrset.rdtype in (query.question[0].rdtype, 5):
                    section.append(rrset)
        if by_tcp:
            return [response.to_wire(max_size=65535)]
        try:
            return [response.to_wire(max_size=query.payload if query.edns >= 0 else 512)]
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return [response.to_wire()]

    return answer


def silence(octets: bytes, by_tcp: bool) -> list[bytes]:
    """Say nothing."""
    return []


class NameServer:
    """Answers while the loop runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, udp: socket.socket, tcp: socket.socket) -> None:
        self.table: dict[str, Answer] = {}
        """By name in lower case; what isn't there doesn't exist."""
        self.asked: Counter[tuple[str, str, str]] = Counter()
        """How often, by name, type and protocol."""
        self.senders: list[tuple[str, int]] = []
        self._loop, self._udp, self._tcp = loop, udp, tcp
        self._peers: set[socket.socket] = set()
        for each in (udp, tcp):
            each.setblocking(False)
        tcp.listen()
        loop.add_reader(udp, self._datagram)
        loop.add_reader(tcp, self._accept)

    def _answers(self, octets: bytes, by_tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(octets)
        asked = query.question[0]
        name = asked.name.to_text().lower().rstrip(".")
        self.asked[name, "AAAA" if asked.rdtype == 28 else "A", "tcp" if by_tcp else "udp"] += 1
        return self.table.get(name, records(rcode="NXDOMAIN"))(octets, by_tcp)

    def _datagram(self) -> None:
        with suppress(BlockingIOError):
            while True:
                octets, sender = self._udp.recvfrom(65535)
                self.senders.append(sender[:2])
                for answer in self._answers(octets, by_tcp=False):
                    self._udp.sendto(answer, sender)

    def _accept(self) -> None:
        peer, _ = self._tcp.accept()
        peer.setblocking(False)
        self._peers.add(peer)
        self._loop.add_reader(peer, self._stream, peer)

    def _stream(self, peer: socket.socket) -> None:
        octets = peer.recv(65535)
        if not octets:
            self._loop.remove_reader(peer)
            self._peers.discard(peer)
            peer.close()
            return
        for answer in self._answers(octets[2:], by_tcp=True):
            peer.setblocking(True)
            peer.sendall(len(answer).to_bytes(2) + answer)
            peer.setblocking(False)

    def close(self) -> None:
        """Answer no more."""
        for each in (self._udp, self._tcp, *self._peers):
            self._loop.remove_reader(each)
            each.close()
