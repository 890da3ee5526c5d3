"""Replies in one line."""

from __future__ import annotations

import pytest

from engine.api.commands import Refused
from souppp_tui.show import replies

NAMES = {1: "one", 2: "two"}
GONE = "Gone."


@pytest.mark.parametrize(
    ("done", "refused", "text", "role"),
    [
        ("Dialling one.", (), "Dialling one.", "accent"),
        ("", (), "", "accent"),
        ("Dialling one.", (Refused(2, GONE),), "Dialling one. Not two: Gone.", "warning"),
        ("Dialling one.", (Refused(2, GONE), Refused(3, GONE)), "Dialling one. Not 2 sessions: Gone.", "warning"),
        ("", (Refused(2, GONE),), "two: Gone.", "failed"),
        ("", (Refused(7, GONE),), "1 session: Gone.", "failed"),
        ("", (Refused(None, "Taken."),), "Taken.", "failed"),
        ("Taken over in part.", (Refused(None, "Taken."),), "Taken over in part. Taken.", "warning"),
        ("", (Refused(1, GONE), Refused(2, "Busy."), Refused(3, "Odd.")), "3 sessions: Gone. (2 more)", "failed"),
    ],
)
def test_what_was_done_what_not_and_why(done: str, refused: tuple[Refused, ...], text: str, role: str) -> None:
    assert replies.line(done, refused, NAMES) == (text, role)


@pytest.mark.parametrize(
    ("keys", "text"), [((2,), "two"), ((3,), "1 session"), ((1, 2), "2 sessions"), (range(1200), "1,200 sessions")]
)
def test_one_session_is_named_and_more_are_counted(keys: tuple[int, ...], text: str) -> None:
    assert replies.whom(keys, NAMES) == text
