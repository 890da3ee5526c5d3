"""What the operator can do on every page: steer sessions, change the display, go elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from textual.screen import Screen

from engine.api.values import SessionView
from engine.settings.forms import Taken, differences, others
from engine.settings.reload import plan
from engine.settings.values import SessionSettings
from souppp_tui.desk.desk import Desk
from souppp_tui.model.model import LIVE, Model
from souppp_tui.show import words
from souppp_tui.show.cardlines import in_the_way

TOLD_CHANGES = 4
"""Sessions whose changes are listed one by one before a reload."""


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
        self.desk.engine.dial(ids(targets))
        self._done("Dialling", targets)

    def do_hang_up(self) -> None:
        """Hang up; asks if that ends something."""
        self._ask_and("hang up", "Hang up", self.desk.engine.hang_up, "Hanging up", self.targets())

    def do_redial(self) -> None:
        """Hang up and dial again; asks if that ends something."""
        self._ask_and("redial", "Redial", self.desk.engine.redial, "Redialling", self.targets())

    def do_rotate(self) -> None:
        """Hang up and dial for another address; asks if that ends something."""
        rotate = self.desk.engine.rotate
        self._ask_and("rotate", "Get another address for", rotate, "Getting another address for", self.targets())

    def do_remove(self) -> None:
        """Hang up and forget; always asks."""
        targets = self.targets()

        def remove(sessions: Iterable[int]) -> None:
            self.desk.engine.remove(sessions)
            self.desk.save([(view.name, None) for view in targets])

        self._ask_and("remove", "Remove", remove, "Removing", targets, always=True)

    def do_add(self) -> None:
        """A form, then a new session."""
        from souppp_tui.screens.form import Form

        def done(settings: SessionSettings | None) -> None:
            if settings is not None:
                self.desk.engine.add(settings)
                self.desk.say(f"Added {settings.name}.")
                self.desk.save([(None, settings)])

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

        def done(settings: SessionSettings | None) -> None:
            if settings is not None and settings != base:
                self.desk.engine.edit(view.id, settings)
                when = " In force when it is dialled next." if view.state in LIVE else ""
                self.desk.say(f"Changed {settings.name}.{when}")
                self.desk.save([(name, settings)])

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
        desk = self.desk
        if desk.options.load is None:
            return
        try:
            wanted = desk.options.load()
        except (OSError, ValueError) as error:
            lines = str(error).splitlines()
            more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
            desk.say(f"{lines[0] if lines else error}{more}", "failed")
            return
        running = self._sessions()
        todo = plan(running, wanted)
        if not (todo.add or todo.edit or todo.remove):
            desk.say("The configuration has not changed.")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                desk.engine.remove(todo.remove)
                for session, settings in todo.edit:
                    desk.engine.edit(session, settings)
                for settings in todo.add:
                    desk.engine.add(settings)
                desk.say("The configuration is in force; changed sessions take it at their next dial.")

        from souppp_tui.screens.confirm import Confirm

        names = {
            "Add": [settings.name for settings in todo.add],
            "Change": [settings.name for _, settings in todo.edit],
            "Remove": [running[session].name for session in todo.remove],
        }
        if desk.masked:
            facts = [f"{word:7}{words.count(len(those))}" for word, those in names.items() if those]
        else:
            facts = [f"{word:7}{_some(those)}" for word, those in names.items() if those]
            facts += [
                f"{new.name}: {difference}"
                for session, new in todo.edit[:TOLD_CHANGES]
                for difference in differences(running[session], new)
            ]
        live = sum(1 for session in todo.remove if self.model.views[session].state in LIVE)
        if live:
            facts.append(f"Removing hangs up {words.plural(live, 'open session')}.")
        self.app.push_screen(Confirm("Take over the changed configuration?", facts, "take over", live), answered)

    def _ask_and(
        self,
        word: str,
        title: str,
        command: Callable[[Iterable[int]], None],
        doing: str,
        targets: list[SessionView],
        always: bool = False,
    ) -> None:
        live = [view for view in targets if view.state in LIVE]

        def answered(yes: bool | None) -> None:
            if yes:
                command(ids(targets))
                self._done(doing, targets)

        if live or always:
            from souppp_tui.screens.confirm import Confirm

            facts = self._facts(targets, live)
            self.app.push_screen(Confirm(self._question(title, targets), facts, word, len(targets)), answered)
        else:
            answered(True)

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

    def _done(self, doing: str, targets: Sequence[SessionView]) -> None:
        what = self.desk.mask(targets[0]).name if len(targets) == 1 else words.plural(len(targets), "session")
        self.desk.say(f"{doing} {what}.")

    def do_capture(self) -> None:
        """Start or stop writing control frames to a file."""
        targets = self.targets()
        if any(view.capturing for view in targets):
            self.desk.engine.capture(ids(targets), None)
            self._done("No longer capturing", targets)
            return
        name = f"souppp-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
        path = str((self.desk.options.capture_folder / name).absolute())
        self.desk.engine.capture(ids(targets), path)
        self.desk.say(f"Capturing control frames to {path}.")

    def do_clear_ghosts(self) -> None:
        """End what an earlier run left open."""
        self.desk.engine.clear_ghosts()
        self.desk.say("Ending sessions that an earlier run left open.")

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

        def answered(yes: bool | None) -> None:
            if yes:
                self.desk.engine.fix_card()
                self.desk.say(f"Switching {what} off.")

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


def _some(names: Sequence[str]) -> str:
    first = ", ".join(names[:3])
    return f"{words.count(len(names))}: {first}" + (", …" if len(names) > 3 else "")


def ids(views: Iterable[SessionView]) -> list[int]:
    """Their ids."""
    return [view.id for view in views]
