"""Tests of the console, against a scripted engine."""
