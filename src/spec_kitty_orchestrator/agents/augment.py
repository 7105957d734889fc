"""Augment: `auggie --print`; the last JSON line of its output is its result, after plain notices.

A failure leaves no such line, and is told on stderr alone, in fixed words. With a limit of turns reached it
exits with 0, without a word and without a result.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from spec_kitty_orchestrator.agents.api_status import outcome_of_status
from spec_kitty_orchestrator.agents.json_lines import Event, amount, events, message, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Step, StepKind, Told, ended, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Augment"]

_DENIED = (
    *("save-file", "str-replace-editor", "apply_patch", "remove-files"),
    *("launch-process", "write-process", "kill-process", "web-fetch"),
)
"""What a reviewer must not use; `--ask` would let it write."""

_REVIEW = (
    "--mcp-config",
    '{"mcpServers":{}}',
    *(word for tool in _DENIED for word in ("--permission", f"{tool}:deny")),
)
"""No servers of tools: those of the worktree's `.augment/` may be the implementer's, and would be started."""

_RETRY_S = "30"
"""Without a bound it tries a limited or overloaded API again for minutes, in silence."""

_TOLD = re.compile(r"^\u274c (.+)", re.MULTILINE)
"""How it begins to tell a failure on stderr; warnings begin otherwise."""

_STATUS = re.compile(r"\bHTTP error: (\d{3})\b")

_REASONS: Mapping[str, Outcome] = {
    "Authentication failed: ": Outcome.AUTH,
    "No auth provided": Outcome.AUTH,
    "Failed to initialize agent: ": Outcome.FAILED,
}

_AFTER_RETRIES = re.compile(r"Request failed after exceeding retry timeout of \d+s: (.+)")
_LAST_TRIES: Mapping[str, Outcome] = {
    "Rate limited": Outcome.RATE_LIMITED,
    "unauthenticated": Outcome.AUTH,
    "permissionDenied": Outcome.AUTH,
}
"""The state of the request that it gave up; any other one is the API's or the network's fault."""

_WRONG_USAGE = "error: "
"""How it begins to refuse its arguments."""


class Augment:
    """Augment's CLI, whose models come with an account of theirs.

    The implementer edits files and runs commands without being asked, and is not confined. The reviewer has
    tools to read and to search; those that write or run something are refused.
    """

    name = "augment"
    family = "augment"
    executable = "auggie"
    environment: tuple[str, ...] = ("AUGMENT_*", "AUGGIE_*", "GITHUB_API_TOKEN")
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.36.0",)
    install = "npm install -g @augmentcode/auggie"
    login: Login = Login(
        variables=("AUGMENT_SESSION_AUTH", "AUGMENT_API_TOKEN"),
        files=("~/.augment/session.json",),
        how="run `auggie login`, or set AUGMENT_SESSION_AUTH to what `auggie token print` shows",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = (".augment",)
    state: tuple[str, ...] = (
        "~/.augment/",
        "!~/.augment/settings.json",
        "!~/.augment/commands/",
        "!~/.augment/rules/",
    )
    resumes = True
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; the permissions of a reviewer come last and outrank those of settings files."""
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--resume", task.session) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "--print",
                "--output-format",
                "json",
                "--show-cost",
                "--retry-timeout",
                _RETRY_S,
                *resumed,
                *model,
                *settings.extra_args,
                *(_REVIEW if task.role is Role.REVIEW else ()),
            ),
            default_env={"AUGMENT_DISABLE_AUTO_UPDATE": "1"},
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows its tools; nothing confines commands."""
        if role is Role.REVIEW:
            return Permissions("auto", "read_only_tools", "none")
        return Permissions("auto", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last JSON line, or else from what stderr says of a failure."""
        result: Event = {}
        for event in events(stdout):
            result = event
        if text(result, "type") != "result":
            result = {}
        told = _TOLD.findall(stderr_tail)
        good = result.get("is_error") is False and result.get("subtype") == "success"
        if good and text(result, "result").strip():
            outcome = Outcome.OK
        elif result and not told:
            outcome = Outcome.FAILED
        else:
            outcome = _failure(told, stderr_tail)
        ended = f"it ended with {text(result, 'subtype') or 'no result'!r}; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=text(result, "result") if outcome is Outcome.OK else "",
            detail="" if outcome is Outcome.OK else message("; ".join(told), stderr_tail, ended),
            session=text(result, "session_id") or None,
            usage=Usage(cost_usd=_cost_usd(result)),
            exit_code=exit_code,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output: the result, and before it notices for people."""
        if line.startswith("{"):
            return told_by(line, _told)
        return iter((Step(StepKind.SAYS, line),))


def _told(event: Event) -> Iterator[Told]:
    if text(event, "type") == "result":
        good = event.get("is_error") is False and event.get("subtype") == "success"
        yield Step(StepKind.SAYS, text(event, "result"))
        yield ended(good, text(event, "result"), text(event, "subtype"))


def _failure(told: list[str], stderr_tail: str) -> Outcome:
    if stderr_tail.lstrip().startswith(_WRONG_USAGE):
        return Outcome.INVALID_REQUEST
    for line in told:
        status = _STATUS.search(line)
        if status:
            return outcome_of_status(float(status[1])) or Outcome.FAILED
        given_up = _AFTER_RETRIES.search(line)
        if given_up:
            return _first(_LAST_TRIES, given_up[1]) or Outcome.OVERLOADED
        reason = _first(_REASONS, line)
        if reason:
            return reason
    return Outcome.FAILED if told else Outcome.CRASHED


def _first(outcomes: Mapping[str, Outcome], words: str) -> Outcome | None:
    return next((outcome for beginning, outcome in outcomes.items() if words.startswith(beginning)), None)


def _cost_usd(result: Event) -> float | None:
    """Return what it cost, where the account is billed in dollars; others are billed in credits."""
    billing = result.get("billing")
    if not isinstance(billing, dict) or billing.get("usage_unit") != "usd":
        return None
    return amount(billing, "total_cost")
