"""Agents of one's own and of plug-ins, as a user meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from spec_kitty_orchestrator.app.build import build_agents
from spec_kitty_orchestrator.app.project import open_project
from spec_kitty_orchestrator.errors import PreflightError

Project = Any  # the class lives in conftest, which tests cannot import

PLUGIN = """
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import AgentCommand, Permissions
class Good(Scripted):
    name = "good"
class Bad(Scripted):
    name = "bad"
    def command(self, task, settings):
        raise KeyError("model")
class Empty(Scripted):
    name = "empty"
    def command(self, task, settings):
        return AgentCommand(())
class Bare(Scripted):
    name = "bare"
    def command(self, task, settings):
        return AgentCommand(("true",), env=None)
class Mute(Scripted):
    name = "mute"
    def permissions(self, role):
        return Permissions(None, "read_only", "none")
"""


def test_agents_that_are_not_chosen_now_can_still_read_what_their_attempts_left(project: Project) -> None:
    project.configure(
        '[agents.my-bot]\ncommand = ["true"]\nenv = { MY_BOT_KEY = "s3cr3t-of-my-bot" }\nfamily = "acme"'
    )
    chosen = {"impl_agents": "codex", "review_agents": "codex"}
    opened = open_project(project.root, {}, chosen)
    agents = build_agents(opened)
    assert [agents.agent(name)[0].name for name in ("claude-code", "my-bot")] == ["claude-code", "my-bot"]
    assert [agents.is_chosen(name) for name in ("codex", "claude-code", "my-bot")] == [True, False, False]
    known = {"codex": "openai", "claude-code": "anthropic", "my-bot": "acme"}
    assert opened.policy.families.items() >= known.items()
    assert opened.redactor.text("s3cr3t-of-my-bot") == "[redacted]"
    with pytest.raises(PreflightError, match=r"is one of agent gone.*unknown agent 'gone'.*--fresh"):
        agents.agent("gone")


@pytest.fixture
def plugins(project: Project, tmp_path: Path) -> Project:
    """A project beside a distribution with agents: one is good, some are faulty, one cannot be loaded."""
    place = tmp_path / "site"
    info = place / "acme_bots-1.2.dist-info"
    info.mkdir(parents=True)
    (place / "acme_bots.py").write_text(PLUGIN)
    (place / "acme_broken.py").write_text("raise RuntimeError('no licence')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-bots\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[spec_kitty_orchestrator.agents]\n"
        "good = acme_bots:Good\nbad = acme_bots:Bad\nbroken = acme_broken:Bot\n"
        "empty = acme_bots:Empty\nbare = acme_bots:Bare\nmute = acme_bots:Mute\n"
    )
    known = project.env.get("PYTHONPATH", "")
    project.env["PYTHONPATH"] = f"{place}:{known}" if known else str(place)
    return project


def test_an_agent_of_a_plug_in_is_chosen_like_any_other(plugins: Project) -> None:
    plugins.configure("[agents.good]\nmax_concurrent = 2\n")
    done = plugins.orchestrate("--dry-run", agents="good")
    assert done.returncode == 0, done.stderr
    assert "  implement: good" in done.stdout
    assert "at most 2 attempts of good at once" in done.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "broken",
            "agent broken of the distribution acme-bots 1.2 (acme_broken:Bot) cannot be loaded: Runtime",
        ),
        (
            "bad",
            "agent bad cannot build its command to implement: KeyError('model'); fix or uninstall the",
        ),
    ],
)
@pytest.mark.parametrize("mode", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_plug_in_that_cannot_be_used_is_one_message_if_it_is_chosen(
    plugins: Project, mode: tuple[str, ...], name: str, told: str
) -> None:
    done = plugins.orchestrate(*mode, agents=name)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith(f"error: {told}")


def test_plug_ins_that_cannot_be_used_disturb_no_others_and_are_listed(plugins: Project) -> None:
    assert plugins.orchestrate("--dry-run").returncode == 0
    done = plugins.run("agents", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "good" in [one["name"] for one in found["agents"]]
    assert [one["about"] for one in found["unusable_plugins"]] == ["bad", "bare", "broken", "empty", "mute"]
    shown = plugins.run("agents").stdout
    assert "no licence" in shown


def test_the_smaller_of_two_limits_of_an_agent_holds(project: Project) -> None:
    project.configure('[agents.my-bot]\ncommand = ["true"]\nmax_concurrent = 2\n')
    for flags, most in ((), 2), (("--max-per-agent", "my-bot=1"), 1), (("--max-per-agent", "my-bot=3"), 2):
        done = project.orchestrate("--dry-run", *flags, agents="my-bot")
        assert f"at most {most} attempt" in done.stdout, done.stdout + done.stderr


def test_the_plan_shows_the_words_of_an_agent_of_ones_own_and_what_the_host_is_told(project: Project) -> None:
    project.configure(
        '[agents.my-bot]\ncommand = ["true", "--quiet"]\nprompt = "file"\nreview_args = ["--read-only"]\n'
        'sandbox = { review = "read_only" }\n'
    )
    done = project.orchestrate("--dry-run", agents="my-bot")
    assert done.returncode == 0, done.stderr
    shown = next(line for line in done.stdout.splitlines() if line.startswith("    true --quiet --read-only"))
    assert shown.strip("'").endswith("/prompt.md")
    assert "policy: my-bot, approval custom, sandbox read_only, network custom: acceptable" in done.stdout


def test_a_faulty_answer_of_a_plug_in_names_its_distribution(plugins: Project) -> None:
    done = plugins.run("agents", "--json")
    told = {one["about"]: one["text"] for one in json.loads(done.stdout)["unusable_plugins"]}
    end = "; fix or uninstall the distribution acme-bots 1.2"
    assert told["empty"].startswith("agent empty cannot build its command to implement: its argv is not")
    assert told["bare"].startswith("agent bare cannot build its command to implement: its env does not map")
    assert told["mute"].startswith(
        "agent mute cannot tell what it may do to implement: its approval_mode must"
    )
    assert all(told[name].endswith(end) for name in ("empty", "bare", "mute"))
