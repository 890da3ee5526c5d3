"""What may go wrong with the host."""

from __future__ import annotations


class HostError(Exception):
    """The host does not have, or does not let us do, what is needed: one line for the operator."""
