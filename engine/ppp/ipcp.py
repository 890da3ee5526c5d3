"""IPCP's options: an address and DNS servers (RFC 1332 section 3, RFC 1877 section 1); client and concentrator."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from msgspec import Struct

from engine.ppp.facts import Facts
from engine.ppp.judge import AddressJudge, AnyAddress
from engine.ppp.negotiator import Judgement, Verdict
from engine.wire.control import IpcpOption, Option

NO_ADDRESS = IPv4Address(0)
MAX_ASKED = 3
"""How many addresses that may not be had are refused before the session is given up."""
MAX_REJECTED = 5
"""As many requests of a peer for an address that it may not have, and the session is given up."""

_NAMES: dict[int, str] = {
    IpcpOption.IP_ADDRESSES: "IP addresses (obsolete)",
    IpcpOption.COMPRESSION: "header compression",
    IpcpOption.IP_ADDRESS: "address",
    IpcpOption.PRIMARY_DNS: "primary DNS",
    IpcpOption.SECONDARY_DNS: "secondary DNS",
    IpcpOption.PRIMARY_NBNS: "primary NBNS",
    IpcpOption.SECONDARY_NBNS: "secondary NBNS",
}


def option_name(kind: int) -> str:
    """An IPCP option's name for people."""
    return _NAMES.get(kind) or f"IPCP option {kind}"


def value_text(option: Option) -> str:
    """An IPCP option's value for people."""
    if len(option.value) == 4 and option.type != IpcpOption.COMPRESSION:
        return ".".join(map(str, option.value))  # a third of what an IPv4Address costs, a dozen times a session
    return option.value.hex() or "yes"


def _unusable(address: IPv4Address) -> bool:
    """Addresses that no host can have: 0.0.0.0, loopback, multicast, broadcast."""
    return address.is_unspecified or address.is_loopback or address.is_multicast or int(address) == 0xFFFFFFFF


class Ipv4Agreed(Struct, frozen=True):
    """What IPCP settled; `peer` is None where the concentrator names no address of its own, which is legal."""

    address: IPv4Address
    peer: IPv4Address | None
    dns: tuple[IPv4Address, ...]


class IpcpClient:
    """The OptionHandler of a client: asks for everything as 0.0.0.0 and takes what the Nak says, if it may be had."""

    def __init__(self, facts: Facts, judge: AddressJudge | None = None) -> None:
        self._facts = facts
        self._judge = judge or AnyAddress()
        self.remarks: list[str] = []
        """For the operator; whoever tells them empties it."""
        self.refusal = ""
        """Why no address came of it, in a sentence, when the peer insists on one that may not be had."""
        self.reset()

    def reset(self) -> None:
        """Ask for an address and two DNS servers again."""
        wanted = (
            IpcpOption.IP_ADDRESS,
            IpcpOption.PRIMARY_DNS,
            IpcpOption.SECONDARY_DNS,
        )
        self._wanted: dict[int, bytes] = dict.fromkeys(wanted, NO_ADDRESS.packed)
        self._agreed: dict[int, IPv4Address] = {}
        self._peer: IPv4Address | None = None
        self._refused = self._rejected = 0
        """How often an address was refused for ourselves, and to the peer."""

    def agreed(self) -> Ipv4Agreed | None:
        """What was settled; None if no usable address came of it: `refusal` may say why."""
        address = self._agreed.get(IpcpOption.IP_ADDRESS, NO_ADDRESS)
        if address != NO_ADDRESS and (why := self._judge.ours(address)):
            self._refuse(address, why)
        if self.refusal or _unusable(address):
            return None
        dns = (self._agreed.get(kind, NO_ADDRESS) for kind in (IpcpOption.PRIMARY_DNS, IpcpOption.SECONDARY_DNS))
        return Ipv4Agreed(
            address,
            self._peer,
            tuple(dict.fromkeys(server for server in dns if not _unusable(server))),
        )

    def resume(self, options: Sequence[Option]) -> None:
        """Have asked for these."""
        self.reset()
        self._wanted = {option.type: option.value for option in options}

    def request(self) -> list[Option]:
        """The address and DNS servers, as far as they were not rejected."""
        options = [Option(kind, address) for kind, address in self._wanted.items()]
        for option in options:
            self._facts.note(option_name(option.type), "asked", option, value_text)
        return options

    def judge(self, option: Option) -> Judgement:
        """The peer's own address is taken; DNS servers and compression are not ours to give."""
        if option.type == IpcpOption.IP_ADDRESS and len(option.value) == 4:
            address = IPv4Address(option.value)
            self._facts.note("concentrator's address", "offered", option, value_text)
            if address != NO_ADDRESS and (why := self._judge.peers(address)):
                self._reject(address, why)
            elif not _unusable(address):
                return Verdict.ACK, option
            self._facts.note("concentrator's address", "refused", option, value_text)
        else:
            self._facts.note(f"{option_name(option.type)} (peer's)", "offered", option, value_text)
            self._facts.note(f"{option_name(option.type)} (peer's)", "refused", option, value_text)
        return Verdict.REJECT, option

    def missing(self, options: Sequence[Option]) -> list[Option]:
        """Nothing: a peer without an address is legal."""
        return []

    def peer_agreed(self, options: Sequence[Option]) -> None:
        """Take over the peer's own address."""
        self._peer = next(
            (IPv4Address(o.value) for o in options if o.type == IpcpOption.IP_ADDRESS),
            None,
        )
        if self._peer is not None:
            self._facts.note("concentrator's address", "agreed", self._peer)

    def ours_agreed(self, options: Sequence[Option]) -> None:
        """Take over what we were given."""
        self._agreed = {option.type: IPv4Address(option.value) for option in options}
        for option in options:
            self._facts.note(option_name(option.type), "agreed", option, value_text)

    def naked(self, options: Sequence[Option]) -> None:
        """Take the values (RFC 1332 section 3.3, RFC 1877 section 1); what we never asked for is none of our business.

        A Nak of a DNS server with what we asked for means that there is none: asking again would never end.
        """
        for option in options:
            if option.type not in self._wanted or len(option.value) != 4:
                continue
            self._facts.note(option_name(option.type), "offered", option, value_text)
            if option.type != IpcpOption.IP_ADDRESS and option.value == self._wanted[option.type]:
                del self._wanted[option.type]
            elif option.type == IpcpOption.IP_ADDRESS:
                self._offered(IPv4Address(option.value))
            else:
                self._wanted[option.type] = option.value

    def rejected(self, options: Sequence[Option]) -> None:
        """Do without them, one by one."""
        for option in options:
            self._wanted.pop(option.type, None)
            self._facts.note(option_name(option.type), "refused", "by the peer")

    def _offered(self, address: IPv4Address) -> None:
        """Take an address that may be had, else go on asking for one."""
        why = self._judge.ours(address) if address != NO_ADDRESS else ""
        self._wanted[IpcpOption.IP_ADDRESS] = (NO_ADDRESS if why else address).packed
        if not why:
            return
        self._facts.note(option_name(IpcpOption.IP_ADDRESS), "refused", address)
        self._refused += 1
        if self._refused >= MAX_ASKED:
            self._refuse(address, why)
        elif self._refused == 1:
            self.remarks.append(f"The address {address} is refused: it {why}. Asking for another.")

    def _reject(self, address: IPv4Address, why: str) -> None:
        self._rejected += 1
        if self._rejected >= MAX_REJECTED:
            self.refusal = f"The concentrator insists on {address} as its own address, which is refused: it {why}."
        elif self._rejected == 1:
            self.remarks.append(f"The concentrator may not have the address {address}: it {why}.")

    def _refuse(self, address: IPv4Address, why: str) -> None:
        self.refusal = f"Given no other address than {address}, which is refused: it {why}."


class Ipv4Grant(Struct, frozen=True):
    """What a concentrator gives one client; `own` is the concentrator's address."""

    own: IPv4Address
    client: IPv4Address
    dns: tuple[IPv4Address, ...] = ()


class IpcpConcentrator:
    """The OptionHandler of a concentrator: insists on the client's address, hands out DNS servers."""

    def __init__(self, grant: Ipv4Grant) -> None:
        self._grant = grant
        self.remarks: list[str] = []
        self.refusal = ""
        dns = (*grant.dns, NO_ADDRESS, NO_ADDRESS)
        self._given: dict[int, IPv4Address] = {
            IpcpOption.IP_ADDRESS: grant.client,
            IpcpOption.PRIMARY_DNS: dns[0],
            IpcpOption.SECONDARY_DNS: dns[1],
        }
        self.reset()

    def reset(self) -> None:
        """Ask for our own address again."""
        self._without_own = False
        self._client_agreed = False

    def agreed(self) -> Ipv4Agreed | None:
        """Both addresses; None while the client has not taken its own."""
        grant = self._grant
        return Ipv4Agreed(grant.own, grant.client, grant.dns) if self._client_agreed else None

    def resume(self, options: Sequence[Option]) -> None:
        """Have asked for these."""
        self._without_own = not options

    def request(self) -> list[Option]:
        """Our own address, unless it was rejected."""
        return [] if self._without_own else [Option(IpcpOption.IP_ADDRESS, self._grant.own.packed)]

    def judge(self, option: Option) -> Judgement:
        """Each client gets exactly what stands in its grant."""
        given = self._given.get(option.type, NO_ADDRESS)
        if given == NO_ADDRESS:
            return Verdict.REJECT, option
        if option.value == given.packed:
            return Verdict.ACK, option
        return Verdict.NAK, Option(option.type, given.packed)

    def missing(self, options: Sequence[Option]) -> list[Option]:
        """A client must have an address."""
        if any(option.type == IpcpOption.IP_ADDRESS for option in options):
            return []
        return [Option(IpcpOption.IP_ADDRESS, self._grant.client.packed)]

    def peer_agreed(self, options: Sequence[Option]) -> None:
        """The client has its address now, unless it never asked for one."""
        self._client_agreed = any(option.type == IpcpOption.IP_ADDRESS for option in options)

    def ours_agreed(self, options: Sequence[Option]) -> None:
        """Nothing to take over."""

    def naked(self, options: Sequence[Option]) -> None:
        """We keep our address."""

    def rejected(self, options: Sequence[Option]) -> None:
        """A client that won't hear our address may come up without."""
        self._without_own = True
