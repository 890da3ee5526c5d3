"""Several changes of a configuration at once, and entries with `count` that have exceptions."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.settings.editing import with_changes, with_session, without_session
from engine.settings.reading import ConfigError, parse
from engine.settings.values import SessionSettings

FILE = Path("/etc/file.yaml")
MANY = """\
sessions:
  # all of one street
  - name: "load-{n:02}"   # a number each
    user: "u{n}"
    service: gold
    count: 5
  - {name: own, user: me}  # mine
"""


def read(text: str) -> dict[str, SessionSettings]:
    return {each.name: each for each in parse(text, "file", Path()).sessions}


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_exceptions_of_an_entry_with_a_number() -> None:
    made = read(
        "sessions: [{name: 'a{n}', service: s, count: 4, except: {2: no, 3: {service: t, mru: 1400}, 4: {name: z}}}]"
    )
    assert [*made] == ["a1", "a3", "z"]
    assert [each.service for each in made.values()] == ["s", "t", "s"]
    assert made["a3"].mru == 1400


@pytest.mark.parametrize(
    ("exceptions", "wrong"),
    [
        ("{5: no}", "must be a number from 1 to 4"),
        ("{1: no, 1: no}", "each but once"),
        ("{2: {mru: 9000}}", "except: 2: mru: 9000 is out of range"),
        ("{2: {count: 3}}", "unknown key count"),
        ("{2: {name: a1}}", "a1 would be there twice"),
        ("[2]", "must be a mapping"),
    ],
)
def test_exceptions_that_make_no_sense_say_where(exceptions: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        read(f"sessions: [{{name: 'a{{n}}', count: 4, except: {exceptions}}}]")


def test_one_of_many_is_removed_changed_and_comes_back() -> None:
    before = read(MANY)
    removed = without_session(MANY, "load-03", FILE)
    assert [*read(removed)] == ["load-01", "load-02", "load-04", "load-05", "own"]
    changed = with_changes(removed, [("load-04", replace(before["load-04"], mru=1400))], FILE)
    assert read(changed)["load-04"].mru == 1400
    assert "except: {3: no, 4: {mru: 1400}}" in changed
    back = with_changes(changed, [(None, before["load-03"]), ("load-04", before["load-04"])], FILE)
    assert read(back) == before
    assert [*read(back)] == [*before], "in its old place"
    for text in (removed, changed, back):
        assert comments(text) == comments(MANY)


def test_what_changes_alike_in_all_of_an_entry_changes_the_entry() -> None:
    before = read(MANY)
    wanted = [(name, replace(each, service="silver", mru=1400)) for name, each in before.items() if name != "own"]
    changed = with_changes(MANY, wanted, FILE)
    assert changed == MANY.replace("service: gold", "service: silver").replace("count: 5", "count: 5\n    mru: 1400")
    some = with_changes(MANY, wanted[:2], FILE)
    assert "except: {1: {service: silver, mru: 1400}, 2: {service: silver, mru: 1400}}" in some


def test_all_of_an_entry_are_removed_with_it() -> None:
    text = with_changes(MANY, [(name, None) for name in read(MANY) if name != "own"], FILE)
    assert text == "sessions:\n  # all of one street\n  - {name: own, user: me}  # mine\n"
    assert with_changes(text, [("own", None)], FILE).endswith("  []\n") or "[]" in with_changes(
        text, [("own", None)], FILE
    )


def test_exceptions_in_lines_of_their_own_keep_their_comments() -> None:
    text = (
        'sessions:\n  - name: "a{n}"\n    count: 5\n    except:\n      2: no          # moved away\n'
        "      3: {mru: 1400}  # an old modem\n"
    )
    before = read(text)
    changed = with_changes(text, [("a3", replace(before["a3"], mru=1300)), ("a5", None)], FILE)
    assert "      2: no          # moved away\n      3: {mru: 1300}  # an old modem\n      5: no\n" in changed
    again = with_changes(changed, [("a3", replace(before["a3"], mru=1492))], FILE)
    assert "3:" not in again
    assert "# moved away" in again


def test_several_in_brackets() -> None:
    text = "sessions: [{name: a}, {name: b}, {name: c}]  # short\n"
    assert [*read(with_changes(text, [("a", None), ("c", None)], FILE))] == ["b"]
    assert "# short" in with_changes(text, [("a", None), ("c", None)], FILE)


def test_who_is_not_there_and_who_is_there_twice_change_nothing() -> None:
    for changes in ([("nobody", None)], [(None, SessionSettings("own"))]):
        with pytest.raises(ConfigError, match="change the file by hand"):
            with_changes(MANY, changes, FILE)
    assert [*read(with_session(MANY, SessionSettings("new"), FILE))][-1] == "new"
