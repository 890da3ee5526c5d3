"""Why a program could not be compiled or loaded, out of what bcc, its compiler and the kernel's verifier write.

Pure. The verifier follows every way through a program and writes each step down; the last words before its statistics
say what it refused.
"""

from __future__ import annotations

import re

WORDS = 2
"""Lines of the verifier's last words: the second often says in general what the first says in numbers."""

_STATISTICS = re.compile(r"processed \d+ insns")
_STEP = re.compile(r"\d+: |from \d+ to \d+|;|R\d+(_\w+)?=|func#|last_idx|parent |regs=|mark_precise|-- BEGIN|bpf: ")
"""How the lines begin that tell of its way."""
_COMPILER = re.compile(r"[^;].*\berror: ")
_LOADER = re.compile(r"bpf: (?:Failed to load program: )?(.*)")


def reason(complaint: str) -> str:
    """One line: what the compiler or the verifier objects to, else the loader's last words, or nothing."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    for line in lines:
        if _COMPILER.match(line):
            return line
    ends = [place for place, line in enumerate(lines) if _STATISTICS.match(line)]
    if ends and (words := _last_words(lines[: ends[-1]])):
        return ", ".join(words)
    refusals = [found[1] for line in lines if (found := _LOADER.match(line))]
    return (refusals or lines or [""])[-1]


def _last_words(lines: list[str]) -> list[str]:
    words: list[str] = []
    for line in reversed(lines):
        if _STEP.match(line) or len(words) == WORDS:
            break
        words.insert(0, line)
    return words
