"""Hooks as an operator has them: a served engine in the lab, a script, and what it may do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import until
from tests.system.test_served import ctl, served

pytestmark = pytest.mark.usefixtures("own_net")

SCRIPT = """#!/bin/sh
{
    echo "$SOUPPP_EVENT $SOUPPP_SESSION $SOUPPP_DEVICE $SOUPPP_IPV4 ${1:-none}"
    if [ "$SOUPPP_EVENT" = up ]; then
        ip rule add to 198.51.100.0/24 lookup 100 && echo "may route"
        ip address show dev "$SOUPPP_DEVICE" | grep -qF "$SOUPPP_IPV4" && echo "has it"
        grep -E "NoNewPrivs|CapEff" /proc/self/status
    fi
} >> FOLDER/said
echo "seen by the operator"
"""


def test_a_script_hears_of_a_session_and_may_route(tmp_path: Path) -> None:
    script, said = tmp_path / "hook", tmp_path / "said"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path)))
    script.chmod(0o700)
    config, socket = tmp_path / "lab.yaml", tmp_path / "lab.sock"
    hooks = f"hooks: {{up: [{script}, fast], down: [{script}], changed: [/bin/false]}}"
    config.write_text(f"sessions:\n - {{name: one, user: x, password: lab, autodial: true, ipv6: false, {hooks}}}\n")
    with served(socket, "--config", config) as program:
        ctl(socket, "wait", "one")
        until(lambda: said.exists() and "CapEff" in said.read_text(), "the first hook")
        (one,) = json.loads(ctl(socket, "list", "--json"))
        lines = said.read_text().splitlines()
        assert lines[:3] == [f"up one {one['device']} {one['ipv4']} fast", "may route", "has it"]
        assert dict(line.split(":\t") for line in lines[3:])["NoNewPrivs"] == "1"
        until(lambda: "The hook up says: seen by the operator" in ctl(socket, "events"), "its output")
        ctl(socket, "rotate", "one")
        until(lambda: said.read_text().count("CapEff") == 2, "the second")
        assert f"down one {one['device']} {one['ipv4']} none" in said.read_text()
        assert ctl(socket, "list", "one").count(one["ipv4"]) == 0
        spans = [line.split(",") for line in ctl(socket, "history", "one").splitlines()]
        assert [span[:2] for span in spans[1:2]] == [["one", one["ipv4"]]]
        assert spans[2][3] == "now"
        ctl(socket, "stop")
        program.process.wait(30)
    assert [line.split()[0] for line in said.read_text().splitlines() if " one " in line] == ["up", "down"] * 2
