"""The embedded lab: a network of its own with a PPPoE access concentrator of our own at its far end."""
