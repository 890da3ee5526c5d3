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


def make(making: Making) -> int:
    """Make it here and now; its descriptor, or what it hangs on. Raises Trouble."""
    try:
        fd = carry_out(making.steps).fd
    except ErrandError as error:
        raise making.refused(error) from None
    return fd if making.end is None else making.end
