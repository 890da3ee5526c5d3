"""What can be run: one file a command."""
