"""What a console may know and ask: values."""
