"""A real concentrator on the far side of a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import NetnsPair
from tests.interop.kit import Aclab, concentrators


@pytest.fixture
def aclab(netns_pair: NetnsPair, tmp_path: Path) -> Iterator[Callable[..., Aclab]]:
    """As `concentrators`, on the far side of `netns_pair`."""
    with concentrators(netns_pair, tmp_path) as start:
        yield start
