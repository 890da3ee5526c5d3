"""PAP and CHAP, each as the side that proves itself and as the side that checks (RFC 1334, RFC 1994, RFC 2759).

Every machine here has the same shape, `Authentication`: it is started when LCP comes up, is given the packets of its
protocol, and ends with a `Result`. A machine lives as long as LCP stays up, because CHAP may challenge again any time.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable

from msgspec import Struct

from engine.ppp import mschapv2
from engine.ppp.negotiator import NEVER, Discard
from engine.settings.values import AuthMethod
from engine.wire import auth, control
from engine.wire.auth import ChapCode, PapCode
from engine.wire.control import ControlPacket
from engine.wire.ppp import Protocol
from engine.wire.text import printable

Entropy = Callable[[int], bytes]
Secrets = Callable[[bytes], str | None]
"""The password of a user, None if there is no such user."""

RESEND = 3.0
"""Seconds between repeated PAP requests or CHAP challenges (RFC 1334 section 2.2.1, RFC 1994 section 4.1)."""
ATTEMPTS = 10
"""So many of them are sent before the other side counts as silent."""
PATIENCE = 30.0
"""Seconds that who speaks second waits: a CHAP client for the concentrator's first verdict, however often that
challenges, and who checks by PAP for the first request."""
MAX_RETRIES = 2
"""How often an MS-CHAPv2 Failure with R=1 is answered with another try."""


class Result(Struct, frozen=True):
    """How an authentication ended."""

    ok: bool
    message: str
    """What the other side said, or what we found; made printable."""
    user: bytes = b""
    """Who proved itself, on the checking side."""
    timed_out: bool = False
    """The other side fell silent; nothing was decided."""


class Authentication(ABC):
    """One authentication protocol at work in one direction."""

    protocol: int

    def __init__(self) -> None:
        self._out: list[ControlPacket] = []
        self.deadline = NEVER
        """When `handle_timer` is to be called next."""
        self._result: Result | None = None
        """Set when it is decided, and anew when a later challenge is."""
        self.denied: str | None = None
        """What the other side said when it last refused us but allowed another try; None if it has not."""

    @abstractmethod
    def start(self, now: float) -> None:
        """LCP is up."""

    @abstractmethod
    def receive(self, data: bytes, now: float) -> None:
        """Handle one packet; raises WireError or Discard when it is to be ignored."""

    def handle_timer(self, now: float) -> None:
        """Do whatever is due by now; calling it early does nothing."""
        if now >= self.deadline:
            self._expired(now)

    def packets_to_send(self) -> list[ControlPacket]:
        """Packets for the peer, oldest first."""
        out, self._out = self._out, []
        return out

    def next_event(self) -> Result | None:
        """The latest decision, once."""
        result, self._result = self._result, None
        return result

    @abstractmethod
    def _expired(self, now: float) -> None:
        """The timer has run out."""

    def _decide(self, ok: bool, message: str, user: bytes = b"") -> None:
        self._result = Result(ok, message, user)
        self.deadline = NEVER

    def _give_up(self, message: str) -> None:
        self._result = Result(False, message, timed_out=True)
        self.deadline = NEVER


class PapClient(Authentication):
    """Sends Authenticate-Requests until they are answered (RFC 1334 section 2.2)."""

    protocol = Protocol.PAP

    def __init__(self, user: str, password: str) -> None:
        super().__init__()
        self._credentials = auth.encode_pap_request(user.encode(), password.encode())
        self._sent = 0
        self._answered = False

    def start(self, now: float) -> None:
        """Send the first request."""
        self._send(now)

    def receive(self, data: bytes, now: float) -> None:
        """Take an Ack or Nak of one of our requests: a slow concentrator may answer the first of several."""
        packet = control.decode(data)
        ours = 1 <= packet.identifier <= self._sent
        if packet.code not in (PapCode.ACK, PapCode.NAK) or not ours or self._answered:
            raise Discard("unexpected PAP packet")
        self._answered = True
        self._decide(packet.code == PapCode.ACK, printable(auth.decode_pap_message(packet.data)))

    def _expired(self, now: float) -> None:
        """Ask again, or give up."""
        if self._sent < ATTEMPTS:
            self._send(now)
        else:
            self._give_up(f"no answer to {ATTEMPTS} PAP requests")

    def _send(self, now: float) -> None:
        self._sent += 1
        self._out.append(ControlPacket(PapCode.REQUEST, self._sent, self._credentials))
        self.deadline = now + RESEND


class ChapClient(Authentication):
    """Answers Challenges; resends nothing by itself: the concentrator repeats its Challenge (RFC 1994 section 4.1)."""

    protocol = Protocol.CHAP

    def __init__(self, method: AuthMethod, user: str, password: str, entropy: Entropy) -> None:
        super().__init__()
        self._method = method
        self._user = user.encode()
        self._password = password
        self._entropy = entropy
        self._challenge: tuple[int, bytes] | None = None
        self._response = b""
        self._expected_success = ""
        self._undecided = False
        self._retries = 0

    def start(self, now: float) -> None:
        """Wait for the first Challenge, but not for ever."""
        self.deadline = now + PATIENCE

    def receive(self, data: bytes, now: float) -> None:
        """Take a Challenge, Success or Failure."""
        packet = control.decode(data)
        if packet.code == ChapCode.CHALLENGE:
            value, _ = auth.decode_chap_value(packet.data)
            self._answer(packet.identifier, value)
        elif packet.code in (ChapCode.SUCCESS, ChapCode.FAILURE):
            if self._challenge is None or packet.identifier != self._challenge[0] or not self._undecided:
                raise Discard("unexpected CHAP verdict")
            if packet.code == ChapCode.SUCCESS:
                self._succeed(packet.data)
            else:
                self._fail(packet)
        else:
            raise Discard("unexpected CHAP packet")

    def _expired(self, now: float) -> None:
        """The concentrator has been silent for too long; what it said last was its verdict, if it said anything."""
        if self.denied is None:
            self._give_up(f"no verdict in {PATIENCE:.0f} s")
        else:
            self._decide(False, self.denied)

    def _answer(self, identifier: int, challenge: bytes) -> None:
        if self._method is AuthMethod.MSCHAPV2 and len(challenge) != mschapv2.CHALLENGE_SIZE:
            raise Discard("MS-CHAPv2 challenge not of 16 octets")
        # The same Challenge once more gets the same Response (RFC 1994 section 4.1): MS-CHAPv2's would be another, and
        # a Success to the first one would no longer be genuine.
        if self._challenge != (identifier, challenge):
            self._challenge = (identifier, challenge)
            value = self._compute(identifier, challenge)
            self._response = auth.encode_chap_value(value, self._user)
            self._undecided = True
        self._out.append(ControlPacket(ChapCode.RESPONSE, identifier, self._response))

    def _compute(self, identifier: int, challenge: bytes) -> bytes:
        if self._method is AuthMethod.CHAP:
            return chap_md5(identifier, self._password.encode(), challenge)
        peer_challenge = self._entropy(mschapv2.CHALLENGE_SIZE)
        user, password_hash = mschapv2.without_domain(self._user), mschapv2.nt_password_hash(self._password)
        response = mschapv2.nt_response(challenge, peer_challenge, user, password_hash)
        self._expected_success = mschapv2.authenticator_response(
            password_hash, response, peer_challenge, challenge, user
        )
        return mschapv2.encode_response(peer_challenge, response)

    def _succeed(self, message: bytes) -> None:
        """Take a Success; MS-CHAPv2's must prove that the concentrator knows the password (RFC 2759 section 5)."""
        self._undecided = False
        self.denied = None
        if self._method is AuthMethod.MSCHAPV2 and not mschapv2.success_is_genuine(message, self._expected_success):
            self._decide(False, "the concentrator could not prove that it knows the password")
        else:
            shown = message[42:].partition(b"M=")[2] if self._method is AuthMethod.MSCHAPV2 else message
            self._decide(True, printable(shown))

    def _fail(self, packet: ControlPacket) -> None:
        """Take a Failure; MS-CHAPv2's may ask for another try with a challenge that it holds (RFC 2759 section 6)."""
        self._undecided = False
        if self._method is AuthMethod.CHAP:
            self._decide(False, printable(packet.data))
            return
        fields = mschapv2.parse_failure(packet.data)
        text = fields.get("M") or mschapv2.FAILURES.get(fields.get("E", "")) or packet.data.decode("utf-8", "replace")
        message = printable(text.encode())
        challenge = _hex(fields.get("C", ""))
        if fields.get("R") == "1" and len(challenge) == mschapv2.CHALLENGE_SIZE and self._retries < MAX_RETRIES:
            self._retries += 1
            self.denied = message
            self._answer((packet.identifier + 1) & 0xFF, challenge)  # the next identifier (RFC 2759 section 9.1.4)
            return
        self._decide(False, message)


class PapAuthenticator(Authentication):
    """Checks PAP requests, and answers a repeated one alike (RFC 1334 section 2.2)."""

    protocol = Protocol.PAP

    def __init__(self, secrets: Secrets, refusal: str) -> None:
        super().__init__()
        self._secrets = secrets
        self._refusal = refusal

    def start(self, now: float) -> None:
        """Wait for the first request."""
        self.deadline = now + PATIENCE

    def receive(self, data: bytes, now: float) -> None:
        """Answer a request."""
        packet = control.decode(data)
        if packet.code != PapCode.REQUEST:
            raise Discard("unexpected PAP packet")
        user, password = auth.decode_pap_request(packet.data)
        ok = self._check(user, password)
        message = "Welcome" if ok else self._refusal
        code = PapCode.ACK if ok else PapCode.NAK
        self._out.append(ControlPacket(code, packet.identifier, auth.encode_pap_message(message.encode())))
        self._decide(ok, message, user)

    def _expired(self, now: float) -> None:
        """The client has been silent for too long."""
        self._give_up(f"no PAP request in {PATIENCE:.0f} s")

    def _check(self, user: bytes, password: bytes) -> bool:
        secret = self._secrets(user)
        return secret is not None and hmac.compare_digest(secret.encode(), password)


class ChapAuthenticator(Authentication):
    """Challenges, and checks the response (RFC 1994 section 4)."""

    protocol = Protocol.CHAP

    def __init__(self, method: AuthMethod, name: str, secrets: Secrets, entropy: Entropy, refusal: str) -> None:
        super().__init__()
        self._method = method
        self._name = name.encode()
        self._secrets = secrets
        self._refusal = refusal
        self._entropy = entropy
        self._identifier = 0
        self._challenge = b""
        self._verdict: ControlPacket | None = None
        self._sent = 0

    def start(self, now: float) -> None:
        """Send a fresh Challenge; also to challenge again later."""
        self._identifier = (self._identifier + 1) & 0xFF
        self._challenge = self._entropy(mschapv2.CHALLENGE_SIZE)
        self._verdict = None
        self._sent = 0
        self._send(now)

    def receive(self, data: bytes, now: float) -> None:
        """Check a Response; a repeated one gets the same verdict (RFC 1994 section 4.2)."""
        packet = control.decode(data)
        if packet.code != ChapCode.RESPONSE or packet.identifier != self._identifier:
            raise Discard("unexpected CHAP packet")
        if self._verdict is not None:
            self._out.append(self._verdict)
            return
        value, user = auth.decode_chap_value(packet.data)
        ok, message = self._check(value, user)
        code = ChapCode.SUCCESS if ok else ChapCode.FAILURE
        self._verdict = ControlPacket(code, packet.identifier, message.encode())
        self._out.append(self._verdict)
        self._decide(ok, message, user)

    def _expired(self, now: float) -> None:
        """Challenge again with the same value, or give up."""
        if self._sent < ATTEMPTS:
            self._send(now)
        else:
            self._give_up(f"no response to {ATTEMPTS} challenges")

    def _send(self, now: float) -> None:
        self._sent += 1
        data = auth.encode_chap_value(self._challenge, self._name)
        self._out.append(ControlPacket(ChapCode.CHALLENGE, self._identifier, data))
        self.deadline = now + RESEND

    def _check(self, value: bytes, user: bytes) -> tuple[bool, str]:
        secret = self._secrets(user)
        if self._method is AuthMethod.CHAP:
            expected = chap_md5(self._identifier, (secret or "").encode(), self._challenge)
            ok = secret is not None and hmac.compare_digest(value, expected)
            return ok, "Welcome" if ok else self._refusal
        peer_challenge, response = value[:16], value[24:48]  # RFC 2759 section 4
        name = mschapv2.without_domain(user)
        if secret is not None and len(value) == mschapv2.RESPONSE_SIZE:
            password_hash = mschapv2.nt_password_hash(secret)
            expected = mschapv2.nt_response(self._challenge, peer_challenge, name, password_hash)
            if hmac.compare_digest(response, expected):
                proof = mschapv2.authenticator_response(password_hash, response, peer_challenge, self._challenge, name)
                return True, f"{proof} M=Welcome"
        return False, f"E=691 R=0 C={self._challenge.hex().upper()} V=3 M={self._refusal}"


def chap_md5(identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """The response of CHAP with MD5, 16 octets (RFC 1994 section 4.1)."""
    return hashlib.md5(bytes((identifier,)) + secret + challenge, usedforsecurity=False).digest()


def client_for(method: AuthMethod, user: str, password: str, entropy: Entropy) -> Authentication:
    """The machine that proves us by that method."""
    if method is AuthMethod.PAP:
        return PapClient(user, password)
    return ChapClient(method, user, password, entropy)


def authenticator_for(
    method: AuthMethod, name: str, secrets: Secrets, entropy: Entropy, refusal: str = "Login incorrect"
) -> Authentication:
    """The machine that checks a client by that method; `refusal` is what it says to a wrong name or password."""
    if method is AuthMethod.PAP:
        return PapAuthenticator(secrets, refusal)
    return ChapAuthenticator(method, name, secrets, entropy, refusal)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
