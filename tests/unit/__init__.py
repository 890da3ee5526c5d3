"""Tests that need no root and no card: codecs, machines in virtual time, configuration."""
