"""What was carried in the last hour: right numbers, in bounded memory."""

from __future__ import annotations

from engine.api.values import ALL, QueueView
from engine.sessions.fleet import Fleet
from engine.settings.values import DialSettings
from engine.supervisor.lately import STEP, STEPS, Lately
from engine.supervisor.reporting import Reporter


class Card:
    """What the data path has counted."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.queue = [0, 0]
        self.reporter = Reporter(Fleet(DialSettings(), lambda: 0.5), 1000.0)
        self.lately = Lately(lambda: [*self.numbers], self._queues, self.reporter)

    def _queues(self) -> list[QueueView]:
        return [QueueView(3, 0, self.queue[0], 0, self.queue[1])]

    def carry(self, key: int, received: int, sent: int) -> None:
        self.numbers += [0] * (4 * (key + 1) - len(self.numbers))
        self.numbers[key * 4 + 1] += received
        self.numbers[key * 4 + 3] += sent
        self.queue[0] += received
        self.queue[1] += sent

    def wait(self, seconds: float) -> None:
        self.reporter.now += seconds
        self.lately.handle_timer(self.reporter.now)


def test_steps_tell_bits_per_second_of_sessions_queues_and_all() -> None:
    card = Card()
    assert card.lately.next_timer() is None
    card.carry(0, 10**12, 0)
    card.lately.begin()
    assert card.lately.next_timer() == STEP
    assert card.lately.of(0).rx == ()
    assert card.lately.others() == {}
    card.carry(0, 30_000, 3_000)
    card.carry(2, 300_000, 0)  # it is new: what it had before isn't known
    card.wait(STEP)
    card.carry(0, 60_000, 0)
    card.carry(2, 600_000, 0)
    card.wait(2 * STEP)
    assert (card.lately.of(0).rx, card.lately.of(0).tx) == ((8000, 8000), (800, 0))
    assert card.lately.of(2).rx == (0, 80_000)
    assert card.lately.of(9).rx == (0, 0)
    assert card.lately.of(0).until == 1000.0 + 3 * STEP
    others = card.lately.others()
    assert others[ALL].rx == (8000, 88_000)
    assert others[3].rx == (88_000, 88_000)


def test_an_hour_is_kept_and_no_more() -> None:
    card = Card()
    card.lately.begin()
    for number in range(STEPS + 30):
        card.carry(0, 30 * number, 0)
        card.wait(STEP / 2)  # early: nothing
        card.wait(STEP / 2)
    rx = card.lately.of(0).rx
    assert len(rx) == STEPS
    assert rx[-1] == 8 * (STEPS + 29)
    assert rx[0] == 8 * 30
