"""What every `agents.spec.Agent` promises, as far as that shows without running it."""

import pytest

from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.testing.agent_contract import check_contract
from spec_kitty_orchestrator.testing.contracts import Contract

__all__ = ["AgentContract"]


def _holds(agent: Agent, settings: AgentSettings, about: str) -> None:
    wrong = [one.text for one in check_contract(agent, settings, about) if not one.ok]
    assert wrong == []


class AgentContract(Contract):
    """The suite for an `agents.spec.Agent`.

    A subclass gives the fixture `agent`, and `settings` where the agent needs any.
    """

    @pytest.fixture
    def agent(self) -> Agent:
        """Return the agent."""
        raise NotImplementedError("give the class a fixture agent that returns the agent")

    @pytest.fixture
    def settings(self) -> AgentSettings:
        """Return what the configuration says of it: nothing."""
        return AgentSettings()

    def test_it_has_all_attributes_and_methods(self, agent: Agent, settings: AgentSettings) -> None:
        """Each of its type."""
        _holds(agent, settings, "attributes")

    def test_its_family_is_a_word_that_the_host_takes(self, agent: Agent, settings: AgentSettings) -> None:
        """The host refuses words such as `token` in a policy."""
        _holds(agent, settings, "family")

    def test_its_command_depends_on_the_task_alone_and_holds_nothing_that_the_host_bans(
        self, agent: Agent, settings: AgentSettings
    ) -> None:
        """It is built again after a crash, and the policy must be true of it."""
        _holds(agent, settings, "command")

    def test_its_command_takes_the_prompt_as_it_says(self, agent: Agent, settings: AgentSettings) -> None:
        """On standard input, in a file, or as a word."""
        _holds(agent, settings, "prompt")

    def test_extra_arguments_of_a_person_reach_its_command(
        self, agent: Agent, settings: AgentSettings
    ) -> None:
        """As they are."""
        _holds(agent, settings, "extra_args")

    def test_a_session_reaches_its_command_if_it_can_go_on_with_one(
        self, agent: Agent, settings: AgentSettings
    ) -> None:
        """And no other one's does."""
        _holds(agent, settings, "session")

    def test_it_tells_what_it_may_do_in_words_that_the_host_takes(
        self, agent: Agent, settings: AgentSettings
    ) -> None:
        """In each of its roles."""
        _holds(agent, settings, "permissions")

    def test_no_output_is_no_result(self, agent: Agent, settings: AgentSettings) -> None:
        """Whatever the exit code."""
        _holds(agent, settings, "report.nothing")

    def test_noise_is_no_result_and_raises_nothing(self, agent: Agent, settings: AgentSettings) -> None:
        """Garbage, torn JSON, huge lines."""
        _holds(agent, settings, "report.noise")

    def test_events_of_an_unknown_shape_raise_nothing(self, agent: Agent, settings: AgentSettings) -> None:
        """What a later version of the CLI may print."""
        _holds(agent, settings, "report.events")
