"""Missions on the real host, worked on by the agents' real CLIs; only the model behind them is a stand-in."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from tests.cluster.lab import Lab
from tests.conftest import first_on_path, skip_unless_here
from tests.e2e.clis import CLIS
from tests.e2e.configuring import configuration, environments, impersonal
from tests.e2e.model_api import FORBIDDEN_FILE, INPUT_TOKENS, OUTPUT_TOKENS, ModelApi

from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.spec import AgentSettings, Assignment
from spec_kitty_orchestrator.core.events import AgentExited, SubtasksTicked
from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS
from spec_kitty_orchestrator.core.model import Outcome, Role
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.machine.journal import JsonlJournal
from spec_kitty_orchestrator.machine.process import MARKER
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.testing.missions import MissionSpec, chain

pytestmark = [pytest.mark.real_host, pytest.mark.real_agents]

RUN_LIMIT_S = 600.0
ONE = chain(1, shared_workspace=False).on("single_branch")
TWO = chain(2, shared_workspace=False).on("single_branch")


@dataclass(frozen=True)
class Run:
    """A mission of a test's own with the agents configured to ask the stand-in."""

    root: Path
    slug: str
    env: dict[str, str]
    api: ModelApi

    def orchestrate(
        self, implementers: str, reviewers: str, *more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run our command as a user does."""
        chosen = ("--impl-agent", implementers, "--review-agent", reviewers)
        return self.command("orchestrate", "--mission", self.slug, *chosen, *more)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of ours."""
        return self._run([sys.executable, "-m", "spec_kitty_orchestrator", *words])

    def lanes(self) -> dict[str, str]:
        """Return the lanes by the host's own record."""
        return {wp: one["lane"] for wp, one in self._status().items()}

    def attempts(self, wp: str) -> list[Path]:
        """Return the directories of its attempts, in their order."""
        return sorted(
            path.parent for path in (self.root / ".kittify/logs").glob(f"{self.slug}/{wp}/*/prompt.md")
        )

    def events(self) -> list[object]:
        """Return what the journal holds of the work packages."""
        lines = anyio.run(JsonlJournal(self.root / ".kittify/orchestrator" / self.slug, self.root).read)
        return [line.event for line in lines if isinstance(line, Entry)]

    def module(self, number: int) -> str:
        """Return the module of a work package as its branch holds it."""
        return self._run(
            ["git", "show", f"{self._branch(number)}:src/mod{number:02d}/m{number:02d}.py"]
        ).stdout

    def open_subtasks(self) -> set[str]:
        """Return the work packages that the host counts an open subtask of; each has one."""
        wps = self._status()
        return {wp for wp in wps if list(wps[wp].get("subtasks", {}).values()) != ["done"]}

    def _status(self) -> dict[str, Any]:
        status = json.loads((self.root / "kitty-specs" / self.slug / "status.json").read_text())
        return dict(status["work_packages"])

    def _branch(self, number: int) -> str:
        found = self._run(["git", "branch", "--list", "--format=%(refname:short)", "*-lane-*"]).stdout.split()
        return sorted(found)[number - 1]

    def _run(self, argv: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            argv,
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )


@pytest.fixture
def prepare(
    real_mission: Callable[[MissionSpec], Any],
    host: str,
    host_env: dict[str, str],
    clis: dict[str, str],
    api: ModelApi,
    tmp_path: Path,
) -> Iterator[Callable[[MissionSpec], Run]]:
    """Return a function that makes a mission ready to be run by real agents."""

    def prepare(spec: MissionSpec) -> Run:
        mission = real_mission(spec)
        config = mission.root / ".kittify" / "orchestrator.toml"
        config.write_text(
            configuration(clis, environments(clis, api.url, tmp_path / "home")), encoding="utf-8"
        )
        kept = first_on_path(host, impersonal(host_env))
        # Below the folder for temporary files codex can start no command within another sandbox.
        env = {**kept, "COLUMNS": "200", "SKO_CONFINE": "off"}
        env["SKO_TRUST_SETTINGS"] = "1"
        made.append(Run(mission.root, mission.slug, env, api))
        return made[-1]

    made: list[Run] = []
    yield prepare
    for run in made:
        kill_leftovers(run)


def names(attempts: list[Path]) -> list[str]:
    return [attempt.name for attempt in attempts]


def result(attempt: Path) -> Any:
    return json.loads((attempt / "result.json").read_text())["report"]


def check_every_attempt(run: Run) -> None:
    """Check what must hold for each attempt, however it ended."""
    attempts = run.attempts("*")
    for attempt in attempts:
        command = json.loads((attempt / "command.json").read_text())
        words = {word.partition("=")[0] for word in command["argv"]}
        assert not words & {*BANNED_FLAGS, "bypassPermissions", "danger-full-access"}, attempt
        assert not [cli for cli in CLIS.values() if cli.key in json.dumps(command)], attempt
        if result(attempt)["outcome"] == "ok":
            assert run.api.prompts[command["attempt"]].strip() == (attempt / "prompt.md").read_text().strip()
            assert result(attempt)["usage"]["input_tokens"] >= INPUT_TOKENS
            assert result(attempt)["usage"]["output_tokens"] >= OUTPUT_TOKENS
    assert [one.tampered for one in run.events() if isinstance(one, AgentExited)] == [()] * len(attempts)
    assert not list(run.root.rglob(FORBIDDEN_FILE))
    assert alive(run) == []


def alive(run: Run) -> list[psutil.Process]:
    """Find the processes that belong to an attempt of the run."""
    attempts = {
        json.loads(file.read_text())["attempt"] for file in run.root.glob(".kittify/logs/*/*/*/command.json")
    }
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) in attempts:
                found.append(process)
    return found


def kill_leftovers(run: Run) -> None:
    """Agents outlive a command that was killed, here by a test's limit."""
    for process in alive(run):
        with suppress(psutil.Error):
            process.kill()


def test_claude_implements_and_codex_reviews_until_all_is_done(prepare: Callable[[MissionSpec], Run]) -> None:
    run = prepare(TWO)
    run.api.to_reject.add("WP02")
    done = run.orchestrate("claude-code", "codex")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.lanes() == {"WP01": "done", "WP02": "done"}
    assert names(run.attempts("WP01")) == ["01-implement-claude-code", "02-review-codex"]
    again = ["01-implement-claude-code", "02-review-codex", "03-implement-claude-code", "04-review-codex"]
    assert names(run.attempts("WP02")) == again
    rework = run.attempts("WP02")[2]
    assert "say which round it is" in (rework / "prompt.md").read_text()
    assert result(rework)["usage"]["cost_usd"] > 0
    assert "round 1" in run.module(1)
    assert "round 2" in run.module(2)
    # Claude ticks the subtasks itself, as its prompt tells it to.
    assert run.open_subtasks() == set()
    assert not [one for one in run.events() if isinstance(one, SubtasksTicked)]
    check_every_attempt(run)


def test_codex_implements_and_claude_reviews(prepare: Callable[[MissionSpec], Run]) -> None:
    run = prepare(ONE)
    done = run.orchestrate("codex", "claude-code")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.lanes() == {"WP01": "done"}
    assert names(run.attempts("WP01")) == ["01-implement-codex", "02-review-claude-code"]
    assert result(run.attempts("WP01")[1])["usage"]["cost_usd"] > 0
    # Codex's sandbox lets it tick nothing, so that is done on the word of its report.
    assert [one.ids for one in run.events() if isinstance(one, SubtasksTicked)] == [("T001",)]
    assert run.open_subtasks() == set()
    assert "round 1" in run.module(1)
    check_every_attempt(run)


def test_a_codex_whose_own_sandbox_starts_nothing_is_told_before_the_run_and_never_taken_for_work(
    prepare: Callable[[MissionSpec], Run],
) -> None:
    run = prepare(ONE)
    config = run.root / ".kittify" / "orchestrator.toml"
    # Its home lies in the folder for temporary files, and now it knows that.
    found = re.search('TMPDIR = "([^"]*)"', config.read_text())
    assert found is not None
    config.write_text(config.read_text().replace(found[1], "/tmp"))
    done = run.orchestrate("codex", "claude-code")
    said = "its sandbox cannot start a command: bwrap: execvp codex-linux-sandbox: No such file or directory"
    assert (done.returncode, said in done.stderr) == (5, True), done.stderr
    assert run.lanes() == {"WP01": "planned"}

    config.write_text(
        config.read_text().replace(
            "[agents.codex]", '[agents.codex]\nextra_args = ["-c", "hide_agent_reasoning=true"]'
        )
    )
    done = run.orchestrate("codex", "claude-code")
    assert done.returncode == 1, done.stderr
    assert f"warning: agent codex: {said}" in done.stdout
    reports = [result(attempt) for attempt in run.attempts("WP01")]
    assert {one["outcome"] for one in reports} == {"invalid_request"}
    # It does not always tell of the commands that its sandbox did not start.
    assert all(one["detail"].startswith("its sandbox cannot start a command: ") for one in reports)
    assert len(reports) <= 2
    assert run.lanes() == {"WP01": "blocked"}


# In a sandbox no agent reaches a process that has the host imported.
@pytest.mark.anew
def test_opencode_implements_and_reviews_confined(
    prepare: Callable[[MissionSpec], Run], tmp_path: Path
) -> None:
    run = prepare(ONE)
    skip_unless_here(Sandbox(find(), tmp_path, tmp_path / "own").failure)
    run.env["SKO_CONFINE"] = "require"
    done = run.orchestrate("opencode", "opencode")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.lanes() == {"WP01": "done"}
    assert names(run.attempts("WP01")) == ["01-implement-opencode", "02-review-opencode"]
    assert all(result(attempt)["usage"]["cost_usd"] > 0 for attempt in run.attempts("WP01"))
    assert run.open_subtasks() == set()
    assert "round 1" in run.module(1)
    check_every_attempt(run)


def test_a_reviewer_whose_key_is_refused_approves_nothing_and_the_next_one_takes_over(
    prepare: Callable[[MissionSpec], Run],
) -> None:
    run = prepare(ONE)
    run.api.refused_keys.add(CLIS["codex"].key)
    alone = run.orchestrate("claude-code", "codex")
    assert alone.returncode == 1, alone.stdout + alone.stderr
    assert run.lanes()["WP01"] not in {"approved", "done"}
    assert result(run.attempts("WP01")[1])["outcome"] == "auth"
    both = run.orchestrate("claude-code", "codex,claude-code")
    assert both.returncode == 0, both.stdout + both.stderr
    assert run.lanes() == {"WP01": "done"}
    # The only one gets a second try; where there is another, one more tells that it is still refused.
    reviews = ["02-review-codex", "03-review-codex", "04-review-codex", "05-review-claude-code"]
    assert names(run.attempts("WP01")) == ["01-implement-claude-code", *reviews]
    check_every_attempt(run)


def test_a_review_by_claude_runs_nothing_that_the_worktree_configures(
    clis: dict[str, str], api: ModelApi, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / ".claude").mkdir(parents=True)
    env = environments({"claude-code": clis["claude-code"]}, api.url, tmp_path / "home")
    ran = {"type": "command", "command": f"touch {tree}/ran"}
    moments = ("SessionStart", "UserPromptSubmit", "PreToolUse", "Stop")
    settings = {
        "hooks": {moment: [{"matcher": "", "hooks": [ran]}] for moment in moments},
        "permissions": {"allow": ["Bash(touch *)"]},
    }
    for name in ("settings.json", "settings.local.json"):
        (tree / ".claude" / name).write_text(json.dumps(settings))
    server = {"command": "touch", "args": [f"{tree}/ran"]}
    (tree / ".mcp.json").write_text(json.dumps({"mcpServers": {"a": server}}))
    prompt = f"Role: review\nWork package: WP01\nAttempt: a1\nHead: b\nWorkspace: {tree}\n\n`git diff a b`\n"
    chosen = AgentSettings(clis["claude-code"], env=env["claude-code"])
    command = ClaudeCode().command(Assignment(Role.REVIEW, tree, "a1", tree), chosen)
    done = subprocess.run(
        command.argv,
        cwd=tree,
        env={"PATH": os.environ["PATH"], **chosen.env, **command.env},
        input=prompt,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    report = ClaudeCode().report(done.stdout.splitlines(), done.stderr, done.returncode)
    assert report.outcome is Outcome.OK, done.stdout + done.stderr
    assert api.prompts == {"a1": prompt}
    assert sorted(path.name for path in tree.iterdir()) == [".claude", ".mcp.json"]


class Twice(set[str]):
    """Names that are still there when they are removed for the first time."""

    removed = False

    def remove(self, name: str) -> None:
        if self.removed:
            super().remove(name)
        self.removed = True


@pytest.mark.long
@pytest.mark.parametrize(
    ("implementer", "reviewer"), [("claude-code", "codex"), ("codex", "claude-code"), ("opencode", "codex")]
)
def test_rework_goes_on_with_its_session_on_its_worker_and_begins_a_new_one_where_that_is_away(
    prepare: Callable[[MissionSpec], Run],
    clis: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    implementer: str,
    reviewer: str,
) -> None:
    pytest.importorskip("distributed")
    run, root = prepare(ONE), tmp_path_factory.mktemp("workers")
    # The logins are those of the workers' homes and environment; the project has none.
    known = [f'[agents.{one}]\nexecutable = "{clis[one]}"\npass_env = ["STAND_IN_KEY"]' for one in clis]
    (run.root / ".kittify" / "orchestrator.toml").write_text("\n".join(known))
    env = dict(run.env)
    for name in ("one", "two", "three"):
        home = root / name / ".codex"
        home.mkdir(parents=True)
        env |= {
            **CLIS["claude-code"].setup(run.api.url, home, ""),
            **CLIS["codex"].setup(run.api.url, home, ""),
        }
    del env["CODEX_HOME"]
    lab = Lab(root, env=env)
    work = (implementer, reviewer, "--executor", lab.address)
    run.api.to_reject = Twice({"WP01"})
    try:
        lab.scheduler()
        lab.worker("one", f"{implementer}=1")
        lab.worker("two", f"{reviewer}=1")
        rejected = run.orchestrate(*work)
        assert "two reviews in a row ask for the same" in rejected.stdout, rejected.stdout + rejected.stderr
        lab.kill("one")
        lab.worker("three", f"{implementer}=1")
        assert run.command("retry", "WP01", "--mission", run.slug).returncode == 0
        done = run.orchestrate(*work)
    finally:
        lab.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.lanes() == {"WP01": "done"}
    first, _, again, _, anew, _ = [result(one) for one in run.attempts("WP01")]
    assert (again["machine"], again["session"]) == (first["machine"], first["session"])
    assert "continuing its session" in rejected.stdout
    assert anew["machine"] != first["machine"]
    assert anew["session"] != first["session"]
    assert f"begins a new session: {first['machine']}, which has the earlier, is away" in done.stdout
    assert "round 3" in run.module(1)
