"""The app: looks at the engine, shows pages, hands over what the operator wants."""
