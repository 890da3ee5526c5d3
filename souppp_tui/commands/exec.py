"""`souppp-tui exec home-01 -- curl https://…`: run a program whose sockets all are the session's.

The engine hangs eBPF programs on a cgroup that this process enters (`engine.egress.entrance`); what is run takes
its place, with its terminal, folder, environment, signals and exit code. In a mount namespace of its own names go to
the session's servers.

Exit codes: that of the program; 126 it can't be run, 127 there is none; 1 refused; 2 the command line is wrong; 3 no
engine.
"""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.api.values import SessionView
from engine.host import cgroups, mounts, netns, privileges
from engine.host.errors import Trouble
from engine.host.rtnl import Rtnl
from engine.host.seccomp import refuse_sockets_below_ip
from engine.run.client import Client
from engine.run.sockets import network
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_NOT_DONE, complain
from souppp_tui.commands.reaching import client, target_options, way_to

EXIT_NOT_RUN, EXIT_NO_PROGRAM = 126, 127
ANSWER = 30.0
"""Seconds that the engine has."""
MOST_SERVERS = 3
"""MAXNS of the C library."""

RESOLV_CONF, NSSWITCH = Path("/etc/resolv.conf"), Path("/etc/nsswitch.conf")
NAMESPACES = Path("/run/netns")
RESOLVED = Path("/run/systemd/resolve")
ASKED_ELSEWHERE = (RESOLVED, Path("/run/nscd"))
"""Folders with sockets by which other processes are asked for names, which ask the host's servers."""
WAYS_OUT = (12, 16, 17, 19, 21, 38, 39)
"""CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF: with one of them a
program sends past its cgroup, or leaves it."""
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
"""With the latter, too, by sockets below IP; where these can be refused it is kept: ping and the like need it to start.
A namespace of its own a program may change as it likes."""


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui exec",
        usage="souppp-tui exec [options] SESSION [--] PROGRAM [ARGUMENT ...]",
        description="Run a program in a session: all its sockets are bound to the session's device.",
        epilog="Exit codes: that of the program; 126 it can't be run, 127 there is none; 1 refused; 2 the command line "
        "is wrong; 3 no engine, or not possible here.",
    )
    it.add_argument("--on", metavar="ENGINE", help="its card, lab, or the path of its socket")
    target_options(it)
    it.add_argument("--user", metavar="NAME", help="run it as this user, not as root; for root alone")
    it.add_argument(
        "--netns",
        metavar="NAME",
        help="put the session's device into this network namespace, made if need be, and run it there; for root alone",
    )
    it.add_argument("session", metavar="SESSION", help="the session's name")
    it.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="what to run, with its arguments")
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns only if the program can't be run."""
    it = parser()
    options = it.parse_args(arguments)
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        it.error("name a program to run")
    if options.on is not None and "@" in options.on:
        it.error("--on names an engine of this host")
    if (options.user or options.netns) and os.geteuid() != 0:
        it.error("--user and --netns are for root")
    try:
        user = pwd.getpwnam(options.user) if options.user is not None else None
    except KeyError:
        it.error(f"there is no user {options.user}")
    if (lost := _foreign_socket()) is not None:
        complain(f"souppp-tui exec: descriptor {lost} is a socket of the host's, and would stay one: close it.")
        return EXIT_NOT_DONE
    try:
        in_namespace = _go_in(options)
        if os.geteuid() == 0 and in_namespace:
            privileges.shed(each for each in WAYS_OUT if each != CAP_NET_ADMIN)
        elif os.geteuid() == 0:
            below_ip = not refuse_sockets_below_ip()
            privileges.shed((*WAYS_OUT, CAP_NET_RAW) if below_ip else WAYS_OUT)
        if user is not None:
            _become(user)
    except Trouble as error:
        complain(f"souppp-tui exec: {error}")
        return EXIT_ENVIRONMENT
    except OSError as error:
        complain(f"souppp-tui exec: what leads out of the session can't be given up: {error.strerror}.")
        return EXIT_ENVIRONMENT
    except _RefusedError as error:
        complain(f"souppp-tui exec: {error}")
        return EXIT_NOT_DONE
    return _replace(program)


class _RefusedError(Exception):
    """One line."""


def _go_in(options: argparse.Namespace) -> bool:
    """Have this process, and all that it becomes and starts, run in a session. Raises Trouble or _RefusedError.

    Whether that is by the session's own network namespace.
    """
    with client(way_to(options.on, options.socket), "exec", period=0, again=False) as engine:
        view = next((each for each in engine.snapshot().sessions if each.name == options.session), None)
        if view is None:
            raise _RefusedError(f"there is no session called {options.session}.")
        if options.netns is not None and options.netns != view.netns:
            _lend(engine, view, options.netns)
        namespace = options.netns or view.netns
        if namespace is not None:
            _enter_namespace(view, namespace)
        else:
            if engine.hello.network != network():
                _follow(engine)
            _enter(engine, view)
    try:
        mounts.separate()
    except OSError as error:
        remedy = "" if os.geteuid() == 0 else ": run it with sudo and --user"
        raise Trouble(f"no mount namespace is to be had ({error.strerror}){remedy}.") from None
    try:
        _name_servers(view)
        if namespace is None:
            mounts.make_read_only(mounts.mount_of(cgroups.own()))
    except OSError as error:
        raise Trouble(f"the session's name servers can't be set: {error.filename or ''} {error.strerror}.") from None
    return namespace is not None


def _lend(engine: Client, view: SessionView, name: str) -> None:
    """Have the session's device in a network namespace. Raises Trouble or _RefusedError."""
    path = NAMESPACES / name
    try:
        if not path.exists():
            subprocess.run(["ip", "netns", "add", name], check=True)
        there = netns.open_net(path)
        with netns.visiting(there):
            rtnl = Rtnl()
        try:
            reply = engine.lend(view.id, name, there, rtnl.fileno()).result(ANSWER)
        finally:
            rtnl.close()
            os.close(there)
    except TimeoutError:
        raise Trouble("the engine doesn't answer.") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise Trouble(f"the network namespace {name} can't be had: {error}.") from None
    if reply.refused:
        raise _RefusedError(reply.refused[0].reason)


def _enter_namespace(view: SessionView, name: str) -> None:
    try:
        netns.enter(NAMESPACES / name)
    except OSError as error:
        text = f"{view.name} is in the network namespace {name}, which can't be entered: {error.strerror}"
        raise _RefusedError(f"{text}{'' if os.geteuid() == 0 else ', but by root'}.") from None


def _follow(engine: Client) -> None:
    """Into the engine's network namespace."""
    try:
        netns.enter(engine.engine_process)
    except OSError:
        raise _RefusedError(
            "the engine's sessions are in another network namespace: run it there, or as root."
        ) from None


def _enter(engine: Client, view: SessionView) -> None:
    """Into a cgroup that is confined to the session: our own where we may make one, or one that the engine makes."""
    process = os.getpid()
    try:
        here = cgroups.own()
        parent = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        where = f"its folder {error.filename} is not to be seen here: " if error.filename else ""
        raise Trouble(f"a program is in a session by its cgroup, and {where}{error.strerror}.") from None
    if cgroups.is_within(here):
        raise _RefusedError("this runs in a session already.")
    made = -1
    with suppress(OSError):
        made = cgroups.make(parent, view.id, process)
    try:
        reply = engine.enter(view.id, made if made >= 0 else parent).result(ANSWER)
        if reply.refused:
            raise _RefusedError(reply.refused[0].reason)
        if made >= 0:
            cgroups.enter(made)
    except (OSError, TimeoutError, _RefusedError) as error:
        cgroups.remove(parent, view.id, process)
        if isinstance(error, _RefusedError):
            raise
        text = "the engine doesn't answer" if isinstance(error, TimeoutError) else str(error.strerror)
        raise Trouble(f"its cgroup can't be entered: {text}.") from None
    finally:
        for each in (parent, made):
            if each >= 0:
                os.close(each)


def _name_servers(view: SessionView) -> None:
    """Have names asked of the session's servers, and of nobody else. Raises OSError, or Trouble."""
    servers = view.dns[:MOST_SERVERS]
    if not servers:
        complain(f"souppp-tui exec: {view.name} has no name servers, so no names are found; `dns:` gives it some.")
    text = f"# The servers of the session {view.name}, for this program alone.\n"
    text += "".join(f"nameserver {server}\n" for server in servers) or "nameserver 0.0.0.0\n"
    if not RESOLV_CONF.exists():
        raise Trouble(f"there is no {RESOLV_CONF} in whose place the session's could be put: make an empty one.")
    target = RESOLV_CONF.resolve()
    folders: dict[Path, dict[str, str]] = {folder: {} for folder in ASKED_ELSEWHERE if folder.is_dir()}
    files: dict[Path, str] = {}
    if RESOLVED in folders:
        folders[RESOLVED] = dict.fromkeys(("resolv.conf", "stub-resolv.conf"), text)
    if target.parent not in folders:
        files[target] = text
    if NSSWITCH.exists():
        files[NSSWITCH.resolve()] = hosts_by_dns(NSSWITCH.read_text())
    mounts.cover(files, folders)


def hosts_by_dns(nsswitch: str) -> str:
    """The same text of nsswitch.conf(5), but names of hosts are in /etc/hosts or asked of the name servers."""
    lines = [line for line in nsswitch.splitlines() if line.split("#")[0].split(":")[0].strip() != "hosts"]
    return "\n".join([*lines, "hosts: files dns", ""])


def _become(user: pwd.struct_passwd) -> None:
    """Root turns into a user. Raises Trouble."""
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise Trouble(f"can't become {user.pw_name}: {error.strerror}.") from None
    os.environ |= {"HOME": user.pw_dir, "SHELL": user.pw_shell, "USER": user.pw_name, "LOGNAME": user.pw_name}


def _foreign_socket() -> int | None:
    """A descriptor that the program would inherit, of a socket made in another cgroup, which isn't confined."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if not os.get_inheritable(int(name)):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
            with copy:
                if copy.family not in (socket.AF_UNIX, socket.AF_NETLINK):
                    return int(name)
    return None


def _replace(program: list[str]) -> int:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and so would the program
    try:
        os.execvp(program[0], program)
    except FileNotFoundError:
        complain(f"souppp-tui exec: there is no program {program[0]}.")
        return EXIT_NO_PROGRAM
    except OSError as error:
        complain(f"souppp-tui exec: {program[0]} can't be run: {error.strerror}.")
    return EXIT_NOT_RUN
