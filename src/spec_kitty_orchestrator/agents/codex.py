"""Codex: `codex exec --json`; a turn ends with `turn.completed` or `turn.failed`.

Its errors have no code, only a message in the CLI's own fixed words. Those are read for a class, from their
beginning; the words of a retry only where the turn has no end.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, until_reset
from spec_kitty_orchestrator.agents.content import blocks
from spec_kitty_orchestrator.agents.json_lines import Event, count, events, message, number, part, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import (
    Step,
    StepKind,
    Told,
    called,
    ended,
    failed,
    failed_command,
    told_by,
)
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Codex"]

_STATUS = re.compile(r"(?:unexpected status|exceeded retry limit, last status:) (\d{3})\b")
_RETRY = re.compile(r"Reconnecting\.\.\. (?:\d+/\d+|waiting for network) \((.*)\)$", re.DOTALL)
_WORDS: tuple[tuple[str, Outcome], ...] = (
    ("You've hit your usage limit", Outcome.RATE_LIMITED),
    ("Rate limit reached", Outcome.RATE_LIMITED),
    ("Quota exceeded", Outcome.BUDGET),
    ("Your workspace is out of credits", Outcome.BUDGET),
    ("You hit your spend cap", Outcome.BUDGET),
    ("To use Codex with your ChatGPT plan, upgrade", Outcome.BUDGET),
    ("Codex ran out of room", Outcome.INVALID_REQUEST),
    ("The model `", Outcome.INVALID_REQUEST),
    ("The requested model '", Outcome.INVALID_REQUEST),
    ("Invalid prompt: ", Outcome.INVALID_REQUEST),
    ("We're currently experiencing high demand", Outcome.OVERLOADED),
    ("Selected model is at capacity", Outcome.OVERLOADED),
    ("Policy-restricted capacity is unavailable", Outcome.OVERLOADED),
    ("Connection failed", Outcome.OVERLOADED),
    ("stream disconnected before completion: Incomplete response returned", Outcome.FAILED),
    ("stream disconnected before completion", Outcome.OVERLOADED),
    ("Not logged in", Outcome.AUTH),
    ("Your access token could not be refreshed", Outcome.AUTH),
)
"""How a message of the CLI's begins, and what that means; the first that fits decides."""

_REFUSALS = ("Error loading config.toml", "Not inside a trusted directory")
"""How it begins, on stderr, to refuse to start for a reason that lasts."""

_SANDBOX_FAILS = re.compile(
    r"^(?:bwrap: |codex-linux-sandbox: |sandbox-exec: |error running landlock|error applying legacy Linux).*",
    re.MULTILINE,
)
"""A line of what its sandbox says when it cannot start a command, from bubblewrap, Landlock and Seatbelt."""

_NEEDS_HELPER = "codex-linux-sandbox"
"""The helper that it keeps in its home, and never in one below the folder for temporary files."""

_NO_HELPER = re.compile(r"Refusing to create helper binaries under temporary dir.*")
"""What it says of that on stderr when it starts; it does not always tell of the commands that then fail."""

_STARTS_NOTHING = "its sandbox cannot start a command"
_MOVE_HOME = "CODEX_HOME must not lie below the folder for temporary files"

_AGAIN_IN = re.compile(
    r"try again in ((?:[\d.]+ ?(?:days?|hours?|minutes?|seconds?|ms|[dhms])\b[ ,]*)+)", re.IGNORECASE
)
_SPAN = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) ?(days?|hours?|minutes?|seconds?|ms|[dhms])\b", re.IGNORECASE)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AGAIN_AT = re.compile(
    r"try again at (?:([A-Z][a-z]{2}) (\d{1,2})(?:st|nd|rd|th), (\d{4}) )?(\d{1,2}):(\d{2}) ([AP])M",
    re.IGNORECASE,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WRONG_USAGE = 2

_NO_CALLS = ("agent_message", "reasoning", "error")
"""Items that are no call of a tool."""

_WORKS = ("file_change", "mcp_tool_call")
"""Items that are calls of tools which need no command."""

_NO_NETWORK = ("-c", "sandbox_workspace_write.network_access=false")
"""A person's own configuration may open the network, which the host would not be told."""


class Codex:
    """OpenAI's CLI; its own sandbox confines both roles, and commands have no network."""

    name = "codex"
    family = "openai"
    executable = "codex"
    environment: tuple[str, ...] = ("OPENAI_*", "CODEX_*", "AZURE_OPENAI_*", "RUST_LOG")
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.169.0", "0.171.0")
    install = "npm install -g @openai/codex"
    login: Login = Login(
        variables=("CODEX_API_KEY",),
        files=("$CODEX_HOME/auth.json", "~/.codex/auth.json"),
        command=("login", "status"),
        how="run `codex login`",
    )
    shell_in_review: ShellInReview = "always"
    traces: tuple[str, ...] = (".codex",)
    state: tuple[str, ...] = (
        "~/.codex/",
        "$CODEX_HOME/",
        "!~/.codex/config.toml",
        "!~/.codex/AGENTS.md",
        "!~/.codex/hooks.json",
        "!~/.codex/prompts/",
        "!~/.codex/skills/",
        "!~/.codex/rules/",
        "!$CODEX_HOME/config.toml",
        "!$CODEX_HOME/AGENTS.md",
        "!$CODEX_HOME/hooks.json",
        "!$CODEX_HOME/prompts/",
        "!$CODEX_HOME/skills/",
        "!$CODEX_HOME/rules/",
    )
    sandbox_command: tuple[str, ...] = ("sandbox", "--", "true")
    resumes = True
    reports_cost = False
    caps_cost = False

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Take the clock, in seconds since the epoch, with which the CLI's time of a reset is compared."""
        self._now = now

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; analytics are off because the CLI waits five seconds for them when it ends.

        `resume` takes no sandbox of its own, and without one given before it the conversation would go on
        unable to write. A reviewer does not trust the worktree: servers and hooks that `.codex/` there names
        would run outside of the sandbox, also for a user who trusts the repository.
        """
        review = task.role is Role.REVIEW
        distrust = f'projects={{{_toml(str(task.workspace))}={{trust_level="untrusted"}}}}'
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("resume", task.session) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "exec",
                "--json",
                "--sandbox",
                "read-only" if review else "workspace-write",
                "-c",
                "analytics.enabled=false",
                *(("-c", distrust) if review else _NO_NETWORK),
                *model,
                *settings.extra_args,
                *resumed,
                "-",
            ),
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows."""
        return Permissions("never_ask", "read_only" if role is Role.REVIEW else "workspace_write", "none")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last event of the turn; without one, from what it was trying again."""
        end: Event = {}
        session = final = warning = ""
        ran: list[str] = []
        for event in events(stdout):
            kind = text(event, "type")
            if kind == "item.completed":
                ran += self._ran(event)
            if kind == "thread.started":
                session = text(event, "thread_id")
            elif kind == "turn.started":
                end, warning, final = {}, "", ""
            elif kind in {"turn.completed", "turn.failed"}:
                end = event
            elif kind == "error":
                warning = text(event, "message")
            elif kind.startswith("item.") and text(event, "item", "type") != "error":
                warning = ""
                final = _final(final, kind, event)
        failure = text(end, "error", "message")
        outcome = _outcome(end, failure)
        if not end:
            outcome = _without_end(warning, stderr_tail, session, exit_code)
        refused = "" if "" in ran else next(iter(ran), self._without_helper(stderr_tail))
        if outcome is Outcome.OK and refused:
            # Without a command it can have seen and changed nothing, whatever it says.
            outcome, failure, final = Outcome.INVALID_REQUEST, refused, ""
        ended = f"no end of the turn; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final,
            detail="" if outcome is Outcome.OK else message(failure, stderr_tail, warning, ended),
            retry_after_s=self._until_reset(failure or warning) if outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=Usage(count(end, "usage", "input_tokens"), count(end, "usage", "output_tokens")),
            exit_code=exit_code,
            usage_is_cumulative=True,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)

    def sandbox_failure(self, output: str) -> str:
        """Say why its sandbox could not start the command that printed this, "" if that is not the reason."""
        found = _SANDBOX_FAILS.search(output)
        if not found:
            return ""
        said = message(found[0])
        return f"{_STARTS_NOTHING}: {said}{f'; {_MOVE_HOME}' if _NEEDS_HELPER in said else ''}"

    def _without_helper(self, stderr_tail: str) -> str:
        found = _NO_HELPER.search(stderr_tail)
        return f"{_STARTS_NOTHING}: {message(found[0])}; {_MOVE_HOME}" if found else ""

    def sandbox_fix(self, failure: str, settings: AgentSettings, env: Mapping[str, str]) -> str:
        """Choose the default home, unless that lies below the folder for temporary files as well."""
        home = Path(env.get("HOME", "/tmp"))  # noqa: S108 - nothing is written
        temporary = env.get("TMPDIR") or "/tmp"  # noqa: S108
        if _NEEDS_HELPER not in failure or "CODEX_HOME" in settings.env or home.is_relative_to(temporary):
            return ""
        return "mkdir -p ~/.codex && export CODEX_HOME=~/.codex"

    def _ran(self, event: Event) -> list[str]:
        """Tell of a call of a tool why the sandbox refused it, "" if it did not; nothing of other items."""
        item = text(event, "item", "type")
        if item == "command_execution":
            failed = number(event, "item", "exit_code") != 0
            return [self.sandbox_failure(text(event, "item", "aggregated_output")) if failed else ""]
        return [""] if item in _WORKS and text(event, "item", "status") == "completed" else []

    def _until_reset(self, failure: str) -> float | None:
        told = _again_in(failure)
        if told is None:
            here = datetime.fromtimestamp(self._now(), UTC).astimezone().replace(tzinfo=None)
            at = _again_at(failure, here)
            told = None if at is None else at.timestamp() - self._now()
        return until_reset(told)


def _toml(path: str) -> str:
    """Quote a path for TOML, which takes no pairs of escapes for one character, and no bare DEL."""
    return json.dumps(path, ensure_ascii=False).replace("\x7f", "\\u007f")


def _told(event: Event) -> Iterator[Told]:
    kind, item = text(event, "type"), part(event, "item")
    if kind == "item.started":
        match text(item, "type"):
            case "command_execution":
                yield called("shell", item)
            case "mcp_tool_call":
                yield called(f"{text(item, 'server')}.{text(item, 'tool')}", part(item, "arguments"))
    elif kind == "item.completed":
        yield from _told_item(item)
    elif kind == "error":
        yield failed(text(event, "message"))
    elif kind in {"turn.completed", "turn.failed"}:
        used = count(event, "usage", "input_tokens") + count(event, "usage", "output_tokens")
        yield ended(kind == "turn.completed", text(event, "error", "message"), tokens=used)


def _told_item(item: Event) -> Iterator[Told]:
    lost = text(item, "status") == "failed"
    match text(item, "type"):
        case "agent_message":
            yield Step(StepKind.SAYS, text(item, "text"))
        case "reasoning":
            yield Step(StepKind.THINKS, text(item, "text"))
        case "command_execution" if number(item, "exit_code") != 0:
            yield failed_command(number(item, "exit_code"), text(item, "aggregated_output"))
        case "file_change":
            paths = ", ".join(text(one, "path") for one in blocks(item.get("changes")))
            yield failed(f"to edit {paths}") if lost else Step(StepKind.EDITS, paths)
        case "mcp_tool_call" if lost:
            yield failed(text(item, "error", "message"))
        case "web_search":
            yield called("web_search", item)
        case "error":
            # It warns so as well.
            yield Step(StepKind.SAYS, text(item, "message"))


def _final(before: str, kind: str, event: Event) -> str:
    """Return what may be the last word after an item; what was said before a tool was called is none."""
    item = text(event, "item", "type")
    if kind == "item.completed" and item == "agent_message":
        return text(event, "item", "text")
    # A plan is called complete when the turn ends, after the last word.
    ended_plan = kind == "item.completed" and item == "todo_list"
    return before if ended_plan or item in _NO_CALLS else ""


def _outcome(end: Event, failure: str) -> Outcome:
    if end.get("type") == "turn.completed":
        return Outcome.OK
    return _class(failure) or Outcome.FAILED


def _without_end(warning: str, stderr_tail: str, session: str, exit_code: int | None) -> Outcome:
    retry = _RETRY.match(warning)
    if retry:
        return _class(retry[1]) or Outcome.OVERLOADED
    refused = exit_code == _WRONG_USAGE or stderr_tail.lstrip().startswith(_REFUSALS)
    if refused and not session:
        return Outcome.INVALID_REQUEST
    return _class(warning) or Outcome.CRASHED


def _class(told: str) -> Outcome | None:
    status = _STATUS.match(told)
    if status:
        return outcome_of_status(int(status[1]))
    if next(events((told,)), None) is not None:
        # The answer to a request that the API called wrong is passed on as it came.
        return Outcome.INVALID_REQUEST
    plain = told.replace("\u2019", "'")
    return next((outcome for words, outcome in _WORDS if plain.startswith(words)), None)


def _again_in(failure: str) -> float | None:
    told = _AGAIN_IN.search(failure)
    if not told:
        return None
    spans = _SPAN.findall(told[1])
    seconds = [
        float(size) * _SECONDS["ms" if unit.lower() == "ms" else unit[0].lower()] for size, unit in spans
    ]
    return sum(seconds) if seconds else None


def _again_at(failure: str, now: datetime) -> datetime | None:
    """Read a time of day here, with its date unless that is today's; the CLI leaves out the seconds."""
    told = _AGAIN_AT.search(failure)
    if not told:
        return None
    month, day, year, hour, minute, half = told.groups()
    try:
        at = now.replace(
            hour=int(hour) % 12 + (12 if half.upper() == "P" else 0),
            minute=int(minute),
            second=0,
            microsecond=0,
        )
        if month:
            at = at.replace(year=int(year), month=_MONTHS.index(month.title()) + 1, day=int(day))
    except ValueError:
        return None
    return at + timedelta(minutes=1)
