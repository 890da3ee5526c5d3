"""The XDP program on a veth pair: what it takes, what it leaves, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.card import xdp, xdp_loader
from engine.card.facts import read_card
from engine.card.xdp import Loading, XdpCounters, XdpError, XdpProgram
from engine.datapath import Datapath
from engine.egress.veth import HiddenNet, KernelPath
from tests.program import PATIENCE

from .line import FAR, NEAR, QUEUES, Line, namespace, needs_root, open_descriptors, run, until, veth_line

pytestmark = needs_root

BPF_XDP_SKB, BPF_XDP_DRV = 1 << 1, 1 << 2
TO_ALL = b"\xff" * 6 + b"\2\0\0\0\0\1"
TAGS = {
    "untagged": b"",
    "802.1Q": bytes.fromhex("81000007"),
    "802.1ad": bytes.fromhex("88a80007"),
    "QinQ": bytes.fromhex("88a8000781000008"),
    "two 802.1Q": bytes.fromhex("8100000781000008"),
}


@pytest.fixture
def line() -> Iterator[Line]:
    with veth_line("xdp") as line:
        yield line


def attached(line: Line) -> bool:
    details = json.loads(run("ip", "-j", "-n", line.near, "link", "show", "dev", NEAR))
    return "xdp" in details[0]


def total(program: XdpProgram) -> XdpCounters:
    counters = program.counters()
    assert len(counters) == QUEUES
    return XdpCounters(*(sum(getattr(c, name) for c in counters) for name in XdpCounters.__struct_fields__))


@pytest.mark.parametrize("generic", [False, True], ids=["native", "generic"])
def test_takes_pppoe_behind_up_to_two_tags_and_leaves_the_rest(line: Line, generic: bool) -> None:
    frames = [
        TO_ALL + tags + bytes.fromhex(ethertype) + b"\x11\0\0\0\0\0" + bytes(60)
        for tags in TAGS.values()
        for ethertype in ("8863", "8864")
    ]
    others = [TO_ALL + bytes.fromhex("88b5") + bytes(60), TO_ALL + bytes.fromhex("81000007810000088100000988638863")]
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES, generic=generic)
        datapath = Datapath(NEAR, QUEUES, program.xsk_map_fd, zero_copy=False if generic else None)
    try:
        assert program.mode == ("generic" if generic else "native")
        assert program.objection == ""
        for frame in frames + others:
            line.wire.send(frame)
        assert until(lambda: total(program).redirected == len(frames))
        assert until(lambda: total(program).passed == len(others))
        assert total(program).failed == 0
        assert until(lambda: sum(queue.rx_packets for queue in datapath.queue_counters()) == len(frames))
    finally:
        datapath.close()
        program.close()


@pytest.mark.parametrize("generic", [False, True], ids=["native", "generic"])
def test_arp_and_ip_pass_and_frames_without_a_socket_too(line: Line, generic: bool) -> None:
    run("ip", "-n", line.near, "addr", "add", "192.0.2.1/24", "dev", NEAR)
    run("ip", "-n", line.far, "addr", "add", "192.0.2.2/24", "dev", FAR)
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES, generic=generic)
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8863))
    try:
        listener.bind((NEAR, 0x8863))
        listener.settimeout(PATIENCE)
        run("ip", "netns", "exec", line.far, "ping", "-c", "1", "-W", f"{PATIENCE:.0f}", "192.0.2.1")
        assert total(program).passed >= 2
        line.wire.send(TO_ALL + bytes.fromhex("8863110900000000") + bytes(40))
        assert listener.recv(2000)[12:14] == b"\x88\x63"
        assert total(program).failed == 1
        assert total(program).redirected == 0
    finally:
        listener.close()
        program.close()


@pytest.mark.parametrize("generic", [False, True], ids=["native", "generic"])
def test_nothing_stays_after_close(line: Line, generic: bool) -> None:
    before = open_descriptors()
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES, generic=generic)
    assert attached(line)
    program.close()
    program.close()
    assert not attached(line)
    assert open_descriptors() == before


HOLDER = f"""
import time
from engine.card.xdp import XdpProgram
program = XdpProgram.attach({NEAR!r}, {QUEUES})
print("attached", flush=True)
time.sleep(60)
"""


def test_counters_are_read_while_the_in_kernel_path_comes_to_the_card(line: Line) -> None:
    """A console's thread reads them, and must not find the descriptor closed, or another file behind it."""
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES)
    shared = {name: program.descriptors[name] for name in xdp.MAPS}
    maps = {name: Path(f"/proc/self/fdinfo/{fd}").read_text() for name, fd in shared.items()}
    before = open_descriptors()
    program.add_kernel_path()
    assert {name: program.descriptors[name] for name in xdp.MAPS} == shared
    assert {name: Path(f"/proc/self/fdinfo/{fd}").read_text() for name, fd in shared.items()} == maps
    assert len(program.counters()) == QUEUES
    assert open_descriptors() - before == len(program.descriptors) - len(xdp.MAPS) - len(xdp.PROGRAMS)
    program.close()


def test_nothing_stays_after_sigkill_and_a_second_comer_is_told_who_holds_the_card(line: Line) -> None:
    holder = subprocess.Popen(
        ["ip", "netns", "exec", line.near, sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(xdp.__file__).parents[1],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "attached\n"
        before = open_descriptors()
        with namespace(line.near), pytest.raises(XdpError) as told:
            XdpProgram.attach(NEAR, QUEUES)
        assert f"another XDP program is on {NEAR}: souppp" in str(told.value)
        assert f"held by process {holder.pid} " in str(told.value)
        assert open_descriptors() == before
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    assert until(lambda: not attached(line))


LEFT_BEHIND = f"""
import os
os.environ["BCC_KERNEL_SOURCE"] = {str(xdp.HEADERS)!r}
from bcc import BPF
bpf = BPF(text="int left_behind(struct xdp_md *ctx) {{ return XDP_PASS; }}")
bpf.attach_xdp({NEAR!r}, bpf.load_func("left_behind", BPF.XDP), FLAGS)
os._exit(0)
"""


@pytest.mark.parametrize("flags", [BPF_XDP_DRV, BPF_XDP_SKB], ids=["native", "generic"])
def test_a_program_left_by_netlink_is_named_with_the_way_to_be_rid_of_it(line: Line, flags: int) -> None:
    script = LEFT_BEHIND.replace("FLAGS", str(flags))
    run("ip", "netns", "exec", line.near, sys.executable, "-c", script)
    assert attached(line)
    with namespace(line.near), pytest.raises(XdpError, match="left_behind") as told:
        XdpProgram.attach(NEAR, QUEUES)
    remedy = str(told.value).split("`")[1]
    run("ip", "netns", "exec", line.near, *remedy.split())
    with namespace(line.near):
        XdpProgram.attach(NEAR, QUEUES).close()


def test_a_driver_that_cannot_is_announced(line: Line) -> None:
    with namespace(line.near):
        # The loopback's driver has no XDP of its own.
        program = XdpProgram.attach("lo", 1)
        program.close()
    assert program.mode == "generic"
    assert program.objection == "Underlying driver does not support XDP in native mode"


def test_the_drivers_own_words_are_passed_on(line: Line) -> None:
    """A `bpf_link` gives a number only."""
    run("ip", "-n", line.far, "link", "set", FAR, "mtu", "9000")
    with namespace(line.near):
        program = XdpProgram.attach(NEAR, QUEUES)
        program.close()
    assert program.mode == "generic"
    assert program.objection == "veth: Peer MTU is too large to set XDP"
    assert not attached(line), "what was tried for the words is undone"


def test_no_such_card() -> None:
    with pytest.raises(XdpError, match="there is no network card nope0"):
        XdpProgram.attach("nope0", 1)


def test_missing_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(xdp, "HEADERS", tmp_path / "nothing")
    with pytest.raises(XdpError, match="run `make setup`"):
        XdpProgram.attach("lo", 1)


def test_a_program_that_does_not_compile_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int souppp(struct xdp_md *ctx) { return nonsense; }\n")
    monkeypatch.setattr(xdp, "SOURCE", source)
    before = open_descriptors()
    with pytest.raises(XdpError, match=r"cannot load the XDP program.*nonsense") as told:
        XdpProgram.attach("lo", 1)
    assert "\n" not in str(told.value)
    assert open_descriptors() == before


STRUCTS = {
    "a counter more": (
        "SOURCE",
        "u64 failed;",
        "u64 failed, lost;",
        "value of counters: the whole is 32 octets at 0 there and 24 octets at 0 here",
    ),
    "another order": (
        "KERNEL_PATH_SOURCE",
        "    u16 tag_count;\n    u16 mtu; ",
        "    u16 mtu;\n    u16 tag_count; ",
        "value of sessions: tag_count is 2 octets at 24 there and 2 octets at 22 here",
    ),
    "another key": (
        "SOURCE",
        "    u16 unused;\n",
        "    u16 other;\n",
        "key of numbers: unused is nothing there and 2 octets at 18 here",
    ),
}


@pytest.mark.parametrize(("source", "before", "after", "reason"), STRUCTS.values(), ids=STRUCTS)
def test_a_program_with_another_struct_is_refused(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, before: str, after: str, reason: str
) -> None:
    text = getattr(xdp, source).read_text()
    assert text.count(before) == 1
    changed = tmp_path / "changed.bpf.c"
    changed.write_text(text.replace(before, after))
    monkeypatch.setattr(xdp, source, changed)

    def use() -> None:
        with ExitStack() as undo:
            program = XdpProgram.attach(NEAR, QUEUES, loading=Loading(kernel_path=True))
            undo.callback(program.close)
            undo.callback(KernelPath(read_card(NEAR), program, HiddenNet()).close)

    opened = open_descriptors()
    with namespace(line.near), pytest.raises(XdpError) as told:
        use()
    assert str(told.value) == f"the XDP program is not the one that belongs here ({reason}): {xdp.REMEDY}"
    assert open_descriptors() == opened
    assert not attached(line)


def test_where_the_kernel_refuses_the_in_kernel_path_the_card_is_taken_without(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is asked for at the start where many sessions are; why there is none is told to who needs it."""
    changed = tmp_path / "changed.bpf.c"
    changed.write_text(xdp.KERNEL_PATH_SOURCE.read_text() + "\nThis is no C.\n")
    monkeypatch.setattr(xdp, "KERNEL_PATH_SOURCE", changed)
    opened = open_descriptors()
    with namespace(line.near), ExitStack() as undo:
        program = XdpProgram.attach(NEAR, QUEUES, loading=Loading(kernel_path=True))
        undo.callback(program.close)
        assert not program.has_kernel_path
        with pytest.raises(XdpError, match="bcc cannot load the XDP program"):
            program.add_kernel_path()
        assert attached(line)
    assert open_descriptors() == opened


REFUSED = {
    "beyond the packet": ("return *(int *)(long)ctx->data;", "outside of the packet"),
    "not a pointer": ("u32 k = 1; return *(u64 *)(long)k;", "R1 invalid mem access 'scalar'"),
    "after a log of megabytes": (
        """void *end = (void *)(long)ctx->data_end; u8 *p = (void *)(long)ctx->data; u64 sum = 0;
        #pragma unroll
        for (int i = 0; i < 1200; i++) { if ((void *)p + i + 1 > end) return sum; sum += p[i] * bpf_get_prandom_u32(); }
        return sum + p[1300];""",
        "invalid access to packet, off=1300 size=1",
    ),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_program_that_the_kernel_refuses_is_one_line_with_the_verifiers_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str
) -> None:
    source = tmp_path / "refused.c"
    source.write_text(f"int souppp(struct xdp_md *ctx) {{ {body} }}\n")
    monkeypatch.setattr(xdp, "SOURCE", source)
    with pytest.raises(XdpError) as told:
        XdpProgram.attach("lo", 1)
    text = str(told.value)
    assert text.startswith("the kernel refuses the XDP program `souppp`: ")
    assert reason in text
    assert "\n" not in text
    assert "processed" not in text


def test_signals_to_the_group_leave_the_loader_to_its_parent() -> None:
    loading = Loading()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(loading.pid, number)
    for fd in loading.finish().values():
        os.close(fd)


def test_missing_bcc_names_debians_package() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        # -S: without any installed package
        subprocess.run(
            [sys.executable, "-I", "-S", xdp.LOADER, str(theirs.fileno()), '{"headers": "nowhere"}'],
            pass_fds=[theirs.fileno()],
            check=True,
        )
        assert b"apt-get install python3-bpfcc" in ours.recv(1000)


def test_the_other_bcc_names_debians_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", types.ModuleType("bcc"))
    with pytest.raises(xdp_loader.LoadError, match=r"python3-bpfcc.*uninstall it"):
        xdp_loader.load({"headers": str(xdp.HEADERS)})
