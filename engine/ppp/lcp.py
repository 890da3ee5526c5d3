"""LCP's options: MRU, authentication protocol and magic number (RFC 1661 sections 6.1, 6.2, 6.4, RFC 2516 section 7).

What else a peer may ask for makes no sense on Ethernet, or is nothing that we do, and is rejected: ACCM, field
compression, FCS alternatives, link quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from engine.ppp import strength
from engine.ppp.facts import Facts
from engine.ppp.negotiator import Judgement, Verdict
from engine.settings.values import DEFAULT_MRU, AuthMethod
from engine.wire.auth import ChapAlgorithm
from engine.wire.control import LcpOption, Option
from engine.wire.ppp import Protocol

MIN_MRU = 128
"""The smallest MRU accepted from a peer."""
MAX_MRU_NAKS = 3
"""Naks of our MRU until we ask for none."""
DEFAULT_PEER_MRU = 1500
"""What a peer that doesn't say takes (RFC 1661 section 6.1)."""

AUTH_VALUES: dict[AuthMethod, bytes] = {
    AuthMethod.PAP: Protocol.PAP.to_bytes(2, "big"),
    AuthMethod.CHAP: Protocol.CHAP.to_bytes(2, "big") + bytes((ChapAlgorithm.MD5,)),
    AuthMethod.MSCHAPV2: Protocol.CHAP.to_bytes(2, "big") + bytes((ChapAlgorithm.MSCHAPV2,)),
}
"""The authentication option's value for each method (RFC 1334 section 2.1, RFC 1994 section 3, RFC 2759 section 2)."""

_AUTH_NAMES = {
    **{value: str(method) for method, value in AUTH_VALUES.items()},
    Protocol.EAP.to_bytes(2, "big"): "eap",
    Protocol.CHAP.to_bytes(2, "big") + b"\x80": "mschap (version 1)",
}

OPTION_NAMES: dict[int, str] = {
    LcpOption.MRU: "MRU",
    LcpOption.ACCM: "ACCM",
    LcpOption.AUTHENTICATION: "authentication",
    LcpOption.QUALITY: "quality protocol",
    LcpOption.MAGIC: "magic",
    LcpOption.PFC: "protocol-field compression",
    LcpOption.ACFC: "address-field compression",
    LcpOption.FCS_ALTERNATIVES: "FCS alternatives",
}


def option_name(kind: int) -> str:
    """An LCP option's name for people."""
    return OPTION_NAMES.get(kind) or f"option {kind}"


def auth_name(value: bytes) -> str:
    """An authentication option's value for people."""
    return _AUTH_NAMES.get(value) or f"protocol {value.hex()}"


def value_text(option: Option) -> str:
    """An LCP option's value for people."""
    match option.type:
        case LcpOption.MRU if len(option.value) == 2:
            return str(int.from_bytes(option.value, "big"))
        case LcpOption.MAGIC | LcpOption.ACCM if len(option.value) == 4:
            return f"0x{option.value.hex()}"
        case LcpOption.AUTHENTICATION:
            return auth_name(option.value)
        case _:
            return option.value.hex() or "yes"


class LcpWishes(Struct, frozen=True):
    """What one side of a link wants of LCP."""

    mru: int
    """The largest packet we take."""
    may_authenticate_with: tuple[AuthMethod, ...] = ()
    """Methods we let the peer demand of us, best first; with NONE among them, or without any, it may demand nothing."""
    done_before: AuthMethod | None = None
    """The strongest method that this peer has done with us before: nothing weaker will do now."""
    suggest: bool = True
    """Whether to ask for a better method where the peer demands one that is allowed and not the best."""
    demand: tuple[AuthMethod, ...] = ()
    """Methods we demand of the peer, one of them, best first; empty for a client."""
    odd: tuple[Option, ...] = ()
    """Options that make no sense, asked for to try a peer."""

    @property
    def largest_mru(self) -> int:
        """The largest MRU that makes sense either way: what PPPoE carries, or more where RFC 4638 was agreed."""
        return max(self.mru, DEFAULT_MRU)


class LcpOptions:
    """The OptionHandler of LCP."""

    def __init__(self, wishes: LcpWishes, entropy: Callable[[int], bytes], facts: Facts) -> None:
        self.wishes = wishes
        self._entropy = entropy
        self._facts = facts
        self._done_before = wishes.done_before
        self.reset()

    def reset(self) -> None:
        """Ask for everything again, with a new magic number."""
        self.magic = self._new_magic()
        self.mru = self.wishes.mru
        self.peer_mru = min(DEFAULT_PEER_MRU, self.wishes.largest_mru)
        self.authenticate_with: AuthMethod | None = None
        """What we have agreed to prove ourselves with."""
        self.demanded: AuthMethod | None = self.wishes.demand[0] if self.wishes.demand else None
        """What the peer is to prove itself with."""
        self.refused_auth = ""
        """The last authentication protocol that the peer wanted and we wouldn't do."""
        self.passed_over = ""
        """The last one that we would have done, had there not been a better one to suggest."""
        self.too_weak: AuthMethod | None = None
        """The last one that would be allowed, had the peer not done a stronger one before."""
        self.insisted = 0
        """How often it wanted such a one."""
        self.looped_back = 0
        """How often in a row the peer's magic number was our own: more than once means we hear ourselves."""
        self._suggestions = 0
        """Naks of the peer's authentication protocol: each suggests the next of those we would rather do."""
        self._mru_naks = 0
        """The peer's Naks of our MRU."""
        self._rejected: set[int] = set()

    def resume(self, options: Sequence[Option]) -> None:
        """Have asked for these; as a client, which demands nothing."""
        self.reset()
        asked = {option.type: option.value for option in options}
        self.magic = asked.get(LcpOption.MAGIC, self.magic)
        if LcpOption.MRU in asked:
            self.mru = int.from_bytes(asked[LcpOption.MRU], "big")
        self._rejected = {int(LcpOption.MRU), int(LcpOption.MAGIC)} - asked.keys()

    def request(self) -> list[Option]:
        """MRU, magic number and, for a concentrator, the authentication demanded."""
        wanted = [
            Option(LcpOption.MRU, self.mru.to_bytes(2, "big")),
            Option(LcpOption.MAGIC, self.magic),
            *self.wishes.odd,
        ]
        if self.demanded is not None:
            wanted.insert(1, Option(LcpOption.AUTHENTICATION, AUTH_VALUES[self.demanded]))
        options = [option for option in wanted if option.type not in self._rejected]
        for option in options:
            self._facts.note(option_name(option.type), "asked", option, value_text)
        return options

    def judge(self, option: Option) -> Judgement:
        """Our view of one option of the peer."""
        verdict, wish = self._judge(option)
        self._facts.note(option_name(option.type), "offered", option, value_text)
        if verdict is Verdict.REJECT or (verdict is Verdict.NAK and option.type == LcpOption.AUTHENTICATION):
            self._facts.note(option_name(option.type), "refused", option, value_text)
        return verdict, wish

    def _judge(self, option: Option) -> Judgement:
        """A value of the wrong length is one more that we would rather have different (RFC 1661 section 6)."""
        value = option.value
        match option.type:
            case LcpOption.MRU:  # section 6.1
                # How much it takes is its own affair; we send no more than the line carries.
                takes = int.from_bytes(value, "big") if len(value) == 2 else self.wishes.largest_mru
                return _ack_or_nak(option, max(takes, MIN_MRU).to_bytes(2, "big"))
            case LcpOption.MAGIC:  # section 6.4: a number equal to ours may be our own, come back
                if value == self.magic and LcpOption.MAGIC not in self._rejected:
                    self.looped_back += 1
                    return Verdict.NAK, Option(LcpOption.MAGIC, self._new_magic())
                return _ack_or_nak(option, value if len(value) == 4 and any(value) else self._new_magic())
            case LcpOption.AUTHENTICATION:
                return self._judge_authentication(option)
            case _:
                return Verdict.REJECT, option

    def _judge_authentication(self, option: Option) -> Judgement:
        """A Nak suggests what we can do; who allows nothing has nothing to suggest (RFC 1661 section 6.2).

        A method that is allowed gets one for each better one; who insists nevertheless knows no better one.
        """
        name = auth_name(option.value)
        allowed = [method for method in self._allowed() if method is not AuthMethod.NONE]
        if not allowed:
            self.refused_auth = name
            return Verdict.REJECT, option
        values = [AUTH_VALUES[method] for method in allowed]
        if option.value in values:
            better = allowed[: values.index(option.value)] if self.wishes.suggest else []
            if self._suggestions >= len(better):
                return Verdict.ACK, option
            self.passed_over = name
        else:
            better = allowed
            self.refused_auth = name
            by_settings = (m for m in self.wishes.may_authenticate_with if AUTH_VALUES.get(m) == option.value)
            self.too_weak = next(by_settings, None)
            self.insisted += self.too_weak is not None
        suggested = better[self._suggestions % len(better)]
        self._suggestions += 1
        return Verdict.NAK, Option(LcpOption.AUTHENTICATION, AUTH_VALUES[suggested])

    @property
    def done_before(self) -> AuthMethod | None:
        """The strongest method that this peer has done with us, in this link or an earlier one."""
        return self._done_before

    def proven(self, method: AuthMethod) -> None:
        """We have proven ourselves: a negotiation later in this link may not lead to less."""
        self._done_before = strength.stronger(method, self._done_before)

    @property
    def must_be_asked(self) -> bool:
        """Whether a peer that asks for no proof is none that we want."""
        allowed = self.wishes.may_authenticate_with
        return bool(allowed) and AuthMethod.NONE not in allowed

    def _allowed(self) -> tuple[AuthMethod, ...]:
        return strength.allowed_after(self._done_before, self.wishes.may_authenticate_with)

    def missing(self, options: Sequence[Option]) -> list[Option]:
        """Nothing: every LCP option has a default."""
        return []

    def peer_agreed(self, options: Sequence[Option]) -> None:
        """Take over what we acknowledged."""
        self.peer_mru = min(DEFAULT_PEER_MRU, self.wishes.largest_mru)
        self.authenticate_with = None
        self.looped_back = 0
        for option in options:
            if option.type == LcpOption.MRU:
                self.peer_mru = min(int.from_bytes(option.value, "big"), self.wishes.largest_mru)
            elif option.type == LcpOption.AUTHENTICATION:
                self.authenticate_with = next(m for m, value in AUTH_VALUES.items() if value == option.value)
                self.refused_auth = self.passed_over = ""
                self.too_weak = None
            if option.type not in (LcpOption.MRU, LcpOption.MAGIC):
                self._facts.note(option_name(option.type), "agreed", option, value_text)
        self._facts.note("peer's MRU", "agreed", self.peer_mru)

    def ours_agreed(self, options: Sequence[Option]) -> None:
        """Note what the peer acknowledged."""
        agreed = {option.type for option in options}
        if LcpOption.MAGIC not in agreed:
            self.magic = bytes(4)  # what packets then carry in its place (RFC 1661 section 6.4)
        for option in options:
            self._facts.note(option_name(option.type), "agreed", option, value_text)

    def naked(self, options: Sequence[Option]) -> None:
        """Move towards what the peer suggests, as far as we can."""
        for option in options:
            match option.type:
                case LcpOption.MRU if len(option.value) == 2:
                    suggested = int.from_bytes(option.value, "big")
                    if MIN_MRU <= suggested <= self.wishes.largest_mru:
                        self.mru = suggested
                    self._mru_naks += 1
                    if self._mru_naks > MAX_MRU_NAKS:
                        self._rejected.add(LcpOption.MRU)  # without the option we take as much, whatever it thinks
                case LcpOption.MAGIC:
                    # The peer saw its own number in ours: a new one tells a coincidence from a loop.
                    self.magic = self._new_magic()
                case LcpOption.AUTHENTICATION if self.demanded is not None:
                    self.demanded = next(
                        (method for method in self.wishes.demand if AUTH_VALUES[method] == option.value),
                        self._next_demand(),
                    )

    def rejected(self, options: Sequence[Option]) -> None:
        """Do without; a peer that rejects authentication is asked no more, and the link checks what it did agree to."""
        for option in options:
            self._rejected.add(option.type)
            self._facts.note(
                option_name(option.type),
                "refused",
                f"{value_text(option)} (by the peer)",
            )
            if option.type == LcpOption.AUTHENTICATION:
                self.demanded = None

    def _next_demand(self) -> AuthMethod | None:
        """The demand after the present one, round and round; the Nak bound ends it."""
        demands = self.wishes.demand
        return demands[(demands.index(self.demanded) + 1) % len(demands)] if self.demanded in demands else None

    def _new_magic(self) -> bytes:
        magic = self._entropy(4)
        return magic if any(magic) else b"\0\0\0\1"


def _ack_or_nak(option: Option, acceptable: bytes) -> Judgement:
    if option.value == acceptable:
        return Verdict.ACK, option
    return Verdict.NAK, Option(option.type, acceptable)
