"""The kit itself: the real concentrator answers, dies silently, comes back, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import NetnsPair
from tests.interop.kit import KIT, Aclab
from tests.program import until


def answers(line: NetnsPair) -> bool:
    """Whether PADI, PADO, PADR, PADS, PADT go through; each is tried three times, for a second."""
    command = line.command(KIT / "padi.py", line.card)
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def at_work(folder: Path) -> set[int]:
    """The processes that work in a folder or below."""

    def place(path: Path) -> tuple[int, int]:
        return path.stat().st_dev, path.stat().st_ino

    places = {place(path) for path in [folder, *folder.rglob("*")] if path.is_dir()}
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if place(link) in places:
                found.add(int(link.parts[2]))
    return found


def test_real_concentrator_answers_dies_and_comes_back(aclab: Callable[..., Aclab]) -> None:
    concentrator = aclab(AUTH="chap", AC="kit-test")
    assert answers(concentrator.line)
    assert "require-chap" in concentrator.exec("cat /etc/ppp/pppoe-server-options")
    concentrator.stop()
    assert not answers(concentrator.line)
    concentrator.start()
    assert answers(concentrator.line)


def test_commands_in_the_guest(aclab: Callable[..., Aclab]) -> None:
    guest = aclab(KIND="none", PAYLOAD="echo the payload >/run/said")
    assert guest.exec("cat /run/said") == "the payload\n"
    assert guest.exec("printf 'no end of line'; echo ' nor this' >&2") == "no end of line nor this\n"
    assert guest.exec("[ -t 1 ] || echo no terminal") == "no terminal\n"
    assert guest.exec("seq 30000").split()[-1] == "30000"
    script = """x='two  blanks, \\t and €'
    printf '%s\\n' "$x" "# %s"
    """
    assert guest.exec(script) == "two  blanks, \\t and €\n# %s\n"
    for command in ("exit 7", "kill $$", "touch /usr/bin/of-the-host"):
        with pytest.raises(subprocess.CalledProcessError):
            guest.exec(command)
    assert guest.exec("echo still here") == "still here\n"


def test_nothing_is_left(aclab: Callable[..., Aclab], tmp_path: Path) -> None:
    """Neither by a stop, nor when somebody removes the run directory of a guest, nor by a guest that can't start."""
    guest = aclab()
    assert at_work(tmp_path)
    guest.stop()
    assert not at_work(tmp_path)
    guest.start()
    guest.run.rename(tmp_path / "moved")
    until(lambda: not at_work(tmp_path), "its end")
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        aclab(EXTRA_MODULES="no_such_module")
    assert "no module no_such_module" in refusal.value.stderr
    subprocess.run(["ip", "-n", guest.line.far, "link", "set", guest.line.far_card, "name", "other"], check=True)
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        aclab()
    assert "the guest died" in refusal.value.stderr
    assert not at_work(tmp_path)


def test_without_the_kit_every_test_is_skipped(tmp_path: Path) -> None:
    """Also those that put our own concentrator against its pppd."""
    of_other_servers = Path(__file__).with_name("test_ipv6_servers.py")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not skipped", str(Path(__file__).parent)]
    command += ["--ignore", str(of_other_servers)]
    environment = os.environ | {"SOUPPP_ACLAB": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " skipped" in done.stdout
    assert " passed" not in done.stdout
