"""C structs that Python repeats are compared with the helper's own: a changed one is refused in one line."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import datapath
from engine.datapath import DatapathError
from engine.host.layout import difference, numbers, places
from tests.conftest import ROOT

HELPER = ROOT / "engine" / "datapath"


class Here(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint16), ("mac", ctypes.c_uint8 * 6)]


def test_a_struct_is_known_by_its_fields_and_its_size() -> None:
    assert places(Here) == {"": (0, 8), "id": (0, 2), "mac": (2, 6)}
    assert places(ctypes.c_uint32) == {"": (0, 4)}
    assert places(numbers(("a", "b"))) == {"": (0, 16), "a": (0, 8), "b": (8, 8)}


@pytest.mark.parametrize(
    ("theirs", "text"),
    [
        ({"": (0, 8), "id": (0, 2), "mac": (2, 6)}, ""),
        ({"": (0, 12), "id": (0, 2), "mac": (2, 6)}, "the whole is 12 octets at 0 there and 8 octets at 0 here"),
        ({"": (0, 8), "mac": (0, 6), "id": (6, 2)}, "id is 2 octets at 6 there and 2 octets at 0 here"),
        ({"": (0, 8), "id": (0, 2)}, "mac is nothing there and 6 octets at 2 here"),
        ({"": (0, 8), "id": (0, 2), "mac": (2, 6), "b": (7, 1)}, "b is 1 octets at 7 there and nothing here"),
    ],
)
def test_the_first_difference_is_told(theirs: dict[str, tuple[int, int]], text: str) -> None:
    assert difference(places(Here), theirs) == text


@pytest.fixture
def fresh() -> Iterator[None]:
    datapath._library.cache_clear()
    yield
    datapath._library.cache_clear()


def changed(tmp_path: Path, file: str, before: str, after: str) -> Path:
    """The helper, built from sources of which one line is another."""
    sources = shutil.copytree(HELPER, tmp_path / "sources")
    text = (sources / file).read_text()
    assert len(re.findall(before, text)) == 1
    (sources / file).write_text(re.sub(before, after, text))
    quick = {**os.environ, "CFLAGS": "-O0"}
    subprocess.run(["make", "-s", "-C", sources, f"build={tmp_path}"], env=quick, check=True)
    return tmp_path / "libsouppp.so"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("file", "before", "after", "reason"),
    [
        (
            "souppp.h",
            r"X\(uint16_t, vlan_count, \)",
            "X(uint32_t, vlan_count, )",
            "souppp_session: the whole is 848 octets at 0 there and 844 octets at 0 here",
        ),
        (
            "souppp.h",
            r"X\(bool, busy_poll, \)",
            "X(bool, busy_poll, ) X(bool, hurry, )",
            "souppp_options: hurry is 1 octets at 17 there and nothing here",
        ),
        (
            "counters.h",
            r"X\(rx_packets\) X\(rx_bytes\) X\(tx_packets\) X\(tx_bytes\)\n",
            "X(tx_packets) X(rx_packets) X(rx_bytes) X(tx_bytes)\n",
            "session_counters: rx_packets is 8 octets at 8 there and 8 octets at 0 here",
        ),
        ("own.h", "IPV6_OPEN = 2", "IPV6_OPEN = 4", "values: IPV6_OPEN is 4 there and 2 here"),
        ("datapath.c", '"cpu_ns", ', "", "counters of a queue: cpu_ns"),
    ],
)
def test_a_helper_with_another_struct_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, before: str, after: str, reason: str
) -> None:
    monkeypatch.setattr(datapath, "LIBRARY", changed(tmp_path, file, before, after))
    with pytest.raises(DatapathError) as caught:
        datapath._library()
    remedy = datapath.REMEDY
    assert str(caught.value) == f"the C helper is not the one that belongs to this program ({reason}): {remedy}"


@pytest.mark.usefixtures("fresh")
def test_a_helper_without_a_function_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = changed(tmp_path, "layout.c", "souppp_layout", "souppp_place_of_all")
    monkeypatch.setattr(datapath, "LIBRARY", library)
    with pytest.raises(DatapathError, match=f"souppp_layout.*{re.escape(datapath.REMEDY)}$"):
        datapath._library()


@pytest.mark.usefixtures("fresh")
def test_the_helper_that_belongs_here_is_taken() -> None:
    assert datapath._library() is datapath._library()
