"""Claude Code: `claude -p`; the last line of its stream is one `result` event.

`is_error` of that event decides; its `subtype` says "success" on API failures too.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, told_again, told_request, until_reset
from spec_kitty_orchestrator.agents.content import told_in
from spec_kitty_orchestrator.agents.json_lines import (
    Event,
    amount,
    count,
    events,
    message,
    number,
    part,
    text,
)
from spec_kitty_orchestrator.agents.refused_tools import Refusals, denials
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Told, ended, failed, told_by
from spec_kitty_orchestrator.agents.versions import compare, read_version
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["ClaudeCode"]

_IMPLEMENT = ("--permission-mode", "acceptEdits", "--allowedTools", "Bash,Edit,Write,Read,Grep,Glob")
_REVIEW = ("--setting-sources", "user", "--permission-mode", "dontAsk")
"""Only the user's own settings: hooks in the worktree's `.claude/` are the implementer's, and run unasked."""
_READ = "Read,Grep,Glob"
"""No shell: git writes to any file (`git diff --output=FILE`), and no rule about commands withstands quoting.

Only a reviewer that the system confines has one.
"""

_CLASSES: Mapping[str, Outcome] = {
    "authentication_failed": Outcome.AUTH,
    "oauth_org_not_allowed": Outcome.AUTH,
    "billing_error": Outcome.BUDGET,
    "rate_limit": Outcome.RATE_LIMITED,
    "overloaded": Outcome.OVERLOADED,
    "server_error": Outcome.OVERLOADED,
    "invalid_request": Outcome.INVALID_REQUEST,
    "model_not_found": Outcome.INVALID_REQUEST,
}
"""The class that the CLI gives the error of its last assistant event."""


_BOUNDS: Mapping[str, str] = {"CLAUDE_CODE_MAX_RETRIES": "3", "API_TIMEOUT_MS": "300000"}
"""Without them it tries ten times, for three minutes, and waits ten minutes for each answer to begin."""

_WRONG_USAGE = ("error: ", "--dangerously-skip-permissions cannot be used")
"""How it begins to refuse its arguments; it then says nothing on stdout."""

_UNKNOWN_SESSION = "No conversation found"
_COUNTS_SESSIONS = ("2.1.332",)
"""The first version seen to count a session that is gone on with from its beginning; 2.1.197 does not."""


class ClaudeCode:
    """Anthropic's CLI.

    The implementer edits files in its worktree and runs commands without being asked; the commands are not
    confined by it. The reviewer may read and search files; it is given no tool that writes, and a shell only
    where the system confines it.
    """

    name = "claude-code"
    family = "anthropic"
    executable = "claude"
    environment: tuple[str, ...] = (
        *("ANTHROPIC_*", "CLAUDE_*", "API_TIMEOUT_MS", "MAX_THINKING_TOKENS", "IS_SANDBOX"),
        *("BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_TIMEOUT_MS", "BASH_MAX_OUTPUT_LENGTH", "MCP_*"),
        *("MAX_MCP_OUTPUT_TOKENS", "DISABLE_*", "ENABLE_*", "OTEL_*"),
        # Its modes for the models of Amazon and Google.
        *("AWS_*", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_*", "GCLOUD_PROJECT", "CLOUDSDK_*"),
        *("CLOUD_ML_REGION", "VERTEX_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("2.1.197", "2.1.332")
    install = "npm install -g @anthropic-ai/claude-code"
    login: Login = Login(
        variables=(
            *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
            *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"),
        ),
        files=("$CLAUDE_CONFIG_DIR/.credentials.json", "~/.claude/.credentials.json"),
        how="run `claude` once and log in, or set ANTHROPIC_API_KEY",
    )
    shell_in_review: ShellInReview = "confined"
    traces: tuple[str, ...] = (".claude",)
    state: tuple[str, ...] = (
        "~/.claude/",
        "~/.claude.json",
        "$CLAUDE_CONFIG_DIR/",
        "!~/.claude/settings.json",
        "!~/.claude/CLAUDE.md",
        "!~/.claude/commands/",
        "!~/.claude/agents/",
        "!~/.claude/skills/",
        "!~/.claude/plugins/",
        "!~/.claude/local/",
        "!$CLAUDE_CONFIG_DIR/settings.json",
        "!$CLAUDE_CONFIG_DIR/CLAUDE.md",
        "!$CLAUDE_CONFIG_DIR/commands/",
        "!$CLAUDE_CONFIG_DIR/agents/",
        "!$CLAUDE_CONFIG_DIR/skills/",
        "!$CLAUDE_CONFIG_DIR/plugins/",
        "!$CLAUDE_CONFIG_DIR/local/",
    )
    resumes = True
    reports_cost = True
    caps_cost = True

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Take the clock, in seconds since the epoch, with which the CLI's time of a reset is compared."""
        self._now = now

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; ours come last, because `--allowedTools` takes every word that follows."""
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--resume", task.session) if task.session else ()
        tools = f"{_READ},Bash" if task.confined else _READ
        review = (*_REVIEW, "--tools", tools, "--allowedTools", tools)
        capped = () if task.max_cost_usd is None else ("--max-budget-usd", f"{task.max_cost_usd:.6f}")
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "-p",
                "--output-format",
                "stream-json",
                "--verbose",
                *resumed,
                *capped,
                *model,
                *settings.extra_args,
                *(review if task.role is Role.REVIEW else _IMPLEMENT),
            ),
            default_env=_BOUNDS,
            stop_signal="INT",
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it is the CLI that confines its tools, not the system."""
        if role is Role.REVIEW:
            return Permissions("dont_ask", "read_only_tools", "none")
        return Permissions("accept_edits", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last `result` event; without one, from what it was trying again."""
        result: Event = {}
        retry: Event = {}
        failure = session = version = ""
        reset_s: float | None = None
        refusals = Refusals()
        for event in events(stdout):
            kind = text(event, "type")
            session = text(event, "session_id") or session
            if kind == "assistant":
                refusals.called_in(event)
            if kind == "result":
                result = event
            elif kind == "assistant" and event.get("parent_tool_use_id") is None:
                result, retry, failure = {}, {}, text(event, "error")
            elif kind == "system" and text(event, "subtype") == "init":
                version = text(event, "claude_code_version")
            elif kind == "system" and text(event, "subtype") == "api_retry":
                retry = event
            elif kind == "rate_limit_event":
                limited = text(event, "rate_limit_info", "status") == "rejected"
                reset_at = number(event, "rate_limit_info", "resetsAt") if limited else None
                reset_s = None if reset_at is None else reset_at - self._now()
        refused = not session and stderr_tail.lstrip().startswith(_WRONG_USAGE)
        outcome = Outcome.INVALID_REQUEST if refused else _outcome(result, retry, failure)
        if any(one.startswith(_UNKNOWN_SESSION) for one in _errors(result)):
            session = ""
        told = denials(result, refusals)
        return AgentReport(
            outcome=outcome,
            text=text(result, "result") if outcome is Outcome.OK else "",
            detail=told
            if outcome is Outcome.OK
            else message(
                text(result, "result"),
                _tried_again(retry),
                "; ".join(_errors(result)),
                stderr_tail,
                f"no result event; exit code {exit_code}",
            ),
            retry_after_s=until_reset(reset_s) if outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=_usage(result),
            usage_is_cumulative=compare(read_version(version), _COUNTS_SESSIONS) != "older",
            exit_code=exit_code,
            refused=refusals.all,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)

    def goes_on(self, stdout: Iterable[str]) -> bool:
        """Tell whether commands run in the background: when they end, it begins a new turn."""
        tasks: object = None
        for event in events(stdout):
            if text(event, "subtype") == "background_tasks_changed":
                tasks = event.get("tasks")
        return bool(tasks)


def _told(event: Event) -> Iterator[Told]:
    yield from told_in(event)
    kind = text(event, "type")
    if kind == "system" and text(event, "subtype") == "api_retry":
        yield failed(told_request(number(event, "error_status")))
    elif kind == "result":
        used, why = _usage(event), (text(event, "result"), "; ".join(_errors(event)), text(event, "subtype"))
        yield ended(event.get("is_error") is False, *why, tokens=used.tokens)


def _outcome(result: Event, retry: Event, failure: str) -> Outcome:
    interrupted = not result or result.get("subtype") == "error_during_execution"
    if interrupted and retry:
        # Without a status it reached no API at all.
        by_status = outcome_of_status(number(retry, "error_status"))
        return _CLASSES.get(text(retry, "error")) or by_status or Outcome.OVERLOADED
    if not result:
        return _CLASSES.get(failure, Outcome.CRASHED)
    if result.get("is_error") is False:
        return Outcome.OK
    if result.get("subtype") == "error_max_budget_usd":
        return Outcome.BUDGET
    status = number(result, "api_error_status")
    if failure == "unknown" and status is None:
        return Outcome.OVERLOADED
    return _CLASSES.get(failure) or outcome_of_status(status) or Outcome.FAILED


def _errors(result: Event) -> list[str]:
    told = result.get("errors")
    return [one for one in told if isinstance(one, str)] if isinstance(told, list) else []


def _tried_again(retry: Event) -> str:
    if not retry:
        return ""
    return f"{told_again(number(retry, 'error_status'))} ({text(retry, 'error') or 'unknown'})"


def _usage(result: Event) -> Usage:
    models = part(result, "modelUsage").values()
    each = [one for one in models if isinstance(one, dict)]
    if each:
        sent = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        received = "outputTokens"
    else:
        each = [dict(part(result, "usage"))]
        sent = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        received = "output_tokens"
    return Usage(
        input_tokens=sum(count(one, name) for one in each for name in sent),
        output_tokens=sum(count(one, received) for one in each),
        cost_usd=amount(result, "total_cost_usd"),
    )
