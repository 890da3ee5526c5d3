"""The console. It knows `engine.api.values` and `engine.settings.values` and nothing else of the engine."""

__version__ = "0.1.0"
