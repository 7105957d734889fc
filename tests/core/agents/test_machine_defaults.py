"""Our settings for a CLI stand below everybody else's, and never in the place of a machine's own."""

from pathlib import Path

from spec_kitty_orchestrator.agents.machine_defaults import machine_defaults, ours


def test_our_file_is_named_unless_the_machine_has_one(tmp_path: Path) -> None:
    own = tmp_path / "system-defaults.json"
    named = {"X_DEFAULTS": str(ours("gemini_defaults.json"))}
    assert machine_defaults("X_DEFAULTS", "gemini_defaults.json", (own,)) == named
    assert ours("gemini_defaults.json").is_file()
    own.write_text("{}")
    assert machine_defaults("X_DEFAULTS", "gemini_defaults.json", (tmp_path / "no", own)) == {}


def test_a_place_that_cannot_be_looked_at_holds_nothing() -> None:
    unusable = Path("/" + "x" * 5_000)
    assert machine_defaults("X_DEFAULTS", "gemini_defaults.json", (unusable,))
