"""Agents of other distributions: found by their entry points, loaded when asked for, never trusted."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spec_kitty_orchestrator.agents import BUILT_IN, find, names
from spec_kitty_orchestrator.agents.fit import misfits
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.core.model import Outcome
from spec_kitty_orchestrator.errors import PreflightError, UsageError
from spec_kitty_orchestrator.testing.agent_contract import assert_contract

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugin" / "echo_bot.py"
GOOD = """
from spec_kitty_orchestrator.agents.scripted import Scripted
class Bot(Scripted):
    name = "bot"
bot = Bot()
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution with one module and entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(module: str, source: str, distribution: str = "acme-bots", **entries: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in entries.items()]
        group = "[spec_kitty_orchestrator.agents]\n"
        (info / "entry_points.txt").write_text(group + "\n".join(lines) + "\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return make


def refusal(name: str) -> str:
    with pytest.raises(PreflightError) as caught:
        find(name)
    return str(caught.value)


@pytest.mark.parametrize("value", ["acme_one:Bot", "acme_one:bot"])
def test_a_class_and_an_instance_are_agents(install: Install, value: str) -> None:
    install("acme_one", GOOD, bot=value)
    assert names() == (*BUILT_IN, "bot")
    assert find("bot").name == "bot"
    assert "acme_one" in sys.modules


def test_what_is_not_asked_for_is_not_loaded(install: Install) -> None:
    install("acme_two", "raise RuntimeError('loaded')", bot="acme_two:Bot")
    assert "bot" in names()
    assert find("codex").name == "codex"
    with pytest.raises(UsageError, match="did you mean 'bot'"):
        find("bott")
    assert "acme_two" not in sys.modules


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise RuntimeError('no licence\\nat all')", "RuntimeError: no licence; fix or uninstall"),
        ("import nonsense_that_is_not_there", "ModuleNotFoundError: No module named"),
        ("import sys; sys.exit(0)", "SystemExit: 0; fix"),
        ("def", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("class Bot:\n    def __init__(self, key): pass", "TypeError"),
        ("class Bot: pass", "is no agent of this version: it has no name (str); it has no family (str)"),
        (GOOD + "Bot.roles = frozenset()", "its roles is empty"),
        (GOOD + "Bot.roles = {'review'}", "its roles is not a frozenset: {'review'}"),
        (GOOD + "Bot.environment = 'PATH'", "its environment is not a tuple: 'PATH'"),
        (GOOD + "Bot.traces = (1,)", "its traces holds something that is not text: (1,)"),
        (GOOD + "Bot.roles = frozenset({'plan'})", "its roles holds something that is not a Role"),
        (GOOD + "Bot.report = None", "it has no method report"),
        (GOOD + "Bot.name = 'other'", "it calls itself 'other'"),
    ],
)
def test_one_that_is_no_agent_is_an_error_that_names_its_distribution(
    install: Install, source: str, told: str
) -> None:
    install("acme_three", source, bot="acme_three:Bot")
    message = refusal("bot")
    assert message.startswith("agent bot of the distribution acme-bots 1.2 (acme_three:Bot) ")
    assert told in message
    assert "\n" not in message
    assert find("scripted").name == "scripted"


def test_a_plug_in_takes_no_name_of_a_built_in_agent(install: Install) -> None:
    install("acme_four", GOOD, codex="acme_four:Bot")
    assert names() == tuple(BUILT_IN)
    assert find("codex") is BUILT_IN["codex"]


def test_two_distributions_with_one_name_are_told_apart_by_a_person(install: Install) -> None:
    install("acme_five", GOOD, bot="acme_five:Bot")
    install("acme_six", GOOD, distribution="evil-bots", bot="acme_six:Bot")
    message = refusal("bot")
    assert message.startswith("agent bot is offered by several distributions (")
    assert "acme-bots 1.2" in message
    assert "evil-bots 1.2" in message


def test_what_an_agent_must_have_is_what_the_protocol_says() -> None:
    class Nothing:
        pass

    missed = re.findall(r"it has no (?:method )?(\w+)", "; ".join(misfits(Nothing())))
    assert missed == [*Agent.__annotations__, "command", "permissions", "report"]
    assert misfits(Scripted()) == []


def test_the_example_is_an_agent_that_keeps_the_contract(install: Install, tmp_path: Path) -> None:
    install("echo_bot", "", echo_bot="echo_bot:EchoBot")
    shutil.copy(EXAMPLE, tmp_path)
    agent = find("echo-bot")
    assert_contract(agent)
    found = agent.report(iter(["one", "two"]), "", 0)
    assert (found.outcome, found.text) == (Outcome.OK, "one\ntwo")
    assert agent.report(iter(["one"]), "no", 1).outcome is Outcome.FAILED
