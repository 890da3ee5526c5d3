"""How the operator leaves: the console alone, or with it the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.api.commands import Reply, Shutdown
from engine.api.values import SessionView
from souppp_tui.model.model import LIVE
from souppp_tui.screens.display import Display
from souppp_tui.show import words


class Quitting(Display):
    """Leave, and end."""

    def do_quit(self) -> None:
        """Leave; asks if that ends anything, be it a session that is not up yet, or is not to end it."""
        self._quit(may_go_on=self.desk.options.may_go_on)

    def _quit(self, *, may_go_on: bool) -> None:
        live = [] if self.desk.options.attached else self._live()
        question = f"Quit and hang up {words.plural(len(live), 'session')}?"
        self._ask_to_end(question, "quit", live, self.app.exit, may_go_on=may_go_on)

    def do_end(self) -> None:
        """End the engine, wherever it is; asks if that ends any session."""
        if not self.desk.options.attached:
            self._quit(may_go_on=False)
            return

        def told(reply: Reply) -> None:
            if reply.refused:
                self.desk.say(reply.refused[0].reason, "warning")
            else:
                self.app.exit()

        live = self._live()
        question = f"End the engine and hang up {words.plural(len(live), 'session')}?"
        facts = ["Other consoles lose it too."] if len(self.desk.engine.clients) > 1 else []
        self._ask_to_end(question, "end", live, lambda: self.desk.submit(Shutdown(), told), facts)

    def _live(self) -> list[SessionView]:
        return [view for view in self.model.views.values() if view.state in LIVE]

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
