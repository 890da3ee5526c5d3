"""The supervisor whole, in virtual time."""
