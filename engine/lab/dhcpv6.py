"""The lab's DHCPv6 server for one subscriber: an address on the line, a prefix of the subscriber's block (RFC 8415)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from engine.wire import dhcpv6
from engine.wire.dhcpv6 import Association, Message, MessageType, Offered, Option, OptionCode, Status
from engine.wire.errors import WireError

PREFERRED, VALID = 3600, 7200
_HOST, _SUBNET, _LENGTH = 0xD, 0x100, 56
_ANSWERED = {
    MessageType.SOLICIT: MessageType.ADVERTISE,
    MessageType.REQUEST: MessageType.REPLY,
    MessageType.RENEW: MessageType.REPLY,
    MessageType.REBIND: MessageType.REPLY,
    MessageType.RELEASE: MessageType.REPLY,
    MessageType.INFORMATION_REQUEST: MessageType.REPLY,
}
_ADDRESSED = (MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE)


class LabDhcpServer:
    """It remembers nothing: a block is always the same subscriber's while the session is open."""

    def __init__(self, block: IPv6Network, duid: bytes, dns: tuple[IPv6Address, ...], rapid: bool = True) -> None:
        self.address = block[_HOST]
        self.prefix = IPv6Network((int(block[0]) + (_SUBNET << 64), _LENGTH))
        self.preferred, self.valid = PREFERRED, VALID
        """Seconds."""
        self.released = 0
        self._duid, self._dns, self._rapid = duid, dns, rapid

    def answer(self, data: bytes) -> bytes | None:
        """What is to be said to a message; None for nothing."""
        try:
            asked = dhcpv6.decode(data)
            associations = dhcpv6.associations(asked)
        except WireError:
            return None
        client, server = asked.find(OptionCode.CLIENT_ID), asked.find(OptionCode.SERVER_ID)
        known = asked.type in _ANSWERED and server == (self._duid if asked.type in _ADDRESSED else None)
        if not known or client is None:
            return None
        kind = _ANSWERED[MessageType(asked.type)]
        options = [Option(OptionCode.CLIENT_ID, client), Option(OptionCode.SERVER_ID, self._duid)]
        if asked.type == MessageType.SOLICIT and self._rapid and asked.find(OptionCode.RAPID_COMMIT) is not None:
            kind = MessageType.REPLY
            options.append(Option(OptionCode.RAPID_COMMIT))
        if asked.type == MessageType.RELEASE:
            self.released += 1
            options.append(dhcpv6.status_option(Status.SUCCESS))
        else:
            options += (dhcpv6.association_option(self._granted(each)) for each in associations)
        if self._dns:
            options.append(Option(OptionCode.DNS_SERVERS, b"".join(each.packed for each in self._dns)))
        return dhcpv6.encode(Message(kind, asked.transaction, tuple(options)))

    def _granted(self, asked: Association) -> Association:
        network = IPv6Network(self.address) if asked.kind is OptionCode.IA_NA else self.prefix
        offered = Offered(network, self.preferred, self.valid)
        return Association(asked.kind, asked.iaid, self.preferred // 2, self.preferred * 4 // 5, (offered,))
