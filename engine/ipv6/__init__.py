"""IPv6 above IPv6CP, without I/O: routers and their advertisements, addresses made of them, DHCPv6."""
