"""The board: what readers are told, whenever they ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.api.values import SessionState, SessionView
from engine.supervisor.board import REMEMBERED, Board


def view(key: int, name: str, version: int, **more: object) -> SessionView:
    return SessionView(key, name, "", "", False, SessionState.DOWN, 0.0, version=version, **more)  # type: ignore[arg-type]


def test_only_what_changed_is_told() -> None:
    board = Board()
    for key in range(3):
        board.add(view(key, f"s{key}", board.next_version))
    seen = board.changes_since(0)
    assert seen.whole
    assert len(seen.views) == 3
    board.update(view(1, "s1", board.next_version, mtu=1492))
    changes = board.changes_since(seen.version)
    assert [found.id for found in changes.views] == [1]
    assert not changes.whole
    assert board.changes_since(changes.version).views == ()


def test_a_view_that_says_the_same_is_no_change() -> None:
    board = Board()
    board.add(view(0, "one", board.next_version))
    before = board.version
    board.update(view(0, "one", board.next_version))
    board.update(view(9, "nobody", board.next_version))
    assert board.version == before


def test_a_removed_session_is_told_and_its_name_is_free() -> None:
    board = Board()
    board.add(view(0, "one", board.next_version))
    seen = board.version
    board.update(view(0, "other", board.next_version))
    assert board.key_of("one") is None
    assert board.key_of("other") == 0
    board.remove(0)
    assert board.changes_since(seen).removed == (0,)
    assert "other" not in board
    assert board.free_key() == 1, "keys are not used again"


def test_one_who_asks_too_late_reads_everything() -> None:
    board = Board()
    board.add(view(0, "stays", board.next_version))
    seen = board.version
    for key in range(1, REMEMBERED + 2):
        board.add(view(key, f"s{key}", board.next_version))
        board.remove(key)
    assert board.changes_since(seen).whole
    assert board.changes_since(board.version + 1).whole, "a version of another engine's board"


@given(st.lists(st.tuples(st.sampled_from(["add", "update", "remove", "read"]), st.integers(0, 5)), max_size=60))
def test_a_reader_who_follows_the_changes_sees_what_there_is(steps: list[tuple[str, int]]) -> None:
    board, known, version = Board(), dict[int, SessionView](), 0

    def read() -> None:
        nonlocal version
        changes = board.changes_since(version)
        if changes.whole:
            known.clear()
        known.update((found.id, found) for found in changes.views)
        for key in changes.removed:
            known.pop(key, None)
        version = changes.version

    for count, (step, place) in enumerate(steps):
        keys = [found.id for found in board.views]
        if step == "add":
            key = board.free_key()
            assert key is not None
            board.add(view(key, f"s{key}", board.next_version))
        elif step == "read":
            read()
        elif place < len(keys) and step == "update":
            board.update(view(keys[place], f"s{keys[place]}", board.next_version, flaps=count))
        elif place < len(keys):
            board.remove(keys[place])
    read()
    assert known == {found.id: found for found in board.views}
