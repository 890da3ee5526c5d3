"""What is remembered: the journal, events, captures, and words for them."""
