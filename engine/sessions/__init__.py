"""Sessions and the fleet of them, without I/O."""
