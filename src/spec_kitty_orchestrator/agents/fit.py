"""Whether an object has what the protocol of agents wants, for objects that others have made."""

import math
from collections.abc import Mapping

from spec_kitty_orchestrator.agents.spec import AgentCommand, Login, Permissions
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role, Usage

__all__ = ["command_misfits", "misfits", "permission_misfits", "report_misfits"]

_WANTED: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "family": (str,),
    "executable": (str,),
    "environment": (tuple,),
    "roles": (frozenset,),
    "versions": (tuple,),
    "install": (str,),
    "login": (Login,),
    "shell_in_review": (str,),
    "traces": (tuple,),
    "state": (tuple,),
    "resumes": (bool,),
    "reports_cost": (bool,),
    "caps_cost": (bool,),
}
_CALLED = ("command", "permissions", "report")
_FILLED = ("name", "family", "executable", "roles")
_NOTHING = object()


def misfits(agent: object) -> list[str]:
    """Say of each attribute and method of the protocol what is wrong with it; nothing, if all are right."""
    found = []
    for name, kinds in _WANTED.items():
        value = getattr(agent, name, _NOTHING)
        wanted = " or ".join(kind.__name__ for kind in kinds)
        if value is _NOTHING:
            found.append(f"it has no {name} ({wanted})")
        elif not isinstance(value, kinds):
            found.append(f"its {name} is not a {wanted}: {value!r}"[:300])
        elif name in _FILLED and not value:
            found.append(f"its {name} is empty")
        elif isinstance(value, tuple) and not all(isinstance(one, str) for one in value):
            found.append(f"its {name} holds something that is not text: {value!r}"[:300])
        elif isinstance(value, frozenset) and not all(isinstance(one, Role) for one in value):
            found.append(f"its {name} holds something that is not a Role: {value!r}"[:300])
    found += [f"it has no method {name}" for name in _CALLED if not callable(getattr(agent, name, None))]
    return found


def command_misfits(built: object) -> list[str]:
    """Say of what an agent has built why no process can be started with it; nothing, if one can."""
    if not isinstance(built, AgentCommand):
        return [f"command() returned {type(built).__name__}, not an AgentCommand"]
    found = []
    argv: object = built.argv
    if not isinstance(argv, tuple | list) or not argv or not all(isinstance(one, str) for one in argv):
        found.append(f"its argv is not a tuple of words: {argv!r}"[:300])
    elif not argv[0]:
        found.append("the first word of its argv, the program, is empty")
    elif any("\0" in one for one in argv):
        found.append("a word of its argv holds a zero byte, which no process can be given")
    variables: dict[str, object] = {"env": built.env, "default_env": built.default_env}
    for name, value in variables.items():
        if not isinstance(value, Mapping) or not all(map(_is_variable, value.items())):
            # What it holds may be a key, and a part of one would be left by a cut.
            found.append(f"its {name} does not map names of variables to text")
    if built.stop_signal not in ("INT", "TERM"):
        found.append(f"its stop_signal must be INT or TERM, not {built.stop_signal!r}"[:300])
    if built.prompt not in ("stdin", "file", "argument"):
        found.append(f"its prompt must be stdin, file or argument, not {built.prompt!r}"[:300])
    return found


def permission_misfits(allowed: object) -> list[str]:
    """Say of what an agent tells that it may do why the host cannot be told so; nothing, if it can."""
    if not isinstance(allowed, Permissions):
        return [f"permissions() returned {type(allowed).__name__}, not Permissions"]
    words: dict[str, object] = {
        "approval_mode": allowed.approval_mode,
        "sandbox_mode": allowed.sandbox_mode,
        "network_mode": allowed.network_mode,
    }
    return [
        f"its {name} must be a word, not {word!r}"[:300]
        for name, word in words.items()
        if not isinstance(word, str)
    ]


def report_misfits(report: object) -> list[str]:
    """Say of what an agent has reported why nothing can be made of it; nothing, if something can."""
    if not isinstance(report, AgentReport):
        return [f"report() returned {type(report).__name__}, not an AgentReport"]
    found = []
    if not isinstance(report.outcome, Outcome):
        found.append(f"its outcome is not an Outcome: {report.outcome!r}"[:300])
    texts: dict[str, object] = {"text": report.text, "detail": report.detail, "session": report.session or ""}
    for name, value in texts.items():
        if not isinstance(value, str):
            found.append(f"its {name} is not text: {value!r}"[:300])
        elif "\0" in value or value != value.encode("utf-8", "replace").decode("utf-8"):
            found.append(f"its {name} must be valid UTF-8 without zero bytes")
    found += [
        f"its {flag} is neither true nor false: {getattr(report, flag)!r}"[:300]
        for flag in ("usage_is_cumulative", "by_exit_code", "refused")
        if not isinstance(getattr(report, flag), bool)
    ]
    usage: object = report.usage
    if not isinstance(usage, Usage):
        return [*found, f"its usage is not a Usage: {usage!r}"[:300]]
    tokens = (usage.input_tokens, usage.output_tokens)
    cost: object = 0 if usage.cost_usd is None else usage.cost_usd
    if not all(isinstance(one, int) for one in tokens) or not all(map(_is_amount, (*tokens, cost))):
        found.append(f"its tokens and cost must be finite and not negative: {(*tokens, cost)!r}"[:300])
    retry_after_s: object = report.retry_after_s
    if not isinstance(retry_after_s, int | float | None):
        found.append(f"its retry_after_s is no number of seconds: {retry_after_s!r}"[:300])
    return found


def _is_variable(pair: tuple[object, object]) -> bool:
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(name) and "=" not in name and "\0" not in name + value


def _is_amount(value: object) -> bool:
    # An integer can be too large for a float.
    return isinstance(value, int | float) and 0 <= value <= 1e300 and math.isfinite(value)
