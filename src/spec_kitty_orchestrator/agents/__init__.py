"""Speaks each agent CLI: pure argv building and output parsing, no processes."""
