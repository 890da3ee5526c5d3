"""Does the card take VLAN tags off before the XDP program can see them?"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_GFLAGS = 0x25
_ETH_FLAG_RXVLAN = 1 << 8


def strips_vlan_tags(ifname: str) -> bool:
    """Whether VLAN tags go from received frames into the driver's own notes, in the calling thread's namespace."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GFLAGS, 0))
    request = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
        except OSError:
            return False
    return bool(struct.unpack_from("=II", value)[1] & _ETH_FLAG_RXVLAN)


def notice(ifname: str) -> str:
    """One line for an operator who uses VLANs on this card, or empty if all is well."""
    if not strips_vlan_tags(ifname):
        return ""
    return f"{ifname} may take VLAN tags off before they can be seen: run `ethtool -K {ifname} rxvlan off`"
