"""Runs: performs commands, feeds events to `core` and keeps the journal; sees ports and core only."""
