"""What goes to the terminal, and what comes from it: output, keys, signals."""
