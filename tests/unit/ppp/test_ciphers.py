"""What the import of MS-CHAPv2's library does besides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_no_program_is_run_by_importing_it(tmp_path: Path) -> None:
    for name in ("file", "uname", "gcc", "ldconfig"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/run\n")
        program.chmod(0o755)
    script = "from engine.ppp.mschapv2 import nt_password_hash; print(nt_password_hash('clientPass').hex())"
    environment = os.environ | {"PATH": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "44ebba8d5312b8d611474411f56989ae"  # RFC 2759 section 9.2
    assert not (tmp_path / "run").exists()
