"""Values that a console gets."""
