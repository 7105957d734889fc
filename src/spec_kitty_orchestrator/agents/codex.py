"""Codex: `codex exec --json`; a turn ends with `turn.completed` or `turn.failed`.

Its errors have no code, only a message in the CLI's own fixed words. That message alone is read for a
class; `error` events and `error` items before it are retries and warnings.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, until_reset
from spec_kitty_orchestrator.agents.json_lines import Event, count, events, message, text
from spec_kitty_orchestrator.agents.spec import AgentCommand, AgentSettings, Permissions
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

_STATUS = re.compile(r"(?:unexpected status|exceeded retry limit, last status:) (\d{3})\b")
_WORDS: tuple[tuple[str, Outcome], ...] = (
    ("You've hit your usage limit", Outcome.RATE_LIMITED),
    ("Rate limit reached", Outcome.RATE_LIMITED),
    ("Quota exceeded", Outcome.BUDGET),
    ("Your workspace is out of credits", Outcome.BUDGET),
    ("Codex ran out of room", Outcome.INVALID_REQUEST),
    ("The model `", Outcome.INVALID_REQUEST),
    ("We're currently experiencing high demand", Outcome.OVERLOADED),
    ("Selected model is at capacity", Outcome.OVERLOADED),
    ("stream disconnected before completion", Outcome.OVERLOADED),
    ("Not logged in", Outcome.AUTH),
    ("Your access token could not be refreshed", Outcome.AUTH),
)
"""How a message of the CLI's begins, and what that means."""

_AGAIN_IN = re.compile(
    r"try again in ((?:[\d.]+ ?(?:days?|hours?|minutes?|seconds?|ms|[dhms])\b[ ,]*)+)", re.IGNORECASE
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?(days?|hours?|minutes?|seconds?|ms|[dhms])\b", re.IGNORECASE)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_WRONG_USAGE = 2


class Codex:
    """OpenAI's CLI; its own sandbox confines both roles, and commands have no network."""

    name = "codex"
    family = "openai"
    executable = "codex"
    environment: tuple[str, ...] = ("OPENAI_*", "CODEX_*", "AZURE_OPENAI_*", "RUST_LOG")
    resumes = True
    reports_cost = False
    caps_cost = False

    def command(
        self,
        role: Role,
        settings: AgentSettings,
        *,
        workspace: Path,  # noqa: ARG002 - the working directory says it
        attempt_id: str,  # noqa: ARG002
        session: str = "",
        max_cost_usd: float | None = None,  # noqa: ARG002 - it knows of no cost
    ) -> AgentCommand:
        """Build the argv; analytics are off because the CLI waits five seconds for them when it ends.

        `resume` takes no sandbox of its own, and without one given before it the conversation would go on
        unable to write.
        """
        model = ("--model", settings.model) if settings.model else ()
        resumed = ("resume", session) if session else ()
        return AgentCommand(
            argv=(
                settings.executable or self.executable,
                "exec",
                "--json",
                "--sandbox",
                "read-only" if role is Role.REVIEW else "workspace-write",
                "-c",
                "analytics.enabled=false",
                *model,
                *settings.extra_args,
                *resumed,
                "-",
            ),
            env=dict(settings.env),
        )

    def permissions(self, role: Role) -> Permissions:
        """Tell what the argv of a role allows."""
        return Permissions("never_ask", "read_only" if role is Role.REVIEW else "workspace_write", "none")

    def report(self, stdout: Iterable[str], stderr_tail: str, exit_code: int | None) -> AgentReport:
        """Read the outcome from the last event of the turn."""
        end: Event = {}
        session = final = warning = ""
        for event in events(stdout):
            kind = text(event, "type")
            if kind == "thread.started":
                session = text(event, "thread_id")
            elif kind == "turn.started":
                end = {}
            elif kind in {"turn.completed", "turn.failed"}:
                end = event
            elif kind == "item.completed" and text(event, "item", "type") == "agent_message":
                final = text(event, "item", "text")
            elif kind == "error":
                warning = text(event, "message")
        failure = text(end, "error", "message")
        outcome = _outcome(end, failure, session, exit_code)
        ended = f"no end of the turn; exit code {exit_code}"
        return AgentReport(
            outcome=outcome,
            text=final,
            detail="" if outcome is Outcome.OK else message(failure, stderr_tail, warning, ended),
            retry_after_s=until_reset(_again_in(failure)) if outcome is Outcome.RATE_LIMITED else None,
            session=session or None,
            usage=Usage(count(end, "usage", "input_tokens"), count(end, "usage", "output_tokens")),
            usage_is_cumulative=True,
            exit_code=exit_code,
        )


def _outcome(end: Event, failure: str, session: str, exit_code: int | None) -> Outcome:
    if end.get("type") == "turn.completed":
        return Outcome.OK
    if not end:
        refused_to_start = exit_code == _WRONG_USAGE and not session
        return Outcome.INVALID_REQUEST if refused_to_start else Outcome.CRASHED
    status = _STATUS.match(failure)
    if status:
        return outcome_of_status(int(status[1])) or Outcome.FAILED
    plain = failure.replace("\u2019", "'")
    return next((outcome for words, outcome in _WORDS if plain.startswith(words)), Outcome.FAILED)


def _again_in(failure: str) -> float | None:
    told = _AGAIN_IN.search(failure)
    if not told:
        return None
    spans = _SPAN.findall(told[1])
    seconds = [
        float(size) * _SECONDS["ms" if unit.lower() == "ms" else unit[0].lower()] for size, unit in spans
    ]
    return sum(seconds) if seconds else None
