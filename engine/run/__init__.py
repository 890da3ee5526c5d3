"""The loop and the thread that the engine runs in."""
