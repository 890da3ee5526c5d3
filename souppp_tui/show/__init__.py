"""Values to text and colour; pure."""
