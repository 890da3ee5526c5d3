"""Colours: four themes, and from each a palette of styles by role.

A role says what a text is, never how it looks. State is always glyph and word too, so no role may carry meaning alone.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color
from rich.style import Style
from textual.theme import Theme

ROLES = {
    # role: dark, light, high contrast, ansi
    "ground": ("#15171a", "#fbfaf7", "#000000", "default"),
    "text": ("#c5cad3", "#2b2f36", "#ffffff", "default"),
    "strong": ("bold #eef1f5", "bold #0b0d10", "bold #ffffff", "bold"),
    "dim": ("#949daa", "#60656d", "#c8c8c8", "bright_black"),
    "faint": ("#353b45", "#d5d3cc", "#8a8a8a", "bright_black"),
    "accent": ("#7fb4e6", "#1b64a8", "#66d9ff", "cyan"),
    "up": ("#86c28b", "#24702e", "#5fff5f", "green"),
    "busy": ("#e0bb6c", "#855c00", "#ffff5f", "yellow"),
    "failed": ("#e57f7f", "#b3261e", "bold #ff9a9a", "red"),
    "down": ("#949daa", "#60656d", "#c8c8c8", "bright_black"),
    "rx": ("#84b9d9", "#20688f", "#87d7ff", "cyan"),
    "tx": ("#c0a3dc", "#7a4a9e", "#ffafff", "magenta"),
    "rxbar": ("#5a8dac", "#4f88aa", "#87d7ff", "cyan"),
    "txbar": ("#8f79a9", "#9672b0", "#ffafff", "magenta"),
    "warning": ("#e0bb6c", "#855c00", "#ffff5f", "yellow"),
    "key": ("bold #7fb4e6", "bold #1b64a8", "bold #66d9ff", "bold"),
    "chip": ("#15171a on #7fb4e6", "#fbfaf7 on #1b64a8", "#000000 on #66d9ff", "reverse"),
    "alarm": ("bold #15171a on #e57f7f", "bold #fbfaf7 on #b3261e", "bold #000000 on #ff8787", "bold reverse"),
    "bar": ("on #1e2126", "on #efede7", "on #000000", "default"),
    "cursor": ("on #2a3038", "on #dde7f1", "bold on #00407a", "reverse"),
    "marked": ("#e6c87f", "#7a5500", "bold #ffff5f", "bold yellow"),
}
GROUNDED = ("chip", "alarm")
"""Roles that are a patch of colour wherever they stand."""
NAMES = ("dark", "light", "contrast", "ansi")


class Palette(dict[str, Style]):
    """The styles of a theme by role."""

    def __init__(self, styles: dict[str, Style]) -> None:
        super().__init__(styles)
        self._laid: dict[tuple[str, str], Style] = {}
        self._same: dict[Style, Style] = {}

    def laid(self, role: str, over: str) -> Style:
        """A role's style on a line that has the role `over`; equal styles are one object.

        Of `over` the background and weight count, not the colour; it may be empty. What has a ground of its own keeps
        it. A reversed line is of one colour:
        the words' own would be a patchwork of grounds.
        """
        style = self._laid.get((role, over))
        if style is None:
            above = self[over] if over else Style()
            if role in GROUNDED:
                style = self[role]
            elif above.reverse:
                style = Style(reverse=True, bold=self[role].bold or above.bold)
            else:
                style = self[role] + Style(bgcolor=above.bgcolor, bold=above.bold)
            style = self._laid[role, over] = self._same.setdefault(style, style)
        return style


@lru_cache
def palette(name: str) -> Palette:
    """The styles of a theme by role. Raises KeyError for a name that is not in NAMES."""
    column = {theme: place for place, theme in enumerate(NAMES)}[name]
    ground = Style() if name == "ansi" else Style(bgcolor=ROLES["ground"][column])
    return Palette({role: ground + Style.parse(styles[column]) for role, styles in ROLES.items()})


@lru_cache
def greyed(name: str) -> Palette:
    """The same for what may be out of date: all in one colour, but for what says so."""
    styles = palette(name)
    return Palette({role: style if role in (*GROUNDED, "cursor") else styles["dim"] for role, style in styles.items()})


def theme(name: str) -> Theme:
    """The same colours for Textual's own widgets."""
    styles = palette(name)

    def colour(role: str) -> str:
        found = styles[role].color or Color.default()
        return "ansi_" + found.name if name == "ansi" else found.name

    ground, text = colour("ground"), colour("text")
    raised = ground if name == "ansi" else (styles["bar"].bgcolor or Color.default()).name
    cursor = "ansi_blue" if name == "ansi" else (styles["cursor"].bgcolor or Color.default()).name
    native = {
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "input-cursor-text-style": "reverse",
    }
    return Theme(
        name=name,
        primary=colour("accent"),
        secondary=colour("tx"),
        accent=colour("accent"),
        foreground=text,
        background=ground,
        surface=raised,
        panel=raised,
        success=colour("up"),
        warning=colour("busy"),
        error=colour("failed"),
        dark=name != "light",
        ansi=name == "ansi",
        variables={
            "scrollbar": colour("faint"),
            "scrollbar-hover": colour("dim"),
            "scrollbar-active": colour("accent"),
            "scrollbar-background": ground,
            "scrollbar-background-hover": ground,
            "scrollbar-background-active": ground,
            "scrollbar-corner-color": ground,
            "input-cursor-background": text if name != "ansi" else "ansi_default",
            "input-selection-background": cursor,
            "block-cursor-background": cursor,
            "block-cursor-foreground": text,
            "block-cursor-text-style": "none",
            "border": colour("faint"),
            "border-blurred": colour("faint"),
            "line": colour("faint"),
            **(native if name == "ansi" else {}),
        },
    )
