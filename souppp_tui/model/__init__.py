"""What the console knows beside the board."""
