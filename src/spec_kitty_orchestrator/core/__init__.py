"""Decides: pure functions over frozen data, the standard library only."""
