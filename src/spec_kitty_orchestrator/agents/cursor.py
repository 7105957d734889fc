"""Cursor: `cursor-agent -p`; the last line of its stream is one `result` event.

Written from the format that its vendor documents and from what others recorded, as its CLI needs an account.
A failure leaves no `result`, and is told on stderr alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from spec_kitty_orchestrator.agents.content import words
from spec_kitty_orchestrator.agents.json_lines import Event, count, events, message, part, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Part, Step, StepKind, Told, called, ended, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Cursor"]

_CONNECT = re.compile(r"^(?:Error: )?(?:ConnectError|RetriableError): \[(\w+)\]", re.MULTILINE)
_STATES: Mapping[str, Outcome] = {
    "resource_exhausted": Outcome.RATE_LIMITED,
    "unauthenticated": Outcome.AUTH,
    "permission_denied": Outcome.AUTH,
    "invalid_argument": Outcome.INVALID_REQUEST,
    "not_found": Outcome.INVALID_REQUEST,
    "failed_precondition": Outcome.INVALID_REQUEST,
}
"""How a call of its vendor's API ended; any other state is the API's or the network's fault."""

_TOLD: Mapping[str, Outcome] = {
    "Authentication required": Outcome.AUTH,
    "Not authenticated": Outcome.AUTH,
    "\u26a0 Workspace Trust Required": Outcome.INVALID_REQUEST,
    "ActionRequiredError: Named models unavailable": Outcome.INVALID_REQUEST,
    # A plan that is used up, or an invoice that is not paid: a person must act.
    "ActionRequiredError: ": Outcome.BUDGET,
    "unknown option": Outcome.INVALID_REQUEST,
}
"""How lines of stderr begin, after `Error: ` or `error: ` in some versions."""


class Cursor:
    """Cursor's CLI, whose models come with an account of theirs.

    The implementer is called without `--force`, which is another name of a flag that the host bans: what its
    own settings do not let it do, it does not do. The reviewer is in its mode for questions.
    """

    name = "cursor"
    family = "cursor"
    executable = "cursor-agent"
    environment: tuple[str, ...] = ("CURSOR_*", "NO_OPEN_BROWSER")
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ()
    install = "curl https://cursor.com/install -fsS | bash"
    login: Login = Login(
        variables=("CURSOR_API_KEY", "CURSOR_AUTH_TOKEN"),
        files=(
            *("$CURSOR_CONFIG_DIR/auth.json", "$XDG_CONFIG_HOME/cursor/auth.json"),
            *("~/.config/cursor/auth.json", "~/.cursor/auth.json"),
        ),
        how="run `cursor-agent login`, or set CURSOR_API_KEY",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = (".cursor",)
    state: tuple[str, ...] = ("~/.cursor/", "~/.config/cursor/", "!~/.cursor/mcp.json", "!~/.cursor/rules/")
    resumes = True
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; without `--trust` it does nothing in a folder that is new to it."""
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--resume", task.session) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "-p",
                "--output-format",
                "stream-json",
                "--trust",
                "--sandbox",
                "enabled",
                *resumed,
                *model,
                *settings.extra_args,
                *(("--mode", "ask") if task.role is Role.REVIEW else ()),
            ),
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows.

        Its sandbox is meant for commands and not for its tool that edits, and the mode of a reviewer is kept
        by its vendor's service: neither is counted as more than that.
        """
        if role is Role.REVIEW:
            return Permissions("default", "read_only_mode", "full")
        return Permissions("default", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last `result` event, or else from what stderr says of a failure."""
        result: Event = {}
        session = final = ""
        said = False
        for event in events(stdout):
            kind = text(event, "type")
            session = text(event, "session_id") or session
            result = event if kind == "result" else {}
            if kind == "assistant":
                final, said = _said(event), True
            elif kind == "tool_call":
                final = ""
        if not said:
            # Else it repeats everything that was said, also before the tools were called.
            final = text(result, "result")
        outcome = _outcome(result, final) if result else _failure(stderr_tail)
        ended = f"it ended with {text(result, 'subtype') or 'no result'!r}; exit code {exit_code}"
        told = text(result, "result") if result else _prose(stderr_tail)
        return AgentReport(
            outcome=outcome,
            text=final if outcome is Outcome.OK else "",
            detail="" if outcome is Outcome.OK else message(told, ended),
            session=session or None,
            usage=_usage(result),
            exit_code=exit_code,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    match text(event, "type"):
        case "thinking":
            yield Part(StepKind.THINKS, text(event, "text"))
        case "assistant":
            yield Step(StepKind.SAYS, _said(event))
        case "tool_call":
            yield from _told_call(event)
        case "result":
            used = _usage(event)
            good = event.get("is_error") is False and event.get("subtype") == "success"
            told = (text(event, "result"), text(event, "subtype"))
            yield ended(good, *told, tokens=used.tokens)


def _told_call(event: Event) -> Iterator[Told]:
    """Tell of a tool, which is named by the one key of its object."""
    name, call = next(iter(part(event, "tool_call").items()), ("", {}))
    tool = name.removesuffix("ToolCall")
    if not isinstance(call, dict):
        return
    if event.get("subtype") == "started":
        yield called(tool, part(call, "args"))
    elif (result := part(call, "result")) and "success" not in result:
        kind = next(iter(result))
        why = part(result, kind)
        yield failed(text(why, "reason"), text(why, "error"), text(why, "message"), f"{tool}: {kind}")


def _said(event: Event) -> str:
    return words(part(event, "message").get("content"))


def _outcome(result: Event, final: str) -> Outcome:
    good = result.get("is_error") is False and result.get("subtype") == "success"
    return Outcome.OK if good and final.strip() else Outcome.FAILED


def _prose(stderr_tail: str) -> str:
    """Leave out the events, which some versions repeat on stderr."""
    return "\n".join(line for line in stderr_tail.splitlines() if not line.lstrip().startswith("{"))


def _failure(stderr_tail: str) -> Outcome:
    prose = _prose(stderr_tail)
    state = _CONNECT.search(prose)
    if state:
        return _STATES.get(state[1], Outcome.OVERLOADED)
    for line in prose.splitlines():
        words = re.sub(r"^\s*(?:[Ee]rror: )?", "", line)
        for beginning, outcome in _TOLD.items():
            if words.startswith(beginning):
                return outcome
    return Outcome.CRASHED


def _usage(result: Event) -> Usage:
    sent = ("inputTokens", "cacheReadTokens", "cacheWriteTokens")
    return Usage(
        input_tokens=sum(count(result, "usage", name) for name in sent),
        output_tokens=count(result, "usage", "outputTokens"),
    )
