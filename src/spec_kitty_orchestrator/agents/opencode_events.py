"""The events of `opencode run --format json`, which are also those of a CLI that was forked from it.

A run is done when its last step finished with the reason `stop` and left a text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from spec_kitty_orchestrator.agents.api_status import outcome_of_status, until_reset
from spec_kitty_orchestrator.agents.json_lines import (
    Event,
    Said,
    amount,
    count,
    events,
    message,
    number,
    part,
    text,
)
from spec_kitty_orchestrator.agents.refused_tools import Refusals
from spec_kitty_orchestrator.agents.steps import (
    Count,
    Step,
    StepKind,
    Told,
    called,
    ended,
    failed,
    failed_command,
    told_by,
)
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Usage, total

__all__ = ["read", "steps"]

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
_FIELD = re.compile(r'([\w.]+)=(?:"([^"\\]*(?:\\.[^"\\]*)*)"?|(\S*))')
"""Its log tells what its events leave out: which request it tries again, and which model it does not know."""

_FAILURES = frozenset({"failed", "stream error"})

_CUT = frozenset({"unknown", "other"})
"""Reasons of a step whose stream ended too early; opencode begins another at once, and never gives up."""

_SAME_MOMENT_MS = 5_000.0
"""An error is logged a moment before the event that tells of it."""

_RULES = ("The user has specified a rule which prevents", "The user rejected permission")
"""How the error of a tool begins that its permissions did not allow."""

_OUT_OF_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


def read(stdout: Iterable[str], stderr_tail: str, exit_code: int | None, refused: bool) -> AgentReport:
    """Read the outcome from the last step and from `error` events after it.

    `refused` says that stderr shows its help: it has taken its arguments for wrong.
    """
    session = reason = ""
    texts = Said()
    error: Event = {}
    spent = Usage()
    last_ms, cut = 0.0, 0
    refusals = Refusals()
    for event in events(stdout):
        kind = text(event, "type")
        session = text(event, "sessionID") or session
        last_ms = number(event, "timestamp") or last_ms
        if kind == "tool_use":
            texts.clear()
            failed = text(event, "part", "state", "error").startswith(_RULES)
            refusals.called(text(event, "part", "tool"), refused=failed)
        elif kind == "step_start":
            reason, error = "", {}
            texts.clear()
        elif kind == "text":
            texts.add(text(event, "part", "text"))
        elif kind == "step_finish":
            reason = text(event, "part", "reason")
            spent = total((spent, _used(part(event, "part"))))
            cut = cut + 1 if reason in _CUT else 0
        elif kind == "error":
            error = event
    final = str(texts)
    outcome = _outcome(error, reason, final, exit_code)
    logged = _logged_after(last_ms, stderr_tail)
    if outcome is Outcome.CRASHED or text(error, "error", "name") == "UnknownError":
        outcome = _unsaid(outcome, logged, refused, cut)
    stopped = f"it ended after a step with the reason {reason or 'unknown'!r}; exit code {exit_code}"
    return AgentReport(
        outcome=outcome,
        text=final,
        detail=str(refusals)
        if outcome is Outcome.OK
        else message(_words(error, logged), stderr_tail, stopped),
        retry_after_s=until_reset(_retry_after(error)) if outcome is Outcome.RATE_LIMITED else None,
        session=session or None,
        usage=spent,
        exit_code=exit_code,
        refused=refusals.all,
    )


def steps(line: str) -> Iterator[Told]:
    """Tell of one line of the output."""
    return told_by(line, _told)


def _told(event: Event) -> Iterator[Told]:
    found = part(event, "part")
    match text(event, "type"):
        case "text":
            yield Step(StepKind.SAYS, text(found, "text"))
        case "reasoning":
            yield Step(StepKind.THINKS, text(found, "text"))
        case "tool_use":
            state = part(found, "state")
            yield called(text(found, "tool"), part(state, "input"))
            if text(state, "status") == "error":
                yield failed(text(state, "error"))
            elif number(state, "metadata", "exit"):
                yield failed_command(number(state, "metadata", "exit"), text(state, "output"))
        case "step_finish":
            used = _used(found)
            yield Count(used.tokens)
            if text(found, "reason") == "stop":
                yield ended(ok=True)
        case "error":
            yield ended(False, _words(event, ("", "")))


def _outcome(error: Event, reason: str, final: str, exit_code: int | None) -> Outcome:
    if error:
        return _class(part(error, "error"))
    if reason == "stop" and final.strip():
        return Outcome.OK
    if reason in _CUT and exit_code == 0:
        return Outcome.OVERLOADED
    return Outcome.FAILED if reason and exit_code == 0 else Outcome.CRASHED


def _logged_after(last_ms: float, stderr_tail: str) -> tuple[str, str]:
    """Return the name and the words of the last error that it logged after its last event, if any."""
    for line in reversed(stderr_tail.splitlines()):
        if not line.startswith("timestamp="):
            continue
        logged = {name: quoted or plain for name, quoted, plain in _FIELD.findall(line)}
        words = logged.get("error.error") or logged.get("error", "")
        name = words.partition(": ")[0]
        if logged.get("level") != "ERROR" or logged.get("small") == "true" or not name.isidentifier():
            continue
        if logged.get("message") not in _FAILURES:
            continue
        try:
            recent = datetime.fromisoformat(logged["timestamp"]).timestamp() * 1000
        except ValueError:
            continue
        return (name, words) if recent >= last_ms - _SAME_MOMENT_MS else ("", "")
    return "", ""


def _unsaid(outcome: Outcome, logged: tuple[str, str], refused: bool, cut: int) -> Outcome:
    """Let the log say what an error without a class was, or what a process that was ended waited for."""
    if refused:
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


def _used(step: Event) -> Usage:
    cached = count(step, "tokens", "cache", "read") + count(step, "tokens", "cache", "write")
    return Usage(
        input_tokens=count(step, "tokens", "input") + cached,
        output_tokens=count(step, "tokens", "output") + count(step, "tokens", "reasoning"),
        cost_usd=amount(step, "cost"),
    )
