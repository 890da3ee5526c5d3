"""A DHCPv6 client: addresses (IA_NA), delegated prefixes (IA_PD), and name servers (RFC 8415 section 18.2).

It asks by multicast only, whatever a server says of unicast, and accepts no Reconfigure: none could be authenticated.
The exchanges are a table: what is sent, how often, and what becomes of an answer. A server that lies costs what it
lies about: an association with T1 behind T2, or a lease whose preferred lifetime is longer than the valid one, isn't
there; a lease that ends at once, neither; more than MOST of a kind aren't heeded.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network
from math import inf

from msgspec import Struct

from engine.ipv6.retransmission import Retransmission
from engine.ipv6.settled import SettledLeases
from engine.wire import dhcpv6
from engine.wire.dhcpv6 import Association, Message, MessageType, Offered, Option, OptionCode, Status
from engine.wire.errors import Malformed, WireError
from engine.wire.ipv6 import is_one_hosts

MOST = 4
"""Leases of a kind, and name servers."""
IAID = 1
"""Each session is a client of its own, and has one association of a kind."""
MIN_LIFETIME, MIN_RENEWAL = 10.0, 5.0
"""Seconds; a lease that ends sooner is none, and so soon after one answer no other is asked for."""
PAUSE, LONGEST_PAUSE = 4.0, 600.0
"""Seconds after which a client asks anew whom a server has given nothing; doubled each time."""
MIN_REFRESH, USUAL_REFRESH = 600.0, 86_400.0
"""Seconds after which name servers alone are asked for again (section 21.23)."""
MIN_LONGEST, MAX_LONGEST = 60, 86_400
"""What a server may set SOL_MAX_RT and INF_MAX_RT to (sections 21.24 and 21.25)."""


class Stage(StrEnum):
    """What the client is at."""

    OFF = "off"
    SOLICIT = "solicit"
    REQUEST = "request"
    BOUND = "bound"
    RENEW = "renew"
    REBIND = "rebind"
    INFORM = "inform"
    INFORMED = "informed"


class _Exchange(Struct, frozen=True):
    """RFC 8415 section 7.6: the first pause and the longest one in seconds, and how often at most."""

    type: MessageType
    first: float
    longest: float
    times: float = inf


_EXCHANGES = {
    Stage.SOLICIT: _Exchange(MessageType.SOLICIT, 1.0, 3600.0),
    Stage.REQUEST: _Exchange(MessageType.REQUEST, 1.0, 30.0, 10),
    Stage.RENEW: _Exchange(MessageType.RENEW, 10.0, 600.0),
    Stage.REBIND: _Exchange(MessageType.REBIND, 10.0, 600.0),
    Stage.INFORM: _Exchange(MessageType.INFORMATION_REQUEST, 1.0, 3600.0),
}
_LEASING = (Stage.REQUEST, Stage.BOUND, Stage.RENEW, Stage.REBIND)
_LONGEST = {Stage.SOLICIT: OptionCode.SOL_MAX_RT, Stage.INFORM: OptionCode.INF_MAX_RT}
_STATUS_WORDS: dict[int, str] = {
    Status.UNSPEC_FAIL: "refused, without a reason",
    Status.NO_ADDRS_AVAIL: "no address is left",
    Status.NO_BINDING: "it knows nothing of us",
    Status.NOT_ON_LINK: "the address is of another link",
    Status.NO_PREFIX_AVAIL: "no prefix is left",
}


class Lease(Struct, frozen=True):
    """An address, as a /128, or a prefix; until when it is preferred, and ours at all."""

    kind: OptionCode
    network: IPv6Network
    preferred: float
    valid: float


class Wishes(Struct, frozen=True):
    """What is asked for."""

    address: bool = False
    prefix: int | None = None
    """The length of the prefix that would suit us; 0: any; None: none is asked for."""
    other: bool = False
    """Name servers, also where nothing else is asked for."""

    @property
    def kinds(self) -> tuple[OptionCode, ...]:
        """Of the associations."""
        wanted = ((OptionCode.IA_NA, self.address), (OptionCode.IA_PD, self.prefix is not None))
        return tuple(kind for kind, is_wanted in wanted if is_wanted)


class DhcpClient:
    """One session's client, without I/O: DHCPv6 messages go in and out."""

    def __init__(self, duid: bytes, entropy: Callable[[int], bytes]) -> None:
        """`duid` is who we are."""
        self.stage = Stage.OFF
        self.leases: dict[tuple[OptionCode, IPv6Network], Lease] = {}
        self.servers: tuple[IPv6Address, ...] = ()
        """Name servers."""
        self.remarks: list[str] = []
        """For the operator; whoever tells them empties it."""
        self._duid = duid
        self._entropy = entropy
        self._wishes = Wishes()
        self._server = b""
        self._best: tuple[tuple[int, int], Message] | None = None
        """The best offer so far, and how good it is."""
        self._offer: tuple[Association, ...] = ()
        """What the server of a Request has offered."""
        self._timer: Retransmission | None = None
        self._transaction = b""
        self._t1 = self._t2 = inf
        self._refresh = inf
        self._pause = PAUSE
        self._longest: dict[Stage, float] = {}
        """As a server has set them."""
        self._told: set[str] = set()
        self._out: list[bytes] = []

    # What the owner does

    def want(self, wishes: Wishes, now: float) -> None:
        """Have these from now on; what isn't wished for any more is left to its end."""
        if wishes == self._wishes:
            return
        self._wishes = wishes
        if not wishes.kinds and self.stage not in _LEASING:
            if wishes.other:
                self._begin(Stage.INFORM, now)
            else:
                self.stage, self._timer = Stage.OFF, None
        elif self.stage in (Stage.BOUND, Stage.RENEW, Stage.REBIND):
            if not set(wishes.kinds) <= {kind for kind, _ in self.leases}:
                self._begin(Stage.RENEW, now)  # asks for what is missing too (section 18.2.4)
        elif wishes.kinds:
            self._begin(Stage.SOLICIT, now)

    def release(self, now: float) -> None:
        """Give back all that we have (section 18.2.7), once: nobody waits for the answer."""
        if self.leases and self._server:
            self._transaction = self._entropy(dhcpv6.TRANSACTION)
            self._timer = Retransmission(self._entropy, 1.0, inf, now)
            self._send(MessageType.RELEASE, now)
        self.stage, self._timer = Stage.OFF, None
        self.leases.clear()

    @property
    def settled(self) -> SettledLeases | None:
        """What another process needs to go on; None where there is nothing."""
        if not self.leases:
            return None
        leases = tuple((each.kind, str(each.network), each.preferred, each.valid) for each in self.leases.values())
        wishes = self._wishes.address, self._wishes.prefix, self._wishes.other
        return SettledLeases(self._server, self._t1, self._t2, leases, tuple(map(str, self.servers)), wishes)

    def resume(self, settled: SettledLeases) -> None:
        """Go on with what another process had."""
        self.stage, self._wishes = Stage.BOUND, Wishes(*settled.wishes)
        self._server, self._t1, self._t2 = settled.server, settled.t1, settled.t2
        for kind, text, preferred, valid in settled.leases:
            lease = Lease(OptionCode(kind), IPv6Network(text), preferred, valid)
            self.leases[lease.kind, lease.network] = lease
        self.servers = tuple(map(IPv6Address, settled.servers))

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called next, None for not at all."""
        due = [lease.valid for lease in self.leases.values()]
        due += [lease.preferred for lease in self.leases.values()]
        if self._timer is not None:
            due.append(self._timer.at)
        if self.stage is Stage.BOUND:
            due.append(self._t1)
        elif self.stage is Stage.RENEW:
            due.append(self._t2)
        elif self.stage is Stage.INFORMED:
            due.append(self._refresh)
        return min((at for at in due if -inf < at < inf), default=None)

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        self._let_expire(now)
        if self.stage is Stage.BOUND and now >= self._t1:
            self._begin(Stage.RENEW if now < self._t2 else Stage.REBIND, now)
        elif self.stage is Stage.RENEW and now >= self._t2:
            self._begin(Stage.REBIND, now)
        elif self.stage is Stage.INFORMED and now >= self._refresh:
            self._begin(Stage.INFORM, now)
        timer = self._timer
        if timer is None or now < timer.at:
            return
        if self.stage is Stage.SOLICIT and self._best is not None:
            self._request(now)
        elif timer.over(now):
            self._begin(Stage.SOLICIT, now)
        else:
            self._send(_EXCHANGES[self.stage].type, now)

    def messages_to_send(self) -> list[bytes]:
        """DHCPv6 messages for the servers, oldest first."""
        out = [*self._out]
        self._out.clear()
        return out

    # What comes

    def receive(self, data: bytes, now: float) -> None:
        """Heed a message. Raises WireError for one that is malformed, or not an answer to ours."""
        message = dhcpv6.decode(data)
        server = message.find(OptionCode.SERVER_ID)
        known = message.find(OptionCode.CLIENT_ID) == self._duid and message.transaction == self._transaction
        if not known or not server or self._timer is None or not self._timer.sent:
            raise WireError(Malformed.NOT_EXPECTED)
        self._set_longest(message)
        if self.stage is Stage.SOLICIT and message.type == MessageType.ADVERTISE:
            self._advertised(message, now)
        elif message.type == MessageType.REPLY and self._answers(message, server):
            self._replied(message, server, now)
        else:
            raise WireError(Malformed.NOT_EXPECTED)

    def _answers(self, reply: Message, server: bytes) -> bool:
        """Whether a Reply is one to what we asked, and of whom (section 16.10)."""
        if self.stage is Stage.SOLICIT:
            return reply.find(OptionCode.RAPID_COMMIT) is not None
        return self.stage not in (Stage.REQUEST, Stage.RENEW) or server == self._server

    def _advertised(self, message: Message, now: float) -> None:
        """Keep the best offer; take it when the first pause is over, or at once if none can be better (18.2.9)."""
        usable = {each.kind for each in self._associations(message) if self._usable(each)}
        if dhcpv6.status_of(message.options) or not usable:
            self._tell_refusals(message)
            return
        preference = (message.find(OptionCode.PREFERENCE) or b"\0")[0]
        rank = len(usable), preference
        if self._best is None or rank > self._best[0]:
            self._best = rank, message
        if self._timer is not None and (self._timer.sent > 1 or preference == 255):
            self._request(now)

    def _request(self, now: float) -> None:
        """Ask the server that has made the best offer for what it has offered."""
        best = self._best[1] if self._best is not None else None
        if best is not None:
            self._server = best.find(OptionCode.SERVER_ID) or b""
            self._begin(Stage.REQUEST, now)
            self._offer = self._associations(best)

    def _replied(self, reply: Message, server: bytes, now: float) -> None:
        status = dhcpv6.status_of(reply.options)
        if self.stage is Stage.INFORM:
            self._informed(reply, now)
            return
        if status == Status.NOT_ON_LINK:
            self._start_anew(now)
        if status != Status.SUCCESS:
            self._tell_refusals(reply)  # and ask again when it is time (section 18.2.10.1)
            return
        found = self._associations(reply)
        if self.stage in (Stage.RENEW, Stage.REBIND) and any(each.status == Status.NO_BINDING for each in found):
            self._server = server
            self._offer = ()
            self._begin(Stage.REQUEST, now)
            return
        self._tell_refusals(reply)
        for each in found:
            self._take(each, now)
        if not self.leases:
            self._start_anew(now)
            return
        self._server, self._pause, self._timer, self.stage = server, PAUSE, None, Stage.BOUND
        self._set_times([each for each in found if self._usable(each)], now)
        self.servers = _servers(reply)

    def _informed(self, reply: Message, now: float) -> None:
        told = reply.find(OptionCode.REFRESH_TIME) or b""
        wait = float(int.from_bytes(told, "big")) if len(told) == 4 else USUAL_REFRESH
        self.servers = _servers(reply)
        self.stage, self._timer, self._refresh = Stage.INFORMED, None, now + max(wait, MIN_REFRESH)

    def _associations(self, message: Message) -> tuple[Association, ...]:
        """Those that we have asked for; the first of each kind. T1 behind T2 is as none (section 21.4)."""
        found: dict[OptionCode, Association] = {}
        for each in dhcpv6.associations(message):
            right = each.t1 <= each.t2 or not each.t2
            if each.kind in self._wishes.kinds and each.iaid == IAID and right:
                found.setdefault(each.kind, each)
        return tuple(found.values())

    @staticmethod
    def _good(offered: Offered) -> bool:
        return not offered.status and offered.preferred <= offered.valid and offered.valid >= MIN_LIFETIME

    def _usable(self, association: Association) -> bool:
        return not association.status and any(map(self._good, association.offered))

    def _take(self, association: Association, now: float) -> None:
        """Note what was given, or taken away (sections 18.2.10.1 and 21.6)."""
        if association.status:
            return
        for each in association.offered:
            name = association.kind, each.network
            if self._good(each):
                had = sum(kind is association.kind for kind, _ in self.leases)
                if name in self.leases or had < MOST:
                    end = _end(each.valid, now)
                    preferred = _end(each.preferred, now) if each.preferred else -inf
                    self.leases[name] = Lease(association.kind, each.network, preferred, end)
            elif each.preferred <= each.valid:
                self.leases.pop(name, None)

    def _set_times(self, associations: list[Association], now: float) -> None:
        """When to renew and rebind; where the server leaves that to us, at 0.5 and 0.8 of what is preferred (21.4)."""
        firsts = [each.t1 for each in associations if each.t1]
        seconds = [each.t2 for each in associations if each.t2]
        lasting = min(
            (max(each.preferred, now) - now or each.valid - now for each in self.leases.values()), default=inf
        )
        t1 = _lifetime(min(firsts)) if firsts else 0.5 * lasting
        t2 = _lifetime(min(seconds)) if seconds else max(0.8 * lasting, t1)
        self._t1 = now + max(t1, MIN_RENEWAL)
        self._t2 = now + max(t2, t1, MIN_RENEWAL)

    def _set_longest(self, message: Message) -> None:
        for stage, code in _LONGEST.items():
            value = message.find(code) or b""
            if len(value) == 4 and MIN_LONGEST <= int.from_bytes(value, "big") <= MAX_LONGEST:
                self._longest[stage] = float(int.from_bytes(value, "big"))
                if self._timer is not None and self.stage is stage:
                    self._timer.longest = self._longest[stage]

    # What we do

    def _begin(self, stage: Stage, now: float, delay: float = 0.0) -> None:
        """Begin an exchange; its first message is due at once, or after a delay."""
        what = _EXCHANGES[stage]
        self.stage, self._best = stage, None
        self._offer = ()
        self._transaction = self._entropy(dhcpv6.TRANSACTION)
        self._timer = Retransmission(
            self._entropy,
            what.first,
            self._longest.get(stage, what.longest),
            now,
            times=what.times,
            never_early=stage is Stage.SOLICIT,
            delay=delay,
        )

    def _start_anew(self, now: float) -> None:
        """We have nothing: look for a server from the start, the more rarely the more often in vain."""
        self.leases.clear()
        self._begin(Stage.SOLICIT, now, self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _let_expire(self, now: float) -> None:
        for name, lease in [*self.leases.items()]:
            if now >= lease.valid:
                del self.leases[name]
            elif now >= lease.preferred > -inf:
                self.leases[name] = Lease(lease.kind, lease.network, -inf, lease.valid)
        if not self.leases and self.stage in (Stage.BOUND, Stage.RENEW, Stage.REBIND):
            self._begin(Stage.SOLICIT, now)

    def _send(self, type_: MessageType, now: float) -> None:
        timer = self._timer
        if timer is None:
            return
        elapsed = min(int((now - timer.began) * 100), 0xFFFF)
        options = [Option(OptionCode.CLIENT_ID, self._duid)]
        if type_ in (MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE):
            options.append(Option(OptionCode.SERVER_ID, self._server))
        options.append(Option(OptionCode.ELAPSED_TIME, elapsed.to_bytes(2, "big")))
        if type_ is MessageType.SOLICIT:
            options.append(Option(OptionCode.RAPID_COMMIT))
        if type_ is not MessageType.RELEASE:
            options.append(_asks_for(type_))
        if type_ is not MessageType.INFORMATION_REQUEST:
            options += map(dhcpv6.association_option, self._asked(type_))
        self._out.append(dhcpv6.encode(Message(type_, self._transaction, tuple(options))))
        timer.note_sent(now)

    def _asked(self, type_: MessageType) -> list[Association]:
        """Our associations as they go into a message: with what we have, or were offered, or would like."""
        had = {kind for kind, _ in self.leases}
        kinds = tuple(had) if type_ is MessageType.RELEASE else dict.fromkeys((*self._wishes.kinds, *sorted(had)))
        offers = {each.kind: each.offered for each in self._offer}
        asked = []
        for kind in kinds:
            networks = [network for each, network in self.leases if each is kind]
            networks = networks or [each.network for each in offers.get(kind, ())][:MOST]
            if not networks and kind is OptionCode.IA_PD and self._wishes.prefix:
                networks = [IPv6Network((0, self._wishes.prefix))]
            asked.append(Association(kind, IAID, offered=tuple(map(Offered, networks))))
        return asked

    def _tell_refusals(self, message: Message) -> None:
        """What a server refuses, in words, each once."""
        statuses = [dhcpv6.status_of(message.options)]
        statuses += [each.status for each in dhcpv6.associations(message)]
        for status in statuses:
            words = _STATUS_WORDS.get(status, f"status {status}") if status else ""
            if words and words not in self._told and len(self._told) < len(_STATUS_WORDS):
                self._told.add(words)
                self.remarks.append(f"The DHCPv6 server gives nothing: {words}.")


def _asks_for(type_: MessageType) -> Option:
    """The Option Request option (sections 21.7 and 24)."""
    codes = [OptionCode.DNS_SERVERS]
    if type_ is MessageType.INFORMATION_REQUEST:
        codes += [OptionCode.REFRESH_TIME, OptionCode.INF_MAX_RT]
    else:
        codes.append(OptionCode.SOL_MAX_RT)
    return Option(OptionCode.REQUEST, b"".join(code.to_bytes(2, "big") for code in codes))


def _lifetime(seconds: int) -> float:
    return inf if seconds == dhcpv6.INFINITY else float(seconds)


def _end(seconds: int, now: float) -> float:
    return now + _lifetime(seconds)


def _servers(reply: Message) -> tuple[IPv6Address, ...]:
    """The name servers that it tells of: what no other host has would be asked of this one, by whoever is told."""
    return tuple(filter(is_one_hosts, dhcpv6.dns_servers(reply)))[:MOST]
