"""QEMU, Debian's kernels and what else tests need, fetched as packages and unpacked under build/kernels, not installed.

apt-get does it with lists of its own. The mirror is the one that the machine's own configuration names; only the suites
are ours, for each kernel is in another. Root isn't needed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KERNEL_SUITES = ("bookworm", "bookworm-backports", "trixie", "trixie-backports")
QEMU_SUITES = {"bookworm": "bookworm-backports"}
"""Where a release's own QEMU lacks `igb` (new in 8.0)."""
QEMU_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios", "busybox-static")
LIBRARIES = "lib/x86_64-linux-gnu"
TOPS = (".", "usr")
"""Packages of before and after the merge of /usr hold their files in either."""
PATIENCE = 900.0
"""Seconds that a mirror gets."""


class Unavailable(Exception):
    """What is missing can't be had here: one line that says why."""


@dataclass(frozen=True, slots=True)
class Qemu:
    """An unpacked QEMU."""

    folder: Path

    @property
    def command(self) -> list[str | Path]:
        """The beginning of its command line."""
        share = self.folder / "usr/share"
        folders = (share / "qemu", share / "seabios")
        return [self.folder / "usr/bin/qemu-system-x86_64", *(word for each in folders for word in ("-L", each))]

    @property
    def environment(self) -> dict[str, str]:
        """What it is to find in its environment: it comes with libraries that the machine hasn't got."""
        libraries = [str(self.folder / top / LIBRARIES) for top in TOPS]
        modules = self.folder / "usr" / LIBRARIES / "qemu"
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "QEMU_MODULE_DIR": str(modules)}

    @property
    def busybox(self) -> Path:
        """A busybox that needs no library."""
        return next(path for top in TOPS if (path := self.folder / top / "bin" / "busybox").exists())


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel."""

    folder: Path

    @property
    def image(self) -> Path:
        """What QEMU boots."""
        return next(self.folder.glob("boot/vmlinuz-*"))

    @property
    def release(self) -> str:
        """As `uname -r` says."""
        return self.image.name.removeprefix("vmlinuz-")

    @property
    def modules(self) -> Path:
        """The folder of its modules."""
        found = (self.folder / top / "lib/modules" / self.release for top in TOPS)
        return next(folder for folder in found if folder.is_dir())


def qemu() -> Qemu:
    """QEMU, and what it needs that isn't installed here. Raises Unavailable."""
    with _locked():
        folder = FOLDER / "qemu"
        if not folder.exists():
            release = _os_release()
            suite = QEMU_SUITES.get(release, release)
            apt = _Apt(*{release: None, suite: None})
            options = ("--no-install-recommends", f"--target-release={suite}")
            plan = apt.say("get", "--simulate", *options, "install", *QEMU_PACKAGES)
            apt.unpack(folder, *options, *{*QEMU_PACKAGES, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)})
        return Qemu(folder)


def unpacked(package: str) -> Path:
    """A package of this machine's own release, without what it depends on. Raises Unavailable."""
    with _alone():
        folder = FOLDER / package
        if not folder.exists():
            _Apt(_os_release()).unpack(folder, package)
        return folder


def kernel(version: str) -> Kernel:
    """The newest kernel of a series such as `6.12`. Raises Unavailable."""
    with _locked():
        folder = FOLDER / version
        if not folder.exists():
            apt = _Apt(*KERNEL_SUITES)
            name = rf"linux-image-{re.escape(version)}\.[0-9][0-9.+-]*(deb[0-9]+)?-amd64"
            found = [line.split()[0] for line in apt.say("cache", "search", "--names-only", f"^{name}$").splitlines()]
            if not found:
                raise Unavailable(f"no suite of {', '.join(KERNEL_SUITES)} has a Linux {version}")
            apt.unpack(folder, max(found, key=lambda each: [int(number) for number in re.findall(r"\d+", each)]))
        return Kernel(folder)


@contextmanager
def _locked() -> Iterator[None]:
    """As `_alone`, for what guests are made of."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the guests share this machine's files and are x86_64, this is {platform.machine()}")
    with _alone():
        yield


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time fetches."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _os_release() -> str:
    """Debian's code name of this machine. Raises Unavailable."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    if codename is None or shutil.which("apt-get") is None:
        raise Unavailable("the packages are fetched with apt-get, this is another Linux")
    return codename


class _Apt:
    """apt with lists of its own of some suites; what is installed on this machine it knows."""

    def __init__(self, *suites: str) -> None:
        """Raises Unavailable."""
        self._folder = FOLDER / "apt" / "+".join(suites)
        self._options = (
            *("-o", f"Dir::Etc::SourceList={self._folder}/debian.sources"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", f"Dir::State::Lists={self._folder}/lists"),
            *("-o", f"Dir::Cache={self._folder}/cache"),
            *("-o", "APT::Sandbox::User="),
            *("-o", "Acquire::Languages=none"),
            *("-o", "Debug::NoLocking=true"),
        )
        for name in ("lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "debian.sources").write_text(
            f"Types: deb\nURIs: {_mirror()}\nSuites: {' '.join(suites)}\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        self.say("get", "update", "--error-on=any")

    def say(self, tool: str, *arguments: str, folder: Path | None = None) -> str:
        """What apt-get or apt-cache says. Raises Unavailable."""
        return _output(f"apt-{tool}", *self._options, *arguments, folder=folder)

    def unpack(self, folder: Path, *arguments: str) -> None:
        """Fetch packages and unpack them into a folder, which is there when all of it is. Raises Unavailable."""
        new = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        downloads = self._folder / "downloads"
        downloads.mkdir(exist_ok=True)
        self.say("get", "download", *arguments, folder=downloads)
        for package in downloads.glob("*.deb"):
            _output("dpkg-deb", "--extract", str(package), str(new))
        shutil.rmtree(downloads)
        new.rename(folder)


def _mirror() -> str:
    """Where this machine gets Debian from. Raises Unavailable."""
    release = _os_release()
    form = "$(REPO_URI) $(COMPONENT) $(RELEASE) $(CODENAME)"
    for line in _output("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
        uri, component, *names = line.split()
        if component == "main" and release in names:
            return uri
    raise Unavailable(f"apt's configuration names no mirror for {release}")


def _output(*command: str, folder: Path | None = None) -> str:
    """Raises Unavailable."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {PATIENCE:.0f} s") from None
    if done.returncode != 0:
        errors = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it didn't say why"]
        raise Unavailable(f"{command[0]}: {next((line for line in errors if line.startswith('E:')), errors[-1])}")
    return done.stdout
