"""IPv6CP's one option: the interface identifier (RFC 5072 section 4.1); the same for client and concentrator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

from msgspec import Struct

from engine.ppp.facts import Facts
from engine.ppp.judge import AddressJudge, AnyAddress
from engine.ppp.negotiator import Judgement, Verdict
from engine.wire.control import Ipv6cpOption, Option

_LINK_LOCAL = 0xFE80 << 112


def link_local(identifier: bytes) -> IPv6Address:
    """fe80::/64 with this interface identifier of 8 octets."""
    return IPv6Address(_LINK_LOCAL | int.from_bytes(identifier, "big"))


def identifier_text(identifier: bytes) -> str:
    """As in `0a11:22ff:fe33:4455`."""
    return identifier.hex(":", 2)


def value_text(option: Option) -> str:
    """An IPv6CP option's value for people."""
    return identifier_text(option.value) if len(option.value) == 8 else option.value.hex()


class Ipv6Agreed(Struct, frozen=True):
    """The link-local addresses of both sides; `peer` is None if the other side never named its identifier."""

    address: IPv6Address
    peer: IPv6Address | None


class Ipv6cpOptions:
    """The OptionHandler of IPv6CP."""

    def __init__(self, entropy: Callable[[int], bytes], facts: Facts, judge: AddressJudge | None = None) -> None:
        self._entropy = entropy
        self._facts = facts
        self._judge = judge or AnyAddress()
        self._wish = self._new_identifier()
        self.reset()

    def reset(self) -> None:
        """Ask again, for the identifier had before."""
        self._rejected = False
        self._own: bytes | None = None
        self._peer: bytes | None = None
        self._suggested = b""
        """What our last Nak wants the peer to use."""

    def agreed(self) -> Ipv6Agreed | None:
        """What was settled; None without an identifier of our own."""
        if self._own is None:
            return None
        return Ipv6Agreed(link_local(self._own), link_local(self._peer) if self._peer else None)

    def resume(self, options: Sequence[Option]) -> None:
        """Have asked for these."""
        self.reset()
        self._rejected = not options
        self._wish = next((option.value for option in options), self._wish)

    def request(self) -> list[Option]:
        """Our identifier, unless the peer won't talk about it."""
        if self._rejected:
            return []
        self._facts.note("IPv6 identifier", "asked", self._wish, identifier_text)
        return [Option(Ipv6cpOption.INTERFACE_IDENTIFIER, self._wish)]

    def judge(self, option: Option) -> Judgement:
        """Zero, equal to ours, refused, of a wrong length: suggest another; both zero: reject (RFC 5072 4.1)."""
        if option.type != Ipv6cpOption.INTERFACE_IDENTIFIER:
            return Verdict.REJECT, option
        self._facts.note("peer's IPv6 identifier", "offered", option, value_text)
        if not any(option.value) and not any(self._wish):
            return Verdict.REJECT, option
        usable = len(option.value) == 8 and any(option.value) and option.value != self._wish
        if not usable or self._judge.peers(link_local(option.value)):
            self._suggested = self._new_identifier()
            return Verdict.NAK, Option(option.type, self._suggested)
        return Verdict.ACK, option

    def missing(self, options: Sequence[Option]) -> list[Option]:
        """Nothing: a peer may keep its identifier to itself."""
        return []

    def peer_agreed(self, options: Sequence[Option]) -> None:
        """Take over the peer's identifier."""
        self._peer = next((option.value for option in options), None)
        if self._peer:
            self._facts.note("peer's IPv6 identifier", "agreed", self._peer, identifier_text)

    def ours_agreed(self, options: Sequence[Option]) -> None:
        """Take over ours."""
        self._own = next((option.value for option in options), self._wish)
        self._facts.note("IPv6 identifier", "agreed", self._own, identifier_text)

    def naked(self, options: Sequence[Option]) -> None:
        """Take the suggestion, unless it is zero, the peer's, ours to the peer (RFC 5072 section 4.1), or refused."""
        for option in options:
            if option.type == Ipv6cpOption.INTERFACE_IDENTIFIER and len(option.value) == 8:
                usable = any(option.value) and option.value not in (self._peer, self._suggested)
                refused = usable and self._judge.ours(link_local(option.value))
                self._wish = option.value if usable and not refused else self._new_identifier()

    def rejected(self, options: Sequence[Option]) -> None:
        """Use our own choice without the peer's blessing."""
        self._rejected = True
        self._facts.note("IPv6 identifier", "refused", "by the peer")

    def _new_identifier(self) -> bytes:
        """Random, not zero, with the universal bit clear, so that no two sessions share one (RFC 5072 section 4.1)."""
        value = bytearray(self._entropy(8))
        value[0] &= 0xFD
        value[7] |= 1
        return bytes(value)
