"""What a test gives a session's device one by one, and the engine all at once."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from msgspec.structs import replace

from engine.egress.addresses import Devices
from engine.egress.protocol import Addresses


def give_ipv4(devices: Devices, key: int, address: IPv4Address, peer: IPv4Address | None, mtu: int) -> None:
    """This address in place of any other; `mtu` in octets."""
    devices.set_addresses(key, replace(_given(devices, key), ipv4=address, peer=peer), mtu)


def give_ipv6(devices: Devices, key: int, address: IPv6Address, mtu: int) -> None:
    """This link-local address in place of any other."""
    devices.set_addresses(key, replace(_given(devices, key), ipv6=address), mtu)


def give_global6(
    devices: Devices, key: int, addresses: tuple[IPv6Address, ...], deprecated: frozenset[IPv6Address] = frozenset()
) -> None:
    """These global addresses and no others; some of them deprecated."""
    given, mtu = _given(devices, key), devices._devices[key].mtu
    devices.set_addresses(key, replace(given, global6=addresses, deprecated6=deprecated), mtu or 1492)


def _given(devices: Devices, key: int) -> Addresses:
    device = devices._devices[key]
    ipv4, peer = device.ipv4 or (None, None)
    return Addresses(ipv4, peer, device.ipv6, device.global6, device.deprecated6)
