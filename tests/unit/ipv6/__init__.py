"""Tests of IPv6 above IPv6CP: routers heard, addresses made, DHCPv6 asked."""
