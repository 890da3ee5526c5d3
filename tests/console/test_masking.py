"""What `x` hides in a text, and what it leaves whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.api.values import AddressSpan, Details, Fact, Ledger, SessionState, SessionView, Talker
from souppp_tui.screens.details import DetailsPage
from souppp_tui.show import masking
from tests.console.conftest import Start

MAC = "1e:70:b4:a2:aa:ca"
HIDDEN = "••:••:••:••:••:••"


def about(name: str, user: str = "") -> SessionView:
    return SessionView(0, name, user, "", True, SessionState.UP, 0.0)


@pytest.mark.parametrize(
    ("name", "user", "text", "shown"),
    [
        ("home-1", "home-1", "Session 0001 of home-1.", "Session 0001 of session 1."),
        ("a", "", f"Opened with souppp-lab ({MAC}).", f"Opened with souppp-lab ({HIDDEN})."),
        ("1e", "", f"1e opened with {MAC}.", f"session 1 opened with {HIDDEN}."),
        ("home-1", "", "home-12 took the address of home-1", "home-12 took the address of session 1"),
        ("bob", "bob@isp", "bob@isp of bob", "••• of session 1"),
        ("x", "10.0.0.7@isp", "10.0.0.7@isp has 10.0.0.8", "••• has ••.•.•.•"),
        ("10.0.0.7", "", "10.0.0.7: gone", "session 1: gone"),
        ("[b]", "", "Dialling [b]now", "Dialling session 1now"),
        ("", "", f"Somebody at {MAC}", f"Somebody at {HIDDEN}"),
        ("café", "", "Café and café", "Café and session 1"),
    ],
)
def test_names_users_and_addresses(name: str, user: str, text: str, shown: str) -> None:
    assert masking.text(text, about(name, user)) == shown


def test_a_text_about_nobody_loses_its_addresses() -> None:
    assert masking.text(f"A card {MAC} came.", None) == f"A card {HIDDEN} came."


@given(st.text("ab1e:.-@ ", min_size=1, max_size=4), st.text("ab1e:.-@ ", max_size=6))
def test_no_name_keeps_an_address_from_being_hidden(name: str, user: str) -> None:
    """Also where the name is a part of it."""
    shown = masking.text(f"<{MAC}> <192.0.2.77> <2001:db8::77>", about(name, user))
    assert not [part for part in ("70:b4", "a2:aa", "192.0", "2.77", "db8", "::77") if part in shown]


async def test_no_address_of_what_was_negotiated_is_shown_by_being_broken_into_lines(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "7545:9393:a8c8:27d9"
    was = AddressSpan("3fff:64:4a:0:b7ff:780e:fcc4:a2a2", 1.0, 2.0)
    facts = (Fact("peer's IPv6 identifier", "1111:2222:3333:4444", "5555:6666:7777:8888", long),)
    async with start(2, size=(60, 40)) as stage:
        details = stage.engine.details

        def told(session: int) -> Details | None:
            found = details(session)
            ledger = Ledger((was, was))
            talkers = (Talker("shop.test", 1, 2, 3),)
            return None if found is None else replace(found, facts=facts, ledger=ledger, talkers=talkers)

        monkeypatch.setattr(stage.engine, "details", told)

        def shown() -> str:
            page = stage.app.screen
            assert isinstance(page, DetailsPage)
            return "\n".join("".join(text for text, _ in line) for line in page._lines)

        await stage.press("enter")
        await stage.tick(2)
        assert all(part in shown() for part in ("7545", was.address, "shop.test"))
        await stage.press("escape", "x", "enter")
        await stage.tick(2)
        assert "identifier" in shown()
        assert not [
            part
            for part in ("7545", "9393", "27d9", "1111", "4444", "5555", "8888", "3fff", "fcc", "shop")
            if part in shown()
        ]
