"""What the operator can have the engine do, from every page: dial sessions, hang them up, capture, fix the card."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace
from textual.screen import Screen

from engine.api.commands import (
    ClearGhosts,
    Dial,
    FixCard,
    HangUp,
    Ping,
    Redial,
    Remove,
    Reply,
    ResetCounters,
    Rotate,
    StartCapture,
    Stop,
    StopCapture,
)
from engine.api.plural import plural
from engine.api.values import Halt, SessionView
from souppp_tui.desk.desk import Desk
from souppp_tui.model.doing import Doing
from souppp_tui.model.model import LIVE, Model
from souppp_tui.show import replies, words
from souppp_tui.show.engines import Engine, engine_facts, in_the_way

OfMany = Ping | Dial | HangUp | Redial | Rotate | Remove | ResetCounters | StartCapture | StopCapture
"""Commands for any number of sessions."""
NAMED = 3
"""Sessions that a question names."""
NOBODY: Mapping[int, str] = MappingProxyType({})


class Steering(Screen[None]):
    """Commands for the targets of a page, and what the engine replies."""

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

    # -- several engines

    def engines(self) -> list[Engine]:
        """All that are looked at, by their places, with names as they may be shown."""
        if not self.model.several:
            return [replace(engine, clients=self.desk.engine.clients) for engine in self.model.engines()]
        mask = self.desk.mask_text
        return [replace(engine, name=mask(engine.name, None)) for engine in self.model.engines()]

    def on_engine(
        self, question: str, then: Callable[[int | None], None], places: Sequence[int] = (), all_of_them: bool = False
    ) -> None:
        """Go on with the engine that is meant, by its place; with None where it is the only one or all are meant.

        Asks where there are several, at these places or anywhere; whether all can be meant is for the caller to say.
        """
        if not self.model.several:
            then(None)
            return
        engines = self.engines()
        among = list(places) or list(range(len(engines)))
        if len(among) == 1 and not all_of_them:
            then(among[0])
            return
        lines = [(engines[place].name, engine_facts(engines[place])) for place in among]
        lines += [("all", "")] * all_of_them

        def chosen(row: int | None) -> None:
            if row is not None:
                then(among[row] if row < len(among) else None)

        from souppp_tui.screens.fields import Fields

        self.app.push_screen(Fields(question, lines, "chooses"), chosen)

    # -- sessions

    def do_dial(self) -> None:
        """Dial those of the targets that are at rest."""
        targets = [view for view in self.targets() if view.state not in LIVE]
        self._unless_many("dial", "Dial", targets, lambda: self._submit(Dial(keys(targets)), "Dialling", targets))

    def do_hang_up(self) -> None:
        """Hang up; asks if that ends something."""
        self._ask_and("hang up", "Hang up", HangUp, "Hanging up")

    def do_redial(self) -> None:
        """Hang up and dial again; asks if that ends something."""
        self._ask_and("redial", "Redial", Redial, "Redialling")

    def do_rotate(self) -> None:
        """Hang up and dial for another address; asks if that ends something."""
        self._ask_and("rotate", "Get another address for", Rotate, "Getting another address for")

    def do_ping(self) -> None:
        """Ask the far ends for an echo; events tell what comes."""
        targets = self.targets()
        self._submit(Ping(keys(targets)), "Asking for an echo of", targets)

    def do_reset_counters(self) -> None:
        """Count from now on; always asks."""
        title, doing = "Count from now on what is carried by", "Counting from now on what is carried by"
        self._ask_and("count from now on", title, ResetCounters, doing, always=True)

    def do_remove(self) -> None:
        """Hang up and forget; always asks."""
        self._ask_and("remove", "Remove", Remove, "Removing", always=True)

    def do_stop_all(self) -> None:
        """End all and dial nobody until told otherwise, which this does too; asks first."""
        from souppp_tui.screens.confirm import Confirm

        if self.halted is Halt.ALL:
            question, facts, word = "Dial again?", ["Whoever was to be up is dialled, at the usual pace."], "dial again"
            what, said = Halt.NOTHING, "Dialling goes on."
        else:
            live = sum(view.state in LIVE for view in self.model.views.values())
            question, word = "End all sessions, and dial nobody until you take that back?", "end all"
            facts = [f"{plural(live, 'session')} of {words.count(len(self.model.views))} open or on the way up."]
            what, said = Halt.ALL, "All is stopped: nobody is dialled."
        if self.model.several:
            facts.append("On every engine.")
        self.app.push_screen(Confirm(question, facts, word), lambda yes: self._stop(what, said) if yes else None)

    def do_pause(self) -> None:
        """Dial nobody again by itself, or go on with that."""
        if self.halted is Halt.REDIALS:
            self._stop(Halt.NOTHING, "Redials go on.")
        else:
            self._stop(Halt.REDIALS, "Nobody is dialled again by itself; what you dial is.")

    def _stop(self, what: Halt, said: str) -> None:
        self.desk.submit(Stop(what), lambda reply: self.say_reply(reply, said if not reply.refused else ""))

    @property
    def halted(self) -> Halt:
        """What is stopped at present."""
        return self.model.snapshot.halted.what if self.model.snapshot is not None else Halt.NOTHING

    def _ask_and(
        self, word: str, title: str, command: Callable[[tuple[int, ...]], OfMany], doing: str, always: bool = False
    ) -> None:
        """Have a command carried out for the targets, after a question if any of them is open, or there are many."""
        targets = self.targets()
        live = [view for view in targets if view.state in LIVE]

        def answered(yes: bool | None) -> None:
            if yes:
                self._submit(command(keys(targets)), doing, targets)

        if live or always or self._are_many(targets):
            from souppp_tui.screens.confirm import Confirm

            facts = self._facts(targets, live)
            self.app.push_screen(Confirm(self._question(title, targets), facts, word, len(targets)), answered)
        else:
            answered(True)

    def _submit(self, command: OfMany, doing: str, targets: Sequence[SessionView], done: str = "") -> None:
        """Have a command carried out, and say how many that was done to; `done` is said in place of that."""
        names = {view.id: self.desk.mask(view).name for view in targets}

        def told(reply: Reply) -> None:
            said = (done or f"{doing} {replies.whom(reply.done, names)}.") if reply.done else ""
            self.say_reply(reply, said, names)
            if isinstance(command, Dial | HangUp | Redial) and reply.done:
                self._follow(said, {view.id: view for view in targets if view.id in reply.done}, command)
            if isinstance(command, Remove):
                self.desk.save([(view.name, None) for view in targets if view.id in reply.done])

        self.desk.submit(command, told)

    def _follow(self, said: str, before: Mapping[int, SessionView], command: Dial | HangUp | Redial) -> None:
        """Show how far it has come, in place of what was said unless that tells more."""
        now = self.model.meter.now
        doing = Doing(said, before, not isinstance(command, HangUp), now)
        doing.look(self.model.views, now)
        self.desk.doing = doing
        if self.desk.message == (said, "accent"):
            self.desk.say("")

    def stop_doing(self) -> bool:
        """Hang up those that were to come up and haven't yet; whether there are any."""
        doing, self.desk.doing = self.desk.doing, None
        if doing is None or not doing.dials or len(doing.before) == 1:
            return False
        rest = [self.model.views[key] for key in doing.unfinished(self.model.views)]
        if rest:
            self._submit(HangUp(keys(rest)), "Stopped: hanging up", rest)
        return bool(rest)

    def say_reply(self, reply: Reply, done: str, names: Mapping[int, str] = NOBODY) -> None:
        """Say what was done, and what the reply says could not be."""
        refused = [replace(each, reason=self.desk.mask_text(each.reason, each.key)) for each in reply.refused]
        told, role = replies.line(done, refused, names)
        besides = [remark for remark in reply.remarks if remark not in told]
        self.desk.say(" ".join([told, *besides]), "warning" if besides else role)

    def _unless_many(self, word: str, title: str, targets: Sequence[SessionView], act: Callable[[], None]) -> None:
        """Act, after a question if there are many."""
        if not self._are_many(targets):
            act()
            return
        from souppp_tui.screens.confirm import Confirm

        question = Confirm(self._question(title, targets), self._hidden(targets), word)
        self.app.push_screen(question, lambda yes: act() if yes else None)

    def _are_many(self, targets: Sequence[SessionView]) -> bool:
        """Whether to ask even where nothing ends: they may be more than one thinks of."""
        number = len(targets)
        return number > self.desk.options.confirm_above or (number > 1 and number * 2 > len(self.model.views))

    def _question(self, title: str, targets: Sequence[SessionView]) -> str:
        names = [self.desk.mask(view).name for view in targets[:NAMED]]
        if len(targets) == 1:
            return f"{title} {names[0]}?"
        *most, last = names
        such = ": " if len(names) == len(targets) else ", such as "
        return f"{title} {plural(len(targets), 'session')}{such}{', '.join(most)} and {last}?"

    def _facts(self, targets: Sequence[SessionView], live: Sequence[SessionView]) -> list[str]:
        facts = []
        if len(targets) == 1 and targets[0].up_since is not None:
            view = self.desk.mask(targets[0])
            up = words.duration(self.model.meter.now - (view.up_since or 0))
            facts.append(f"It is up with {view.ipv4 or 'no address'} for {up}.")
        elif len(targets) > 1:
            some = "All" if len(live) == len(targets) else words.count(len(live))
            facts.append(f"{some} of them {'is' if len(live) == 1 else 'are'} open or on the way up.")
        return facts + self._hidden(targets)

    def _hidden(self, targets: Sequence[SessionView]) -> list[str]:
        """How many the operator can't see, in a sentence."""
        hidden = sum(1 for view in targets if view.id not in self.model.position)
        return [f"The filter hides {words.count(hidden)} of them."] if hidden and self.model.marks else []

    def do_capture(self) -> None:
        """Start or stop writing control frames to a file."""
        targets = self.targets()
        if any(view.capturing for view in targets):
            self._submit(StopCapture(keys(targets)), "No longer capturing", targets)
            return
        name = f"souppp-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
        path = str((self.desk.options.capture_folder / name).absolute())
        engines = {self.model.place(view.id) for view in targets}
        more = ", each engine with its name in the file's" if len(engines) > 1 else ""
        done = f"Capturing control frames to {path}{more}."
        self._unless_many(
            "capture",
            "Capture the control frames of",
            targets,
            lambda: self._submit(StartCapture(keys(targets), path), "", targets, done),
        )

    def do_clear_ghosts(self) -> None:
        """End what an earlier run left open."""

        def told(reply: Reply) -> None:
            ghosts = plural(reply.ghosts, "session")
            done = f"Ending {ghosts} that an earlier run left open."
            self.say_reply(reply, done if reply.ghosts else "An earlier run left no session open.")

        self.desk.submit(ClearGhosts(), told)

    def do_fix_card(self) -> None:
        """Switch off what the card does in our way; asks first."""
        concerned = [place for place, engine in enumerate(self.engines()) if in_the_way(engine.snapshot)]
        self.on_engine("Which engine's card?", self._fix_card, concerned)

    def _fix_card(self, place: int | None) -> None:
        engine = self.engines()[place or 0]
        snapshot, whose = engine.snapshot, f" of {engine.name}" if engine.name else ""
        what, card = in_the_way(snapshot), snapshot.card
        live = sum(1 for view in snapshot.sessions if view.state in LIVE) if card.fixes else 0
        facts = ["It is put back when the program ends."]
        if card.fixes:
            facts.append(f"The card is taken anew for that: {plural(live, 'open session')} will be dialled again.")
        else:
            facts.append("Some drivers reset their link for that, and sessions are dialled again.")

        def told(reply: Reply) -> None:
            self.say_reply(reply, f"Switched {what} off." if not reply.refused else "")

        def answered(yes: bool | None) -> None:
            if yes:
                self.desk.submit(FixCard(), told, place)

        from souppp_tui.screens.confirm import Confirm

        self.app.push_screen(Confirm(f"Switch {what} off on {card.name}{whose}?", facts, "switch off", live), answered)


def keys(views: Iterable[SessionView]) -> tuple[int, ...]:
    """By which commands name them."""
    return tuple(view.id for view in views)
