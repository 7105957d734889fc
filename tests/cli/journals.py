"""Lines of a journal as an earlier start would have written them."""

SLUG = "demo-01ABC"
AT = "2026-01-02T03:04:05+00:00"
POLICY = {"impl_agents": ["scripted"], "review_agents": ["scripted"]}


def start_line(slug: str = SLUG, /, **changes: object) -> dict[str, object]:
    """Return the line that opens a start, with changes of its fields."""
    mission = {"slug": slug, "lanes": {}, "dependencies": {}}
    line = {"line": "run", "schema": 2, "at": AT, "mission": mission, "actor": "me", "version": "0.2.0"}
    return {**line, "policy": POLICY, **changes}
