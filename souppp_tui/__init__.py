"""The console. It knows `engine.api` and `engine.settings` and nothing else of the engine."""

__version__ = "0.1.0"
