"""Where no client of a proxy may go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.proxy.forbidden import objection, plain


@pytest.mark.parametrize(
    ("address", "never", "unless_allowed"),
    [
        ("198.51.100.1", "", ""),
        ("2001:db8::1", "", ""),
        ("2606:4700::1111", "", ""),
        ("10.1.2.3", "", "is private (RFC 1918)"),
        ("172.31.255.255", "", "is private (RFC 1918)"),
        ("172.32.0.0", "", ""),
        ("192.168.0.1", "", "is private (RFC 1918)"),
        ("100.64.0.1", "", "is a provider's own (RFC 6598)"),
        ("fd00::1", "", "is private (RFC 4193)"),
        ("0.0.0.0", "stands for no host", ""),
        ("127.0.0.1", "is a loopback address", ""),
        ("169.254.169.254", "is for a single link", ""),
        ("224.0.0.1", "is a multicast address", ""),
        ("255.255.255.255", "is reserved", ""),
        ("::", "stands for no host, or is a loopback address", ""),
        ("::1", "stands for no host, or is a loopback address", ""),
        ("::192.168.0.1", "stands for no host, or is a loopback address", ""),
        ("fe80::1", "is for a single link", ""),
        ("fe80::1%2", "is for a single link", ""),
        ("2001:db8::1%2", "is for a single link", ""),
        ("ff02::1", "is a multicast address", ""),
        ("::ffff:127.0.0.1", "stands for 127.0.0.1, which is a loopback address", ""),
        ("::ffff:10.0.0.1", "", "stands for 10.0.0.1, which is private (RFC 1918)"),
        ("::ffff:198.51.100.1", "", ""),
        ("64:ff9b::7f00:1", "stands for 127.0.0.1, which is a loopback address", ""),
        ("64:ff9b::c0a8:1", "", "stands for 192.168.0.1, which is private (RFC 1918)"),
        ("64:ff9b::c633:6401", "", ""),
        ("64:ff9b:1::1", "", "is for a local translator (RFC 8215)"),
        ("2002:a00:1::1", "", "stands for 10.0.0.1, which is private (RFC 1918)"),
        ("2002:c633:6401::1", "", ""),
        ("2001:0:c633:6401::f5ff:fffe", "", "stands for 10.0.0.1, which is private (RFC 1918)"),
    ],
)
def test_where_no_client_may_go(address: str, never: str, unless_allowed: str) -> None:
    assert objection(ip_address(address), allow_private=True) == never
    assert objection(ip_address(address)) == (never or unless_allowed)


def test_a_mapped_address_is_one_of_ipv4() -> None:
    assert plain(ip_address("::ffff:198.51.100.1")) == ip_address("198.51.100.1")
    assert plain(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
