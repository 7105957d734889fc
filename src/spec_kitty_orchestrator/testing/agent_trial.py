"""An agent tried out on a harmless task, in a repository that nobody needs: it can cost money."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import uuid4

import anyio

from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.core.implementing import read_report
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Outcome, Role, Workspace
from spec_kitty_orchestrator.core.verdict import Ruling, read_verdict
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.ports import AgentRunner, AttemptRequest
from spec_kitty_orchestrator.testing.agent_contract import Checked
from spec_kitty_orchestrator.testing.small_repository import (
    GIT_LIMIT_S,
    QUIET,
    add_worktree,
    make_repository,
)

__all__ = ["Trial"]

FILE = "hello.txt"
_BRANCH = "trial"

_IMPLEMENT = """\
This is a trial of how you are called; the project is empty.

Create the file `{file}` in the current directory, with the one line `hello`. Change nothing else and do not
commit.

When you are done, end with this JSON object on a line of its own, as your last words, and put the word that
stands at the end of this prompt into `summary`:

{object}

Remember that word: you may be asked for it.

The word: {word}
"""
_RESUMED = """\
Change nothing. End with this JSON object on a line of its own, as your last words, and put the word that I
asked you to remember into `summary`:

{object}
"""
_REVIEW = """\
This is a trial of how you are called. Review one commit of the project in the current directory, and change
nothing: {head}. It was to add the file `{file}` with the one line `hello`. Its changes:

{diff}

End with this JSON object on a line of its own, as your last words: with your verdict, and with the word that
stands at the end of this prompt in `summary`:

{object}

The word: {word}
"""


class Trial:
    """A repository with a worktree, in which an agent is tried; `root` must be a new folder."""

    def __init__(self, root: Path, name: str, agent: Agent, runner: AgentRunner) -> None:
        self._root = root
        self._worktree = root.parent / "worktree"
        self._name = name
        self._agent = agent
        self._runner = runner

    async def run(self) -> tuple[Checked, ...]:
        """Try the agent in each of its roles; what it left in the folders tells more."""
        found: list[Checked] = []
        try:
            await self._prepare()
            if Role.IMPLEMENT in self._agent.roles:
                found += await self._implement()
            if Role.REVIEW in self._agent.roles:
                found += await self._review()
        except WorkspaceError as failure:
            found.append(Checked("run.git", False, str(failure)))
        return tuple(found)

    async def _prepare(self) -> None:
        await make_repository(self._root)
        await add_worktree(self._root, self._worktree, _BRANCH)

    async def _implement(self) -> list[Checked]:
        word = _word()
        attempt_id = uuid4().hex
        shown = {"attempt": attempt_id, "subtasks_done": [], "summary": "", "no_change_reason": ""}
        prompt = _IMPLEMENT.format(file=FILE, object=json.dumps(shown), word=word)
        attempt, report = await self._attempt(Role.IMPLEMENT, attempt_id, prompt)
        found = [_ended(attempt, report)]
        if report.outcome is not Outcome.OK:
            return found
        made = anyio.Path(self._worktree, FILE)
        there = await made.is_file() and (await made.read_text(errors="replace")).strip() == "hello"
        found.append(
            Checked("run.file", there, f"it created {FILE}")
            if there
            else Checked("run.file", False, f"{FILE} is not there or says something else: may it write?")
        )
        found += _answered(read_report(report.text, attempt_id).summary, word, "implement")
        if self._agent.resumes:
            found += await self._resume(report.session or "", word)
        return found

    async def _resume(self, session: str, word: str) -> list[Checked]:
        if not session:
            return [Checked("run.session", False, "resumes is true, but the report names no session")]
        attempt_id = uuid4().hex
        shown = {"attempt": attempt_id, "subtasks_done": [], "summary": "", "no_change_reason": "a trial"}
        prompt = _RESUMED.format(object=json.dumps(shown))
        attempt, report = await self._attempt(Role.IMPLEMENT, attempt_id, prompt, session=session)
        remembered = word in read_report(report.text, attempt_id).summary
        if report.outcome is not Outcome.OK:
            return [_ended(attempt, report, "run.session")]
        told = (
            "it went on with its session"
            if remembered
            else "it does not know what it was told in its session"
        )
        return [Checked("run.session", remembered, told)]

    async def _review(self) -> list[Checked]:
        head = await self._commit()
        diff = await self._git("show", "--format=", head)
        word = _word()
        attempt_id = uuid4().hex
        choice = "<approved or changes_requested>"
        shown = {"attempt": attempt_id, "head": head, "verdict": choice, "summary": "", "findings": []}
        prompt = _REVIEW.format(head=head, file=FILE, diff=diff, object=json.dumps(shown), word=word)
        before = await self._state()
        attempt, report = await self._attempt(Role.REVIEW, attempt_id, prompt, head=head)
        after = await self._state()
        found = [_ended(attempt, report)]
        found.append(
            Checked("run.unchanged", True, "it changed nothing")
            if before == after
            else Checked("run.unchanged", False, "it changed the worktree or the branch: let it only read")
        )
        if report.outcome is not Outcome.OK:
            return found
        verdict = read_verdict(report.text, attempt_id=attempt_id, head=head, reviewer=self._name)
        usable = verdict.ruling is not Ruling.UNUSABLE
        told = f"its verdict is {verdict.ruling}" if usable else f"no usable verdict: {verdict.summary}"
        found.append(Checked("run.verdict", usable, told))
        return [*found, *(_answered(verdict.summary, word, "review") if usable else ())]

    async def _commit(self) -> str:
        """Commit what there is to review, made by us where the agent made nothing."""
        made = anyio.Path(self._worktree, FILE)
        if not await made.exists():
            await made.write_text("hello\n")
        await self._git("add", FILE)
        if await self._git("status", "--porcelain", "--", FILE):
            await self._git("commit", "-q", "-m", f"Add {FILE}", "--", FILE)
        return await self._git("rev-parse", "HEAD")

    async def _state(self) -> tuple[str, ...]:
        shown = await self._git("status", "--porcelain", "--branch", "--untracked-files=all")
        return (await self._git("rev-parse", "HEAD"), *_without(shown, self._agent.traces))

    async def _attempt(
        self, role: Role, attempt_id: str, prompt: str, *, session: str = "", head: str = ""
    ) -> tuple[Attempt, AgentReport]:
        workspace = Workspace(str(self._worktree), str(self._root / "README.md"), None, _BRANCH, "main")
        attempt = await self._runner.open(
            AttemptRequest(
                attempt_id, "trial", "WP01", 1, role, self._name, workspace, prompt, head, session=session
            )
        )
        return attempt, await self._runner.run(attempt)

    async def _git(self, *args: str) -> str:
        reply = await Git(self._worktree).run(*QUIET, *args, timeout_s=GIT_LIMIT_S)
        return reply.text.strip()


def _word() -> str:
    return f"word-{uuid4().hex[:8]}"


def _ended(attempt: Attempt, report: AgentReport, name: str = "") -> Checked:
    good = report.outcome is Outcome.OK
    told = "it ended well" if good else f"{report.outcome}: {report.detail}; see {attempt.directory}"
    return Checked(name or f"run.{attempt.role}", good, told)


def _answered(summary: str, word: str, role: str) -> Iterator[Checked]:
    yield Checked(
        f"run.answer.{role}",
        bool(summary),
        "it ended with the object that it was asked for"
        if summary
        else "its final text holds no object for this attempt: is `output` where its last words stand?",
    )
    if summary:
        whole = word in summary
        yield Checked(
            f"run.prompt.{role}",
            whole,
            "the prompt arrived whole" if whole else "it did not read the end of its prompt",
        )


def _without(shown: str, traces: Collection[str]) -> Iterator[str]:
    for line in shown.splitlines():
        if line[3:].strip('"').partition("/")[0] not in traces:
            yield line
