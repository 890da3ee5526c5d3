"""This host's own addresses, which no client of a proxy may reach through a session."""

from __future__ import annotations

import asyncio
from contextlib import closing
from ipaddress import ip_address

from engine.host.surroundings import has_ipv6
from engine.proxy.dialling import Dialler
from engine.proxy.names import Names
from engine.proxy.own import OwnAddresses
from tests.conftest import run
from tests.program import until

OWN, OWN_SECOND, OWN6 = "203.0.113.5", "203.0.113.6", "2001:db8:77::5"


async def test_they_are_known_from_when_they_are_there(own_net: None) -> None:
    run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for name in ("lo", "lan0", "lan1"):
        run("ip", "link", "set", name, "up")
    with closing(OwnAddresses()) as own, closing(Names(asyncio.get_running_loop())) as names:
        dialler = Dialler(names, asyncio.get_running_loop(), own=own)
        addresses = [OWN, OWN_SECOND, *([OWN6] if has_ipv6() else [])]
        assert not any(dialler.objection(ip_address(each)) for each in addresses)
        for each in addresses:
            run("ip", "addr", "add", f"{each}/{24 if '.' in each else 64}", "dev", "lan0", *(["nodad"] * (":" in each)))
            # An IPv6 address is the host's when its device has come up.
            until(lambda each=each: dialler.objection(ip_address(each)) == "is this host's own", f"{each} to be own")
        assert dialler.objection(ip_address(f"::ffff:{OWN}")), "in IPv6's clothes as well"
        assert dialler.objection(ip_address("203.0.113.255")), "everybody on a network of this host"
        for each in ("203.0.113.7", "198.51.100.1", "2001:db8:77::7", "2001:db8:1::1"):
            assert dialler.objection(ip_address(each)) == ""
        dialler.allow_private = True
        assert dialler.objection(ip_address(OWN)) == ""
        assert dialler.objection(ip_address("127.0.0.1")) != ""
