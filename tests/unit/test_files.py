"""Files that are no modules: found in a checkout; what to do where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import datapath
from engine.card import xdp
from engine.datapath import DatapathError
from engine.host.files import IN_CHECKOUT, private
from tests.conftest import ROOT, run


@pytest.fixture
def loading_anew() -> Iterator[None]:
    """The helper is loaded once a process: not so in this test."""
    datapath._library.cache_clear()
    yield
    datapath._library.cache_clear()


@pytest.mark.parametrize("name", IN_CHECKOUT)
def test_all_are_found_in_a_checkout(name: str) -> None:
    assert private(name).exists()
    assert private(name).is_relative_to(ROOT)


def test_what_nobody_lists_is_not_looked_for() -> None:
    with pytest.raises(KeyError):
        private("sessions.yaml")


def test_without_headers_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdp, "HEADERS", tmp_path / "bcc-headers")
    with pytest.raises(xdp.XdpError, match="run `make setup`"):
        xdp.Loading()


def test_without_the_helper_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading_anew: None
) -> None:
    monkeypatch.setattr(datapath, "LIBRARY", tmp_path / "libsouppp.so")
    with pytest.raises(DatapathError, match="run `make setup`"):
        datapath._library()


def test_a_helper_whose_libraries_are_missing_names_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading_anew: None
) -> None:
    gone, helper = tmp_path / "libgone.so", tmp_path / "libsouppp.so"
    (tmp_path / "gone.c").write_text("int gone(void) { return 0; }\n")
    (tmp_path / "helper.c").write_text("int gone(void);\nint helper(void) { return gone(); }\n")
    run("cc", "-shared", "-fPIC", "-o", gone, tmp_path / "gone.c")
    run("cc", "-shared", "-fPIC", "-o", helper, tmp_path / "helper.c", gone)
    gone.unlink()
    monkeypatch.setattr(datapath, "LIBRARY", helper)
    with pytest.raises(DatapathError, match=r"libgone\.so.*run `apt-get install libxdp1 libbpf1`"):
        datapath._library()


def test_a_helper_of_another_release_is_to_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loading_anew: None
) -> None:
    helper = tmp_path / "libsouppp.so"
    (tmp_path / "helper.c").write_text("int souppp_open(void) { return 0; }\n")
    run("cc", "-shared", "-fPIC", "-o", helper, tmp_path / "helper.c")
    monkeypatch.setattr(datapath, "LIBRARY", helper)
    with pytest.raises(DatapathError, match=r"undefined symbol: souppp_.*run `make setup`"):
        datapath._library()
