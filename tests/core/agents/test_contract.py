"""The conformance check: every agent of ours passes it, and each broken promise is found."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.mutants import is_kept

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import Agent, AgentCommand, AgentSettings, Assignment, Permissions
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.testing import AgentContract, assert_contract, check_contract

EXAMPLES = Path(__file__).parents[3] / "examples"


class TestBuiltIn(AgentContract):
    @pytest.fixture(params=BUILT_IN)
    def agent(self, request: pytest.FixtureRequest) -> Agent:
        return find(str(request.param))


def own_agent() -> AgentSection:
    """Return what the example says of an agent of one's own."""
    text = (EXAMPLES / "own-agent.toml").read_text()
    return AgentSection.model_validate(tomllib.loads(text)["agents"]["my-bot"])


class TestDeclared(AgentContract):
    @pytest.fixture
    def agent(self) -> Agent:
        own = own_agent().declaration("my-bot")
        assert own is not None
        return Declared(own)

    @pytest.fixture
    def settings(self) -> AgentSettings:
        return AgentSettings(model=own_agent().model)


class TestFunctionAgent(AgentContract):
    @pytest.fixture
    def agent(self) -> Agent:
        async def function(prompt: str, workspace: Path, role: Role) -> str:
            raise AssertionError

        return FunctionAgent(function).named("mine")


def test_the_ten_lines_of_the_example_are_those_of_the_documentation() -> None:
    text = (EXAMPLES / "own-agent.toml").read_text()
    assert len(text.splitlines()) == 10
    shown = "".join(f"    {line}\n" for line in text.splitlines())
    assert shown in (EXAMPLES.parent / "docs" / "agents.md").read_text()


def test_an_agent_of_ones_own_with_text_keeps_it_on_the_word_of_its_exit_code() -> None:
    own = AgentSection.model_validate({"command": ["bot"]}).declaration("bot")
    assert own is not None
    noise = next(one for one in check_contract(Declared(own)) if one.name == "report.noise")
    assert (noise.ok, noise.text) == (True, "text with the exit code 0 is a result")


def changed(change: Callable[[AgentCommand, Assignment], AgentCommand]) -> Scripted:
    class Changed(Scripted):
        def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
            return change(super().command(task, settings), task)

    return Changed()


def words(*more: str) -> Scripted:
    return changed(lambda built, _: replace(built, argv=(*built.argv, *more)))


def reporting(report: Callable[[list[str], int | None], AgentReport]) -> Scripted:
    class Changed(Scripted):
        def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
            return report(list(stdout), exit_code)

    return Changed()


def failing(found: AgentReport) -> Scripted:
    return reporting(lambda _, __: found)


class Silent(Scripted):
    def permissions(self, role: Role) -> Permissions:
        return Permissions(None, "read_only", "none")  # type: ignore[arg-type]


class Secretive(Scripted):
    family = "monkey"

    def permissions(self, role: Role) -> Permissions:
        return Permissions("", "tokenized", "full")


def faulty_command(built: AgentCommand, _: Assignment) -> AgentCommand:
    raise KeyError(built.prompt)


def counting() -> Scripted:
    runs = iter(range(10**6))
    return changed(lambda built, _: replace(built, argv=(*built.argv, str(next(runs)))))


def fickle() -> Scripted:
    runs = iter(range(10**6))
    return reporting(lambda *_: AgentReport(Outcome.FAILED, detail=str(next(runs))))


@pytest.mark.parametrize(
    ("agent", "name", "told"),
    [
        (object(), "attributes", "it has no name (str)"),
        (Secretive(), "family", "the host refuses what contains 'key'"),
        (Secretive(), "permissions.review", "approval_mode must be a word, not ''"),
        (Silent(), "permissions.review", "its approval_mode must be a word, not None"),
        (words(""), "command.implement", "words that are not empty"),
        (words("a\0b"), "command.implement", "zero byte"),
        (words("--yolo"), "command.review", "'--yolo' is what the host bans"),
        (words("--mode=bypassPermissions"), "command.review", "allows the same"),
        (changed(faulty_command), "command.implement", "it raised KeyError('stdin')"),
        (changed(lambda built, _: replace(built, env={"M": "yolo"})), "command.implement", "'yolo' is what"),
        (changed(lambda *_: None), "command.implement", "returned NoneType"),  # type: ignore[arg-type]
        (counting(), "command.implement", "another command each time"),
        (changed(lambda built, _: replace(built, prompt="file")), "prompt.review", "must hold /"),
        (changed(lambda built, _: replace(built, prompt="argument")), "prompt.review", "must hold {prompt}"),
        (changed(lambda built, _: replace(built, argv=built.argv[:4])), "extra_args.review", "do not reach"),
        (changed(lambda built, _: replace(built, argv=built.argv[:4])), "session", "does not reach the argv"),
        (failing(AgentReport(Outcome.OK, "x")), "report.nothing", "without any output is ok"),
        (
            reporting(lambda lines, _: AgentReport(Outcome.OK if any(lines) else Outcome.FAILED)),
            "report.noise",
            "is ok: want a positive result",
        ),
        (
            reporting(lambda lines, code: AgentReport(Outcome.FAILED, text=lines[0])),
            "report.nothing",
            "it raised IndexError",
        ),
        (
            reporting(lambda lines, code: AgentReport(Outcome.FAILED, text="".join(lines))),
            "report.noise",
            "valid UTF-8 without zero bytes",
        ),
        (failing(None), "report.nothing", "returned NoneType"),  # type: ignore[arg-type]
        (failing(AgentReport(Outcome.FAILED, usage=Usage(-1, 0))), "report.events", "must be finite and not"),
        (failing(AgentReport("ok", "x")), "report.nothing", "its outcome is not an Outcome: 'ok'"),  # type: ignore[arg-type]
        (changed(lambda *_: AgentCommand(())), "command.review", "its argv is not a tuple of words: ()"),
        (changed(lambda built, _: replace(built, env=None)), "command.review", "its env does not map names"),  # type: ignore[arg-type]
        (fickle(), "report.nothing", "another report each time"),
    ],
)
def test_each_broken_promise_is_found_by_its_name(agent: object, name: str, told: str) -> None:
    wrong = {one.name: one.text for one in reversed(check_contract(agent, about=name)) if not one.ok}
    assert told in wrong[name]


def test_a_broken_promise_fails_a_test_of_the_suite_that_says_it() -> None:
    fixtures: dict[str, Callable[[], object]] = {
        "agent": lambda: words("--yolo"),
        "settings": AgentSettings,
    }
    command = "test_its_command_depends_on_the_task_alone_and_holds_nothing_that_the_host_bans"
    assert not is_kept(AgentContract, command, fixtures)
    assert is_kept(AgentContract, "test_its_command_takes_the_prompt_as_it_says", fixtures)
    assert not is_kept(AgentContract, "test_no_output_is_no_result", {**fixtures, "agent": object})
    with pytest.raises(AssertionError, match=r"command.review: '--yolo' is what the host bans"):
        assert_contract(words("--yolo"))


def test_a_banned_word_in_the_environment_of_the_settings_is_found_too() -> None:
    loose = AgentSettings(env={"MODE": "yolo"})
    broken = {one.name: one.text for one in check_contract(Scripted(), loose) if not one.ok}
    assert "'yolo' is what the host bans" in broken["command.implement"]
