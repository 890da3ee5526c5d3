"""The phases of a link and the states of a session: every cell of both tables, and what must hold for all of them."""

from __future__ import annotations

import pytest

from engine.api.values import SessionState
from engine.ppp.phases import PHASES, Occasion, Phase
from engine.sessions.states import IDLE, TABLE, Step


def test_a_lower_layer_that_goes_away_ends_every_phase() -> None:
    ended = {phase: after for (phase, occasion), after in PHASES.items() if occasion is Occasion.DOWN}
    assert ended == dict.fromkeys(set(Phase) - {Phase.DEAD}, Phase.DEAD)


def test_the_figure_of_rfc1661() -> None:
    """Section 3.2: Dead, UP, Establish, OPENED, Authenticate, SUCCESS or NONE, Network, CLOSING, Terminate, DOWN."""
    way = [Phase.DEAD]
    for occasion in (Occasion.UP, Occasion.PROVE, Occasion.PROVEN, Occasion.CLOSING, Occasion.DOWN):
        way.append(PHASES[way[-1], occasion])
    assert way == [Phase.DEAD, Phase.ESTABLISH, Phase.AUTHENTICATE, Phase.NETWORK, Phase.TERMINATE, Phase.DEAD]
    assert PHASES[Phase.ESTABLISH, Occasion.PROVEN] is Phase.NETWORK, "NONE: nothing to prove"
    assert PHASES[Phase.AUTHENTICATE, Occasion.CLOSING] is Phase.TERMINATE, "FAIL"


def test_nothing_but_up_wakes_the_dead_and_nothing_but_down_ends_termination() -> None:
    assert {occasion for phase, occasion in PHASES if phase is Phase.DEAD} == {Occasion.UP}
    assert {occasion for phase, occasion in PHASES if phase is Phase.TERMINATE} == {Occasion.DOWN}


@pytest.mark.parametrize("state", SessionState)
def test_every_state_can_be_ended_and_only_a_dial_leaves_an_idle_one(state: SessionState) -> None:
    steps = {step for before, step in TABLE if before is state}
    if state in IDLE:
        assert TABLE[state, Step.DIAL] is SessionState.DIALLING
        assert TABLE[state, Step.REFUSED] is SessionState.FAILED
        assert steps <= {Step.DIAL, Step.HUNG_UP, Step.REFUSED}
    else:
        assert TABLE[state, Step.HUNG_UP] is SessionState.DOWN
        assert TABLE[state, Step.FAILED] is SessionState.FAILED


def test_only_an_address_takes_a_session_up() -> None:
    assert {key for key, after in TABLE.items() if after is SessionState.UP} == {
        (SessionState.GETTING_ADDRESS, Step.ADDRESS)
    }
