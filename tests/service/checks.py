"""What the package's service must do under systemd: CHECKS, by name, in the order in which they build on each other.

Each returns a word for what was seen, or raises Failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kernels.bench import Failed
from tests.kernels.line import hang_ups
from tests.service.host import CARD, CONFIG, EXPORTER, NAMES, PASSWORD, PATIENCE, SOCKET, UNIT, Host

STARTING = f"""\
systemctl start --no-block {UNIT}
for i in $(seq 900); do
    state=$(systemctl is-active {UNIT} || true); test -S {SOCKET} && socket=there || socket=missing
    echo "$state $socket"
    case $state in active|failed) exit;; esac
    sleep 1
done
"""
PEOPLE = """\
groupadd --system souppp
useradd -G souppp ops
useradd -G souppp-ro viewer
useradd stranger
"""
CONSOLE = """\
export TERM=xterm
: >/root/screen
{{ for i in $(seq 600); do grep -q {wanted} /root/screen && break; sleep 1; done; printf q; sleep 5; }} |
    timeout 900 runuser -u {user} -- script --quiet --flush --return \\
    --command "stty rows 40 cols 120; souppp-tui attach" /dev/null >>/root/screen
"""
BROKEN = "sessions:\n  - {name: home-1, user: user1, mru: many}\n"


def check_start(host: Host) -> str:
    """The unit is active when the engine answers and not before; systemd shows what the engine says of itself."""
    host.run(PEOPLE)
    host.configure({name: f"user{number}" for number, name in enumerate(NAMES)})
    seen = [line.split()[0] for line in host.run(STARTING).splitlines()]
    if "activating" not in seen or seen[-1] != "active":
        raise Failed(f"the unit was {', '.join(dict.fromkeys(seen))}; {host.complaints()}")
    status = host.ctl("status")
    if status["card"] != CARD:
        raise Failed(f"ctl status says {status}")
    host.wait_up()
    host.until(
        f"systemctl status --no-pager {UNIT} | grep -q 'Status: \"{len(NAMES)} of {len(NAMES)} sessions up'",
        "the number of sessions in systemctl status",
    )
    shown = host.shown("Type", "StatusText")
    if shown["Type"] != "notify":
        raise Failed(f"the unit's type is {shown['Type']}")
    return shown["StatusText"]


def check_traffic(host: Host) -> str:
    """Every session carries pings and TCP."""
    return host.try_traffic()


def check_units(host: Host) -> str:
    """systemd finds nothing to say against the units, and rates what they run as OK at least."""
    told = []
    for unit, most in ((UNIT, 30), (EXPORTER, 20)):
        code, said = host.code(f"systemd-analyze verify --man=no {unit}.service")
        if code != 0 or "souppp" in said:
            raise Failed(f"systemd-analyze verify {unit}: {said}")
        code, said = host.code(f"systemd-analyze security --no-pager --threshold={most} {unit}.service")
        if code != 0:
            raise Failed(f"systemd-analyze security {unit}: {said}")
        told.append(" ".join(re.findall(r"exposure level .*: ([0-9.]+ \w+)", said)))
    return ", ".join(told)


def check_journal(host: Host) -> str:
    """Events are in the journal with their levels and fields, and no password is."""
    entries = host.entries("-t", "souppp-tui")
    up = {entry.get("SOUPPP_SESSION") for entry in entries if entry.get("SOUPPP_EVENT") == "ipv4-up"}
    if up < set(NAMES):
        raise Failed(f"the journal tells of {', '.join(sorted(map(str, up)))} that IPv4 is up")
    wrong = [
        entry for entry in entries if entry["PRIORITY"] not in "3456" or entry.get("_SYSTEMD_UNIT") != f"{UNIT}.service"
    ]
    if wrong:
        raise Failed(f"the journal has {wrong[0]}")
    pattern = f"[{PASSWORD[0]}]{PASSWORD[1:]}"  # which the command that looks for it doesn't have
    where = host.run(
        f"journalctl -q -o export | grep -a -c '{pattern}' || true",
        f"grep -l -r '{pattern}' /proc/[0-9]*/cmdline /run/souppp 2>/dev/null || true",
    )
    if where.split() != ["0"]:
        raise Failed(f"the password is in {where}")
    return f"{len(entries)} events, {len({entry['SOUPPP_EVENT'] for entry in entries})} kinds"


def check_people(host: Host) -> str:
    """Root and one group may command, another may look, the rest may do nothing; all of it over the socket."""
    for user, wanted in (
        ("root", {"status": 0, f"redial {NAMES[0]}": 0}),
        ("ops", {"status": 0, f"redial {NAMES[1]}": 0}),
        ("viewer", {"status": 0, f"redial {NAMES[2]}": 1}),
        ("stranger", {"status": 3, f"redial {NAMES[3]}": 3}),
    ):
        for command, expected in wanted.items():
            code, said = host.code(f"runuser -u {user} -- souppp-tui ctl {command}")
            if code != expected:
                raise Failed(f"{user}: ctl {command} ends with {code}, not {expected}: {said}")
    host.wait_up()
    return "root and ops command, viewer looks, stranger is kept out"


def check_attach(host: Host) -> str:
    """A console shows the sessions to whoever may look, and leaves them where they are."""
    before = host.ids()
    for user in ("root", "ops", "viewer"):
        code, said = host.code(CONSOLE.format(user=user, wanted=NAMES[-1]))
        if code != 0:
            raise Failed(f"{user}: attach ends with {code}: {said}; {host.run('tail -c 2000 /root/screen')}")
    if host.ids() != before:
        raise Failed("the sessions are not those of before")
    return "by root, ops and viewer"


def check_files(host: Host) -> str:
    """What a client changes is in the configuration; a capture is where it was asked for, or refused with a reason."""
    host.run("runuser -u ops -- souppp-tui ctl add name=shop user=shop", f"grep -q shop {CONFIG}")
    host.run("souppp-tui ctl remove shop")
    if host.code(f"grep shop {CONFIG}")[0] == 0:
        raise Failed("a session that was removed is still in the configuration")
    for place, expected in (("/tmp", 1), ("/var/lib/souppp", 0)):
        file = f"{place}/frames.pcapng"
        code, said = host.code(f"souppp-tui ctl capture --all --to {file}")
        if code != expected or host.code(f"test -e {file}")[0] != expected:
            raise Failed(f"ctl capture to {file} ends with {code}: {said}")
    host.run("souppp-tui ctl capture --all --stop", "rm /var/lib/souppp/frames.pcapng")
    return "written"


def check_exporter(host: Host) -> str:
    """The exporter's unit runs as nobody in particular, and has the sessions on its page."""
    host.run(f"systemctl start {EXPORTER}")
    line = f'^souppp_sessions\\{{.*state="up".*\\}} {len(NAMES)}(.0)?$'
    host.until(f"curl -s http://127.0.0.1:9777/metrics | grep -qE '{line}'", "the sessions on the exporter's page", 120)
    return host.run(f"ps -o user= -p {host.shown('MainPID', unit=EXPORTER)['MainPID']}").strip()


def check_reload(host: Host) -> str:
    """A reload does what is different in the file, and leaves the rest alone; a broken file changes nothing."""
    host.wait_up()
    before = host.ids()
    users = {name: f"user{number}" for number, name in enumerate(NAMES)}
    host.configure({**dict([*users.items()][:-1]), "office": "office"})
    host.run(f"systemctl reload {UNIT}")
    names = (*NAMES[:-1], "office")
    host.until(
        f"souppp-tui ctl list | grep -q ^office && ! souppp-tui ctl list | grep -q ^{NAMES[-1]}", "the difference"
    )
    host.wait_up(names)
    after = host.ids()
    if changed := [name for name in NAMES[:-1] if after[name] != before[name]]:
        raise Failed(f"{', '.join(changed)} didn't stay as they were")
    pid = host.shown("MainPID")
    host.run(f"cat >{CONFIG} <<'END'\n{BROKEN}END")
    if host.code(f"systemctl reload {UNIT}")[0] == 0:
        raise Failed("a reload of a broken file is said to have succeeded")
    refusal = "journalctl -b -q -o cat -p err -t souppp-tui SOUPPP_EVENT=reload"
    host.until(f"{refusal} | grep -q '{CONFIG}:2:.*Nothing was changed'", "why the broken file was refused")
    host.wait_up(names)
    if host.ids() != after or host.shown("MainPID") != pid:
        raise Failed("a broken file changed something")
    host.configure(users)
    host.run(f"systemctl kill --kill-whom=main --signal=HUP {UNIT}")
    host.until(
        f"souppp-tui ctl list | grep -q ^{NAMES[-1]} && ! souppp-tui ctl list | grep -q ^office", "the difference"
    )
    host.wait_up()
    return "one added, one removed, a broken file refused"


@contextmanager
def _ghosts(host: Host) -> Iterator[None]:
    """The block ends the engine's process at once: the next one hangs up on the concentrator's half of each session."""
    host.wait_up()
    ids = {*host.ids().values()}
    with hang_ups() as seen:
        with host.started_anew():
            yield
        said = f"journalctl -b -q -o cat _PID={host.shown('MainPID')['MainPID']}"
        host.until(f"{said} | grep -q '^Ended {len(ids)} sessions that an earlier run'", "the end of the old sessions")
        host.wait_up()
    if missing := ids - {number for _, number in seen}:
        raise Failed(f"no PADT was on the line for {len(missing)} of {len(ids)} sessions of before")
    host.try_traffic()


@contextmanager
def _kept(host: Host) -> Iterator[None]:
    """What the block does makes another process of the engine; it costs no session and no TCP connection."""
    host.wait_up()
    ids, pid = host.ids(), host.shown("MainPID")
    with hang_ups() as seen, host.downloading() as progress:
        yield
        host.until(f"systemctl -q is-active {UNIT}", "the service active again")
        host.wait_up()
        if host.shown("MainPID") == pid:
            raise Failed("the engine's process is the same")
        if (after := host.ids()) != ids:
            raise Failed(f"the sessions were {ids} and are {after}; {host.complaints()}")
        progress()
    if seen:
        raise Failed(f"{len(seen)} PADTs were on the line; {host.complaints()}")


def check_restart(host: Host) -> str:
    """`systemctl restart` takes another process and costs nothing."""
    with _kept(host):
        host.run(f"systemctl restart {UNIT}")
    host.try_traffic()
    return f"{len(NAMES)} TCP connections lived"


def check_update(host: Host) -> str:
    """So does an update of the package."""
    with _kept(host):
        host.run("dpkg -i souppp-tui.deb", seconds=3 * PATIENCE)  # Python compiles it
    return f"{len(NAMES)} TCP connections lived"


def check_watchdog(host: Host) -> str:
    """An engine that stands still is killed and started anew."""
    with _ghosts(host):
        host.run(f"systemctl kill --kill-whom=main --signal=STOP {UNIT}")
    code, said = host.code(f"journalctl -b -q -o cat -u {UNIT} | grep -i watchdog")
    if code != 0:
        raise Failed(f"it was started anew, but not by the watchdog: {host.complaints()}")
    if cores := host.run("find / -xdev -type f -regex '.*/core\\(\\.[0-9]*\\)?' -size +1M"):
        raise Failed(f"its memory, with the passwords, is in {cores}")
    return said.splitlines()[0]


def check_killed(host: Host) -> str:
    """One that is killed is started anew."""
    with _ghosts(host):
        host.run(f"systemctl kill --kill-whom=main --signal=KILL {UNIT}")
    return f"{len(NAMES)} sessions of before were ended"


def check_stop(host: Host) -> str:
    """`systemctl stop` hangs up and leaves nothing behind."""
    host.wait_up()
    ids = {*host.ids().values()}
    with hang_ups() as seen:
        host.run(f"systemctl stop {UNIT}")
        host.expect_nothing_left()
    if missing := ids - {number for _, number in seen}:
        raise Failed(f"no PADT was on the line for {len(missing)} of {len(ids)} sessions")
    shown = host.shown("ActiveState", "Result")
    if shown != {"ActiveState": "inactive", "Result": "success"}:
        raise Failed(f"the unit is {shown}; {host.complaints()}")
    return f"{len(ids)} PADTs, nothing left"


def check_boot(host: Host) -> str:
    """An enabled service hangs up when the machine goes down, and starts with it."""
    host.run(f"systemctl enable --now {UNIT}")
    host.wait_up()
    ids = {*host.ids().values()}
    with hang_ups() as seen:
        host.guest.reboot()
    if missing := ids - {number for _, number in seen}:
        raise Failed(f"no PADT was on the line for {len(missing)} of {len(ids)} sessions")
    host.until(f"systemctl -q is-active {UNIT}", "the service active")
    host.wait_up()
    host.try_traffic()
    return f"{len(ids)} PADTs, {len(NAMES)} sessions"


def check_late_card(host: Host) -> str:
    """The service waits for a card that comes later."""
    host.run(f"systemctl stop {UNIT}")
    host.unplug_card()
    host.run(f"systemctl start --no-block {UNIT}")
    host.until(f"systemctl list-jobs | grep -q {UNIT}", "the service wait for its card")
    host.plug_card()
    host.until(f"systemctl -q is-active {UNIT}", "the service active")
    host.wait_up()
    host.try_traffic()
    return "waited for it"


def check_purge(host: Host) -> str:
    """The package ends its services when it is purged, and leaves nothing."""
    host.run(f"systemctl start {EXPORTER}")
    host.run("dpkg --purge souppp-tui")
    host.expect_nothing_left()
    left = host.run(
        "systemctl list-units --all --no-legend 'souppp*'",
        "ls -d /etc/souppp /var/lib/souppp /usr/lib/souppp-tui 2>/dev/null || true",
        "find /etc/systemd -name 'souppp*'",
        "getent group souppp-ro || true",
    )
    if left:
        raise Failed(f"left behind: {left}")
    return "nothing left"


CHECKS: dict[str, Callable[[Host], str]] = {
    "start": check_start,
    "traffic": check_traffic,
    "units": check_units,
    "journal": check_journal,
    "people": check_people,
    "attach": check_attach,
    "files": check_files,
    "exporter": check_exporter,
    "reload": check_reload,
    "restart": check_restart,
    "update": check_update,
    "watchdog": check_watchdog,
    "killed": check_killed,
    "stop": check_stop,
    "boot": check_boot,
    "card": check_late_card,
    "purge": check_purge,
}
