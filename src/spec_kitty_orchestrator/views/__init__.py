"""Shows: what becomes of a run's events for people; fed by events alone, it asks nobody."""
