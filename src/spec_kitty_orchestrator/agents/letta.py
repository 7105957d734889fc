"""Letta Code: `letta -p --output-format stream-json`; the last line of its stream is one `result` event.

Its `subtype` decides. Its text does not count: where the model ended without a word, it is what was said
before a tool, a thought, or the output of a tool. An error of the model's API ends the stream without a
result, in an `error` event.
"""

from collections.abc import Iterable, Iterator

from spec_kitty_orchestrator.agents.api_message import outcome_of_message
from spec_kitty_orchestrator.agents.content import words
from spec_kitty_orchestrator.agents.json_lines import Event, Said, count, events, message, part, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Count, Part, StepKind, Told, called, ended, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["Letta"]

_IMPLEMENT = ("--permission-mode", "acceptEdits", "--allowedTools", "Bash")
_REVIEW = ("--permission-mode", "plan", "--tools", "Read,Glob,Grep,Bash")

_REFUSALS: tuple[tuple[str, Outcome], ...] = (
    ("Missing LETTA_API_KEY", Outcome.AUTH),
    ("Error: Unknown option", Outcome.INVALID_REQUEST),
    ("Conversation ", Outcome.FAILED),
)
"""How it begins, on stderr, to refuse to start; it then says nothing on stdout."""

_ENDS_WORDS = ("auto_approval", "error", "retry", "recovery")
_CALLS = (
    *("tool_call_message", "tool_return_message", "approval_request_message", "approval_response_message"),
    "event_message",
)
"""Events after which the model is asked again: what it said before them is not its last word."""

_UNKNOWN_MODEL = 'Unknown model "'


class Letta:
    """Letta's CLI, for its server or for models of one's own (its local backend).

    The implementer edits files and runs commands without being asked; neither is confined. The reviewer may
    read files and run commands that the CLI knows to change nothing; everything else is refused.
    """

    name = "letta"
    family = "letta"
    executable = "letta"
    environment: tuple[str, ...] = (
        *("LETTA_*", "MEMORY_DIR", "ANTHROPIC_*", "OPENAI_*", "AZURE_OPENAI_*", "GEMINI_*", "GOOGLE_*"),
        *("OPENROUTER_*", "ZAI_*", "ZHIPU_*", "MOONSHOT_*", "MINIMAX_*", "KIMI_*", "OLLAMA_*"),
        *("LMSTUDIO_*", "LLAMA_CPP_*", "LLAMACPP_*", "DISABLE_AUTOUPDATER"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.25.9",)
    install = "npm install -g @letta-ai/letta-code"
    login: Login = Login(
        variables=("LETTA_API_KEY", "LETTA_LOCAL_BACKEND_EXPERIMENTAL"),
        how="set LETTA_API_KEY, or run `letta connect` with `--backend local` and set "
        "LETTA_LOCAL_BACKEND_EXPERIMENTAL=1",
    )
    shell_in_review: ShellInReview = "always"
    traces: tuple[str, ...] = (".letta",)
    state: tuple[str, ...] = ("~/.letta/",)
    resumes = True
    reports_cost = False
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a new conversation gets an agent of its own, which remembers nothing of others.

        It would also install its own next version when it starts, under the feet of those that run.
        """
        model = ("--model", settings.model) if settings.model else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "-p",
                "--output-format",
                "stream-json",
                *(_REVIEW if task.role is Role.REVIEW else _IMPLEMENT),
                *(("--conversation", task.session) if task.session else ("--new-agent",)),
                *model,
                *settings.extra_args,
            ),
            default_env={"DISABLE_AUTOUPDATER": "1"},
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it is the CLI that confines its tools, not the system."""
        if role is Role.REVIEW:
            return Permissions("plan", "read_only_tools", "none")
        return Permissions("accept_edits", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the `result` event; without one, from the last error or retry."""
        result: Event = {}
        said = Said()
        failure = session = name = ""
        counts = counted = False
        for event in events(stdout):
            kind, piece = text(event, "type"), text(event, "message_type")
            session = text(event, "conversation_id") or session
            if piece == "assistant_message":
                name, before = text(event, "otid"), name
                said.add(_said(event) if name == before or not said else f"\n{_said(event)}")
            elif kind in _ENDS_WORDS or piece in _CALLS or event.get("stop_reason") == "requires_approval":
                said.clear()
            if kind == "result":
                result = event
            elif kind == "error":
                result, failure = {}, _told(event) or failure
            elif kind == "message" and text(event, "event_type") == "retry":
                failure = text(event, "event_data", "message")
            elif piece == "usage_statistics":
                result, failure = {}, ""
                counted = count(event, "total_tokens") > 0
                counts = counts or counted
        final = str(said)
        outcome = _outcome(result, failure)
        if outcome is Outcome.OK and counts and not counted:
            outcome, failure = Outcome.OVERLOADED, "the model's answer was cut off"
        elif outcome is Outcome.OK and not final.strip():
            outcome, failure = Outcome.FAILED, "it ended without a final text"
        if not session:
            plain = stderr_tail.lstrip()
            outcome = next((one for words, one in _REFUSALS if plain.startswith(words)), outcome)
        ended = f"no result event; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final if outcome is Outcome.OK else "",
            detail=""
            if outcome is Outcome.OK
            else message(failure, text(result, "result"), stderr_tail, ended),
            session=session or None,
            usage=_usage(part(result, "usage")),
            exit_code=exit_code,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by(line, _told_step)


def _told_step(event: Event) -> Iterator[Told]:
    name = text(event, "otid") or text(event, "id")
    match text(event, "message_type") or text(event, "type"):
        case "assistant_message":
            yield Part(StepKind.SAYS, _said(event), name)
        case "reasoning_message":
            yield Part(StepKind.THINKS, text(event, "reasoning"), name)
        case "auto_approval":
            given = next(events((text(event, "tool_call", "arguments"),)), {})
            yield called(text(event, "tool_call", "name"), given)
        case "tool_return_message" if text(event, "status") == "error":
            yield failed(text(event, "tool_return"))
        case "event_message" if text(event, "event_type") == "retry":
            yield failed(text(event, "event_data", "message"))
        case "error":
            yield failed(_told(event))
        case "usage_statistics":
            yield Count(count(event, "total_tokens"))
        case "result":
            used, good = _usage(part(event, "usage")), bool(_outcome(event, "") is Outcome.OK)
            yield ended(good, text(event, "result"), tokens=used.tokens)


def _said(event: Event) -> str:
    return words(event.get("content"))


def _outcome(result: Event, failure: str) -> Outcome:
    if result:
        good = result.get("subtype") == "success" and result.get("is_error") is not True
        return Outcome.OK if good else Outcome.FAILED
    if failure.startswith(_UNKNOWN_MODEL):
        return Outcome.INVALID_REQUEST
    if failure:
        return outcome_of_message(failure) or Outcome.FAILED
    return Outcome.CRASHED


def _told(error: Event) -> str:
    """Return the API's own words; the event that ends a run wraps them in JSON."""
    inner = next(events((text(error, "message"),)), {})
    return (
        text(error, "api_error", "message")
        or text(inner, "error", "error", "message")
        or text(error, "message")
    )


def _usage(told: Event) -> Usage:
    """Count what was cached as sent, too: it is in the total alone."""
    received = count(told, "completion_tokens")
    sent = max(count(told, "prompt_tokens"), count(told, "total_tokens") - received)
    return Usage(input_tokens=sent, output_tokens=received)
