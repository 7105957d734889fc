"""GitHub Copilot's CLI: `copilot --output-format json`; the last line of its stream is one `result` event.

Its `exitCode` decides, unless the turn was aborted: a stopped run tells 0 as well. What was used is in a file
of its own, which is read as one more line.
"""

from collections.abc import Iterable, Iterator, Mapping

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, told_again, told_request
from spec_kitty_orchestrator.agents.json_lines import Event, count, events, message, number, part, text
from spec_kitty_orchestrator.agents.refused_tools import Refusals
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    USAGE_FILE,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Step, StepKind, Told, called, ended, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Copilot"]

_IMPLEMENT = ("--allow-tool=write", "--allow-tool=shell")
_REVIEW = ("--available-tools=view,grep,glob", "--deny-tool=write", "--deny-tool=shell")
"""No shell for a reviewer: `git diff --output=FILE` and `git branch NAME` pass as reading here, unasked."""
_CONFINED_REVIEW = ("--allow-tool=shell", "--deny-tool=write")

_CLASSES: Mapping[str, Outcome] = {
    "authentication": Outcome.AUTH,
    "authorization": Outcome.AUTH,
    "quota": Outcome.BUDGET,
    "rate_limit": Outcome.RATE_LIMITED,
    "context_limit": Outcome.INVALID_REQUEST,
}
"""The class that the CLI gives an error that ends its turn."""

_REFUSALS: tuple[tuple[str, Outcome], ...] = (
    ("Error: No authentication information found", Outcome.AUTH),
    ("error: ", Outcome.INVALID_REQUEST),
    ("Error: No session, task, or name matched", Outcome.FAILED),
)
"""How it begins, on stderr, to refuse to start; it then says nothing on stdout."""


class Copilot:
    """GitHub's CLI, for its own models or those of a provider of one's own.

    The implementer edits files in its worktree and runs commands without being asked; the commands are not
    confined by it. The reviewer has tools that read files, and a shell only where the system confines it.
    """

    name = "copilot"
    family = "github"
    executable = "copilot"
    environment: tuple[str, ...] = (
        *("COPILOT_*", "GH_TOKEN", "GITHUB_TOKEN", "GH_HOST", "GH_CONFIG_DIR", "OTEL_*"),
        *("USE_BUILTIN_RIPGREP", "USE_TGREP*", "TGREP_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("1.0.102",)
    install = "npm install -g @github/copilot"
    login: Login = Login(
        variables=("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "COPILOT_PROVIDER_BASE_URL"),
        how="run `copilot login`, or set COPILOT_GITHUB_TOKEN",
    )
    shell_in_review: ShellInReview = "confined"
    traces: tuple[str, ...] = (".copilot",)
    state: tuple[str, ...] = (
        "~/.copilot/",
        "$COPILOT_HOME/",
        "!~/.config/gh/",
        "!~/.copilot/mcp-config.json",
        "!~/.copilot/agents/",
    )
    resumes = True
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a variable that would allow every tool is turned off.

        Options that take several words are written with `=`, because they would swallow what follows.
        """
        model = (f"--model={settings.model}",) if settings.model else ()
        review = _CONFINED_REVIEW if task.confined else _REVIEW
        resumed = (f"--resume={task.session}",) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                *(review if task.role is Role.REVIEW else _IMPLEMENT),
                "--no-ask-user",
                "--no-auto-update",
                "--output-format=json",
                f"--usage-output-file={task.directory / USAGE_FILE}",
                *resumed,
                *model,
                *settings.extra_args,
            ),
            env={"COPILOT_ALLOW_ALL": "false"},
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it is the CLI that confines its tools, not the system."""
        if role is Role.REVIEW:
            return Permissions("never_ask", "read_only_tools", "none")
        return Permissions("never_ask", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last `result` event; without one, from what it was trying again."""
        result: Event = {}
        error: Event = {}
        failure: Event = {}
        spent: Event = {}
        final = session = ""
        aborted = False
        refusals = Refusals()
        for event in events(stdout):
            kind, data = text(event, "type"), part(event, "data")
            if kind == "tool.execution_start":
                refusals.called(text(data, "toolName"), text(data, "toolCallId"))
            elif kind == "tool.execution_complete" and text(data, "error", "code") == "denied":
                refusals.refused(call=text(data, "toolCallId"))
            if event.get("agentId") or data.get("parentToolCallId"):
                continue
            if "modelMetrics" in event:
                spent = part(event, "modelMetrics")
            elif kind == "result":
                result, session = event, text(event, "sessionId")
            elif kind == "assistant.turn_start":
                result, error, aborted = {}, {}, False
            elif kind == "assistant.message":
                result, error, failure = {}, {}, {}
                final = "" if data.get("toolRequests") else text(data, "content")
            elif kind == "model.call_failure":
                failure = data
            elif kind == "session.error":
                error = data
            elif kind == "abort" or data.get("aborted") is True:
                aborted = True
        outcome = _outcome(result, error, failure, aborted=aborted)
        if outcome is Outcome.CRASHED and not (session or error):
            outcome = next(
                (one for words, one in _REFUSALS if stderr_tail.lstrip().startswith(words)), outcome
            )
        again = told_again(number(failure, "statusCode")) if failure else ""
        stopped = "it was interrupted" if aborted else f"no result event; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final if outcome is Outcome.OK else "",
            detail=str(refusals)
            if outcome is Outcome.OK
            else message(text(error, "message"), again, stderr_tail, stopped),
            session=session or None,
            usage=_usage(spent),
            exit_code=exit_code,
            usage_is_cumulative=True,
            refused=refusals.all,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    data = part(event, "data")
    match text(event, "type"):
        case "assistant.message":
            yield Step(StepKind.SAYS, text(data, "content"))
        case "assistant.reasoning":
            yield Step(StepKind.THINKS, text(data, "content"))
        case "tool.execution_start":
            yield called(text(data, "toolName"), part(data, "arguments"))
        case "tool.execution_complete" if data.get("success") is False:
            yield failed(text(data, "error", "message"))
        case "model.call_failure":
            yield failed(told_request(number(data, "statusCode")))
        case "session.error":
            yield failed(text(data, "message"))
        case "abort":
            yield failed("it was interrupted")
        case "result":
            code = number(event, "exitCode")
            yield ended(code == 0, f"with exit code {code:g}" if code is not None else "")


def _outcome(result: Event, error: Event, failure: Event, *, aborted: bool) -> Outcome:
    if error:
        return _class(error, failure)
    if result and not aborted:
        return Outcome.OK if number(result, "exitCode") == 0 else Outcome.FAILED
    return _class({}, failure) if failure else Outcome.CRASHED


def _class(error: Event, failure: Event) -> Outcome:
    if text(next(events((text(failure, "errorMessage"),)), {}), "code") == "insufficient_quota":
        return Outcome.BUDGET
    status = number(error, "statusCode")
    by_status = outcome_of_status(number(failure, "statusCode") if status is None else status)
    unreached = Outcome.OVERLOADED if text(failure, "failureKind") == "transport" else None
    otherwise = Outcome.FAILED if error else Outcome.CRASHED
    return _CLASSES.get(text(error, "errorType")) or by_status or unreached or otherwise


def _usage(models: Event) -> Usage:
    each = [part(one, "usage") for one in models.values() if isinstance(one, dict)]
    return Usage(
        input_tokens=sum(count(one, "inputTokens") for one in each),
        output_tokens=sum(count(one, "outputTokens") for one in each),
    )
