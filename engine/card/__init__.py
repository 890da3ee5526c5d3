"""The card: its facts and changes, the XDP program on it, its queues."""
