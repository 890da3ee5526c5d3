"""Coverage-guided fuzzing of all that takes octets from the line.

    python fuzz/fuzz_python.py session -max_total_time=60       with atheris; further options are libFuzzer's
    python fuzz/fuzz_python.py session --replay                 the corpus once, without atheris

Finds are written to build/fuzz; one that is a mistake becomes a file in fuzz/corpus, which a unit test replays.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CORPUS = ROOT / "fuzz" / "corpus"
BUILD = ROOT / "build" / "fuzz"


def main() -> int:
    """Run one target."""
    name, *options = sys.argv[1:] or [""]
    if options == ["--replay"]:
        from fuzz.targets import TARGETS

        for path in sorted((CORPUS / name).iterdir()):
            TARGETS[name](path.read_bytes())
        return 0
    try:
        import atheris
    except ImportError:
        print("Fuzzing needs atheris: pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["engine"]):
        from fuzz.targets import TARGETS
    if name not in TARGETS:
        print(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [libFuzzer's options]", file=sys.stderr)
        return 2
    found = BUILD / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-artifact_prefix={found}/crash-",
        "-max_len=8192",
        *options,
        str(found),
        str(CORPUS / name),
    ]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
