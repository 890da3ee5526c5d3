"""The MAC address of sessions' devices, as far as they have one."""

DEVICE_MAC = b"\2soupp"
"""Of every session's veth device: it is no Ethernet to anyone, and must not pass for the card."""
