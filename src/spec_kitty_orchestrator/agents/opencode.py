"""opencode: `opencode run`; it is done when the last step finished with the reason `stop` and left a text.

It exits with 0 after a run that was cut short by a refused permission, so the exit code proves nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, until_reset
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
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
)
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

_IMPLEMENT_RULES = {"external_directory": "deny"}
_REVIEW_RULES = {
    "edit": "deny",
    "bash": "deny",
    "external_directory": "deny",
    "webfetch": "deny",
    "websearch": "deny",
}
"""No shell for a reviewer: a rule that allows `git log*` allows `git log > file` anywhere on the disk too."""

_ERRORS: Mapping[str, Outcome] = {
    "ContextOverflowError": Outcome.INVALID_REQUEST,
    "ProviderModelNotFoundError": Outcome.INVALID_REQUEST,
    "ProviderAuthError": Outcome.AUTH,
}
_LOG_ERRORS: Mapping[str, Outcome] = {
    "AI_APICallError": Outcome.OVERLOADED,
    "AI_RetryError": Outcome.OVERLOADED,
    "ProviderModelNotFoundError": Outcome.INVALID_REQUEST,
}
_LOGGED = re.compile(
    r'^timestamp=(\S+) level=ERROR (?!.*\bsmall=true\b).*?\bmessage=(?:failed|"stream error") '
    r'.*?\berror="(\w+)(: (?:[^"\\]|\\.)*)"',
    re.MULTILINE,
)
"""Its log tells what its events leave out: which request it tries again, and which model it does not know."""

_CUT = "unknown"
"""The reason of a step whose stream ended too early; it begins another at once, and never gives up."""

_USAGE = "opencode run [message..]"
"""How it answers wrong arguments, on stderr."""

_SAME_MOMENT_MS = 5_000.0
"""An error is logged a moment before the event that tells of it."""

_OUT_OF_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class OpenCode:
    """The opencode CLI with whatever provider the user configured for it."""

    name = "opencode"
    family = "opencode"
    executable = "opencode"
    environment: tuple[str, ...] = (
        "OPENCODE_*",
        # Whichever provider it is configured for, it finds that one's key in the environment.
        *("ANTHROPIC_*", "OPENAI_*", "AZURE_*", "AWS_*", "GOOGLE_*", "VERTEX_*", "GEMINI_*", "GROQ_*"),
        *("MISTRAL_*", "DEEPSEEK_*", "XAI_*", "OPENROUTER_*", "TOGETHER_*", "FIREWORKS_*", "CEREBRAS_*"),
        *("MOONSHOT_*", "ZHIPU_*", "ZAI_*", "HF_TOKEN", "GITHUB_TOKEN", "CLOUDFLARE_*", "OLLAMA_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("1.18.33",)
    install = "npm install -g opencode-ai"
    login = Login(
        variables=("OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT"),
        files=("$XDG_DATA_HOME/opencode/auth.json", "~/.local/share/opencode/auth.json"),
        how="run `opencode auth login`, or name a provider and its key in opencode.json",
    )
    shell_in_review = False
    traces: tuple[str, ...] = (".opencode",)
    resumes = True
    reports_cost = True
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; the environment says what it may do, and outranks the user's own rules.

        The CLI works in the directory that `PWD` names and not in the one it was started in, so a `PWD`
        left over from our own shell would make it edit the wrong tree.
        """
        review = task.role is Role.REVIEW
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--session", task.session) if task.session else ()
        rules = _REVIEW_RULES if review else _IMPLEMENT_RULES
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "run",
                "--auto",
                "--agent",
                "plan" if review else "build",
                "--format",
                "json",
                *resumed,
                *model,
                *settings.extra_args,
            ),
            default_env={"OPENCODE_PRINT_LOGS": "1", "OPENCODE_LOG_LEVEL": "ERROR"},
            env={**settings.env, "OPENCODE_PERMISSION": json.dumps(rules), "PWD": str(task.workspace)},
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what argv and environment of a role allow its tools.

        The CLI itself runs plugins that it finds in the worktree's `.opencode/`, whatever the rules say.
        """
        if role is Role.REVIEW:
            return Permissions("auto", "read_only_tools", "none")
        return Permissions("auto", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last step and from `error` events after it."""
        session = reason = ""
        texts: list[str] = []
        error: Event = {}
        spent = Usage()
        last_ms, cut = 0.0, 0
        for event in events(stdout):
            kind = text(event, "type")
            session = text(event, "sessionID") or session
            last_ms = number(event, "timestamp") or last_ms
            if kind == "tool_use":
                texts.clear()
            elif kind == "step_start":
                reason, error = "", {}
                texts.clear()
            elif kind == "text":
                texts.append(text(event, "part", "text"))
            elif kind == "step_finish":
                reason = text(event, "part", "reason")
                spent = _plus(spent, part(event, "part"))
                cut = cut + 1 if reason == _CUT else 0
            elif kind == "error":
                error = event
        final = "".join(texts)
        outcome = _outcome(error, reason, final, exit_code)
        logged = _logged_after(last_ms, stderr_tail)
        if outcome is Outcome.CRASHED or text(error, "error", "name") == "UnknownError":
            outcome = _unsaid(outcome, logged, stderr_tail, cut)
        stopped = f"it ended after a step with the reason {reason or 'unknown'!r}; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final,
            detail="" if outcome is Outcome.OK else message(_words(error, logged), stderr_tail, stopped),
            retry_after_s=until_reset(_retry_after(error)) if outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=spent,
            exit_code=exit_code,
        )


def _outcome(error: Event, reason: str, final: str, exit_code: int | None) -> Outcome:
    if error:
        return _class(part(error, "error"))
    if reason == "stop" and final.strip():
        return Outcome.OK
    return Outcome.FAILED if reason and exit_code == 0 else Outcome.CRASHED


def _logged_after(last_ms: float, stderr_tail: str) -> tuple[str, str]:
    """Return the name and the words of the last error that it logged after its last event, if any."""
    for at, name, words in reversed(_LOGGED.findall(stderr_tail)):
        try:
            recent = datetime.fromisoformat(at).timestamp() * 1000 >= last_ms - _SAME_MOMENT_MS
        except ValueError:
            continue
        return (name, name + words) if recent else ("", "")
    return "", ""


def _unsaid(outcome: Outcome, logged: tuple[str, str], stderr_tail: str, cut: int) -> Outcome:
    """Let the log say what an error without a class was, or what a process that was ended waited for."""
    if stderr_tail.lstrip().startswith(_USAGE):
        return Outcome.INVALID_REQUEST
    if cut > 1:
        return Outcome.OVERLOADED
    return _LOG_ERRORS.get(logged[0], outcome)


def _class(error: Event) -> Outcome:
    if _provider_code(error) in _OUT_OF_CREDIT:
        return Outcome.BUDGET
    by_status = outcome_of_status(number(error, "data", "statusCode"))
    retryable = Outcome.OVERLOADED if part(error, "data").get("isRetryable") is True else Outcome.FAILED
    return _ERRORS.get(text(error, "name")) or by_status or retryable


def _provider_code(error: Event) -> str:
    for body in events((text(error, "data", "responseBody"),)):
        return text(body, "error", "code")
    return ""


def _words(error: Event, logged: tuple[str, str]) -> str:
    if text(error, "error", "name") == "UnknownError" or not error:
        return logged[1] or text(error, "error", "data", "message")
    return text(error, "error", "data", "message") or text(error, "error") or text(error, "error", "name")


def _retry_after(error: Event) -> float | None:
    told = text(error, "error", "data", "responseHeaders", "retry-after")
    return float(told) if told.isascii() and told.isdigit() and len(told) < 9 else None


def _plus(spent: Usage, step: Event) -> Usage:
    cached = count(step, "tokens", "cache", "read") + count(step, "tokens", "cache", "write")
    cost = amount(step, "cost")
    return Usage(
        input_tokens=spent.input_tokens + count(step, "tokens", "input") + cached,
        output_tokens=spent.output_tokens
        + count(step, "tokens", "output")
        + count(step, "tokens", "reasoning"),
        cost_usd=spent.cost_usd if cost is None else (spent.cost_usd or 0.0) + cost,
    )
