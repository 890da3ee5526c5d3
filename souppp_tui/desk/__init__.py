"""What the app and its pages agree on: what a page may ask, which actions there are, what the operator can set."""
