"""A disk that boots Debian with systemd, with this checkout's package installed as an operator installs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.kernels.packages import ROOT, Kernel, Unavailable

FOLDER = ROOT / "build" / "service"
DISTROS = ROOT / "build" / "distros"
SPARE = 300
"""MiB that are free on it."""
AGENT = ROOT / "tests" / "kernels" / "agent"
SIP = Path(__file__).with_name("sip.py")
AGENT_UNIT = """\
[Unit]
Description=The test's commands
[Service]
Environment=HOME=/root LANG=C.UTF-8 TERM=dumb
ExecStart=/bin/sh -c 'exec bash /root/agent /root "$(sed "s/.*MARK=\\\\([0-9a-f]*\\\\).*/\\\\1/" /proc/cmdline)"'
[Install]
WantedBy=multi-user.target
"""
SETTINGS = {
    "journald.conf.d/console.conf": "[Journal]\nForwardToConsole=yes\nMaxLevelConsole=info\n",
    "system/service.d/slow.conf": "[Service]\nTimeoutSec=900\n",
}
"""What is seen of it where it doesn't answer; and QEMU's processor is slow."""
NOT_STARTED = ("getty@tty1.service", "serial-getty@ttyS0.service", "apt-daily.timer", "apt-daily-upgrade.timer")
"""What of a bare Debian only costs time here."""


def made(release: str, kernel: Kernel) -> Path:
    """The disk of a release such as `trixie`, made anew; raises Unavailable."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"{release}.log"
    with log.open("w") as said:
        done = subprocess.run(
            [ROOT / "scripts" / "distro", release, "--service"], stdout=said, stderr=said, check=False
        )
    if done.returncode != 0:
        raise Unavailable(f"no bare Debian {release} to be had; what was said is in {log}")
    root = DISTROS / f"{release}-service"
    _furnish(root, kernel)
    disk = FOLDER / f"{release}.ext4"
    size = int(subprocess.run(["du", "-sm", root], check=True, capture_output=True, text=True).stdout.split()[0])
    options = ("-q", "-F", "-m", "0", "-O", "^has_journal", "-d", root)
    new = FOLDER / f"{release}.new"  # a guest may run on the old one
    with new.open("wb") as empty:
        empty.truncate((size * 11 // 10 + SPARE) << 20)
    subprocess.run(["mkfs.ext4", *options, new], check=True)
    return new.rename(disk)


def _furnish(root: Path, kernel: Kernel) -> None:
    """Give it the kernel's modules, a name, and a way in."""
    modules = root / "usr/lib/modules" / kernel.release
    if not (modules / "modules.dep").exists():
        shutil.copytree(kernel.modules, modules, symlinks=True, dirs_exist_ok=True)
        subprocess.run(["chroot", root, "depmod", kernel.release], check=True)
    (root / "etc/hostname").write_text("guest\n")
    for file in (AGENT, SIP):
        shutil.copy(file, root / "root")
    units = root / "etc/systemd/system"
    (units / "agent.service").write_text(AGENT_UNIT)
    wanted = units / "multi-user.target.wants" / "agent.service"
    wanted.parent.mkdir(exist_ok=True)
    wanted.unlink(missing_ok=True)
    wanted.symlink_to("../agent.service")
    for name, text in SETTINGS.items():
        file = root / "etc/systemd" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    for name in NOT_STARTED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
