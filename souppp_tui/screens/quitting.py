"""How the operator leaves: the console alone, or with it the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.api.commands import Reply, Shutdown
from engine.api.plural import plural
from engine.api.values import SessionView
from souppp_tui.model.model import LIVE
from souppp_tui.screens.exporting import Exporting


class Quitting(Exporting):
    """Leave, and end."""

    def do_quit(self) -> None:
        """Leave; asks if that ends anything, be it a session that is not up yet, or is not to end it."""
        if self.desk.safe is not None:
            self.desk.say(
                "Safe mode: say `:unsafe` to keep what you did, `:unsafe!` to take it back; then leave.", "warning"
            )
            return
        self._quit(may_go_on=self.desk.options.may_go_on)

    def _quit(self, *, may_go_on: bool) -> None:
        live = [] if self.desk.options.attached else self._live()
        question = f"Quit and hang up {plural(len(live), 'session')}?"
        self._ask_to_end(question, "quit", live, self.app.exit, may_go_on=may_go_on)

    def do_end(self) -> None:
        """End the engine, wherever it is; asks if that ends any session."""
        if not self.desk.options.attached:
            self._quit(may_go_on=False)
        else:
            self.on_engine("End which engine?", self._end, all_of_them=True)

    def _end(self, place: int | None) -> None:
        """End the engine at a place, or all there are."""
        engines = self.engines()
        chosen = engines if place is None else [engines[place]]
        every = place is None and len(engines) > 1
        name = f"all {len(engines)} engines" if every else chosen[0].name or "the engine"

        def told(reply: Reply) -> None:
            if reply.refused:
                self.desk.say(reply.refused[0].reason, "warning")
            elif place is None:
                self.app.exit()
            else:
                self.desk.say(f"{name} ends.")

        live = self._live(place)
        question = f"End {name} and hang up {plural(len(live), 'session')}?"
        facts = ["Other consoles lose it too."] if any(len(engine.clients) > 1 for engine in chosen) else []
        self._ask_to_end(question, "end", live, lambda: self.desk.submit(Shutdown(), told, place), facts)

    def _live(self, place: int | None = None) -> list[SessionView]:
        """Sessions in which something is open, of one engine or of all."""
        views = self.model.views.values()
        return [view for view in views if view.state in LIVE and place in (None, self.model.place(view.id))]

    def _ask_to_end(
        self,
        question: str,
        word: str,
        live: list[SessionView],
        end: Callable[[], None],
        facts: Sequence[str] = (),
        *,
        may_go_on: bool = False,
    ) -> None:
        """Do it, after a question if any session ends with it, which may offer to leave them up."""
        if not live and not facts:
            end()
            return
        from souppp_tui.screens.confirm import Confirm, Other

        go_on = Other("b", "leave them up: the engine goes on in the background", lambda: self.app.exit(True))
        other = go_on if may_go_on else None
        self.app.push_screen(Confirm(question, [*facts], word, len(live), other), lambda yes: end() if yes else None)
