"""Talks to `spec-kitty orchestrator-api`."""
