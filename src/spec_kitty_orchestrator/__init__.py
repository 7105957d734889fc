"""Drives a whole spec-kitty mission unattended."""
