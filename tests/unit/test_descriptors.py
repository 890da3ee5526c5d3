"""The limit of open files."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from engine.host import descriptors


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """As they were, afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_is_raised_to_the_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    assert descriptors.shortage(272) == ""
    text = descriptors.shortage(1000)
    assert text == "1000 sessions may need 1128 open files, but this process may have 400: `ulimit -n 1128`."
    descriptors.raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
