"""How the operator changes which sessions there are, and their settings: forms, and the configuration read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.api.commands import Add, Edit, Reload, Reply, taking_over
from engine.settings.forms import Taken, others
from engine.settings.reload import Plan, plan
from engine.settings.values import SessionSettings
from souppp_tui.model.model import LIVE
from souppp_tui.screens.steering import Steering
from souppp_tui.show import masking, words
from souppp_tui.show.planlines import plan_lines


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
            facts.append(f"Removing hangs up {words.plural(live, 'open session')}.")
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
