"""Attempts on this machine: one run each, with a report that is kept, and without secrets."""

import json
import re
import stat
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import psutil
import pytest
from tests.machine.attempts import (
    COUNT,
    SAY_OK,
    PythonAgent,
    agents_of,
    request_of,
    run,
    runs,
    texts,
)

from spec_kitty_orchestrator.agents.spec import PROMPT_WORD, AgentSettings
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Usage, Workspace
from spec_kitty_orchestrator.errors import PreflightError, WorkspaceError
from spec_kitty_orchestrator.machine.redaction import Redactor

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("never_blocks")]


async def test_opening_writes_the_prompt_and_the_command_and_starts_nothing(
    tmp_path: Path, attempt_id: str
) -> None:
    settings = AgentSettings(env={"API_KEY": "abc", "PLAIN": "x", "HEADER": "Bearer abcdefgh12345678"})
    runner = agents_of(tmp_path, PythonAgent("", stop_signal="INT"), settings)

    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))

    directory = tmp_path / ".kittify/logs/034-demo/WP01/01-review-py"
    assert attempt == Attempt(attempt_id, 1, Role.REVIEW, "py", str(directory), "abc", "tree")
    assert (directory / "prompt.md").read_text() == "the prompt"
    assert json.loads((directory / "command.json").read_text()) == {
        "attempt": attempt_id,
        "agent": "py",
        "role": "review",
        "cwd": str(tmp_path),
        "argv": [sys.executable, "-c", ""],
        "env": {
            "ROLE": "review",
            "API_KEY": "[redacted]",
            "PLAIN": "x",
            "HEADER": "Bearer [redacted]",
        },
        "stop_signal": "INT",
        "sandbox": [],
        "function": False,
    }
    assert sorted(path.name for path in directory.iterdir()) == ["command.json", "prompt.md"]
    assert stat.S_IMODE((directory / "command.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("prompt", "word", "code"),
    [
        ("argument", "say: {prompt}", "sys.argv[1].removeprefix('say: ')"),
        ("file", "{directory}/prompt.md", "open(sys.argv[1]).read()"),
    ],
)
async def test_a_prompt_that_is_no_input_comes_as_the_command_says_and_is_recorded_so(
    tmp_path: Path, attempt_id: str, prompt: Literal["file", "argument"], word: str, code: str
) -> None:
    code = f"import sys\nprint('result:', {code} + '|' + sys.stdin.read())"
    runner = agents_of(tmp_path, PythonAgent(code, words=(word,), prompt=prompt))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    assert (await run(runner, attempt)).text == "the prompt|"
    record = json.loads((Path(attempt.directory) / "command.json").read_text())
    said = {"argument": "say: the prompt", "file": f"{attempt.directory}/prompt.md"}
    assert record["argv"] == [sys.executable, "-c", code, said[prompt]]


async def test_the_longest_prompt_that_an_argument_can_hold_arrives(tmp_path: Path, attempt_id: str) -> None:
    code = "import sys\nprint('result:', len(sys.argv[1]))"
    runner = agents_of(tmp_path, PythonAgent(code, words=(PROMPT_WORD,), prompt="argument"))
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="x" * 131_071))
    assert (await run(runner, attempt)).text == "131071"


async def test_what_a_cli_wrote_of_its_usage_is_the_last_line_of_its_output(
    tmp_path: Path, attempt_id: str
) -> None:
    code = "import sys\nopen(sys.argv[1], 'w').write('result: a\\nb')\nprint('result: on stdout')"
    runner = agents_of(tmp_path, PythonAgent(code, words=("{directory}/own/usage.json",)))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    assert (await run(runner, attempt)).text == "a b"


async def test_an_attempt_runs_in_its_worktree_and_its_report_is_kept(
    tmp_path: Path, attempt_id: str
) -> None:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    code = "import os, sys\nprint('result:', os.getcwd(), os.environ['X_KEY'], sys.stdin.read())\nsys.exit(7)"
    runner = agents_of(tmp_path, PythonAgent(code), AgentSettings(env={"X_KEY": "short"}))
    workspace = Workspace(str(worktree), "")
    attempt = await runner.open(request_of(tmp_path, attempt_id, workspace=workspace))

    report = await run(runner, attempt)

    text = f"{worktree.resolve()} short the prompt"
    assert report == AgentReport(Outcome.OK, text, session="s", usage=Usage(1, 2, 0.5), exit_code=7)
    result = json.loads((Path(attempt.directory) / "result.json").read_text())
    assert result["attempt"] == attempt_id
    assert result["report"]["outcome"] == "ok"


async def test_the_output_of_a_finished_attempt_is_not_read_again(tmp_path: Path, attempt_id: str) -> None:
    agent = PythonAgent(SAY_OK)
    runner = agents_of(tmp_path, agent)
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    await run(runner, attempt)
    await run(agents_of(tmp_path, agent), attempt)
    assert agent.read == 1


@pytest.mark.parametrize("torn", ["", "{", '{"attempt": "another", "report": {"outcome": "ok"}}'])
async def test_an_unreadable_result_is_made_again_of_the_output(
    tmp_path: Path, attempt_id: str, torn: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(COUNT + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    first = await run(runner, attempt)
    (Path(attempt.directory) / "result.json").write_text(torn)

    assert await run(runner, attempt) == first
    assert runs(tmp_path) == 1


async def test_the_command_on_record_is_the_one_that_ran(tmp_path: Path, attempt_id: str) -> None:
    attempt = await agents_of(tmp_path, PythonAgent("")).open(request_of(tmp_path, attempt_id))
    changed = agents_of(tmp_path, PythonAgent(SAY_OK), AgentSettings(extra_args=("--new",)))

    assert (await run(changed, attempt)).outcome is Outcome.OK

    record = json.loads((Path(attempt.directory) / "command.json").read_text())
    assert record["argv"] == [sys.executable, "-c", SAY_OK, "--new"]


async def test_an_attempt_names_the_model_and_the_version_that_are_known_of_its_agent(
    tmp_path: Path, attempt_id: str
) -> None:
    agent = PythonAgent("")
    runner = agents_of(tmp_path, agent, AgentSettings(model="large"))
    first = await runner.open(request_of(tmp_path, attempt_id))
    runner.versions["py"] = "1.2.3"
    second = await runner.open(request_of(tmp_path, attempt_id, number=2))
    assert [(one.model, one.version) for one in (first, second)] == [("large", ""), ("large", "1.2.3")]
    assert first.tells_cost is agent.reports_cost


@pytest.mark.parametrize("able", [True, False])
async def test_an_attempt_goes_on_with_a_session_and_is_told_its_limit_where_the_agent_can(
    tmp_path: Path, attempt_id: str, able: bool
) -> None:
    agent = PythonAgent("import sys; print('result:', *sys.argv[1:])", resumes=able, caps_cost=able)
    runner = agents_of(tmp_path, agent)

    attempt = await runner.open(request_of(tmp_path, attempt_id, session="s-1", max_cost_usd=2.5))

    assert (attempt.session, attempt.max_cost_usd) == (("s-1", 2.5) if able else ("", None))
    written = json.loads((Path(attempt.directory) / "command.json").read_text())["argv"]
    assert written[3:] == (["s-1", "2.5"] if able else [])
    assert (await run(runner, attempt)).text.strip() == ("s-1 2.5" if able else "")


@pytest.mark.parametrize(
    ("agent", "detail"),
    [
        (PythonAgent("", executable="no-such-agent-cli"), "no-such-agent-cli"),
        (PythonAgent("", words=("x" * 3_000_000,)), "too long"),
        (
            PythonAgent("", words=(PROMPT_WORD,), prompt="argument"),
            "its prompt has 131,072 bytes, but .* 131,071 at most",
        ),
    ],
    ids=["a program that is gone", "arguments that are too long", "a prompt too long for an argument"],
)
async def test_what_can_never_be_started_is_a_report_that_says_why(
    tmp_path: Path, attempt_id: str, agent: PythonAgent, detail: str
) -> None:
    runner = agents_of(tmp_path, agent)
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="x" * 131_072))

    report = await run(runner, attempt)

    assert report.outcome is Outcome.INVALID_REQUEST
    assert re.search(detail, report.detail)
    assert await run(runner, attempt) == report


async def test_a_missing_worktree_is_an_error_and_the_attempt_can_run_later(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    workspace = Workspace(str(tmp_path / "gone"), "")
    attempt = await runner.open(request_of(tmp_path, attempt_id, workspace=workspace))

    with pytest.raises(WorkspaceError, match="gone"):
        await run(runner, attempt)

    (tmp_path / "gone").mkdir()
    assert (await run(runner, attempt)).outcome is Outcome.OK


async def test_a_disk_that_refuses_is_an_error_of_the_workspace(tmp_path: Path, attempt_id: str) -> None:
    (tmp_path / ".kittify").write_text("a file where a folder should be")

    with pytest.raises(WorkspaceError, match="WP01"):
        await agents_of(tmp_path, PythonAgent("")).open(request_of(tmp_path, attempt_id))


async def test_an_agent_that_is_not_configured_any_more_is_named(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent(""))
    attempt = replace(await runner.open(request_of(tmp_path, attempt_id)), agent="other")

    with pytest.raises(PreflightError, match="other"):
        await run(runner, attempt)


async def test_a_plug_in_that_cannot_read_its_output_does_not_end_the_run(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> AgentReport:
        raise KeyError("usage")

    agent = PythonAgent(SAY_OK)
    monkeypatch.setattr(agent, "report", fail)
    runner = agents_of(tmp_path, agent)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id)))

    assert report.outcome is Outcome.CRASHED
    assert "usage" in report.detail


async def test_secrets_do_not_leave_in_a_report(
    tmp_path: Path, attempt_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED_TOKEN", "inherited-value")
    code = "import os; print('result:', os.environ['INHERITED_TOKEN'], os.environ['MY_KEY'])"
    settings = AgentSettings(env={"MY_KEY": "own-secret"}, extra_args=("--key=own-secret",))
    redactor = Redactor(["inherited-value", "own-secret"])
    runner = agents_of(tmp_path, PythonAgent(code), settings, redactor=redactor)
    attempt = await runner.open(request_of(tmp_path, attempt_id, prompt="own-secret"))
    assert "own-secret" not in (Path(attempt.directory) / "command.json").read_text()

    report = await run(runner, attempt)

    assert report.text == "[redacted] [redacted]"
    kept = texts(Path(attempt.directory))
    assert kept.pop("prompt.md") == "own-secret"
    assert kept["stdout.log"] == "result: [redacted] [redacted]\n"
    assert not [name for name, text in kept.items() if "own-secret" in text or "inherited-value" in text]


async def test_a_kill_between_the_report_and_the_scrubbing_leaves_no_secret_for_good(
    tmp_path: Path, attempt_id: str
) -> None:
    runner = agents_of(tmp_path, PythonAgent("print('result: the-secret-1')"))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    saved = await run(runner, attempt)
    log = Path(attempt.directory) / "stdout.log"
    assert "the-secret-1" in log.read_text()

    again = await run(agents_of(tmp_path, PythonAgent(""), redactor=Redactor(["the-secret-1"])), attempt)

    assert again == saved
    assert log.read_text() == "result: [redacted]\n"


async def test_an_attempts_id_and_commit_are_never_redacted(tmp_path: Path, attempt_id: str) -> None:
    sha = "3f786850e387550fdaba1c0f5ab8d0e9c6c1f3e4"
    redactor = Redactor([attempt_id, sha, sha[:10], "the-secret-1"])
    code = f"print('result: {attempt_id} {sha} the-secret-1')"
    runner = agents_of(tmp_path, PythonAgent(code), redactor=redactor)

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, head=sha)))

    assert report.text == f"{attempt_id} {sha} [redacted]"


async def test_a_flood_of_output_takes_little_memory(tmp_path: Path, attempt_id: str) -> None:
    flood = (
        "import sys\nline = b'x' * 999 + b'\\n'\nfor _ in range(1000): sys.stdout.buffer.write(line * 100)\n"
    )
    runner = agents_of(tmp_path, PythonAgent(flood + "sys.stdout.buffer.flush()\n" + SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id))
    us = psutil.Process()
    before = us.memory_info().rss
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], us.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report = await run(runner, attempt)
    finally:
        done.set()
        await anyio.to_thread.run_sync(watcher.join)

    assert report.outcome is Outcome.OK
    assert (Path(attempt.directory) / "stdout.log").stat().st_size > 100_000_000
    assert peak[0] - before < 20_000_000


async def test_what_a_review_said_before_it_failed_is_no_review(tmp_path: Path, attempt_id: str) -> None:
    class Talkative(PythonAgent):
        def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
            return replace(super().report(stdout, stderr_tail, exit_code), outcome=Outcome.OVERLOADED)

    runner = agents_of(tmp_path, Talkative(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))
    report = await run(runner, attempt)
    assert (report.outcome, report.text) == (Outcome.OVERLOADED, "")
    assert not (Path(attempt.directory) / "review.md").exists()


@dataclass
class Refused(PythonAgent):
    """An agent whose CLI refused it everything."""

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        return replace(super().report(stdout, stderr_tail, exit_code), refused=True, detail="all was refused")


@pytest.mark.parametrize(
    ("role", "outcome"), [(Role.IMPLEMENT, Outcome.INVALID_REQUEST), (Role.REVIEW, Outcome.OK)]
)
async def test_an_implementer_that_was_refused_everything_has_not_worked_and_a_reviewer_may_have(
    tmp_path: Path, attempt_id: str, role: Role, outcome: Outcome
) -> None:
    runner = agents_of(tmp_path, Refused(SAY_OK))

    report = await run(runner, await runner.open(request_of(tmp_path, attempt_id, role=role)))

    assert (report.outcome, report.detail) == (outcome, "all was refused")
    assert bool(report.text) is (outcome is Outcome.OK)


async def test_a_review_is_kept_as_a_file_of_its_own(tmp_path: Path, attempt_id: str) -> None:
    runner = agents_of(tmp_path, PythonAgent(SAY_OK))
    attempt = await runner.open(request_of(tmp_path, attempt_id, role=Role.REVIEW))
    await run(runner, attempt)
    review = Path(attempt.directory) / "review.md"
    assert review.read_text() == "fine"
    assert stat.S_IMODE(review.stat().st_mode) == 0o600
