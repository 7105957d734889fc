"""pi: `pi -p --mode json`; it is done when its last message stopped by itself and `agent_end` followed.

It exits with 0 after every error of the API. Where a stream is cut off it takes what it has for the whole
answer; only what is missing then, the count of tokens and the reason of a tool call, gives it away.
"""

from collections.abc import Iterable, Iterator

from spec_kitty_orchestrator.agents.api_message import outcome_of_message
from spec_kitty_orchestrator.agents.content import blocks, words
from spec_kitty_orchestrator.agents.json_lines import Event, amount, count, events, message, part, text
from spec_kitty_orchestrator.agents.spec import (
    BOTH_ROLES,
    AgentCommand,
    AgentSettings,
    Assignment,
    Login,
    Permissions,
    ShellInReview,
)
from spec_kitty_orchestrator.agents.steps import Count, Step, StepKind, Told, called, ended, failed, told_by
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage, total

__all__ = ["Pi"]

_IMPLEMENT = ("--tools", "read,bash,edit,write,grep,find,ls")
_READ = "read,grep,find,ls"
_REVIEW = ("--offline", "--no-extensions", "--no-skills", "--no-prompt-templates")
"""What lies in the worktree's `.pi/` is the implementer's: code of extensions runs unasked, and so does the
command that its settings name for packages, which are fetched when the CLI starts unless it is offline."""

_PARTIAL = '{"type":"message_update"'
"""Begins a line that repeats a message so far, one for each piece of it: most of the output, and no news."""

_REFUSALS: tuple[tuple[str, Outcome], ...] = (
    ("No API key found", Outcome.AUTH),
    ("No models available", Outcome.AUTH),
    ("No API provider registered", Outcome.INVALID_REQUEST),
    ("Error: Unknown option", Outcome.INVALID_REQUEST),
    ("Unknown option", Outcome.INVALID_REQUEST),
    ("No session found matching", Outcome.FAILED),
    ("Session found in different project", Outcome.FAILED),
)
"""How it begins, on stderr, to refuse to start; it then sends no message."""


class Pi:
    """The CLI of pi-coding-agent, for models of many vendors.

    The implementer has its tools without being asked; they are not confined. The reviewer has tools that read
    files, and no others.
    """

    name = "pi"
    family = "pi"
    executable = "pi"
    environment: tuple[str, ...] = (
        *("PI_*", "ANTHROPIC_*", "OPENAI_*", "AZURE_OPENAI_*", "GEMINI_*", "GOOGLE_*", "DEEPSEEK_*"),
        *("GROQ_*", "CEREBRAS_*", "XAI_*", "FIREWORKS_*", "OPENROUTER_*", "AI_GATEWAY_*", "ZAI_*"),
        *("MISTRAL_*", "MINIMAX_*", "MOONSHOT_*", "OPENCODE_API_KEY", "KIMI_*", "CLOUDFLARE_*"),
        *("XIAOMI_*", "HF_TOKEN", "COPILOT_GITHUB_TOKEN", "AWS_*"),
    )
    roles = BOTH_ROLES
    versions: tuple[str, ...] = ("0.73.1", "1.6.0")
    install = "npm install -g @earendil-works/pi-coding-agent"
    earlier = "npm uninstall -g @mariozechner/pi-coding-agent"
    login: Login = Login(
        variables=("ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"),
        files=(
            *("$PI_CODING_AGENT_DIR/auth.json", "~/.pi/agent/auth.json"),
            *("$PI_CODING_AGENT_DIR/models.json", "~/.pi/agent/models.json"),
        ),
        how="run `pi` once and use /login, or set the key of your model's vendor",
    )
    shell_in_review: ShellInReview = "confined"
    traces: tuple[str, ...] = (".pi",)
    state: tuple[str, ...] = (
        "~/.pi/",
        "~/.pi/agent/",
        "$PI_CODING_AGENT_DIR/",
        "!~/.pi/agent/settings.json",
        "!~/.pi/agent/models.json",
        "!~/.pi/agent/AGENTS.md",
        "!~/.pi/agent/extensions/",
        "!~/.pi/agent/skills/",
        "!~/.pi/agent/prompts/",
        "!$PI_CODING_AGENT_DIR/settings.json",
        "!$PI_CODING_AGENT_DIR/models.json",
        "!$PI_CODING_AGENT_DIR/AGENTS.md",
        "!$PI_CODING_AGENT_DIR/extensions/",
        "!$PI_CODING_AGENT_DIR/skills/",
        "!$PI_CODING_AGENT_DIR/prompts/",
    )
    resumes = True
    reports_cost = True
    caps_cost = False

    def command(self, task: Assignment, settings: AgentSettings) -> AgentCommand:
        """Build the argv; a session can be gone on with in its own directory only."""
        model = ("--model", settings.model) if settings.model else ()
        tools = f"{_READ},bash" if task.confined else _READ
        resumed = ("--session", task.session) if task.session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "-p",
                "--mode",
                "json",
                *(("--tools", tools, *_REVIEW) if task.role is Role.REVIEW else _IMPLEMENT),
                *resumed,
                *model,
                *settings.extra_args,
            ),
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows; it never asks."""
        if role is Role.REVIEW:
            return Permissions("never_ask", "read_only_tools", "none")
        return Permissions("never_ask", "none", "full")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the agent's last message."""
        last: Event = {}
        session = ""
        spent = Usage()
        ended = counts = False
        for event in events(_news(stdout)):
            kind, said = text(event, "type"), part(event, "message")
            if kind == "session":
                session = text(event, "id")
            elif kind == "agent_start":
                ended = False
            elif kind == "agent_end":
                ended = True
            elif kind == "message_end" and said.get("role") == "assistant":
                last, ended = said, False
                counts = counts or _counts(said)
                spent = total((spent, _used(part(said, "usage"))))
        outcome, told = _outcome(last, ended=ended), text(last, "errorMessage")
        if outcome is Outcome.OK and counts and not count(last, "usage", "totalTokens"):
            outcome, told = Outcome.OVERLOADED, "the model's answer was cut off"
        if not last:
            plain = stderr_tail.lstrip()
            outcome = next((one for words, one in _REFUSALS if plain.startswith(words)), outcome)
        stopped = f"it ended after a message with the reason {text(last, 'stopReason') or 'unknown'!r}"
        return AgentReport(
            outcome=outcome,
            text=words(last.get("content")) if outcome is Outcome.OK else "",
            detail=""
            if outcome is Outcome.OK
            else message(told, stderr_tail, f"{stopped}; exit code {exit_code}"),
            session=session or None,
            usage=spent,
            exit_code=exit_code,
        )

    def steps(self, line: str) -> Iterator[Told]:
        """Tell of one line of its output."""
        return told_by("" if line.startswith(_PARTIAL) else line, _told)


def _news(stdout: Iterable[str]) -> Iterator[str]:
    return (line for line in stdout if not line.startswith(_PARTIAL))


def _told(event: Event) -> Iterator[Told]:
    said = part(event, "message")
    match text(event, "type"):
        case "message_end" if said.get("role") == "assistant":
            used = _used(part(said, "usage"))
            yield Count(used.tokens)
            for block in blocks(said.get("content")):
                if text(block, "type") == "thinking":
                    yield Step(StepKind.THINKS, text(block, "thinking"))
            yield Step(StepKind.SAYS, words(said.get("content")))
            if text(said, "errorMessage"):
                yield failed(text(said, "errorMessage"))
        case "tool_execution_start":
            yield called(text(event, "toolName"), part(event, "args"))
        case "tool_execution_end" if event.get("isError") is True:
            yield failed(words(part(event, "result").get("content")))
        case "agent_end":
            # After an error, which was told, it may try again.
            if text(next(reversed(blocks(event.get("messages"))), {}), "stopReason") == "stop":
                yield ended(ok=True)


def _outcome(last: Event, *, ended: bool) -> Outcome:
    reason = text(last, "stopReason")
    if reason == "error" or text(last, "errorMessage"):
        return outcome_of_message(text(last, "errorMessage")) or Outcome.FAILED
    if not ended or not last or reason == "aborted":
        return Outcome.CRASHED
    return Outcome.OK if reason == "stop" and words(last.get("content")).strip() else Outcome.FAILED


def _counts(said: Event) -> bool:
    """Tell whether the API counts tokens, or broke off a tool call: a whole one has a reason of its own."""
    calls = any(text(one, "type") == "toolCall" for one in blocks(said.get("content")))
    return count(said, "usage", "totalTokens") > 0 or (calls and text(said, "stopReason") == "stop")


def _used(told: Event) -> Usage:
    cached = count(told, "cacheRead") + count(told, "cacheWrite")
    return Usage(
        input_tokens=count(told, "input") + cached,
        output_tokens=count(told, "output"),
        cost_usd=amount(told, "cost", "total"),
    )
