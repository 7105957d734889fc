"""An interactive view of a mission's run: pure functions make lines of a report, one widget draws them."""
