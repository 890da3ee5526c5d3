"""What runs out while the program runs: who needs it fails with the reason, the others go on, nothing is left of it.

At the start it is told otherwise: `test_devices.py`, `test_privileges.py`, `tests/unit/test_descriptors.py`.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from engine.api.hello import Hello, encode_hello, framed
from engine.datapath import errands
from engine.egress.addresses import Devices
from engine.host.errors import Trouble
from engine.host.nft import Nft
from engine.run.sockets import connect
from tests.conftest import ROOT, run
from tests.program import PATIENCE, Program, Said, running, until
from tests.provider import CARD, FAR_CARD, Provider, provider
from tests.system.engines import fetch
from tests.system.given import give_ipv4, give_ipv6
from tests.system.test_privileges import ALWAYS, without

pytestmark = pytest.mark.usefixtures("own_net")

POOR = 40
"""Sessions that there isn't enough for."""
DIALS = 200
MISER = 41234
ONE_QUEUE = 8 << 20
"""Octets of locked memory."""


def descriptors(pid: int) -> int:
    """How many are open for longer than a moment."""

    def now() -> int:
        time.sleep(0.05)
        return len(os.listdir(f"/proc/{pid}/fd"))

    return min(now() for _ in range(3))


def of_ours() -> dict[str, int]:
    """How many of each kind of thing there are on the host."""
    found = {what: len(run("ip", *what.split()).splitlines()) for what in ("-br link", "-4 rule", "-6 rule")}
    for family in ("-4", "-6"):
        found[f"{family} routes"] = run("ip", family, "route", "show", "table", "all").count("proto 80")
    nft = Nft()
    for name in ("sources4", "sources6", "ways4", "ways6"):
        found[name] = len(nft.elements("souppp", name))
    nft.close()
    return found


def fleet(folder: Path, path: str) -> Path:
    config = folder / "config.yaml"
    config.write_text(
        f"defaults: {{user: anyone, password: lab, autodial: true, datapath: {path}}}\n"
        "dial: {retry_min: 0.1, retry_max: 0.1, rate: 1000}\n"
        f"sessions: [{{name: rich}}, {{name: 'poor-{{n}}', count: {POOR}}}]\n"
    )
    return config


def lose(far: Provider, sessions: list[Said]) -> None:
    """The concentrator ends them, by a PADT each."""
    frames = [
        (s["local_mac"] + s["ac_mac"]).replace(":", "") + "886311a7" + f"{s['session_id']:04x}" + "00" * 40
        for s in sessions
    ]
    send = f"import socket; s = socket.socket(17, 3); s.bind(('{FAR_CARD}', 0))"
    far.run(sys.executable, "-c", f"{send}\nfor frame in {frames!r}: s.send(bytes.fromhex(frame))")


@contextmanager
def few_descriptors(program: Program) -> Iterator[str]:
    """As many as it has without the poor ones' devices, and none of the reserve."""
    had = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    limit = descriptors(program.pid) - POOR
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (limit, had[1]))
    yield f"Too many open files: raise the limit of {limit} (`ulimit -n`, LimitNOFILE=)."
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, had)


@contextmanager
def no_device_node(program: Program) -> Iterator[str]:
    """No device can be made: the program, which has a mount namespace of its own, may not open what makes them."""
    inside = ("nsenter", "-t", str(program.pid), "-m", "-r")  # as its root, which may be a folder of the host's
    run(*inside, "mount", "--bind", "/dev/net/tun", "/dev/net/tun")
    run(*inside, "mount", "-o", "remount,bind,nodev", "/dev/net/tun")
    yield "cannot open /dev/net/tun: Permission denied"
    run(*inside, "umount", "/dev/net/tun")


@pytest.mark.parametrize(
    ("path", "shortage"),
    [("afxdp", few_descriptors), ("afxdp", no_device_node)],
    ids=["descriptors", "devices"],
)
def test_who_gets_no_device_fails_and_the_others_go_on(
    tmp_path: Path, path: str, shortage: Callable[[Program], Iterator[str]]
) -> None:
    arguments = (CARD, "--config", fleet(tmp_path, path), "--state-dir", tmp_path / "state")
    wishes = ("--headless", "--until-up", "--hold", "--socket", tmp_path / "socket")
    with provider() as far, running(*arguments, *wishes, within=("unshare", "-m")) as program:
        sessions = program.up(1 + POOR)
        rich = sessions.pop("rich")
        device, before = rich["device"], descriptors(program.pid)
        mark = len(program.said)

        def told(kind: str) -> list[str]:
            return [said["text"] for said in program.said[mark:] if said.get("event") == kind]

        with shortage(program) as reason:  # type: ignore[attr-defined]

            def failed() -> list[str]:
                """PPP was up; a device there is none."""
                return [text for text in told("session-down") if text.startswith(reason)]

            knocking = connect(tmp_path / "socket")
            knocking.sendall(framed(encode_hello(Hello(release="", program="late"))))
            lose(far, [*sessions.values()])
            until(lambda: len(failed()) >= POOR, "the first to fail")
            until(lambda: run("ip", "-br", "link").count("soup") == 1, "the devices gone")
            without_the_poor = of_ours()
            until(lambda: len(failed()) >= DIALS, f"{DIALS} to fail")
            assert not told("dial-failed")
            others = [text for text in told("session-down") if not text.startswith(reason)]
            assert len(others) == POOR, "but for the PADTs it has no other reason"
            assert fetch(device) == rich["ipv4"]
            until(
                lambda: descriptors(program.pid) - (before - POOR) in (0, 1), "those of before, or that of who knocks"
            )
            assert of_ours() == without_the_poor
            assert device in run("ip", "-br", "link")
            assert without_the_poor["ways4"] == 1
        until(lambda: len(told("ipv4-up")) >= POOR, "all of them up again")
        knocking.settimeout(PATIENCE)
        assert knocking.recv(1), "who came meanwhile is answered"
        knocking.close()
        until(lambda: descriptors(program.pid) == before, "as many descriptors as before")
        assert fetch(device) == rich["ipv4"]
        assert program.complaints == []
        lost = {said["session"] for said in program.said[mark:] if said.get("event") == "session-down"}
        assert lost == sessions.keys(), "the poor ones alone"
        assert len(told("card-unseen")) <= 1
        assert program.end() == 0
    assert "proto 80" not in run("ip", "-4", "rule") + run("ip", "-6", "rule")


@pytest.fixture
def miser() -> Iterator[Path]:
    """The folder of a user that nobody else is, as the kernel counts locked memory by user."""
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, MISER, MISER)
    yield folder
    shutil.rmtree(folder)


def test_too_little_locked_memory_for_a_card_that_comes_back(miser: Path) -> None:
    """It is told with the remedy, costs no descriptor, however often, and is over with the limit."""
    user = ("setpriv", f"--reuid={MISER}", f"--regid={MISER}", "--clear-groups")
    if subprocess.run([*user, sys.executable, "-c", "import souppp_tui"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this checkout is closed to other users")
    if 0 <= resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] < ONE_QUEUE:
        pytest.skip("there may not be enough locked memory for a card at all")
    caps = ",".join(f"+{name}" for name in without(ALWAYS, "ipc_lock"))
    node = miser / "tun"  # the host's own may be closed to other users
    os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/net/tun").st_rdev)
    node.chmod(0o666)
    with_node = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /dev/net/tun && exec "$@"', node)
    config = miser / "config.yaml"
    config.write_text("sessions: [{name: one, user: anyone, password: lab, autodial: true}]\n")
    arguments = (CARD, "--config", config, "--state-dir", miser / "state", "--headless", "--until-up", "--hold")
    with (
        provider(queues=1) as far,
        running(*arguments, within=(*with_node, *user, f"--inh-caps=-all,{caps}", f"--ambient-caps={caps}")) as program,
    ):
        program.up(1)
        before = descriptors(program.pid)

        def allow(octets: int) -> None:
            run(*user, "prlimit", "--pid", str(program.pid), f"--memlock={octets}:")

        allow(ONE_QUEUE // 2)
        run("ip", "link", "del", CARD)
        program.event("card-down")
        without_card = descriptors(program.pid)
        far.lay_cable(queues=1)
        text = program.event("card-lost")["text"]
        assert "too little memory may be locked" in text
        assert "`ulimit -l`" in text
        for _ in range(20):  # each time it is tried again
            run("ip", "link", "set", CARD, "down")
            run("ip", "link", "set", CARD, "up")
        until(lambda: descriptors(program.pid) <= without_card, "no more descriptors than before")
        allow(ONE_QUEUE)
        mark = len(program.said)
        run("ip", "link", "set", CARD, "down")
        run("ip", "link", "set", CARD, "up")
        program.event("card-ready", since=mark)
        until(lambda: descriptors(program.pid) <= before, "no more descriptors than with the first card")
        assert program.end() == 0


class Failing(socket.socket):
    """A netlink socket on which one request can't be sent, as when no memory is left for it."""

    countdown = -1

    def send(self, data: object, flags: int = 0, /) -> int:
        Failing.countdown -= 1
        if Failing.countdown == 0:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().send(data, flags)  # type: ignore[arg-type]


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Devices]:
    run("ip", "link", "set", "lo", "up")
    monkeypatch.setattr("engine.host.rtnl.socket.socket", Failing)
    Failing.countdown = -1
    make = errands._step

    def failing(kind: int, octets: bytes, fd: int = -1, option: int = 0) -> bytes:
        """What is asked beside the engine counts too."""
        Failing.countdown -= 1
        return make(kind, octets, fd, option) if Failing.countdown else make(errands.Kind.FIND, b"lo")

    monkeypatch.setattr(errands, "_step", failing)
    devices = Devices()
    devices.create(1, "soup1")
    give_ipv4(devices, 1, IPv4Address("100.64.0.2"), None, 1492)
    give_ipv6(devices, 1, IPv6Address("fe80::1"), 1492)
    yield devices
    Failing.countdown = -1
    devices.close()
    assert "proto 80" not in run("ip", "-4", "rule") + run("ip", "-6", "rule")


def test_sessions_of_the_in_kernel_path_need_no_descriptor(tmp_path: Path) -> None:
    arguments = (CARD, "--config", fleet(tmp_path, "kernel"), "--state-dir", tmp_path / "state")
    with provider() as far, running(*arguments, "--headless", "--until-up", "--hold") as program:
        sessions = program.up(1 + POOR)
        rich, mark = sessions.pop("rich"), len(program.said)
        with few_descriptors(program):
            lose(far, [*sessions.values()])
            until(
                lambda: (
                    {said["session"] for said in program.said[mark:] if said.get("event") == "ipv4-up"}
                    == sessions.keys()
                ),
                "all of them up again",
            )
            assert fetch(rich["device"]) == rich["ipv4"]
        assert program.complaints == []
        assert program.end() == 0


@pytest.mark.parametrize("ahead", [False, True])
def test_whichever_request_the_kernel_has_no_memory_for_nothing_is_left(devices: Devices, ahead: bool) -> None:
    """Each request of a session's coming and going is refused once."""
    address, network = IPv4Address("100.64.0.3"), ip_network("203.0.113.8/29")

    def come() -> None:
        if ahead:
            devices.prepare(2, "soup2")
        devices.create(2, "soup2", networks=(network,), closed=True)
        give_ipv4(devices, 2, address, None, 1492)
        give_ipv6(devices, 2, IPv6Address("fe80::2"), 1492)

    def settled() -> dict[str, int]:
        devices.undertaker.wait_for("soup2")
        for source in (address, IPv6Address("fe80::2"), network):
            devices._confinement.forget(source)
        devices.look()
        devices.tidy(0.0)
        return of_ours()

    def go() -> None:
        devices.remove(2)

    come()
    go()
    before, fds = settled(), descriptors(os.getpid())
    for steps in ((come, go), (come,)):
        number, refused = 0, 0
        while refused == number:
            number += 1
            Failing.countdown = number
            try:
                for step in steps:
                    step()
            except Trouble as error:
                assert re.search("No buffer space available|Bad file descriptor", str(error))  # noqa: PT017
            refused += Failing.countdown <= 0
            Failing.countdown = -1
            devices.remove(2)
            assert settled() == before, number
            assert descriptors(os.getpid()) == fds, number
        assert number > 10
