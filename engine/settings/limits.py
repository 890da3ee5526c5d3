"""Every limit of what an operator can set, once."""

from __future__ import annotations

MAX_SESSIONS = 16_384
"""Of one engine. The in-kernel path takes it as the size of its tables: a power of two."""
