"""What may go wrong with the world outside."""

from __future__ import annotations


class Trouble(Exception):
    """Something outside doesn't do what it should. Its text is one line for the operator: what happened, what to do."""


class HostError(Trouble):
    """The host does not have, or does not let us do, what is needed."""


class Unseen(HostError):
    """Something has run out here, so that nobody can look: what was to be looked at may be as it was."""
