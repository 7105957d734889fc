"""Touches this machine: processes, git, files."""
