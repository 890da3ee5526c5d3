"""What touches the host and knows nothing of sessions."""
