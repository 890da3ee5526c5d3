"""What engines are called that one console looks at."""

from __future__ import annotations

import pytest

from souppp_tui.commands.reaching import names_of


@pytest.mark.parametrize(
    ("engines", "names"),
    [
        ([("eth0", "eth0"), ("eth1", "eth1")], ["eth0", "eth1"]),
        ([("eth0", "eth0"), ("ops@gate", "eth0")], ["eth0", "gate"]),
        ([("ops@gate.example.net", "eth0"), ("ops@hub.example.net:eth3", "eth3")], ["gate", "hub"]),
        (
            [("ops@gate:eth0", "eth0"), ("ops@gate:eth1", "eth1"), ("hub@hub", "eth0")],
            ["gate:eth0", "gate:eth1", "hub"],
        ),
        ([("a@gate.one.net", "eth0"), ("a@gate.two.net", "eth0")], ["gate.one.net:eth0", "gate.two.net:eth0"]),
        ([("a@192.0.2.1", "eth0"), ("a@192.0.2.2", "eth0")], ["192.0.2.1", "192.0.2.2"]),
        ([("a@gate", "eth0"), ("b@gate", "eth0")], ["a@gate", "b@gate"]),
        ([("lab", "lab"), ("/run/souppp/eth0.sock", "eth0")], ["lab", "eth0"]),
        ([("/tmp/a.sock", "lab"), ("/tmp/b.sock", "lab")], ["a", "b"]),
        ([("/tmp/x/a.sock", "lab"), ("/tmp/y/a.sock", "lab")], ["x/a", "y/a"]),
        ([("eth0", "eth0"), ("line-of-the-house", "eth0")], ["eth0", "line-of-the-house"]),
    ],
)
def test_names_are_as_short_as_can_be_told_apart(engines: list[tuple[str, str]], names: list[str]) -> None:
    assert names_of(engines) == names
