"""What the program needs to be allowed, what it says when it isn't, and what it gives up once it runs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, run
from tests.program import Program, descendants, refused, running, until
from tests.provider import CARD, provider

BITS = {"chown": 0, "dac_override": 1, "fowner": 3, "net_bind_service": 10, "net_admin": 12, "net_raw": 13} | {
    "ipc_lock": 14,
    "sys_admin": 21,
    "perfmon": 38,
    "bpf": 39,
}
ALWAYS = ("net_admin", "net_raw", "bpf", "perfmon", "ipc_lock")
KERNEL_PATH = (*ALWAYS, "sys_admin")
LAB = (*KERNEL_PATH, "net_bind_service")
ENVIRONMENT = 3


def with_only(*capabilities: str) -> tuple[str, ...]:
    """The beginning of a command line that runs as root with these and no others."""
    return ("setpriv", "--inh-caps=-all", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in capabilities)]))


def without(names: tuple[str, ...], *more: str) -> list[str]:
    return [name for name in names if name not in more]


def mask(*capabilities: str) -> int:
    return sum(1 << BITS[name] for name in capabilities)


def states(pid: int) -> list[dict[str, str]]:
    """What /proc tells of each thread of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found.append({key: value.strip() for key, value in lines})
    return found


def confined_to(pid: int, *capabilities: str, bounds: tuple[str, ...] = ()) -> None:
    """Each thread has these, can never get others, and can give a program it starts no more.

    Its bounding set is `bounds` where it lacked CAP_SETPCAP to make it smaller.
    """
    for state in states(pid):
        for which in ("CapPrm", "CapEff"):
            assert int(state[which], 16) == mask(*capabilities), (state["Name"], which, state[which])
        assert int(state["CapBnd"], 16) == mask(*(bounds or capabilities)), (state["Name"], state["CapBnd"])
        assert not int(state["CapAmb"], 16)
        assert state["NoNewPrivs"] == "1"


@pytest.fixture
def sessions(own_net: None, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "defaults: {user: alice, password: lab, autodial: true}\n"
        "sessions: [{name: one}, {name: two, datapath: kernel}]\n"
    )
    return path


def on_card(config: Path, *more: str) -> tuple[str | Path, ...]:
    return (CARD, "--config", config, "--state-dir", config.parent / "state", "--headless", "--until-up", *more)


def afxdp_alone(config: Path) -> Path:
    config.write_text("sessions: [{name: one, user: alice, password: lab, autodial: true}]\n")
    return config


def pings(device: str) -> bool:
    ping = ("ping", "-c1", "-W5", "-I", device, "100.64.0.1")
    return subprocess.run(ping, capture_output=True, check=False).returncode == 0


def test_exactly_these_are_enough_for_af_xdp(sessions: Path) -> None:
    with provider(), running(*on_card(afxdp_alone(sessions), "--hold"), within=with_only(*ALWAYS)) as program:
        assert pings(program.up(1)["one"]["device"])
        confined_to(program.pid, *ALWAYS)
        assert program.end() == 0


def test_exactly_these_are_enough_for_the_kernels_data_path(sessions: Path) -> None:
    """CAP_SYS_ADMIN is for the namespace of the hidden ends, which is made before it is given up."""
    with provider(), running(*on_card(sessions, "--hold"), within=with_only(*KERNEL_PATH)) as program:
        for said in program.up(2).values():
            assert pings(said["device"])
        confined_to(program.pid, *ALWAYS, bounds=KERNEL_PATH)
        assert program.end() == 0


def test_exactly_these_are_enough_for_the_lab(own_net: None) -> None:
    with running("--lab", "--sessions", "2", "--headless", "--until-up", "--hold", within=with_only(*LAB)) as program:
        program.up(2)
        confined_to(program.pid, *ALWAYS, bounds=LAB)
        survivor = survivor_of(program)
        confined_to(survivor, *ALWAYS, bounds=LAB)
        until(lambda: len(descendants(program.pid)) == 3, "who compiled gone")
        (server,) = descendants(program.pid) - {program.pid, survivor}
        confined_to(server, *ALWAYS, "net_bind_service", bounds=LAB)
        assert program.end() == 0


def survivor_of(program: Program) -> int:
    """The process that deletes its devices if it is killed."""

    def found() -> int | None:
        for each in descendants(program.pid):
            with suppress(OSError):  # some are there for a moment only
                if b"survivor" in Path(f"/proc/{each}/cmdline").read_bytes():
                    return each
        return None

    return until(found, "the survivor") or 0


def ups(program: Program) -> int:
    return len([said for said in list(program.said) if said.get("event") == "ipv4-up"])


def test_root_gives_up_all_else_and_keeps_no_child(sessions: Path) -> None:
    """And takes the card anew with what is left, which loads and attaches the programs again."""
    with provider() as far, running(*on_card(sessions, "--hold")) as program:
        program.up(2)
        survivor = survivor_of(program)
        confined_to(survivor, *ALWAYS)
        until(lambda: descendants(program.pid) <= {program.pid, survivor}, "who compiled gone")
        confined_to(program.pid, *ALWAYS)
        run("ip", "link", "del", CARD)
        program.event("card-down")
        far.kill()
        with provider():
            until(lambda: ups(program) > 2, "a session once more")
            until(lambda: pings("soup0"), "an answer")
            confined_to(program.pid, *ALWAYS)
            assert program.end() == 0


@pytest.mark.parametrize("missing", without(ALWAYS, "ipc_lock"))
def test_one_that_is_missing_is_named_in_one_line(sessions: Path, missing: str) -> None:
    code, complaints = refused(*on_card(sessions), within=with_only(*without(ALWAYS, missing)))
    assert (code, complaints) == (
        ENVIRONMENT,
        [f"souppp-tui: needs to run as root, or with CAP_{missing.upper()}."],
    )


@pytest.mark.parametrize("missing", without(LAB, "ipc_lock"))
def test_one_that_the_lab_misses_is_named_in_one_line(own_net: None, missing: str) -> None:
    have = without(LAB, missing)
    if missing in ("bpf", "perfmon"):
        have.remove("sys_admin")  # which includes them
    code, complaints = refused("--lab", "--headless", within=with_only(*have))
    assert (code, len(complaints)) == (ENVIRONMENT, 1)
    assert complaints[0].startswith("souppp-tui: needs to run as root, or with CAP_")
    assert f"CAP_{missing.upper()}" in complaints[0]


def test_without_sys_admin_only_the_kernels_data_path_is_missed(sessions: Path) -> None:
    with provider(), running(*on_card(sessions, "--timeout", "12"), within=with_only(*ALWAYS)) as program:
        assert program.ended() == 1
        said = program.sessions(2)
        assert said["one"]["state"] == "up"
        assert said["two"]["error"] == "not possible here"
        assert "CAP_SYS_ADMIN is needed" in program.event("dial-failed", "two")["text"]


def test_too_little_locked_memory_is_told_with_the_remedy(sessions: Path) -> None:
    """CAP_IPC_LOCK lifts the limit."""
    lock = ("prlimit", f"--memlock={4 << 20}:{4 << 20}")
    with provider():
        code, complaints = refused(*on_card(sessions), within=(*lock, *with_only(*without(ALWAYS, "ipc_lock"))))
        assert (code, len(complaints)) == (ENVIRONMENT, 1)
        assert "too little memory may be locked" in complaints[0]
        assert "`ulimit -l`" in complaints[0]
        with running(*on_card(afxdp_alone(sessions)), within=(*lock, *with_only(*ALWAYS))) as program:
            assert program.ended() == 0


def test_enough_locked_memory_does_without_the_capability(sessions: Path) -> None:
    lock = ("prlimit", f"--memlock={64 << 20}:{64 << 20}")
    if subprocess.run([*lock, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may not raise the limit of locked memory here")
    within = (*lock, *with_only(*without(ALWAYS, "ipc_lock")))
    with provider(), running(*on_card(afxdp_alone(sessions)), within=within) as program:
        assert program.ended() == 0


def test_root_keeps_what_other_users_files_take(sessions: Path) -> None:
    """Or the console could no longer write what was edited into the configuration of who called sudo."""
    os.chown(afxdp_alone(sessions), pwd.getpwnam("nobody").pw_uid, -1)
    with provider(), running(*on_card(sessions, "--hold")) as program:
        program.up(1)
        confined_to(program.pid, *ALWAYS, "chown", "dac_override", "fowner")
        assert program.end() == 0


@pytest.fixture
def nobodys() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    yield folder
    shutil.rmtree(folder)


def test_a_user_with_these_capabilities_needs_no_root(own_net: None, nobodys: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    caps = ",".join(f"+{name}" for name in ALWAYS)
    within = (*user, f"--inh-caps=-all,{caps}", f"--ambient-caps={caps}")
    if subprocess.run([*user, sys.executable, "-c", "import souppp_tui"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this checkout is closed to other users")
    if subprocess.run([*user, "test", "-w", "/dev/net/tun"]).returncode:
        pytest.skip("/dev/net/tun is closed to other users")
    config = nobodys / "config.yaml"
    afxdp_alone(config)
    with provider(), running(*on_card(config, "--hold"), within=within) as program:
        program.up(1)
        for state in states(program.pid):
            assert int(state["CapPrm"], 16) == mask(*ALWAYS)
            assert state["NoNewPrivs"] == "1"
        assert program.end() == 0
