"""What the operator can do to the display, on every page: copy, mask, freeze, change colours, go elsewhere."""

from __future__ import annotations

from engine.api.plural import plural
from souppp_tui.desk.actions import BY_NAME
from souppp_tui.screens.editing import Editing
from souppp_tui.show import words


class Display(Editing):
    """Nothing here reaches the engine."""

    def do_copy(self) -> None:
        """Copy the targets' addresses, a line each."""
        targets = self.targets()
        addresses = [view.ipv4 for view in targets if view.ipv4]
        if not addresses:
            self.desk.say("There is no address to copy.", "warning")
        elif len(targets) == 1:
            self.copy(addresses[0])
        else:
            self.app.copy_to_clipboard("\n".join(addresses))
            without = len(targets) - len(addresses)
            more = f" {plural(without, 'session')} without one left out." if without else ""
            self.desk.say(f"Copied the addresses of {plural(len(addresses), 'session')}.{more}")

    def copy(self, text: str) -> None:
        """Hand a text to the terminal's clipboard (OSC 52)."""
        self.app.copy_to_clipboard(text)
        self.desk.say(f"Copied: {text}" if not self.desk.masked else "Copied.")

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

    def do_times(self) -> None:
        """As usual, all by the clock, all as how long ago, and so on."""
        order = [*words.Times]
        self.desk.times = order[(order.index(self.desk.times) + 1) % len(order)]
        self.desk.say(f"Times: {self.desk.times}.")
        self.desk.look()

    def do_freeze(self) -> None:
        """Keep the display as it is, or go on."""
        desk = self.desk
        desk.frozen = not desk.frozen
        key = desk.keys_of(BY_NAME["freeze"])
        desk.say(f"Display frozen: sessions keep running. Press {key} to go on." if desk.frozen else "")
        desk.pull()
        desk.look()

    def do_theme(self) -> None:
        """The next theme."""
        desk = self.desk
        desk.say(f"Theme: {desk.next_theme()}")

    def do_redraw(self) -> None:
        """Write the whole screen, whatever the terminal shows."""
        self.desk.redraw()

    def do_actions(self) -> None:
        """To what was commanded, by whom, and what came of it."""
        self.desk.open("actions")

    def do_events(self) -> None:
        """To the events."""
        self.desk.open("events")

    def do_summary(self) -> None:
        """To all sessions in groups."""
        self.desk.open("summary")

    def do_table(self) -> None:
        """To the table of sessions."""
        self.desk.back_to_sessions()

    def do_card(self) -> None:
        """To the card and its queues."""
        self.desk.open("card")
