"""The kit itself: the real concentrator answers, dies silently, and comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import ACLAB, Aclab, NetnsPair


def answers(line: NetnsPair) -> bool:
    """Whether PADI, PADO, PADR, PADS, PADT go through; each is tried three times, for a second."""
    command = line.command(ACLAB / "padi.py", line.card)
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.timeout(60)
def test_real_concentrator_answers_dies_and_comes_back(aclab: Callable[..., Aclab]) -> None:
    concentrator = aclab(AUTH="chap", AC="kit-test")
    assert answers(concentrator.line)
    assert "require-chap" in concentrator.exec("cat /etc/ppp/pppoe-server-options")
    concentrator.kill()
    assert not answers(concentrator.line)
    concentrator.start()
    assert answers(concentrator.line)
