"""Containers and hosts of their own kind: what is missing is said at the start, and what works without it goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api.values import SessionState
from engine.card.xdp import Loading, XdpError
from engine.settings.values import DatapathChoice, XdpMode
from tests.conftest import run
from tests.program import Program, refused, running, until
from tests.provider import CARD, provider
from tests.system.engines import dialling, events, fetch, pings, session, view, wait_state, wait_up

pytestmark = pytest.mark.usefixtures("needs_root")

UP = ("--lab", "--headless", "--until-up", "--sessions", "2")
BPF, UNSHARE = 321, 272
"""Numbers of system calls on x86-64."""
EPERM, ENOSYS = 1, 38


def elsewhere(*mounts: str) -> list[str]:
    """The beginning of a command line that runs in a mount namespace of its own, after these commands."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


READ_ONLY = elsewhere("mount -o bind /proc/sys /proc/sys", "mount -o remount,ro,bind /proc/sys")
NO_TUN = elsewhere("mount -t tmpfs none /dev/net")
NO_BPFFS = elsewhere("mount -t tmpfs none /sys/fs/bpf")
NO_TMP = elsewhere(
    *(f"mount -t tmpfs -o ro none {path}" for path in ("/tmp", "/var/tmp")), "cd /proc", "unset TMPDIR TEMP TMP"
)


def without(call: int, error: int) -> list[str]:
    """The same, where a system call fails, as a container's rules have it."""
    if os.uname().machine != "x86_64":
        pytest.skip("knows the numbers of x86-64 only")
    return [sys.executable, str(Path(__file__).with_name("refuse.py")), str(call), str(error)]


def told(program: Program, kind: str) -> list[str]:
    return [said["text"] for said in program.said if said.get("event") == kind]


def test_nothing_is_said_where_nothing_is_missing() -> None:
    with running(*UP) as program:
        program.up(2)
        assert program.ended() == 0
        assert not told(program, "host")


def test_proc_sys_that_is_read_only() -> None:
    with running(*UP, within=READ_ONLY) as program:
        program.up(2)
        assert program.ended() == 0
        (text,) = told(program, "host")
        assert "/proc/sys is read-only" in text


def test_no_bpffs() -> None:
    with running(*UP, within=NO_BPFFS) as program:
        program.up(2)
        assert program.ended() == 0


def test_no_folder_for_temporary_files() -> None:
    with running(*UP, within=NO_TMP) as program:
        program.up(2)
        assert program.ended() == 0


@pytest.mark.parametrize("error", [EPERM, ENOSYS])
def test_bpf_is_refused(error: int) -> None:
    code, complaints = refused(*UP, within=without(BPF, error))
    assert code == 3
    assert len(complaints) == 1
    assert "the kernel allows none here (a container's rules, or lockdown)" in complaints[0]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that limits processes, of whichever version."""
    made = next((root for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if root.is_dir()), None)
    if made is None:
        pytest.skip("needs control groups")
    made /= f"souppp-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"needs a control group of its own: {error}")
    try:
        if not (made / "pids.max").exists():
            pytest.skip("needs the controller of processes")
        yield made
    finally:
        until(lambda: not (made / "cgroup.procs").read_text(), "its processes gone")
        made.rmdir()


@pytest.mark.parametrize("limit", [2, 3, 4, 5])
def test_too_few_processes(own_net: None, group: Path, tmp_path: Path, limit: int) -> None:
    """The child that compiles, the engine, what it prints, the queues: each of them may be the one too many."""
    (group / "pids.max").write_text(str(limit))
    within = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    with provider():
        code, complaints = refused(
            CARD, "--config", config(tmp_path, "afxdp"), "--state-dir", tmp_path, "--headless", within=within
        )
    assert code == 3
    assert len(complaints) == 1
    assert "raise the limit of processes (pids.max of the cgroup" in complaints[0]


def test_a_loader_that_is_killed_is_told_as_that(own_net: None) -> None:
    """As by a limit of memory."""
    loading = Loading()
    os.kill(loading.pid, signal.SIGKILL)
    with pytest.raises(XdpError, match="its loader died: it was killed"):
        loading.finish()


def config(folder: Path, *datapaths: str) -> Path:
    """One session with each data path."""
    file = folder / "config.yaml"
    lines = [f"  - {{name: {d}, user: u, password: lab, autodial: true, datapath: {d}}}" for d in datapaths]
    file.write_text("\n".join(["sessions:", *lines]))
    return file


def test_without_tun_devices_nothing_could_be_done(tmp_path: Path) -> None:
    arguments = ("--lab", "--headless", "--config", config(tmp_path, "afxdp"))
    code, complaints = refused(*arguments, within=NO_TUN)
    assert code == 3
    assert "/dev/net/tun is missing or closed to us: load it with `modprobe tun`" in complaints[0]


def test_the_in_kernel_path_goes_on_without_tun_devices(own_net: None, tmp_path: Path) -> None:
    file = config(tmp_path, "afxdp", "kernel", "auto")
    with provider(), running(CARD, "--config", file, "--state-dir", tmp_path, "--headless", within=NO_TUN) as program:
        for name in ("kernel", "auto"):
            program.event("ipv4-up", name)
        assert "Or set `datapath: auto`" in program.event("dial-failed", "afxdp")["text"]
        assert "only the in-kernel path" in program.event("host")["text"]
        assert program.end() == 0


@pytest.mark.parametrize("datapath", ["kernel", "auto"])
def test_without_namespaces_there_is_no_in_kernel_path(own_net: None, datapath: str, tmp_path: Path) -> None:
    """It is said before a session is told to be up; `auto` takes the other one."""
    sessions = [f"  - {{name: s{n}, user: u, password: lab, autodial: true, datapath: {datapath}}}" for n in range(4)]
    file = tmp_path / "config.yaml"
    file.write_text("\n".join(["sessions:", *sessions]))
    with (
        provider(),
        running(
            CARD,
            "--config",
            file,
            "--state-dir",
            tmp_path / "state",
            "--headless",
            within=without(UNSHARE, EPERM),
        ) as program,
    ):
        if datapath == "kernel":
            text = program.event("dial-failed", "s0")["text"]
            assert "`datapath: kernel` is not to be had: cannot make a network namespace" in text
        else:
            for n in range(4):
                program.event("ipv4-up", f"s{n}")
            (text,) = told(program, "datapath")
            assert "go over AF_XDP: cannot make a network namespace" in text
        assert program.end() == 0
        assert bool(told(program, "pppoe-open")) == (datapath == "auto")


@pytest.mark.parametrize("datapath", [DatapathChoice.KERNEL, DatapathChoice.AUTO])
def test_in_generic_mode_there_is_no_in_kernel_path(own_net: None, datapath: DatapathChoice) -> None:
    several = [session(f"s{n}", datapath=datapath) for n in range(4)]
    with provider(), dialling(several, xdp=XdpMode.GENERIC) as engine:
        if datapath is DatapathChoice.KERNEL:
            wait_state(engine, SessionState.FAILED)
            assert "generic mode" in events(engine, "dial-failed")[0].text
            assert not events(engine, "pppoe-open")
        else:
            wait_up(engine)
            assert "generic mode" in events(engine, "datapath")[0].text
            assert pings("soup3")


@pytest.mark.parametrize("datapath", [DatapathChoice.AFXDP, DatapathChoice.KERNEL])
def test_ipv6_that_is_switched_off(own_net: None, datapath: DatapathChoice) -> None:
    """It is not asked for, and not said to be open."""
    run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    with provider(), dialling([session("one", datapath=datapath)]) as engine:
        wait_up(engine)
        assert ["IPv6 is switched off" in event.text for event in events(engine, "host")] == [True]
        found = view(engine, "one")
        assert found.ipv6 is None
        assert not events(engine, "ipv6-up")
        assert found.device is not None
        assert fetch(found.device) == found.ipv4


def test_a_user_namespace_is_told_in_one_line_that_no_xdp_program_is_to_be_had(tmp_path: Path) -> None:
    """Its root has every right there, and the kernel lets it load none: a container is given CAP_BPF of the host's."""
    file = config(tmp_path, "auto")
    with file.open("a") as more:
        more.write("\ndefaults: {egress: stack}\n")
    card = "ip link add va type veth peer name vb && ip link set va up && ip link set vb up"
    within = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f'{card} && exec "$@"', "sh"]
    code, complaints = refused("va", "--headless", "--config", file, "--state-dir", tmp_path / "state", within=within)
    assert code == 3
    assert complaints == [
        "souppp-tui: cannot load the XDP program: the kernel allows none here (a container's rules, or lockdown)"
    ]
