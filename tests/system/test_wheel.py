"""The wheel, and what is made of it: built from a copy of the checkout, and run from a folder that knows nothing of it.

What the Debian package does to a whole system is tried by `make test-distros`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from engine.host.files import IN_CHECKOUT, PRIVATE
from souppp_tui.commands.completions import completion
from tests.conftest import ROOT, run
from tests.terminal import Terminal, needs_tmux

pytestmark = pytest.mark.usefixtures("needs_root")

NOT_BUILT_FROM = (".git", ".venv", "build", "tests", "screenshots", "souppp_tui.egg-info")
BOTH_PATHS = """\
sessions:
  - {name: "own-{n}", user: alice, password: lab, autodial: true, count: 2}
  - {name: kernel, user: alice, password: lab, autodial: true, datapath: kernel}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built where other tests don't build at the same time."""
    copy, folder = tmp_path_factory.mktemp("some one") / "checkout", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, copy, ignore=lambda path, _: NOT_BUILT_FROM if path == str(ROOT) else ())
    (copy / "build").mkdir()
    for name in ("libsouppp.so", "bcc-headers"):
        source = ROOT / "build" / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / "build" / name)
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with the packages that this checkout's has."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    run("/usr/bin/python3", "-m", "venv", "--system-site-packages", "--without-pip", venv)
    run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "-qq", "--no-deps", wheel)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return venv


def test_it_holds_all_that_runs_and_all_that_is_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        share = next(name for name in names if name.endswith("/share/man/man8/souppp-tui.8")).rpartition("man/man8/")[0]
        for file, source in [
            ("man/man8/souppp-tui.8", "man/souppp-tui.8"),
            ("doc/souppp-tui/example.yaml", "docs/example.yaml"),
            ("doc/souppp-tui/config.schema.json", "docs/config.schema.json"),
            ("doc/souppp-tui/monitoring/alerts.yaml", "docs/monitoring/alerts.yaml"),
            ("doc/souppp-tui/monitoring/dashboard.json", "docs/monitoring/dashboard.json"),
        ]:
            assert archive.read(share + file) == (ROOT / source).read_bytes()
        for shell, file in [
            ("bash", "bash-completion/completions/souppp-tui"),
            ("zsh", "zsh/site-functions/_souppp-tui"),
            ("fish", "fish/vendor_completions.d/souppp-tui.fish"),
        ]:
            assert archive.read(share + file).decode() == completion(shell)
    private = str(PRIVATE.relative_to(ROOT))
    for name, folder in IN_CHECKOUT.items():
        source = ROOT / folder / name
        files = [path for path in source.rglob("*") if path.is_file()] or [source]
        assert {f"{private}/{path.relative_to(source.parent)}" for path in files} <= names
    modules = {
        str(path.relative_to(ROOT)) for package in ("engine", "souppp_tui") for path in (ROOT / package).rglob("*.py")
    }
    assert modules == {name for name in names if name.endswith(".py")}


def test_its_tag_says_that_it_is_for_this_kind_of_machine_and_any_python(wheel: Path) -> None:
    assert re.fullmatch(rf"souppp_tui-[0-9.]+-py3-none-linux_{os.uname().machine}\.whl", wheel.name)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with an `engine` that is none of ours."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    return tmp_path


def ran(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command that has run there, without what Python may have been told by the variables of this process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_the_lab_comes_up_from_any_folder_on_both_data_paths(installed: Path, elsewhere: Path) -> None:
    config = elsewhere / "sessions.yaml"
    config.write_text(BOTH_PATHS)
    program = installed / "bin" / "souppp-tui"
    done = ran(elsewhere, program, "--lab", "--config", config, "--headless", "--until-up")
    assert done.returncode == 0, done.stdout + done.stderr
    sessions = [said for said in map(json.loads, done.stdout.splitlines()) if "event" not in said]
    assert [said["state"] for said in sessions] == ["up"] * 3


@needs_tmux
def test_the_console_shows_the_lab(installed: Path, elsewhere: Path) -> None:
    with closing(Terminal(elsewhere)) as terminal:
        terminal.start(f"--chdir={elsewhere} {installed / 'bin' / 'souppp-tui'} --lab --sessions 2")
        terminal.shows("2 up", "lab-02")
        terminal.type("q")
        terminal.shows("Quit and hang up 2 sessions?")
        terminal.type("y")
        assert terminal.ended() == 0


def test_without_privileges_it_says_so_in_one_line(installed: Path, elsewhere: Path) -> None:
    nobody = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
    done = ran(elsewhere, *nobody, installed / "bin" / "souppp-tui", "--lab", "--headless")
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("souppp-tui: needs to run as root, or with CAP_NET_ADMIN")


def test_a_virtual_environment_without_system_packages_is_told_of(installed: Path, elsewhere: Path) -> None:
    settings = installed / "pyvenv.cfg"
    usual = settings.read_text()
    settings.write_text(usual.replace("include-system-site-packages = true", "include-system-site-packages = false"))
    try:
        done = ran(elsewhere, installed / "bin" / "souppp-tui", "--lab", "--headless")
    finally:
        settings.write_text(usual)
    assert (done.returncode, done.stdout) == (3, "")
    assert "--system-site-packages" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_make_install_needs_no_virtual_environment(wheel: Path, elsewhere: Path) -> None:
    prefix = elsewhere / "opt of ours"
    run(sys.executable, ROOT / "scripts" / "install", wheel, prefix)
    assert {path.name for path in prefix.iterdir()} == {"bin", "lib", "share"}
    assert {path.name for path in (prefix / "lib").iterdir()} == {"souppp-tui", "systemd"}
    done = ran(elsewhere, prefix / "bin" / "souppp-tui", "--lab", "--sessions", "2", "--headless", "--until-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(elsewhere, "/usr/bin/python3", "-c", "import textual; print(textual.__file__)").stdout == ""
    unit = (prefix / "lib" / "systemd" / "system" / "souppp@.service").read_text()
    assert f'ExecStart="{prefix}/bin/souppp-tui" serve %I ' in unit
    done = ran(elsewhere, prefix / "bin" / "souppp-tui", "exporter", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_the_debian_package_says_what_it_needs_and_keeps_to_its_folder(wheel: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "COMPRESSION": "none"}
    subprocess.run([ROOT / "scripts" / "deb", wheel, tmp_path], env=environment, check=True, timeout=60)
    (package,) = tmp_path.glob("souppp-tui_*.deb")
    depends = run("dpkg-deb", "-f", package, "Depends").strip().split(", ")
    libraries = {"libc6", "libxdp1", "libbpf1"}
    assert {word.split()[0] for word in depends} == libraries | {"python3", "python3-bpfcc", "iproute2"}
    major, minor = sys.version_info[:2]
    assert {f"python3 (>= {major}.{minor})", f"python3 (<< {major}.{minor + 1})"} < set(depends)
    lines = [line.split(maxsplit=5) for line in run("dpkg-deb", "-c", package).splitlines()]
    assert {line[1] for line in lines} == {"root/root"}
    files = {line[5].removeprefix("./") for line in lines if not line[5].endswith("/")}
    assert {name for name in files if not name.startswith("usr/lib/souppp-tui/")} == {
        "usr/bin/souppp-tui",
        "usr/lib/systemd/system/souppp-exporter@.service",
        "usr/lib/systemd/system/souppp@.service",
        "usr/share/bash-completion/completions/souppp-tui",
        "usr/share/doc/souppp-tui/changelog.gz",
        "usr/share/doc/souppp-tui/config.schema.json",
        "usr/share/doc/souppp-tui/copyright",
        "usr/share/doc/souppp-tui/example.yaml",
        "usr/share/doc/souppp-tui/monitoring/alerts.yaml",
        "usr/share/doc/souppp-tui/monitoring/dashboard.json",
        "usr/share/fish/vendor_completions.d/souppp-tui.fish",
        "usr/share/man/man8/souppp-tui.8.gz",
        "usr/share/zsh/vendor-completions/_souppp-tui",
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize(("name", "exposure"), [("souppp", 30), ("souppp-exporter", 20)])
def test_systemd_takes_the_units(wheel: Path, tmp_path: Path, name: str, exposure: int) -> None:
    """`exposure` is ten times what `systemd-analyze security` says at most; less than 30 is "OK"."""
    run(sys.executable, ROOT / "scripts" / "install", wheel, tmp_path / "usr")
    unit = tmp_path / f"{name}@eth0.service"
    unit.write_bytes((tmp_path / "usr" / "lib" / "systemd" / "system" / f"{name}@.service").read_bytes())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={exposure}", unit],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
