"""What takes a session's IP packets on this host."""
