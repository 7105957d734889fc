"""Shows a run to people; views get events and ask nobody."""
