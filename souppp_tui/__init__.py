"""The console and the command line. All but `commands` know `engine.api` and `engine.settings` alone of the engine."""

__version__ = "0.1.0"
