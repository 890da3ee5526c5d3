"""Discovery against real programs: what their concentrator doesn't grant, a choice of two, and a relay in between.

rp-pppoe's pppoe-server knows nothing of RFC 4638 and of TR-101, and the guest's card takes no frame over 1500 octets:
that more than 1492 is granted and carried is tested against our own concentrator only.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.conftest import NetnsPair, run
from tests.interop.dialling import HOLD, dial, pings, wait_pppds
from tests.interop.kit import Aclab, concentrators
from tests.program import until

SECOND = "02:ac:ac:ac:00:02"


def test_a_concentrator_that_grants_neither_more_than_1492_nor_line_ids(
    aclab: Callable[..., Aclab], tmp_path: Path
) -> None:
    server = aclab(AUTH="chap")
    for namespace, card in ((server.line.near, server.line.card), (server.line.far, server.line.far_card)):
        run("ip", "-n", namespace, "link", "set", card, "mtu", "1508")
    entry = '{name: one, mru: 1500, circuit_id: "dslam-1 eth 1/2:35", remote_id: "+44 20 7946 0018"}'
    with dial(server.line, tmp_path, entry, *HOLD) as program:
        up = program.up(1)["one"]
        assert up["mtu"] == 1492
        assert pings(server.line, up["device"], 1492 - 28)
        assert not pings(server.line, up["device"], 1493 - 28)
        assert program.end() == 0
    wait_pppds(server, 0)


def test_a_choice_of_two_concentrators(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    server = aclab(AUTH="chap", AC="first", EXTRA_MODULES="macvlan")
    options = "-L 10.68.0.1 -R 10.68.1.1 -N 8 -O /etc/ppp/pppoe-server-options"
    server.exec(
        f"ip link add link vec0 name second address {SECOND} type macvlan mode bridge && ip link set second up &&"
        f" (pppoe-server -F -I second -C second -S gold {options} >/dev/null 2>&1 &)"
    )
    until(lambda: server.exec("grep -c ' 8863 ' /proc/net/packet || true").strip() == "2", "the second concentrator")
    # rp-pppoe answers a PADI for any service with all its services, and one for a service only if it has it.
    entries = f"""
        {{name: name, ac: {{name: second}}}}
        {{name: mac, ac: {{mac: "{SECOND}"}}}}
        {{name: service, service: gold}}
        {{name: other, ac: {{name: first}}}}
    """
    began = time.monotonic()
    with dial(server.line, tmp_path, entries, *HOLD, more="pado_window: 1.5") as program:
        up = program.up(4)
        took = time.monotonic() - began
        assert {name: said["ac_name"] for name, said in up.items()} == {
            "name": "second",
            "mac": "second",
            "service": "second",
            "other": "first",
        }
        assert up["service"]["ac_mac"] == SECOND
        assert took > 1.5, "the window was open for that long"
        assert program.end() == 0
    wait_pppds(server, 0)


def test_through_a_relay(netns_pair: NetnsPair, tmp_path: Path) -> None:
    """Relay-Session-Id comes back in the PADR unmodified, or the relay lets nothing through (RFC 2516 appendix A)."""
    near_server, server_card = "vs", "vt"
    run("ip", "-n", netns_pair.far, "link", "add", near_server, "type", "veth", "peer", "name", server_card)
    for card in (near_server, server_card):
        run("ip", "-n", netns_pair.far, "link", "set", card, "up")
    with concentrators(replace(netns_pair, far_card=server_card), tmp_path) as start:
        server = start(AUTH="chap")
        command = ["pppoe-relay", "-F", "-C", netns_pair.far_card, "-S", near_server]
        with subprocess.Popen(["ip", "netns", "exec", netns_pair.far, *command]) as relay:
            try:
                with dial(netns_pair, tmp_path, '{name: "s{n}", count: 2}', *HOLD) as program:
                    for said in program.up(2).values():
                        assert pings(netns_pair, said["device"])
                        assert said["ac_mac"] != server.settings.get("MAC", "02:ac:ac:ac:00:01"), "the relay's own"
                    assert program.end() == 0
                wait_pppds(server, 0)
            finally:
                relay.kill()
