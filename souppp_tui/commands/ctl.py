"""`souppp-tui ctl`: ask an engine that runs, or have it do something, from a shell or a script.

Sessions are chosen by their names, or in the console's filter language (`souppp_tui.model.query`). Exit codes: 0 done;
1 no such session, something was refused, or not so in time; 2 the command line is wrong; 3 no engine to talk to.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from engine.api.commands import (
    Add,
    Command,
    Dial,
    Edit,
    HangUp,
    Ping,
    Redial,
    Reload,
    Remove,
    Reply,
    ResetCounters,
    Rotate,
    ServiceCommand,
    Shutdown,
    StartCapture,
    Stop,
    StopCapture,
)
from engine.api.plural import plural
from engine.api.spans import wait
from engine.api.values import (
    TRAFFIC_FIELDS,
    AddressSpan,
    Details,
    Halt,
    Ledger,
    SessionState,
    SessionView,
    Snapshot,
    unpack_traffic,
)
from engine.host.errors import Trouble
from engine.run.client import Client, wait_for
from engine.settings import forms
from engine.settings.values import SessionSettings
from souppp_tui.commands.errors import EXIT_ENVIRONMENT, EXIT_NOT_DONE, EXIT_OK, EXIT_USAGE, complain
from souppp_tui.commands.headless import event_object
from souppp_tui.commands.parsing import seconds
from souppp_tui.commands.reaching import client, target_options, way_to
from souppp_tui.model.query import QueryError, parse, why_none
from souppp_tui.model.traffic import Meter
from souppp_tui.show import carried, histories, words

ANSWER = 30.0
"""Seconds that the engine has to answer a command."""
STRIDE = len(TRAFFIC_FIELDS)
LOOK = 0.05
"""Seconds between looks for new events."""
DETAILS = 3.0
"""Seconds that a session's details may take."""

OF_ALL = {
    "list": "the sessions",
    "history": "which addresses sessions had, and when, as CSV",
    "counters": "what sessions have carried, and how busy they were",
}
"""Questions about any number of sessions, none meaning all."""
MANY: dict[str, tuple[Callable[[tuple[int, ...]], Command], str]] = {
    "dial": (Dial, "dial those that are down or failed"),
    "hangup": (HangUp, "hang up and stay down"),
    "redial": (Redial, "hang up and dial again"),
    "rotate": (Rotate, "hang up and dial for another IPv4 address"),
    "reset": (ResetCounters, "count what they carry from now on"),
    "ping": (Ping, "ask the far end of a session with a stack for an echo; events tell"),
    "remove": (Remove, "hang up and forget"),
}
"""Commands for any number of sessions."""
OF_THE_SERVICE: dict[str, tuple[Command | ServiceCommand, str]] = {
    "halt": (Stop(Halt.ALL), "end all sessions and dial nobody until `go-on`"),
    "pause": (Stop(Halt.REDIALS), "dial nobody again by itself until `go-on`"),
    "go-on": (Stop(Halt.NOTHING), "dial again whoever is to be up, after `halt` or `pause`"),
    "reload": (Reload(), "read the configuration again and do what is different"),
    "stop": (Shutdown(), "end all sessions and the engine"),
}


class UsageError(Exception):
    """The command line makes no sense: one line."""


def parser() -> argparse.ArgumentParser:
    """All options of the command."""
    it = argparse.ArgumentParser(
        prog="souppp-tui ctl",
        description="Ask an engine that runs, or have it do something.",
        epilog="SESSIONS are names, or a filter as in the console: 'state:failed service:gold'. Exit codes: 0 done; "
        "1 no such session, something was refused, or not so in time; 2 the command line is wrong; 3 no engine.",
    )
    it.add_argument("--on", metavar="ENGINE", help="its card, lab, the path of its socket, or USER@HOST[:CARD]")
    target_options(it)
    it.add_argument("--json", action="store_true", help="answer in JSON, for scripts")
    to_do = it.add_subparsers(dest="what", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = to_do.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return made

    command("status", "the engine, its card, and how many sessions are in which state")
    for name, text in OF_ALL.items():
        command(name, text).add_argument("sessions", nargs="*", metavar="SESSIONS")
    command("show", "one session at full length").add_argument("sessions", nargs=1, metavar="NAME")
    for name, (_, text) in MANY.items():
        many = command(name, text)
        many.add_argument("sessions", nargs="*", metavar="SESSIONS")
        many.add_argument("--all", action="store_true", help="all sessions there are")
    add = command("add", "add a session, and dial it if its settings say so")
    edit = command("edit", "change a session's settings, from its next dial on")
    edit.add_argument("sessions", nargs=1, metavar="NAME")
    for one in (add, edit):
        one.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as in the configuration file")
        one.add_argument(
            "--password-file", type=argparse.FileType(), metavar="FILE", help="its first line; - for standard input"
        )
    events = command("events", "what happened")
    events.add_argument("--follow", action="store_true", help="and what happens from now on, until interrupted")
    capture = command("capture", "write control frames to a new pcapng file, on the engine's host")
    capture.add_argument("sessions", nargs="*", metavar="SESSIONS")
    capture.add_argument("--all", action="store_true", help="all sessions there are")
    where = capture.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FILE", help="the file")
    where.add_argument("--stop", action="store_true", help="write them no more")
    for name, (_, text) in OF_THE_SERVICE.items():
        command(name, text)
    wait = command("wait", "wait until sessions are up")
    wait.add_argument("sessions", nargs="*", metavar="SESSIONS")
    wait.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="give up after S seconds (60)")
    wait.add_argument("--down", action="store_true", help="until they are down or failed instead")
    return it


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        with client(way_to(options.on, options.socket), "ctl", period=LOOK, again=False) as engine:
            code = ACTIONS[options.what](engine, options)
            sys.stdout.flush()
            return code
    except UsageError as error:
        complain(f"souppp-tui ctl: {error}")
        return EXIT_USAGE
    except Trouble as error:
        complain(f"souppp-tui: {error}")
        return EXIT_ENVIRONMENT
    except BrokenPipeError:
        sys.stdout = None  # nobody reads any more, and Python must not try to flush it
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_OK


# Which sessions


def chosen(snapshot: Snapshot, given: Sequence[str]) -> list[SessionView]:
    """The sessions that words on the command line mean: all of them names, or together a filter; no word means all.

    Raises UsageError.
    """
    names = {view.name: view for view in snapshot.sessions}
    if given and all(word in names for word in given):
        return [names[word] for word in given]
    try:
        query = parse(" ".join(given))
    except QueryError as error:
        raise UsageError(str(error)) from None
    meter = Meter()
    meter.take(snapshot)
    return [view for view in snapshot.sessions if query.matches(view, meter, ())]


def _none(snapshot: Snapshot, given: Sequence[str]) -> str:
    """That words mean no session, and which of them may be meant otherwise."""
    meter = Meter()
    meter.take(snapshot)
    why = why_none(parse(" ".join(given)), snapshot.sessions, meter, ())
    return f"there is no such session: {why}{'' if why.endswith('?') else '.'}" if why else "there is no such session."


def _named(snapshot: Snapshot, name: str) -> SessionView | None:
    found = next((view for view in snapshot.sessions if view.name == name), None)
    if found is None:
        complain(f"souppp-tui ctl: there is no session called {name}.")
    return found


def _targets(engine: Client, options: argparse.Namespace) -> list[SessionView]:
    """Those of a command that changes something: never all by mistake. Raises UsageError."""
    if bool(options.sessions) == options.all:
        raise UsageError("name sessions or give a filter, or say --all")
    found = chosen(engine.snapshot(), options.sessions)
    if not found:
        complain(f"souppp-tui ctl: {_none(engine.snapshot(), options.sessions)}")
    return found


# What can be asked


def _status(engine: Client, options: argparse.Namespace) -> int:
    snapshot, hello = engine.snapshot(), engine.hello
    card, states = snapshot.card, Counter(str(view.state) for view in snapshot.sessions)
    if options.json:
        told = {
            "release": hello.release,
            "since": words.iso(hello.since),
            "card": card.name,
            "card_up": card.up,
            "mode": card.mode,
            "zero_copy": card.zero_copy,
            "queues": len(snapshot.queues),
            "notice": card.notice or None,
            "stopped": {
                "what": str(snapshot.halted.what),
                "since": words.iso(snapshot.halted.since) if snapshot.halted.since is not None else None,
                "by": snapshot.halted.by or None,
            },
            "sessions": len(snapshot.sessions),
            "states": dict(states),
            "clients": [
                {"user": each.user, "program": each.program, "process": each.process, "writes": each.writes}
                for each in engine.clients
            ],
        }
        print(json.dumps(told))
        return EXIT_OK
    lives = Counter(map(words.life, snapshot.sessions))  # as the console counts them
    counts = ", ".join(f"{words.count(number)} {life}" for life, number in lives.most_common()) or "no sessions"
    how = f"{card.mode} mode, {'zero-copy' if card.zero_copy else 'copy'}, {plural(len(snapshot.queues), 'queue')}"
    print(f"engine    souppp-tui {hello.release}, for {words.duration(snapshot.at - hello.since)}")
    print(f"card      {card.name}, {'up' if card.up else 'down'}, {how}")
    print(f"sessions  {counts}")
    if snapshot.halted.what is not Halt.NOTHING:
        print(f"stopped   {snapshot.halted.what}{f', by {snapshot.halted.by}' if snapshot.halted.by else ''}")
    for each in engine.clients:
        print(f"client    {each.user}: {each.program} {each.process}{'' if each.writes else ', may look'}")
    return EXIT_OK


def _list(engine: Client, options: argparse.Namespace) -> int:
    snapshot = engine.snapshot()
    found = chosen(snapshot, options.sessions)
    if options.json:
        traffic = unpack_traffic(snapshot.traffic)
        print(json.dumps([session_object(view, traffic) for view in found]))
    elif _any(found, engine, options):
        table = [("NAME", "STATE", "ADDRESS", "DEVICE", "UP FOR", "REASON")]
        table += [
            (
                view.name,
                str(view.state),
                view.ipv4 or next(iter(view.ipv6_addresses), "-"),
                view.device or "-",
                words.duration(snapshot.at - view.up_since) if view.up_since is not None else "-",
                _why(view, snapshot.at),
            )
            for view in found
        ]
        print_table(table)
    return EXIT_OK if found or not options.sessions else EXIT_NOT_DONE


def _why(view: SessionView, now: float) -> str:
    """Why a session is not up, or not well, and when it is dialled next."""
    parts = [view.reason] if view.reason else []
    parts += [words.state(view, now)] if words.is_silent(view) else []
    parts += [word for word, so in (("queued", view.queued), ("draining", view.draining)) if so]
    return ", ".join(parts) + (f" (retry in {wait(view.retry_at - now)})" if view.retry_at is not None else "")


def _any(found: Sequence[SessionView], engine: Client, options: argparse.Namespace) -> bool:
    """Whether there is anything to print; says why not where sessions were asked for."""
    if found or not options.sessions:
        return True
    complain(f"souppp-tui ctl: {_none(engine.snapshot(), options.sessions)}")
    return False


def _show(engine: Client, options: argparse.Namespace) -> int:
    snapshot = engine.snapshot()
    view = _named(snapshot, options.sessions[0])
    if view is None:
        return EXIT_NOT_DONE
    deadline = time.monotonic() + DETAILS
    while (details := engine.details(view.id)) is None and time.monotonic() < deadline and not engine.lost:
        time.sleep(LOOK)
    told = {**session_object(view, unpack_traffic(snapshot.traffic)), **details_object(details)}
    if options.json:
        print(json.dumps(told))
        return EXIT_OK
    for name, value in told.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for part, inner in value.items():
                print(f"  {words.clean(part):<28}  {said(inner)}")
        else:
            print(f"{name:<14}  {said(value)}")
    return EXIT_OK


def _history(engine: Client, options: argparse.Namespace) -> int:
    found = chosen(engine.snapshot(), options.sessions)
    ledgers = engine.ledgers([view.id for view in found] if options.sessions else None)
    spans = [(view.name, ledgers[view.id].addresses) for view in found if view.id in ledgers]
    if options.json:
        print(json.dumps({name: [_span(span) for span in had] for name, had in spans}))
    elif _any(found, engine, options):
        sys.stdout.write(histories.csv_text(spans))
    return EXIT_OK if found or not options.sessions else EXIT_NOT_DONE


def _span(span: AddressSpan) -> dict[str, Any]:
    until = words.iso(span.until) if span.until is not None else None
    return {**asdict(span), "since": words.iso(span.since), "until": until}


def _counters(engine: Client, options: argparse.Namespace) -> int:
    snapshot = engine.snapshot()
    found, traffic = chosen(snapshot, options.sessions), unpack_traffic(snapshot.traffic)
    ledgers = engine.ledgers([view.id for view in found] if options.sessions else None)
    told = [
        carried.values(view, ledgers.get(view.id, Ledger()), traffic[view.id * STRIDE : (view.id + 1) * STRIDE])
        for view in found
    ]
    if options.json:
        print(json.dumps(told))
    elif _any(found, engine, options):
        table = [("NAME", "SINCE", "RECEIVED", "SENT", "PROXIED", "95% RX", "95% TX")]
        for view, each in zip(found, told, strict=True):
            months = ledgers[view.id].months[-1:] if view.id in ledgers else ()
            busy = [words.rate(rate) for month in months for rate in (month.rx, month.tx)] or ["-", "-"]
            received, sent = (carried.octets(int(str(each[name]))) for name in ("rx_bytes", "tx_bytes"))
            since = words.date_clock(view.counted_since) if view.counted_since is not None else "-"
            table.append((view.name, since, received, sent, str(each["proxied_connections"]), busy[0], busy[1]))
        print_table(table)
    return EXIT_OK if found or not options.sessions else EXIT_NOT_DONE


def said(value: object) -> str:
    """A value of `session_object` for people, who don't read Python."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(said, value)) or "-"
    return words.clean(str(value)) if value not in (None, "") else "-"


_TOOK = ("setup_ms", "rtt_ms")
_TIMES = ("since", "retry_at", "up_since", "silent_since", "counted_since")


def session_object(view: SessionView, traffic: Sequence[int]) -> dict[str, Any]:
    """A session as scripts get it: all of a view's fields but its number and version, and its traffic."""
    told: dict[str, Any] = {
        name: value for name, value in asdict(view).items() if name not in ("id", "version", "counted")
    }
    told |= {name: words.iso(at) for name in _TIMES if (at := told[name]) is not None}
    told |= {name: round(took, 3) for name in _TOOK if (took := told[name]) is not None}
    told = {**told, "state": str(view.state), "reason": view.reason or None, "dns": [*view.dns], "vlans": [*view.vlans]}
    numbers = traffic[view.id * len(TRAFFIC_FIELDS) : (view.id + 1) * len(TRAFFIC_FIELDS)]
    return {**told, **dict(zip(TRAFFIC_FIELDS, [*numbers, 0, 0, 0, 0], strict=False))}


def details_object(details: Details | None) -> dict[str, Any]:
    """What else is known of one session."""
    if details is None:
        return {}
    return {
        "negotiated": {
            fact.name: fact.agreed or f"{fact.refused} (refused)" if fact.agreed or fact.refused else None
            for fact in details.facts
        },
        "steps_ms": {step.name: step.took_ms and round(step.took_ms, 3) for step in details.steps},
        "not_heeded": dict(details.counters),
        "usage": dict(details.usage),
        "proxied_most": {
            each.host: f"{plural(each.connections, 'connection')}, {each.up} octets up, {each.down} down"
            for each in details.talkers
        },
    }


def print_table(table: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be; the first row is the head. What steers a terminal is taken out."""
    table = [[words.clean(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _events(engine: Client, options: argparse.Namespace) -> int:
    seen = 0
    while True:
        events, lost = engine.events_since(seen)
        if lost and seen:
            complain(f"({plural(lost, 'event')} lost)")
        for event in events:
            print(json.dumps(event_object(event)) if options.json else words.event_line(event))
            seen = event.seq
        sys.stdout.flush()
        if not (options.follow or engine.behind):
            return EXIT_OK
        if engine.lost:
            complain(f"souppp-tui: {engine.lost}")
            return EXIT_ENVIRONMENT
        time.sleep(LOOK)


def _wait(engine: Client, options: argparse.Namespace) -> int:
    def so(snapshot: Snapshot) -> bool:
        found = chosen(snapshot, options.sessions)
        return bool(found) and all(fine(view) for view in found)

    def fine(view: SessionView) -> bool:
        if options.down:
            return view.state in (SessionState.DOWN, SessionState.FAILED)
        return view.state is SessionState.UP and view.ipv4 is not None

    if wait_for(engine, so, options.timeout):
        return EXIT_OK
    for view in chosen(engine.snapshot(), options.sessions):
        if not fine(view):
            complain(f"{view.name}: still {view.state}{f': {view.reason}' if view.reason else ''}")
    return EXIT_NOT_DONE


# What can be done


def _many(engine: Client, options: argparse.Namespace) -> int:
    targets = _targets(engine, options)
    if not targets:
        return EXIT_NOT_DONE
    return _tell(engine, MANY[options.what][0](tuple(view.id for view in targets)), options, targets)


def _capture(engine: Client, options: argparse.Namespace) -> int:
    targets = _targets(engine, options)
    if not targets:
        return EXIT_NOT_DONE
    keys = tuple(view.id for view in targets)
    return _tell(engine, StopCapture(keys) if options.stop else StartCapture(keys, str(options.to)), options, targets)


def _add(engine: Client, options: argparse.Namespace) -> int:
    return _tell(engine, Add(_settings(SessionSettings(""), options)), options)


def _edit(engine: Client, options: argparse.Namespace) -> int:
    view = _named(engine.snapshot(), options.sessions[0])
    before = engine.settings(view.id) if view is not None else None
    if view is None or before is None:
        return EXIT_NOT_DONE
    return _tell(engine, Edit(view.id, _settings(before, options)), options, [view])


def _settings(before: SessionSettings, options: argparse.Namespace) -> SessionSettings:
    """Settings with what the command line says. Raises UsageError."""
    secret = {field.key for field in forms.FIELDS if field.secret}
    texts = forms.write(before)
    for word in options.settings:
        key, equals, value = word.partition("=")
        if key in secret:
            raise UsageError(f"{key} on a command line can be seen by everybody: use --password-file")
        if not equals or key not in texts:
            raise UsageError(
                f"`{word}` is no KEY=VALUE; the keys are {', '.join(key for key in texts if key not in secret)}"
            )
        texts[key] = value
    settings, errors = forms.read(texts, before, {})
    if errors:
        raise UsageError("; ".join(f"{key} {error}" for key, error in errors.items()))
    if options.password_file is not None:
        settings = replace(settings, password=options.password_file.readline().rstrip("\r\n"))
    return settings


def _service(engine: Client, options: argparse.Namespace) -> int:
    return _tell(engine, OF_THE_SERVICE[options.what][0], options)


def _tell(
    engine: Client, command: Command | ServiceCommand, options: argparse.Namespace, about: Iterable[SessionView] = ()
) -> int:
    """Have a command carried out and print what became of it; returns the exit code."""
    try:
        reply = engine.submit(command).result(ANSWER)
    except TimeoutError:
        raise Trouble(f"The engine has not answered for {ANSWER:.0f} s.") from None
    names = {view.id: view.name for view in (*engine.snapshot().sessions, *about)}
    if options.json:
        print(json.dumps(reply_object(reply, names)))
    else:
        if reply.done:
            some = ", ".join(names.get(key, str(key)) for key in reply.done[:5])
            print(f"{options.what}: {some}{f' and {len(reply.done) - 5:,} more' if len(reply.done) > 5 else ''}")
        for remark in reply.remarks:
            print(remark)
        for refused in reply.refused:
            name = names.get(refused.key, str(refused.key)) if refused.key is not None else ""
            about_one = f"{name}: " if name and not refused.reason.startswith(f"{name} ") else ""
            complain(f"souppp-tui ctl: {about_one}{refused.reason}")
    return EXIT_NOT_DONE if reply.refused else EXIT_OK


def reply_object(reply: Reply, names: dict[int, str]) -> dict[str, Any]:
    """A reply as scripts get it, with names in place of keys."""
    return {
        "done": [names.get(key, str(key)) for key in reply.done],
        "refused": [
            {"session": names.get(each.key) if each.key is not None else None, "reason": each.reason}
            for each in reply.refused
        ],
        "remarks": [*reply.remarks],
    }


ACTIONS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "status": _status,
    "list": _list,
    "show": _show,
    "history": _history,
    "counters": _counters,
    "events": _events,
    "wait": _wait,
    "add": _add,
    "edit": _edit,
    "capture": _capture,
    **dict.fromkeys(MANY, _many),
    **dict.fromkeys(OF_THE_SERVICE, _service),
}
"""What each command does; returns its exit code."""
