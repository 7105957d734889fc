"""Puts the parts together: settings and a repository become an `Orchestrator` with the default parts."""
