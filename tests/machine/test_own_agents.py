"""Agents of one's own and of plug-ins as processes of this machine."""

import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.scripted import Scripted
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Assignment, Permissions
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Workspace
from spec_kitty_orchestrator.errors import PreflightError
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.declaration import Declaration

LIMIT_S = 30
PROMPT = "line one\nline two is the last"

STDIN = "import sys; sys.stdout.write(sys.stdin.read())"
FILE = "import sys; sys.stdout.write(open(sys.argv[1]).read() + repr(sys.stdin.read()))"
WORD = "import sys; sys.stdout.write(sys.argv[1] + repr(sys.stdin.read()))"
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("half of the work", flush=True)
time.sleep(600)
"""


def python(code: str, prompt: str = "stdin") -> Declared:
    return Declared(Declaration("bot", "acme", (sys.executable, "-I", "-c", code), prompt=prompt))  # type: ignore[arg-type]


async def run(root: Path, agent: object, prompt: str = PROMPT, **settings: float) -> AgentReport:
    agents = {"bot": (agent, AgentSettings(**settings))}  # type: ignore[arg-type]
    timeouts = {Role.IMPLEMENT: 60.0, Role.REVIEW: 60.0}
    runner = LocalAgents(root, agents, timeouts=timeouts, version="1")  # type: ignore[arg-type]
    workspace = Workspace(str(root), str(root / "WP01.md"))
    request = AttemptRequest(uuid4().hex, "demo", "WP01", 1, Role.IMPLEMENT, "bot", workspace, prompt)
    with anyio.fail_after(LIMIT_S):
        return await runner.run(await runner.open(request))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("prompt", "code", "rest"), [("stdin", STDIN, ""), ("file", FILE, "''"), ("argument", WORD, "''")]
)
async def test_a_prompt_arrives_whole_by_each_way(tmp_path: Path, prompt: str, code: str, rest: str) -> None:
    report = await run(tmp_path, python(code, prompt))
    assert (report.outcome, report.text) == (Outcome.OK, PROMPT + rest)


LONG = "a word and the next, " * 10_000 + "the last"


@pytest.mark.asyncio
@pytest.mark.parametrize(("prompt", "source"), [("stdin", "sys.stdin"), ("file", "open(sys.argv[1])")])
async def test_a_prompt_of_200_kb_arrives_whole(tmp_path: Path, prompt: str, source: str) -> None:
    # What an agent says is cut where it is that long, so it says the digest.
    code = f"import hashlib, sys; print(hashlib.sha256({source}.read().encode()).hexdigest())"
    report = await run(tmp_path, python(code, prompt), LONG)
    assert len(LONG) > 200_000
    assert (report.outcome, report.text.strip()) == (Outcome.OK, sha256(LONG.encode()).hexdigest())


@pytest.mark.asyncio
async def test_a_prompt_that_does_not_fit_into_a_word_is_told_and_nothing_is_run(tmp_path: Path) -> None:
    report = await run(tmp_path, python(WORD, "argument"), LONG)
    assert report.outcome is Outcome.INVALID_REQUEST
    assert "its prompt has 210,008 bytes" in report.detail
    assert report.exit_code is None


@pytest.mark.asyncio
async def test_an_agents_own_time_limit_holds_and_its_exit_code_0_after_that_is_no_result(
    tmp_path: Path,
) -> None:
    report = await run(tmp_path, python(POLITE), timeout_s=1.0)
    assert (report.outcome, report.exit_code) == (Outcome.TIMEOUT, 0)
    assert report.detail == "no result within 1s"


class Faulty(Scripted):
    """A plug-in with bugs."""

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        if task.role is Role.REVIEW:
            raise KeyError("model")
        return AgentCommand(("true",))

    def permissions(self, role: Role) -> Permissions:
        raise ZeroDivisionError

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        return None  # type: ignore[return-value]


@pytest.mark.asyncio
async def test_a_plug_in_that_reports_nonsense_does_not_end_the_run(tmp_path: Path) -> None:
    report = await run(tmp_path, Faulty())
    assert report.outcome is Outcome.CRASHED
    assert "report() returned NoneType, not an AgentReport" in report.detail


def test_a_plug_in_that_cannot_build_its_command_is_named(tmp_path: Path) -> None:
    runner = LocalAgents(tmp_path, {"bot": (Faulty(), AgentSettings())}, timeouts={}, version="1")
    with pytest.raises(PreflightError, match="agent bot cannot build its command to review: KeyError"):
        runner.policy("bot", Role.REVIEW)
    with pytest.raises(PreflightError, match="agent bot cannot tell what it may do to implement: ZeroDiv"):
        runner.policy("bot", Role.IMPLEMENT)
