"""The lab's provider at work: the concentrator on its card, and a web server behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Network

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg

from engine.card.facts import read_card
from engine.card.xdp import Loading, XdpError, XdpProgram
from engine.datapath import Datapath, DatapathError
from engine.egress.tun import open_tun
from engine.host.errors import HostError
from engine.host.rtnl import Rtnl, request
from engine.host.surroundings import has_ipv6
from engine.lab.concentrator import Concentrator, LabSettings, SubscriberEvent
from engine.lab.faults import FAULTS
from engine.lab.provider import LabOrder
from engine.ppp.link_events import Ipv4Closed, Ipv4Opened, Ipv6Closed, Ipv6Opened, LinkEnded, MtuVerified
from engine.ppp.negotiator import Timing
from engine.pppoe.concentrator import ConcentratorSettings
from engine.settings.limits import MAX_SESSIONS
from engine.settings.values import AuthMethod
from engine.wire.place import Place

DEVICE = "subscribers"
"""The provider's end of all sessions: one TUN device, its packets sorted to sessions by address."""
TICK = 2.0
"""Seconds between looks at the traffic, which counts as a sign of life."""
CHUNK = bytes(1 << 16)
RESTART = 3.0
"""Seconds until a request is sent again, as in RFC 1661 section 4.6: no concentrator is as impatient as our client."""


def lab_settings(order: LabOrder) -> LabSettings:
    """The concentrator's settings for an order: any user name is welcome with the one password."""
    return LabSettings(
        discovery=ConcentratorSettings(
            name=order.name,
            services=order.services,
            max_sessions=order.max_sessions,
            max_payload=order.max_payload,
        ),
        any_account=True,
        any_password=order.password,
        refusal=f"the lab takes any user name, with the password {order.password}",
        auth=tuple(AuthMethod(word) for word in order.auth),
        impostor=order.impostor,
        withholding=order.withholding,
        network=order.network,
    )


def _address(address: str, length: int) -> bytes:
    """The request that gives it to the concentrator's device."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    attributes = [("IFA_LOCAL", address), ("IFA_ADDRESS", address), ("IFA_FLAGS", IFA_F_NODAD)]
    fields = {"family": family, "prefixlen": length, "index": socket.if_nametoindex(DEVICE)}
    return request(ifaddrmsg, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, attributes, **fields)


class Server:
    """The concentrator on its card."""

    def __init__(self, order: LabOrder, loop: asyncio.AbstractEventLoop, loading: Loading) -> None:
        """Take the card. Raises HostError, XdpError or DatapathError."""
        card = read_card(order.card)
        self._loop = loop
        settings = lab_settings(order)
        self._concentrator = Concentrator(settings, card.mac, os.urandom, Timing(first_restart=RESTART))
        self._program = XdpProgram.attach(order.card, card.queues, loading=loading)
        self._datapath = Datapath(order.card, card.queues, self._program.xsk_map_fd)
        self._tun = open_tun(DEVICE)
        self._datapath.open_routed_egress(self._tun)
        self._free_slots = list(range(MAX_SESSIONS - 1, -1, -1))
        self._slots: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._open: dict[int, set[type]] = defaultdict(set)
        """The network protocols that are, by session."""
        self._timer: asyncio.TimerHandle | None = None
        self.address = str(self._concentrator.pool.own)
        self.address6 = str(IPv6Network(settings.ipv6_network)[1]) if has_ipv6() else ""
        prefix = int(order.network.partition("/")[2])
        mtu = [("IFLA_IFNAME", DEVICE), ("IFLA_MTU", order.max_payload)]
        wanted = [request(ifinfmsg, RTM_NEWLINK, 0, mtu, flags=IFF_UP, change=IFF_UP), _address(self.address, prefix)]
        if self.address6:
            wanted.append(_address(self.address6, IPv6Network(settings.ipv6_network).prefixlen))
        with closing(Rtnl()) as rtnl:
            rtnl.do(wanted)
        loop.add_reader(self._datapath.control_fd, self._control_frames)
        loop.call_later(TICK, self._tick)
        self._faults = [FAULTS[name] for name in order.faults]
        loop.add_signal_handler(signal.SIGUSR1, self._go_wrong)

    def close(self) -> None:
        """Hang up on everyone and give the card back."""
        now = time.monotonic()
        for session_id in list(self._concentrator.subscribers):
            self._concentrator.hang_up(session_id, now)
        self._pump()
        self._loop.remove_reader(self._datapath.control_fd)
        self._datapath.close()
        self._program.close()
        os.close(self._tun)

    def _control_frames(self) -> None:
        now = time.monotonic()
        for frame in self._datapath.receive_control():
            self._concentrator.receive(frame, now)
        self._pump()

    def _timer_expired(self) -> None:
        self._timer = None
        self._concentrator.handle_timer(time.monotonic())
        self._pump()

    def _tick(self) -> None:
        """Clients that sent data are alive."""
        self._loop.call_later(TICK, self._tick)
        traffic = self._datapath.traffic(max(self._slots.values(), default=-1) + 1)
        for session_id, slot in self._slots.items():
            received = traffic[slot * 4]
            if received != self._received.get(session_id):
                self._received[session_id] = received
                self._concentrator.note_traffic(session_id)

    def _go_wrong(self) -> None:
        """Do one of the faults that were ordered to each session, the first to the first."""
        for session_id, fault in zip([*self._slots], self._faults, strict=False):
            fault(self._concentrator, session_id, time.monotonic())
        self._pump()

    def _pump(self) -> None:
        while (event := self._concentrator.next_event()) is not None:
            self._event(event)
        frames = self._concentrator.frames_to_send()
        while frames:
            frames = frames[self._datapath.send_control(frames) :]
            if frames:
                time.sleep(0.0005)
        due = self._concentrator.next_timer()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._timer_expired) if due is not None else None

    def _event(self, event: SubscriberEvent) -> None:
        """A session's packets flow from the first network protocol that opens to the last that closes."""
        was_open = self._open[event.session_id]
        match event.event:
            case Ipv4Opened() | Ipv6Opened():
                if not was_open:
                    self._let_flow(event)
                was_open.add(type(event.event))
            case MtuVerified() if event.session_id in self._slots:  # the first full-size echo was lost
                self._stop(event.session_id)
                self._let_flow(event)
            case Ipv4Closed():
                was_open.discard(Ipv4Opened)
            case Ipv6Closed():
                was_open.discard(Ipv6Opened)
            case LinkEnded():
                was_open.clear()
        if not was_open:
            del self._open[event.session_id]
            self._stop(event.session_id)

    def _let_flow(self, event: SubscriberEvent) -> None:
        slot = self._slots[event.session_id] = self._free_slots.pop()
        key = Place(self._concentrator.mac, event.peer.mac, event.session_id, event.peer.vlans)
        prefix = event.block[0].packed[:8]
        self._datapath.add_routed_session(slot, key, event.mtu, ipv4=event.grant.client.packed, ipv6_prefix=prefix)

    def _stop(self, session_id: int) -> None:
        slot = self._slots.pop(session_id, None)
        if slot is not None:
            self._received.pop(session_id, None)
            self._datapath.remove_session(slot)
            self._free_slots.append(slot)


class Page(BaseHTTPRequestHandler):
    """Tells each caller the address it came from; a number as the path is answered with so many octets."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        size = self.path.strip("/")
        if size.isdigit():
            self._octets(int(size))
        else:
            body = f"Your address is {self.client_address[0]}\n".encode()
            self._head(len(body))
            self.wfile.write(body)

    def _octets(self, size: int) -> None:
        self._head(size)
        while size > 0:
            self.wfile.write(CHUNK[:size])
            size -= len(CHUNK)

    def _head(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Nothing: the lab is quiet."""


class WebServer(ThreadingHTTPServer):
    """The web server behind the concentrator."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: str) -> None:
        """Serves on port 80 of an address."""
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 80), Page)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hangs up in the middle is no news."""


def serve(order: LabOrder, loading: Loading) -> int:
    """Answer on the card until standard input closes; returns the process's exit code."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        server = Server(order, loop, loading)
        webs = [WebServer(address) for address in (server.address, server.address6) if address]
    except (HostError, XdpError, DatapathError, OSError) as error:
        print(f"error: {error}", flush=True)
        return 1
    for web in webs:
        threading.Thread(target=web.serve_forever, daemon=True).start()
    loop.add_reader(sys.stdin, loop.stop)
    print("ready", flush=True)
    try:
        loop.run_forever()
    finally:
        server.close()
    return 0
