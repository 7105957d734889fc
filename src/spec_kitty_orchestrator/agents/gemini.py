"""Gemini CLI: `gemini --output-format stream-json`; the last line of its stream is one `result` event.

It ends with a success as well when a loop, a hook or its own limit of turns cut it short, and tells of that
in an `error` event before; and it exits with 0 when it is ended by a signal.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from spec_kitty_orchestrator.agents.api_status import (
    last_match,
    outcome_of_status,
    told_again,
    told_reset,
)
from spec_kitty_orchestrator.agents.json_lines import Event, Said, count, events, message, number, part, text
from spec_kitty_orchestrator.agents.machine_defaults import machine_defaults, ours, system_defaults
from spec_kitty_orchestrator.agents.refused_tools import Refusals
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Part, StepKind, Told, called, ended, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Gemini"]

_OWN_DEFAULTS = system_defaults("gemini-cli", "GeminiCli")
_IMPLEMENT = ("--approval-mode", "auto_edit", "--allowed-tools", "run_shell_command")
_REVIEW = ("--approval-mode", "default", "--policy", str(ours("gemini_review.toml")))
_WORKTREE_IS_NOT_TRUSTED = {"GEMINI_CLI_TRUST_WORKSPACE": "false"}
"""Keeps hooks and servers of the worktree's `.gemini/`, which are the implementer's, out of a review.

`--skip-trust` then lets it start all the same, after the settings were read.
"""

_STATUSES = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529)
_BY_EXIT_CODE: Mapping[int, int] = {status % 256: status for status in _STATUSES}
"""It exits with the HTTP status, of which the system keeps eight bits."""

_LOGGED_STATUS = re.compile(r"^  (?:code|status): (\d{3})$", re.MULTILINE)
_ERRORS: Mapping[str, Outcome] = {
    "FatalAuthenticationError": Outcome.AUTH,
    "ValidationRequiredError": Outcome.AUTH,
    "FatalInputError": Outcome.INVALID_REQUEST,
    "FatalConfigError": Outcome.INVALID_REQUEST,
    "ModelNotFoundError": Outcome.INVALID_REQUEST,
    "TerminalQuotaError": Outcome.RATE_LIMITED,
    "RetryableQuotaError": Outcome.RATE_LIMITED,
}
_NETWORK = (
    "[API Error: exception TypeError: fetch failed",
    "[API Error: fetch failed",
    "[API Error: terminated",
)

_CUT = "Model stream ended without a finish reason"
"""What it says, as an `error` event, where a connection breaks in the middle of an answer."""

_AGAIN = re.compile(
    r"^Attempt \d+ failed(?: with status (\d{3}))?\. Retrying with backoff"
    r"|(?:\nSuggested retry after ([\d.]{1,12})s\.)?\. Retrying after \d+ms\.\.\.$",
    re.MULTILINE,
)
"""How it logs that it tries a request again."""

_RESET = re.compile(r"(?:Suggested retry after|Please retry in) ([\d.]{1,12})(m?s)\b")

_USAGE = "Usage: gemini [options]"
"""How it begins to list its arguments, after it said which one is wrong."""

_REFUSALS: tuple[tuple[int, str, Outcome], ...] = (
    (41, "Please set an Auth method", Outcome.AUTH),
    (41, "Invalid auth method selected", Outcome.AUTH),
    (41, "When using Gemini API", Outcome.AUTH),
    (41, "When using Vertex AI", Outcome.AUTH),
    (42, "Error resuming session", Outcome.FAILED),
    (42, "", Outcome.INVALID_REQUEST),
    (44, "", Outcome.INVALID_REQUEST),
    (52, "", Outcome.INVALID_REQUEST),
    (55, "", Outcome.INVALID_REQUEST),
    (1, _USAGE, Outcome.INVALID_REQUEST),
)
"""With which code and which words on stderr it refuses to start, and what that means; the first that fits."""


class Gemini:
    """Google's CLI.

    The implementer edits files in its worktree and runs commands without being asked; the commands are not
    confined. The reviewer has no tool that writes, no shell and no web.
    """

    name = "gemini"
    family = "google"
    executable = "gemini"
    environment: tuple[str, ...] = (
        *("GEMINI_*", "GOOGLE_*", "GCLOUD_PROJECT", "CLOUDSDK_*", "CLOUD_SHELL", "CODE_ASSIST_*"),
        *("NO_BROWSER", "OTEL_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.61.0",)
    install = "npm install -g @google/gemini-cli"
    login: Login = Login(
        variables=(
            *("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            *("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA", "GEMINI_CLI_USE_COMPUTE_ADC"),
        ),
        files=("$GEMINI_CLI_HOME/.gemini/oauth_creds.json", "~/.gemini/oauth_creds.json"),
        how="run `gemini` once and log in, or set GEMINI_API_KEY",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = (
        "~/.gemini/",
        "!~/.gemini/settings.json",
        "!~/.gemini/GEMINI.md",
        "!~/.gemini/commands/",
        "!~/.gemini/extensions/",
        "!~/.gemini/policies/",
        "!~/.gemini/skills/",
    )
    resumes = True
    reports_cost = False
    caps_cost = False

    def __init__(self, own_defaults: Sequence[Path] = _OWN_DEFAULTS) -> None:
        """Take the files that hold this machine's own defaults for the CLI, if there are any."""
        self._own_defaults = tuple(own_defaults)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a flag follows `--allowed-tools` and `--policy`, which take every word after them.

        Without `GEMINI_CLI_NO_RELAUNCH` it is a launcher that ignores signals. Without our defaults it tries
        a failing request ten times.
        """
        review = task.role is Role.REVIEW
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--resume", task.session) if task.session else ()
        bounded = machine_defaults(
            "GEMINI_CLI_SYSTEM_DEFAULTS_PATH", "gemini_defaults.json", self._own_defaults
        )
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                *resumed,
                *model,
                *settings.extra_args,
                *(_REVIEW if review else _IMPLEMENT),
                "--skip-trust",
                "--output-format",
                "stream-json",
            ),
            env=_WORKTREE_IS_NOT_TRUSTED if review else {},
            default_env={"GEMINI_CLI_NO_RELAUNCH": "true", **bounded},
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it is the CLI that confines its tools, not the system."""
        if role is Role.REVIEW:
            return Permissions("deny", "read_only_tools", "none")
        return Permissions("auto_edit", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last `result` event; without one, from what it was trying again."""
        result: Event = {}
        warning = session = ""
        answered = False
        texts = Said()
        refusals = Refusals()
        for event in events(stdout):
            kind = text(event, "type")
            if kind == "tool_use":
                refusals.called(text(event, "tool_name"), text(event, "tool_id"))
            elif kind == "tool_result" and text(event, "error", "type") == "policy_violation":
                refusals.refused(call=text(event, "tool_id"))
            if kind == "init":
                session = text(event, "session_id")
            elif kind in {"tool_use", "tool_result"}:
                result, warning, answered = {}, "", True
                texts.clear()
            elif kind == "message" and event.get("role") == "assistant":
                result, warning, answered = {}, "", True
                texts.add(text(event, "content"))
            elif kind == "error":
                warning = text(event, "message") or "an error without words"
            elif kind == "result":
                result = event
        final = str(texts)
        failure = text(result, "error", "message")
        # Nothing tells which request stderr speaks of: after an answer, it may be one that worked long since.
        again = last_match(_AGAIN, stderr_tail) if session and not (result or answered) else None
        if result:
            outcome = _outcome(result, warning, final, stderr_tail, exit_code)
        elif again:
            outcome = outcome_of_status(_status(again)) or Outcome.OVERLOADED
        else:
            outcome = _without_end(session, stderr_tail, exit_code)
        cut = "it ended without a final text" if result else told_again(_status(again)) if again else ""
        words = stderr_tail.partition(_USAGE)[0]
        ended = f"no result event; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final if outcome is Outcome.OK else "",
            detail=str(refusals) if outcome is Outcome.OK else message(failure, warning, cut, words, ended),
            retry_after_s=_reset(failure, again) if outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=_usage(result),
            exit_code=exit_code,
            refused=refusals.all,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    match text(event, "type"):
        case "message" if event.get("role") == "assistant":
            yield Part(StepKind.SAYS, text(event, "content"))
        case "tool_use":
            yield called(text(event, "tool_name"), part(event, "parameters"))
        case "tool_result" if text(event, "status") == "error":
            yield failed(text(event, "error", "message"), text(event, "output"))
        case "error":
            yield failed(text(event, "message"))
        case "result":
            used, good = _usage(event), event.get("status") == "success"
            told = text(event, "error", "message")
            yield ended(good, told, tokens=used.tokens)


def _outcome(result: Event, warning: str, final: str, stderr_tail: str, exit_code: int | None) -> Outcome:
    if result.get("status") == "success":
        return Outcome.FAILED if warning or not final.strip() else Outcome.OK
    failure = text(result, "error", "message")
    if failure.startswith(_NETWORK) or (not failure and warning.startswith(_CUT)):
        return Outcome.OVERLOADED
    logged = last_match(_LOGGED_STATUS, stderr_tail) if failure else None
    statuses = (
        *(number(told, "error", "code") for told in events((failure.removeprefix("[API Error: ")[:-1],))),
        _BY_EXIT_CODE.get(exit_code or 0),
        float(logged[1]) if logged else None,
    )
    by_status = next((found for one in statuses if (found := outcome_of_status(one))), None)
    return _ERRORS.get(text(result, "error", "type")) or by_status or Outcome.FAILED


def _without_end(session: str, stderr_tail: str, exit_code: int | None) -> Outcome:
    if session:
        return Outcome.CRASHED
    refusals = (one[2] for one in _REFUSALS if one[0] == exit_code and one[1] in stderr_tail)
    return next(refusals, Outcome.CRASHED)


def _status(again: re.Match[str]) -> float | None:
    if again[0].startswith("Attempt"):
        return float(again[1]) if again[1] else None
    # It names no status where the API told when to come back; what tells that is a limit.
    return 429.0


def _reset(failure: str, again: re.Match[str] | None) -> float | None:
    told = _RESET.search(failure)
    if told:
        return told_reset(told[1], told[2])
    return told_reset(again[2]) if again else None


def _usage(result: Event) -> Usage:
    sent = count(result, "stats", "input_tokens")
    # The total holds what the model thought, which is paid for like what it said.
    received = max(count(result, "stats", "output_tokens"), count(result, "stats", "total_tokens") - sent)
    return Usage(input_tokens=sent, output_tokens=received)
