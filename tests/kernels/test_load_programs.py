"""Every XDP program loads on the oldest kernel, booted in QEMU: Linux's verifier differs by version.

On the others `make test-kernels` loads them; after a change in bpf/, run it.
"""

from __future__ import annotations

import pytest

from tests.kernels import packages
from tests.kernels.guest import Guest, GuestError, compile_modules

OLDEST = "6.1"
LOADED = """\
souppp with the in-kernel data path: attached, native mode
push: attached
"""


@pytest.mark.timeout(1800)
def test_every_program_loads_and_attaches() -> None:
    try:
        qemu, kernel = packages.qemu(), packages.kernel(OLDEST)
    except packages.Unavailable as reason:
        pytest.skip(f"no guest with Linux {OLDEST}: {reason}")
    compile_modules()
    try:
        running, said = loaded(qemu, kernel)
    except GuestError:  # QEMU itself ends now and then with a failed assertion, where it emulates the processor
        running, said = loaded(qemu, kernel)
    assert running.startswith(f"{OLDEST}.")
    assert said == LOADED


def loaded(qemu: packages.Qemu, kernel: packages.Kernel) -> tuple[str, str]:
    """The kernel's release in a guest, and what is said of the programs there. Raises GuestError."""
    with Guest(qemu, kernel) as guest:
        return guest.run("uname -r"), guest.run("python -m tests.kernels.load_programs 2>&1")
