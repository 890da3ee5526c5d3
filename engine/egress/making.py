"""How a device comes to be, before anybody knows whether it will be needed at once or later."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from engine.datapath.errands import ErrandError, carry_out
from engine.host.errors import Trouble


class Making(Struct, frozen=True):
    """What makes a device, down and without an address."""

    steps: tuple[bytes, ...]
    """Of an errand: see `engine.datapath.errands`."""
    refused: Callable[[ErrandError], Trouble]
    """What the operator is told where one of them fails."""
    end: int | None = None
    """What it hangs on, where it doesn't live by the descriptor that the steps open. It may be there if they fail."""

    def holds(self, fd: int) -> int:
        """What it lives by, given what the steps have opened: that, or what it hangs on. -1: there is nothing."""
        return fd if self.end is None else self.end


def make(making: Making) -> int:
    """Make it here and now; its descriptor, or what it hangs on. Raises Trouble."""
    try:
        return making.holds(carry_out(making.steps).fd)
    except ErrandError as error:
        raise making.refused(error) from None
