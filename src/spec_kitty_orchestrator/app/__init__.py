"""Puts the parts together: makes an `Orchestrator` with the default parts from settings and a repository."""
