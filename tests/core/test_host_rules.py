"""Other names of what the host bans, as the parsers of the agents' CLIs read them."""

import pytest

from spec_kitty_orchestrator.core.host_rules import other_name


@pytest.mark.parametrize("agent", ["gemini", "qwen"])
@pytest.mark.parametrize(
    "word", ["-y", "--y", "-dy", "-yd", "-y=true", "--y=true", "-my", "-.y", "--y.a", "-sdy1"]
)
def test_a_short_name_of_a_banned_flag_is_found_among_other_letters(agent: str, word: str) -> None:
    assert other_name(agent, word)


@pytest.mark.parametrize("agent", ["gemini", "qwen"])
@pytest.mark.parametrize("word", ["-d", "-m=my", "-m/y", "--yes", "--policy", "y", "my-model", "-", "--", ""])
def test_words_that_the_parser_does_not_take_for_it_are_left_alone(agent: str, word: str) -> None:
    assert not other_name(agent, word)


def test_what_one_cli_takes_for_a_banned_flag_another_one_may_use() -> None:
    assert other_name("cursor", "-pf")
    assert other_name("letta", "--permission-mode=fullAccess")
    assert not other_name("codex", "-y")
