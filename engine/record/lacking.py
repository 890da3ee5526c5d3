"""Why a session can't be used now, and what to do."""

from __future__ import annotations

from engine.api.values import SessionState, SessionView


def not_up(view: SessionView) -> str:
    """One line on a session that is not up."""
    match view.state:
        case SessionState.DOWN:
            return f"{view.name} is down: dial it first."
        case SessionState.FAILED:
            return f"{view.name} has failed ({view.reason}): dial it again first."
        case _:
            return f"{view.name} is {view.state}: try again once it is up."
