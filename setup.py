"""What a wheel holds beside the modules: the files of `engine.host.files`, the man page, completions, an example.

A wheel is for one kind of machine, as the helper is compiled, and for every Python, as it knows nothing of Python.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from distutils.command.install_data import install_data  # setuptools brings it along
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from engine.host.files import IN_CHECKOUT, PRIVATE  # noqa: E402
from souppp_tui.commands.completions import completion  # noqa: E402

COMPLETIONS = {
    "bash": "share/bash-completion/completions/souppp-tui",
    "zsh": "share/zsh/site-functions/_souppp-tui",
    "fish": "share/fish/vendor_completions.d/souppp-tui.fish",
}


class Compiled(Distribution):
    def has_ext_modules(self) -> bool:
        return True


class BuildModules(build_py):
    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # what is no longer in the project isn't in the wheel
        super().run()
        subprocess.run(["make", "--silent", "-C", "engine/datapath"], cwd=ROOT, check=True)
        if not (ROOT / "build" / "bcc-headers").is_dir():
            subprocess.run(["scripts/bcc-headers", "build/bcc-headers"], cwd=ROOT, check=True)
        destination = Path(self.build_lib) / PRIVATE.relative_to(ROOT)
        destination.mkdir()
        for name, folder in IN_CHECKOUT.items():
            source = ROOT / folder / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, destination / name)


class InstallData(install_data):
    def run(self) -> None:
        super().run()
        for shell, name in COMPLETIONS.items():
            file = Path(self.install_dir) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(completion(shell))
            self.outfiles.append(str(file))


class Wheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    distclass=Compiled,
    cmdclass={"build_py": BuildModules, "install_data": InstallData, "bdist_wheel": Wheel},
    data_files=[
        ("share/man/man8", ["man/souppp-tui.8"]),
        ("share/doc/souppp-tui", ["docs/example.yaml", "docs/config.schema.json"]),
        ("share/doc/souppp-tui/monitoring", ["docs/monitoring/alerts.yaml", "docs/monitoring/dashboard.json"]),
    ],
)
