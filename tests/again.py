"""Runs the few tests that failed in the last run once more, with nothing beside them.

    python -m tests.again

Five tests at a time on two processors can leave one of them without any for seconds. What fails alone as well is a
fault; what doesn't is told, and wants to be mended too. The exit code is that of the second run, 1 if there is none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FEW = 5
"""More than that is no accident."""
LAST_FAILED = Path("build/pytest/v/cache/lastfailed")


def main(file: Path = LAST_FAILED) -> int:
    """Returns the exit code."""
    failed = sorted(json.loads(file.read_text())) if file.exists() else []
    if not 0 < len(failed) <= FEW:
        return 1
    code = subprocess.run([sys.executable, "-m", "pytest", "--quiet", *failed], check=False).returncode
    if code == 0:
        print("Failed beside others and passed alone, please report it:", *failed, sep="\n  ", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
