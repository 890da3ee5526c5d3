"""The IPv6 packets that a session says and hears itself, in words: a layer of `engine.record.describe`."""

from __future__ import annotations

from engine.wire import dhcpv6, ipv6, ndp
from engine.wire.dhcpv6 import MessageType, OptionCode, Status
from engine.wire.ipv6 import ICMPV6, UDP, Ipv6Packet
from engine.wire.ndp import ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION

Fields = list[tuple[str, str]]

_IA = {OptionCode.IA_NA: "address", OptionCode.IA_PD: "prefix"}


def packet(data: bytes, fields: Fields) -> str:
    """Append its fields; returns its part of the summary. Raises WireError."""
    decoded = ipv6.decode(data)
    fields += [("from", str(decoded.source)), ("to", str(decoded.destination)), ("hop limit", str(decoded.hop_limit))]
    if decoded.next_header == ICMPV6:
        return _icmpv6(decoded, fields)
    if decoded.next_header == UDP:
        datagram = ipv6.decode_udp(decoded)
        if dhcpv6.CLIENT_PORT in (datagram.source_port, datagram.destination_port):
            return _dhcpv6(datagram.payload, fields)
    fields.append(("next header", str(decoded.next_header)))
    return f"next header {decoded.next_header}, {len(decoded.payload)} octets"


def _icmpv6(decoded: Ipv6Packet, fields: Fields) -> str:
    kind = decoded.payload[0] if decoded.payload else 0
    if kind == ROUTER_SOLICITATION:
        return "Router-Solicitation"
    if kind != ROUTER_ADVERTISEMENT:
        fields.append(("ICMPv6 type", str(kind)))
        return f"ICMPv6 type {kind}"
    told = ndp.decode_advertisement(decoded)
    flags = [name for name, is_set in (("managed", told.managed), ("other", told.other)) if is_set]
    found = [("router lifetime", f"{told.lifetime} s")]
    found += [("DHCPv6", ", ".join(flags))] if flags else []
    found += [("MTU", str(told.mtu))] if told.mtu is not None else []
    for each in told.prefixes:
        found.append(("prefix", f"{each.prefix}, {_seconds(each.preferred)} preferred, {_seconds(each.valid)} valid"))
    for servers in told.servers:
        found.append(("name servers", f"{', '.join(map(str, servers.addresses))} for {_seconds(servers.lifetime)}"))
    fields += found
    return "Router-Advertisement  " + ", ".join(f"{name} {value.partition(',')[0]}" for name, value in found)


def _dhcpv6(data: bytes, fields: Fields) -> str:
    message = dhcpv6.decode(data)
    name = _TYPES.get(message.type, f"type {message.type}")
    fields += [("DHCPv6", f"{name} ({message.type})"), ("transaction", message.transaction.hex())]
    told = []
    if status := dhcpv6.status_of(message.options):
        told.append(_status(status))
    for each in dhcpv6.associations(message):
        given = [f"{offered.network} for {_seconds(offered.valid)}" for offered in each.offered]
        given += [_status(each.status)] if each.status else []
        fields.append((_IA[each.kind], ", ".join(given) or "wanted"))
        told += [f"{_IA[each.kind]} {', '.join(str(one.network) for one in each.offered)}".rstrip()]
    if servers := dhcpv6.dns_servers(message):
        fields.append(("name servers", ", ".join(map(str, servers))))
    return f"DHCPv6 {name}  {', '.join(told)}".rstrip()


_TYPES: dict[int, str] = {kind: kind.name.title().replace("_", "-") for kind in MessageType}
_STATUSES: dict[int, str] = {status: status.name.title().replace("_", "") for status in Status}


def _status(status: int) -> str:
    return _STATUSES.get(status, f"status {status}")


def _seconds(lifetime: int) -> str:
    return "ever" if lifetime == ndp.INFINITY else f"{lifetime} s"
