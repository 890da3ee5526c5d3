"""Tests of the PPP machines, one at a time."""
