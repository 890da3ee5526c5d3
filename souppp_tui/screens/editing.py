"""How the operator changes which sessions there are, and their settings: forms, and the configuration read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from msgspec.structs import replace

from engine.api.commands import Add, Amend, Edit, Keep, Reload, Reply, Safe, Undo, changes_of, taking_over
from engine.api.plural import plural
from engine.api.values import UndoStep
from engine.settings.forms import Taken, others
from engine.settings.reload import Plan, plan
from engine.settings.values import SessionSettings
from souppp_tui.desk.actions import Command
from souppp_tui.model.model import LIVE
from souppp_tui.screens.steering import Steering
from souppp_tui.show import masking, words
from souppp_tui.show.planlines import many_lines, plan_lines


class Editing(Steering):
    """Add, edit, reload."""

    def do_add(self) -> None:
        """A form, then a new session."""
        self.on_engine("Add a session on which engine?", self._add)

    def _add(self, place: int | None) -> None:
        from souppp_tui.screens.form import Form

        where = "" if place is None else f" on {self.engines()[place].name}"

        def told(reply: Reply, settings: SessionSettings) -> None:
            self.say_reply(reply, f"Added {self._called(settings, *reply.done)}." if reply.done else "")
            if reply.done:
                self.model.go_to(reply.done[0])
                self.desk.save([(None, settings)])

        def done(settings: SessionSettings | None) -> None:
            if settings is not None:
                self.desk.submit(Add(settings), lambda reply: told(reply, settings), place)

        self.app.push_screen(Form(f"Add a session{where}", SessionSettings(""), self._taken(place), new=True), done)

    def do_edit(self) -> None:
        """A form, then other settings."""
        from souppp_tui.screens.form import Form

        if len(self.targets()) > 1:
            self._edit_many()
            return
        view = self.targets()[0]
        base = self.desk.engine.settings(view.id)
        if base is None:
            self.desk.say("This session is gone.", "warning")
            return
        name = base.name

        def told(reply: Reply, settings: SessionSettings) -> None:
            when = " In force when it is dialled next." if view.state in LIVE else ""
            done = f"Changed {self._called(settings, view.id)}.{when}" if reply.done else ""
            self.say_reply(reply, done, {view.id: self.desk.mask(view).name})
            if reply.done:
                self.desk.save([(name, settings)])

        def done(settings: SessionSettings | None) -> None:
            if settings is not None and settings != base:
                self.desk.submit(Edit(view.id, settings), lambda reply: told(reply, settings))

        taken = self._taken(self.model.place(view.id), but=view.id)
        self.app.push_screen(Form(f"Edit {name}", base, taken, new=False), done)

    def _edit_many(self) -> None:
        """A form with what they have in common, then a look at what changes, then the change."""
        from souppp_tui.screens.confirm import Confirm
        from souppp_tui.screens.form import FormOfMany

        targets = self.targets()
        known = self.desk.engine.all_settings()
        sessions = {view.id: known[view.id] for view in targets if view.id in known}
        if not sessions:
            self.desk.say("Their settings are not known here.", "warning")
            return
        form = FormOfMany(f"Edit {plural(len(sessions), 'session')}", [*sessions.values()])

        def told(reply: Reply) -> None:
            self.say_reply(reply, f"Changed {plural(len(reply.done), 'session')}." if reply.done else "")
            before = {key: settings.name for key, settings in sessions.items()}
            self.desk.save(changes_of(reply.done, before, self.desk.engine.settings))

        def done(settings: SessionSettings | None) -> None:
            changed = form.changed if settings is not None else {}
            if not changed:
                return
            facts = many_lines([*sessions.values()], changed)
            live = sum(view.state in LIVE for view in targets)
            facts += [f"{plural(live, 'session')} open: in force when dialled next."] if live else []
            facts += self._hidden(targets)
            question = self._question("Change", [view for view in targets if view.id in sessions])
            command = Amend(tuple(sessions), tuple(changed.items()))
            self.app.push_screen(
                Confirm(question, facts, "change"), lambda yes: self.desk.submit(command, told) if yes else None
            )

        self.app.push_screen(form, done)

    # -- taking back

    def do_undo(self) -> None:
        """Choose a step: it and all after it are taken back."""
        self.on_engine("Take back on which engine?", self._undo)

    def _undo(self, place: int | None) -> None:
        from souppp_tui.screens.fields import Fields

        self.desk.pull()
        steps = self.engines()[place or 0].snapshot.steps[::-1]
        if not steps:
            self.desk.say("There is nothing to take back.", "warning")
            return
        now = self.engines()[place or 0].snapshot.at
        lines = [(self._step(step), f"{words.duration(now - step.at)} ago  {step.by}") for step in steps]

        def chosen(row: int | None) -> None:
            if row is not None:
                self.take_back(Undo(steps[row].number), place)

        title = "Take back which? What was done after it, the lines above, goes too."
        self.app.push_screen(Fields(title, lines, "takes back"), chosen)

    def _step(self, step: UndoStep) -> str:
        one = plural(1, "session") if self.desk.masked else step.name
        return f"{step.what.lower()}: {one if step.sessions == 1 else plural(step.sessions, 'session')}"

    def take_back(self, command: Undo, place: int | None) -> None:
        """Undo, and write what that changes to the configuration."""
        before = {key: settings.name for key, settings in self.desk.engine.all_settings().items()}

        def told(reply: Reply) -> None:
            some = plural(len(reply.done), "session")
            self.say_reply(reply, f"Taken back for {some}." if reply.done else "")
            self.desk.save(changes_of(reply.done, before, self.desk.engine.settings))

        self.desk.submit(command, told, place)

    # -- safe mode

    def safe_commands(self) -> Iterator[Command]:
        """Safe mode, for the palette."""
        safe, not_safe = self.desk.safe is not None, "You are not in safe mode."
        attached = self.desk.options.attached
        for place, engine in enumerate(self.engines() if attached else []):
            for client in engine.clients:
                if client.safe:
                    tells = f"let stay what {client.who} did in safe mode until now"
                    keep = partial(self._keep_theirs, client.id, place if self.model.several else None)
                    looks = "The console is read-only." if self.desk.options.read_only else ""
                    yield Command(f"keep {client.user} {client.process}", "", tells, looks, keep)
        what = "the connection or the terminal" if attached else "the terminal"
        tells = f"from now on: what you do is taken back when {what} goes"
        looks = "The console is read-only." if self.desk.options.read_only else ""
        yield Command("safe", "", tells, "You are in safe mode." if safe else looks, self._be_safe)
        yield Command("unsafe", "", "leave safe mode, keep what you did", "" if safe else not_safe, self._keep_it)
        tells = "leave safe mode, take back what you did"
        yield Command("unsafe!", "", tells, "" if safe else not_safe, self._take_it_back)

    def _be_safe(self) -> None:
        self.desk.pull()
        self.desk.safe = {
            place if self.model.several else None: max((step.number for step in engine.snapshot.steps), default=0) + 1
            for place, engine in enumerate(self.engines())
            if engine.writes
        }
        self.desk.breaks = self.desk.engine.breaks
        what = "the connection or the terminal" if self.desk.options.attached else "the terminal"
        said = f"Safe mode: what you do is taken back when {what} goes, or by `:unsafe!`."
        self._tell_engines(on=True, places=self.desk.safe, said=said)
        self.desk.look()

    def _keep_it(self) -> None:
        places, self.desk.safe = self.desk.safe or {}, None
        self._tell_engines(on=False, places=places, said="Left safe mode: what you did stays.")
        self.desk.look()

    def _take_it_back(self) -> None:
        steps, self.desk.safe = self.desk.safe or {}, None
        for place, number in steps.items():
            self.take_back(Undo(number, own=True), place)
        self._tell_engines(on=False, places=steps)
        self.desk.look()

    def _tell_engines(self, *, on: bool, places: Iterable[int | None], said: str = "") -> None:
        """Engines elsewhere see to it themselves; one that doesn't is none to be safe on."""

        def told(reply: Reply, place: int | None) -> None:
            if reply.refused:
                if self.desk.safe is not None:
                    self.desk.safe.pop(place, None)
                    self.desk.safe = self.desk.safe or None
                self.say_reply(reply, "")
            elif said:
                self.desk.say(said)
            self.desk.look()

        for place in [*places]:
            if self.desk.options.attached:
                self.desk.submit(Safe(on), partial(told, place=place), place)
            elif said:
                self.desk.say(said)

    def _keep_theirs(self, client: int, place: int | None) -> None:
        self.desk.submit(Keep(client), lambda reply: self.say_reply(reply, ""), place)

    def _called(self, settings: SessionSettings, key: int) -> str:
        """Its name as it may be shown."""
        return masking.name(key) if self.desk.masked else settings.name

    def _sessions(self) -> dict[int, SessionSettings]:
        """All sessions' settings, of those that are known here."""
        return {key: settings for key, settings in self.desk.engine.all_settings().items() if key in self.model.views}

    def _taken(self, place: int | None, but: int | None = None) -> Taken:
        """What only one session of an engine can have, and the others have."""
        known = self._sessions().items()
        return others([it for session, it in known if session != but and self.model.place(session) == place])

    def do_reload(self) -> None:
        """Read the configuration again, show what changes, and change it if wanted."""
        if self.desk.options.attached:
            self.on_engine("Which engine is to read its configuration again?", self._reload, all_of_them=True)
            return
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
            facts.append(f"Removing hangs up {plural(live, 'open session')}.")
        question = Confirm("Take over the changed configuration?", facts, "take over", live)
        self.app.push_screen(question, lambda yes: self._take_over(todo, running) if yes else None)

    def _reload(self, place: int | None) -> None:
        self.desk.submit(Reload(), lambda reply: self.say_reply(reply, " ".join(reply.remarks)), place)

    def _take_over(self, todo: Plan, running: Mapping[int, SessionSettings]) -> None:
        commands = taking_over(todo)
        names = {} if self.desk.masked else {session: settings.name for session, settings in running.items()}
        answers: list[Reply] = []

        def told(reply: Reply) -> None:
            answers.append(reply)
            if len(answers) == len(commands):
                refused = tuple(each for answer in answers for each in answer.refused)
                done = "The configuration is in force; changed sessions take it at their next dial."
                self.say_reply(replace(reply, refused=refused), done if not refused else "Taken over in part.", names)

        for command in commands:
            self.desk.submit(command, told)
