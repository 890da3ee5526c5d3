"""The console. It knows `engine.api` and `engine.settings` and nothing else of the engine."""
