"""The engine of a console that was left behind: from now on it runs as `souppp-tui serve` runs one."""

from __future__ import annotations

import argparse
import gc
import shlex
import signal

from engine.host.promptness import never_collect
from engine.run.sockets import LAB, SocketError, find
from engine.run.thread import Engine
from engine.settings.values import Settings
from souppp_tui.app.eventfile import EventFile
from souppp_tui.commands.background import leave_terminal
from souppp_tui.commands.run import Attachable
from souppp_tui.commands.serve import Served, on_signal, watch
from souppp_tui.commands.standin import stay_without_parent
from souppp_tui.terminal.leaving import Leaving


def go_on(
    options: argparse.Namespace,
    settings: Settings,
    before: Leaving,
    release: int,
    engine: Engine,
    attachable: Attachable,
    events: EventFile | None,
) -> None:
    """Leave the terminal, release whom the shell waits for, and serve until the engine is to end, and has ended.

    `before` is what signals have set so far: the parent, which the terminal may tell that it goes, has it too.
    """
    stay_without_parent()
    leaving = Leaving()
    leaving.heed_signals()
    reload, hand_over = on_signal(signal.SIGHUP), on_signal(signal.SIGUSR2)
    if before.is_set():
        leaving.set()
    gc.unfreeze()
    gc.collect()  # of the console nothing is needed any more
    never_collect()
    served = Served(engine, attachable, options, settings, events)
    leave_terminal(release, _words(options, attachable))
    watch([served], leaving, reload, hand_over)


def _words(options: argparse.Namespace, attachable: Attachable) -> str:
    """How to reach it from now on: by the card's name where that is enough."""
    name = options.card or LAB
    try:
        is_found = find(name) == attachable.path
    except SocketError:
        is_found = False
    socket = f"--socket {shlex.quote(str(attachable.path))}"
    attach, stop = (name, f"--on {name}") if is_found else (socket, socket)
    return (
        f"The engine goes on in the background. Attach to it with `souppp-tui attach {attach}`, "
        f"end it with `souppp-tui ctl {stop} stop`."
    )
