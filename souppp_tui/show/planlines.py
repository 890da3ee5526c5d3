"""What a changed configuration changes, in lines for the question whether to take it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.settings.forms import FIELDS, differences
from engine.settings.reload import Plan
from engine.settings.values import SessionSettings
from souppp_tui.show.words import count

TOLD_CHANGES = 4
"""Sessions whose changes are listed one by one."""


def plan_lines(todo: Plan, running: Mapping[int, SessionSettings], *, masked: bool) -> list[str]:
    """How many sessions are added, changed and removed; which ones, and what changes, unless that is masked."""
    names = {
        "Add": [settings.name for settings in todo.add],
        "Change": [settings.name for _, settings in todo.edit],
        "Remove": [running[session].name for session in todo.remove],
    }
    if masked:
        return [f"{word:7}{count(len(those))}" for word, those in names.items() if those]
    lines = [f"{word:7}{_some(those)}" for word, those in names.items() if those]
    return lines + [
        f"{new.name}: {difference}"
        for session, new in todo.edit[:TOLD_CHANGES]
        for difference in differences(running[session], new)
    ]


def _some(names: Sequence[str]) -> str:
    first = ", ".join(names[:3])
    return f"{count(len(names))}: {first}" + (", …" if len(names) > 3 else "")


def many_lines(sessions: Sequence[SessionSettings], changed: Mapping[str, str]) -> list[str]:
    """What changes in several sessions, a line for each field: `service gold → silver`; never what is secret."""
    lines = []
    for field in FIELDS:
        if field.key not in changed:
            continue
        if field.secret:
            lines.append(f"another {field.label}")
            continue
        before = {field.write(session) for session in sessions}
        was = before.pop() or "none" if len(before) == 1 else f"{len(before)} different values"
        lines.append(f"{field.label} {was} → {changed[field.key].strip() or 'none'}")
    return lines
