"""Qwen Code: `qwen --output-format stream-json`; the last line of its stream is one `result` event.

`is_error` of that event decides. What it says of an API's failure is a message of a fixed form, which is read
from its beginning.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from spec_kitty_orchestrator.agents.api_status import (
    last_match,
    outcome_of_status,
    told_reset,
)
from spec_kitty_orchestrator.agents.content import told_in
from spec_kitty_orchestrator.agents.json_lines import Event, count, events, message, text
from spec_kitty_orchestrator.agents.machine_defaults import machine_defaults, ours, system_defaults
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
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Qwen"]

_OWN_DEFAULTS = system_defaults("qwen-code", "QwenCode")
_IMPLEMENT = ("--approval-mode", "auto-edit", "--allowed-tools", "run_shell_command")
_EXCLUDED = (
    *("run_shell_command", "write_file", "edit", "notebook_edit"),
    *("enter_worktree", "exit_worktree", "record_artifact"),
    *("cron_create", "cron_delete", "loop_wakeup", "web_fetch"),
    *("agent", "send_message", "task_stop", "skill", "tool_call", "tool_search", "report_findings"),
)
"""What a reviewer needs for nothing; some of it would never be asked about, such as making a branch."""

_REVIEW = ("--safe-mode", "--approval-mode", "default", "--exclude-tools", ",".join(_EXCLUDED))
"""Safe mode leaves out hooks, servers, skills and rules, of the worktree and of the user's own alike."""

_WORKTREE_IS_NOT_TRUSTED = {"QWEN_CODE_TRUSTED_FOLDERS_PATH": str(ours("qwen_trusts_nothing.json"))}
"""Safe mode still takes the model and its address from the worktree's `.qwen/` and `.env`.

They may be the implementer's; our settings for reviews take them from trusted folders alone, and this says
that there are none.
"""

_ON_BLANKS = (
    "In what the user writes, this program has put a blank before each @ that had none, and may have joined"
    " lines that begin with @. Where that matters, look into the files."
)
"""It takes `@word` for the name of a file, and puts its input together anew; nothing turns that off."""

_STATUS = re.compile(r"\[API Error: (\d{3}) ")
_WORDS: tuple[tuple[str, Outcome], ...] = (
    ("[API Error: 429 You exceeded your current quota, please check your plan and billing", Outcome.BUDGET),
    ("[API Error: Quota exhausted: ", Outcome.RATE_LIMITED),
    ("Quota exhausted: ", Outcome.RATE_LIMITED),
    ("[API Error: Model stream ended without", Outcome.OVERLOADED),
    ("[API Error: Connection error", Outcome.OVERLOADED),
    ("[API Error: Request timed out", Outcome.OVERLOADED),
    ("[API Error: terminated", Outcome.OVERLOADED),
    ("No auth type is selected", Outcome.AUTH),
    ("Missing API key", Outcome.AUTH),
)
"""How a message of the CLI's begins where it names no status, or means something else than its status."""

_AGAIN = re.compile(r"^Retrying in \d+s \(attempt \d+/\d+\)(?:: (.*))?$", re.MULTILINE)
_RESET = re.compile(r"[Pp]lease try again in ([\d.]{1,12})(m?s)\b")
_LIMITS = frozenset({53, 55})
"""With these codes it ends at a limit of its own settings, of turns or of tool calls, and tells no result."""

_REFUSED = frozenset({42, 52})
"""With these codes it refuses its input or its settings."""

_USAGE = "Usage: qwen [options]"
"""How it begins to list its arguments, after it said which one is wrong."""

_REFUSALS = (_USAGE, "No input provided via stdin")
_UNKNOWN_SESSION = "No saved session found with ID"


class Qwen:
    """Alibaba's fork of Gemini CLI, with whatever provider the user configured for it.

    The implementer edits files and runs commands without being asked; neither is confined. The reviewer has
    no tool that writes and no shell.
    """

    name = "qwen"
    family = "qwen"
    executable = "qwen"
    environment: tuple[str, ...] = (
        *("QWEN_*", "OPENAI_*", "DASHSCOPE_*", "BAILIAN_*", "MODELSCOPE_*"),
        # Whichever provider it is configured for, it finds that one's key in the environment.
        *("ANTHROPIC_*", "GEMINI_*", "GOOGLE_*", "OPENROUTER_*", "DEEPSEEK_*", "MOONSHOT_*", "ZAI_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.24.4",)
    install = "npm install -g @qwen-code/qwen-code"
    login: Login = Login(
        variables=("OPENAI_API_KEY", "DASHSCOPE_API_KEY", "BAILIAN_CODING_PLAN_API_KEY"),
        files=("$QWEN_HOME/oauth_creds.json", "~/.qwen/oauth_creds.json"),
        how="run `qwen` once and choose a provider, or set OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL",
    )
    shell_in_review: ShellInReview = "never"
    traces: tuple[str, ...] = ()
    state: tuple[str, ...] = (
        "~/.qwen/",
        "$QWEN_HOME/",
        "!~/.qwen/settings.json",
        "!~/.qwen/QWEN.md",
        "!~/.qwen/commands/",
        "!~/.qwen/extensions/",
        "!~/.qwen/skills/",
    )
    resumes = True
    reports_cost = False
    caps_cost = False

    def __init__(self, own_defaults: Sequence[Path] = _OWN_DEFAULTS) -> None:
        """Take the files that hold this machine's own defaults for the CLI, if there are any."""
        self._own_defaults = tuple(own_defaults)

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a flag follows `--allowed-tools`, which takes every word after it.

        Without our defaults it would try a failing request again for the better part of an hour.
        """
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("--resume", task.session) if task.session else ()
        review = task.role is Role.REVIEW
        name = "qwen_review.json" if review else "qwen_defaults.json"
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                *resumed,
                *model,
                *settings.extra_args,
                *(_REVIEW if review else _IMPLEMENT),
                "--append-system-prompt",
                _ON_BLANKS,
                "--output-format",
                "stream-json",
            ),
            env=_WORKTREE_IS_NOT_TRUSTED if review else {},
            default_env=machine_defaults("QWEN_CODE_SYSTEM_DEFAULTS_PATH", name, self._own_defaults),
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it is the CLI that confines its tools, not the system."""
        if role is Role.REVIEW:
            return Permissions("deny", "read_only_tools", "none")
        return Permissions("auto_edit", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last `result` event; without one, from what it was trying again."""
        result: Event = {}
        session = ""
        waits = False
        refusals = Refusals()
        for event in events(stdout):
            kind = text(event, "type")
            if kind == "assistant":
                refusals.called_in(event)
            session = text(event, "session_id") or session
            if kind == "result":
                result = event
            elif kind == "system" and text(event, "subtype") == "retry":
                result, waits = {}, True
            elif kind in {"assistant", "user"} and event.get("parent_tool_use_id") is None:
                result, waits = {}, False
        failure = text(result, "error", "message")
        waiting = last_match(_AGAIN, stderr_tail) if waits and not result else None
        again = (waiting and waiting[1]) or ""
        if result:
            outcome = Outcome.OK if result.get("is_error") is False else _class(failure) or Outcome.FAILED
        elif waits:
            outcome = _class(again) or Outcome.OVERLOADED
        else:
            outcome = _without_end(session, stderr_tail, exit_code)
        reset = _RESET.search(failure or again)
        words = stderr_tail.partition(_USAGE)[0]
        ended = f"no result event; exit code {exit_code}"
        told = denials(result, refusals)
        return AgentReport(
            outcome=outcome,
            text=text(result, "result") if outcome is Outcome.OK else "",
            detail=told
            if outcome is Outcome.OK
            else message(failure, f"it was trying again: {again}" if again else "", words, ended),
            retry_after_s=told_reset(*reset.groups()) if reset and outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=Usage(count(result, "usage", "input_tokens"), count(result, "usage", "output_tokens")),
            exit_code=exit_code,
            usage_is_cumulative=True,
            refused=refusals.all,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    yield from told_in(event)
    kind = text(event, "type")
    if kind == "system" and text(event, "subtype") == "retry":
        yield failed("a request is tried again")
    elif kind == "result":
        used = count(event, "usage", "input_tokens") + count(event, "usage", "output_tokens")
        good = event.get("is_error") is False
        yield ended(good, text(event, "error", "message"), text(event, "subtype"), tokens=used)


def _class(told: str) -> Outcome | None:
    by_words = next((outcome for words, outcome in _WORDS if told.startswith(words)), None)
    status = _STATUS.match(told)
    return by_words or (outcome_of_status(int(status[1])) if status else None)


def _without_end(session: str, stderr_tail: str, exit_code: int | None) -> Outcome:
    if session:
        return Outcome.FAILED if exit_code in _LIMITS else Outcome.CRASHED
    if stderr_tail.lstrip().startswith(_UNKNOWN_SESSION):
        return Outcome.FAILED
    refused = exit_code in _REFUSED or any(one in stderr_tail for one in _REFUSALS)
    return Outcome.INVALID_REQUEST if refused else Outcome.CRASHED
