"""What the program must do on a card in a guest: CHECKS, by name, in the order in which they build on each other.

Each returns a word for the table, or raises Failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.kernels.bench import CARD_MAC, CONCENTRATOR, COUNT, DOWNLOAD, Bench, Failed
from tests.kernels.line import flood, hang_ups
from tests.system.test_privileges import ALWAYS, KERNEL_PATH, mask, with_only, without

STOOD_IN_FOR = ("bpf", "perfmon")
"""Capabilities that CAP_SYS_ADMIN includes."""
FLOOD = 8000
"""Frames; the program has room for 2,048 on a queue."""


def check_up(bench: Bench) -> str:
    """All sessions come up, and the program runs on the card as well as the driver can."""
    bench.features = bench.card_features()
    bench.start()
    mode = bench.event("card-ready").partition(": ")[2].rstrip(".")
    bench.wait_up()
    if not mode.startswith(bench.card.mode(bench.version)):
        raise Failed(f"{COUNT} of {COUNT}, but in {mode}, not {bench.card.mode(bench.version)}")
    return f"{COUNT} in {mode}"


def check_ping(bench: Bench) -> str:
    """Small packets go through every session."""
    bench.each(f"ping -q -c 3 -i 0.3 -w 30 -I $device {CONCENTRATOR}", "pinged")
    return str(COUNT)


def check_full_size(bench: Bench) -> str:
    """Packets as large as the session's MTU do."""
    bench.each(f"ping -q -c 2 -i 0.3 -w 30 -M do -s $((mtu - 28)) -I $device {CONCENTRATOR}", "pinged in full size")
    return str(COUNT)


def check_download(bench: Bench) -> str:
    """TCP does."""
    form = "%{size_download}"
    fetch = f'curl -s --interface $device -o /dev/null -w "{form}" http://{CONCENTRATOR}/{DOWNLOAD}'
    bench.each(f'[ "$({fetch})" = {DOWNLOAD} ]', "downloaded")
    return str(COUNT)


def check_held_up(bench: Bench) -> str:
    """More frames come than the program has room for while it stands still: afterwards all goes on."""
    bench.guest.run("kill -STOP $(cat /guest/pid)")
    flood(bytes.fromhex(CARD_MAC.replace(":", "")), FLOOD)
    bench.guest.run("kill -CONT $(cat /guest/pid)")
    return check_ping(bench)


def check_privileges(bench: Bench) -> str:
    """It has given up all that it doesn't need, says what it lacks, and works with what it needs alone."""
    _expect_confined(bench)
    bench.stop("TERM")
    for name in without(ALWAYS, "ipc_lock"):
        bench.start(within=with_only(*without(KERNEL_PATH, name, *(("sys_admin",) if name in STOOD_IN_FOR else ()))))
        bench.guest.until("test -e /guest/code")
        code, _, complaint = bench.guest.run("cat /guest/code /guest/errors").partition("\n")
        if code != "3" or f"CAP_{name.upper()}" not in complaint:
            raise Failed(f"without CAP_{name.upper()}: exit code {code}, {complaint}")
    bench.start(within=with_only(*KERNEL_PATH))
    bench.wait_up()
    _expect_confined(bench, KERNEL_PATH)
    return "yes"


def _expect_confined(bench: Bench, bounds: Sequence[str] = ALWAYS) -> None:
    """The bounding set is `bounds` where it lacked CAP_SETPCAP to make it smaller."""
    wanted = {"CapPrm": mask(*ALWAYS), "CapEff": mask(*ALWAYS), "CapBnd": mask(*bounds), "CapAmb": 0, "NoNewPrivs": 1}
    pattern = "|".join(wanted)
    found = bench.guest.run(f"grep -hE '^({pattern}):' /proc/$(cat /guest/pid)/task/*/status").split("\n")
    seen = {(key, int(value, 16)) for key, _, value in (line.partition(":") for line in found if line)}
    if seen != {*wanted.items()}:
        raise Failed("threads have " + ", ".join(f"{key} {value:x}" for key, value in sorted(seen)))


def check_kill(bench: Bench) -> str:
    """Nothing stays after SIGKILL; the next run hangs up on the concentrator's half of the old sessions."""
    bench.stop("KILL")
    bench.expect_nothing_left(rules=False)
    with hang_ups() as seen:
        bench.start()
        bench.wait_up()
    check_ping(bench)
    if len(seen) < COUNT:
        raise Failed(f"{len(seen)} of {COUNT} PADTs for the old sessions were on the line")
    return str(COUNT)


def check_link(bench: Bench) -> str:
    """The line is plugged out and in: the sessions come back."""
    if not bench.card.tells_carrier:
        return "unseen"
    since = len(bench.said())
    bench.set_carrier(False)
    bench.event("card-down", since)
    bench.set_carrier(True)
    check_ping(bench)
    return str(COUNT)


def check_unplug(bench: Bench) -> str:
    """The card is taken out and put back: the sessions come back."""
    since = len(bench.said())
    bench.unplug_card()
    bench.event("card-down", since)
    bench.plug_card()
    check_ping(bench)
    return str(COUNT)


def check_end(bench: Bench) -> str:
    """The program ends in good order on SIGTERM and leaves nothing behind; the card does again what it did before."""
    code = bench.stop("TERM")
    if code != "0":
        raise Failed(f"exit code {code}; {bench.complaints()}")
    bench.expect_nothing_left()
    changed = set(bench.card_features().splitlines()) - set(bench.features.splitlines())
    if changed:
        raise Failed(f"the card is not as it was: {', '.join(map(str.strip, changed))}")
    return "yes"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "up": check_up,
    "ping": check_ping,
    "full-size": check_full_size,
    "download": check_download,
    "held-up": check_held_up,
    "privileges": check_privileges,
    "kill": check_kill,
    "link": check_link,
    "unplug": check_unplug,
    "end": check_end,
}
