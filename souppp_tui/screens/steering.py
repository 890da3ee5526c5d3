"""What the operator can do on every page: steer sessions, change the display, go elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from textual.screen import Screen

from engine.api.commands import (
    Add,
    ClearGhosts,
    Command,
    Dial,
    Edit,
    FixCard,
    HangUp,
    Redial,
    Remove,
    Reply,
    Rotate,
    StartCapture,
    StopCapture,
)
from engine.api.values import SessionView
from engine.settings.forms import Taken, others
from engine.settings.reload import Plan, plan
from engine.settings.values import SessionSettings
from souppp_tui.desk.desk import Desk
from souppp_tui.model.model import LIVE, Model
from souppp_tui.show import replies, words
from souppp_tui.show.cardlines import in_the_way
from souppp_tui.show.planlines import plan_lines

OfMany = Dial | HangUp | Redial | Rotate | Remove | StartCapture | StopCapture
"""Commands for any number of sessions."""
NOBODY: Mapping[int, str] = MappingProxyType({})


class Steering(Screen[None]):
    """The actions that all pages share."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    @property
    def model(self) -> Model:
        """What the console knows."""
        return self.desk.model

    def targets(self) -> list[SessionView]:
        """The sessions that actions of this page are for."""
        return self.model.targets()

    # -- sessions

    def do_dial(self) -> None:
        """Dial those of the targets that are at rest."""
        targets = [view for view in self.targets() if view.state not in LIVE]
        self._submit(Dial(keys(targets)), "Dialling", targets)

    def do_hang_up(self) -> None:
        """Hang up; asks if that ends something."""
        self._ask_and("hang up", "Hang up", HangUp, "Hanging up")

    def do_redial(self) -> None:
        """Hang up and dial again; asks if that ends something."""
        self._ask_and("redial", "Redial", Redial, "Redialling")

    def do_rotate(self) -> None:
        """Hang up and dial for another address; asks if that ends something."""
        self._ask_and("rotate", "Get another address for", Rotate, "Getting another address for")

    def do_remove(self) -> None:
        """Hang up and forget; always asks."""
        self._ask_and("remove", "Remove", Remove, "Removing", always=True)

    def _ask_and(
        self, word: str, title: str, command: Callable[[tuple[int, ...]], OfMany], doing: str, always: bool = False
    ) -> None:
        """Have a command carried out for the targets, after a question if any of them is open."""
        targets = self.targets()
        live = [view for view in targets if view.state in LIVE]

        def answered(yes: bool | None) -> None:
            if yes:
                self._submit(command(keys(targets)), doing, targets)

        if live or always:
            from souppp_tui.screens.confirm import Confirm

            facts = self._facts(targets, live)
            self.app.push_screen(Confirm(self._question(title, targets), facts, word, len(targets)), answered)
        else:
            answered(True)

    def _submit(self, command: OfMany, doing: str, targets: Sequence[SessionView], done: str = "") -> None:
        """Have a command carried out, and say how many that was done to; `done` is said in place of that."""
        names = {view.id: self.desk.mask(view).name for view in targets}

        def told(reply: Reply) -> None:
            self._say(reply, (done or f"{doing} {replies.whom(reply.done, names)}.") if reply.done else "", names)
            if isinstance(command, Remove):
                self.desk.save([(view.name, None) for view in targets if view.id in reply.done])

        self.desk.submit(command, told)

    def _say(self, reply: Reply, done: str, names: Mapping[int, str] = NOBODY) -> None:
        """Say what was done, and what the reply says could not be."""
        refused = [replace(each, reason=self.desk.mask_text(each.reason, each.key)) for each in reply.refused]
        self.desk.say(*replies.line(done, refused, names))

    def _question(self, title: str, targets: Sequence[SessionView]) -> str:
        name = self.desk.mask(targets[0]).name
        if len(targets) == 1:
            return f"{title} {name}?"
        return f"{title} {words.plural(len(targets), 'session')}, such as {name}?"

    def _facts(self, targets: Sequence[SessionView], live: Sequence[SessionView]) -> list[str]:
        facts = []
        if len(targets) == 1 and targets[0].up_since is not None:
            view = self.desk.mask(targets[0])
            up = words.duration(self.model.meter.now - (view.up_since or 0))
            facts.append(f"It is up with {view.ipv4 or 'no address'} for {up}.")
        elif len(targets) > 1:
            some = "All" if len(live) == len(targets) else words.count(len(live))
            facts.append(f"{some} of them {'is' if len(live) == 1 else 'are'} open or on the way up.")
        hidden = sum(1 for view in targets if view.id not in self.model.position)
        if hidden and self.model.marks:
            facts.append(f"The filter hides {words.count(hidden)} of them.")
        return facts

    def do_capture(self) -> None:
        """Start or stop writing control frames to a file."""
        targets = self.targets()
        if any(view.capturing for view in targets):
            self._submit(StopCapture(keys(targets)), "No longer capturing", targets)
            return
        name = f"souppp-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
        path = str((self.desk.options.capture_folder / name).absolute())
        self._submit(StartCapture(keys(targets), path), "", targets, f"Capturing control frames to {path}.")

    def do_clear_ghosts(self) -> None:
        """End what an earlier run left open."""

        def told(reply: Reply) -> None:
            ghosts = words.plural(reply.ghosts, "session")
            done = f"Ending {ghosts} that an earlier run left open."
            self._say(reply, done if reply.ghosts else "An earlier run left no session open.")

        self.desk.submit(ClearGhosts(), told)

    # -- settings

    def do_add(self) -> None:
        """A form, then a new session."""
        from souppp_tui.screens.form import Form

        def told(reply: Reply, settings: SessionSettings) -> None:
            self._say(reply, f"Added {settings.name}." if reply.done else "")
            if reply.done:
                self.desk.save([(None, settings)])

        def done(settings: SessionSettings | None) -> None:
            if settings is not None:
                self.desk.submit(Add(settings), lambda reply: told(reply, settings))

        self.app.push_screen(Form("Add a session", SessionSettings(""), self._taken(), new=True), done)

    def do_edit(self) -> None:
        """A form, then other settings."""
        from souppp_tui.screens.form import Form

        view = self.targets()[0]
        base = self.desk.engine.settings(view.id)
        if base is None:
            self.desk.say("This session is gone.", "warning")
            return
        name = base.name

        def told(reply: Reply, settings: SessionSettings) -> None:
            when = " In force when it is dialled next." if view.state in LIVE else ""
            self._say(reply, f"Changed {settings.name}.{when}" if reply.done else "", {view.id: name})
            if reply.done:
                self.desk.save([(name, settings)])

        def done(settings: SessionSettings | None) -> None:
            if settings is not None and settings != base:
                self.desk.submit(Edit(view.id, settings), lambda reply: told(reply, settings))

        self.app.push_screen(Form(f"Edit {name}", base, self._taken(but=view.id), new=False), done)

    def _sessions(self) -> dict[int, SessionSettings]:
        """All sessions' settings."""
        settings = self.desk.engine.settings
        return {session: known for session in self.model.views if (known := settings(session)) is not None}

    def _taken(self, but: int | None = None) -> Taken:
        """What only one session can have, and the others have."""
        return others([settings for session, settings in self._sessions().items() if session != but])

    def do_reload(self) -> None:
        """Read the configuration again, show what changes, and change it if wanted."""
        if self.desk.options.load is None:
            return
        try:
            wanted = self.desk.options.load()
        except (OSError, ValueError) as error:
            lines = str(error).splitlines()
            more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
            self.desk.say(f"{lines[0] if lines else error}{more}", "failed")
            return
        running = self._sessions()
        todo = plan(running, wanted)
        if not (todo.add or todo.edit or todo.remove):
            self.desk.say("The configuration has not changed.")
            return
        from souppp_tui.screens.confirm import Confirm

        live = sum(1 for session in todo.remove if self.model.views[session].state in LIVE)
        facts = plan_lines(todo, running, masked=self.desk.masked)
        if live:
            facts.append(f"Removing hangs up {words.plural(live, 'open session')}.")
        question = Confirm("Take over the changed configuration?", facts, "take over", live)
        self.app.push_screen(question, lambda yes: self._take_over(todo, running) if yes else None)

    def _take_over(self, todo: Plan, running: Mapping[int, SessionSettings]) -> None:
        commands: list[Command] = [Remove(tuple(todo.remove))] if todo.remove else []
        commands += [Edit(session, settings) for session, settings in todo.edit]
        commands += [Add(settings) for settings in todo.add]
        names = {} if self.desk.masked else {session: settings.name for session, settings in running.items()}
        answers: list[Reply] = []

        def told(reply: Reply) -> None:
            answers.append(reply)
            if len(answers) == len(commands):
                refused = tuple(each for answer in answers for each in answer.refused)
                done = "The configuration is in force; changed sessions take it at their next dial."
                self._say(replace(reply, refused=refused), done if not refused else "Taken over in part.", names)

        for command in commands:
            self.desk.submit(command, told)

    # -- the card

    def do_fix_card(self) -> None:
        """Switch off what the card does in our way; asks first."""
        snapshot = self.model.snapshot
        if snapshot is None:
            return
        what, card = in_the_way(snapshot), snapshot.card
        live = sum(1 for view in self.model.views.values() if view.state in LIVE) if card.fixes else 0
        facts = ["It is put back when the program ends."]
        if card.fixes:
            facts.append(
                f"The card is taken anew for that: {words.plural(live, 'open session')} will be dialled again."
            )
        else:
            facts.append("Some drivers reset their link for that, and sessions are dialled again.")

        def told(reply: Reply) -> None:
            self._say(reply, f"Switched {what} off." if not reply.refused else "")

        def answered(yes: bool | None) -> None:
            if yes:
                self.desk.submit(FixCard(), told)

        from souppp_tui.screens.confirm import Confirm

        self.app.push_screen(Confirm(f"Switch {what} off on {card.name}?", facts, "switch off", live), answered)

    def do_copy(self) -> None:
        """Copy the session's address."""
        targets = self.targets()[:1]
        if not targets or not targets[0].ipv4:
            self.desk.say("There is no address to copy.", "warning")
            return
        self.copy(targets[0].ipv4)

    def copy(self, text: str) -> None:
        """Hand a text to the terminal's clipboard (OSC 52)."""
        self.app.copy_to_clipboard(text)
        self.desk.say(f"Copied: {text}" if not self.desk.masked else "Copied.")

    # -- display

    def do_mask(self) -> None:
        """Hide names and addresses, or show them again."""
        desk = self.desk
        desk.masked = not desk.masked
        desk.say("Names and addresses are hidden." if desk.masked else "Names and addresses are shown.")
        desk.look()

    def do_zero(self) -> None:
        """Counters from now on, or again from the start."""
        model = self.model
        if model.baseline is None:
            model.zero()
            self.desk.say("Counters start from zero now; press z again to count from the start.")
        else:
            model.unzero()
            self.desk.say("Counters count from the engine's start.")
        self.desk.look()

    def do_freeze(self) -> None:
        """Keep the display as it is, or go on."""
        desk = self.desk
        desk.frozen = not desk.frozen
        desk.say("Display frozen: sessions keep running. Press p to go on." if desk.frozen else "")
        desk.pull()
        desk.look()

    def do_theme(self) -> None:
        """The next theme."""
        desk = self.desk
        desk.say(f"Theme: {desk.next_theme()}")

    def do_redraw(self) -> None:
        """Write the whole screen, whatever the terminal shows."""
        self.desk.redraw()

    # -- elsewhere

    def do_events(self) -> None:
        """To the events."""
        self.desk.open("events")

    def do_card(self) -> None:
        """To the card and its queues."""
        self.desk.open("card")

    def do_quit(self) -> None:
        """Leave; asks if sessions are open."""
        live = [view for view in self.model.views.values() if view.state in LIVE]
        if not live:
            self.app.exit()
            return
        from souppp_tui.screens.confirm import Confirm

        question = f"Quit and hang up {words.plural(len(live), 'session')}?"
        self.app.push_screen(Confirm(question, [], "quit", len(live)), lambda yes: self.app.exit() if yes else None)


def keys(views: Iterable[SessionView]) -> tuple[int, ...]:
    """By which commands name them."""
    return tuple(view.id for view in views)
