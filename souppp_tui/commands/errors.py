"""What keeps the program from running."""


class CannotRunError(Exception):
    """It can't run here (privileges, kernel, packages, card, terminal): one line for the operator."""
