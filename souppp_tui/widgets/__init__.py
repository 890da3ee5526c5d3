"""Widgets that draw lines and know no engine."""
