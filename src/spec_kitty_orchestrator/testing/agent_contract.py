"""Whether an agent keeps the contract of `agents.spec.Agent`, as far as that shows without running it.

For authors of agents: `AgentContract` in a test file of theirs, or `assert_contract(MyBot())` in one test.
"""

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from spec_kitty_orchestrator.agents.fit import command_misfits, misfits, permission_misfits, report_misfits
from spec_kitty_orchestrator.agents.spec import (
    PROMPT_FILE,
    PROMPT_WORD,
    Agent,
    AgentCommand,
    AgentSettings,
    Assignment,
)
from spec_kitty_orchestrator.core.host_rules import BANNED_FLAGS, banned_part, forbidden_word, is_path
from spec_kitty_orchestrator.core.model import AgentReport, Outcome, Role

__all__ = ["Checked", "assert_contract", "check_contract"]

_EXIT_CODES = (0, None, 1, 143, -15, 255)
_NOTHING: tuple[tuple[str, ...], ...] = ((), ("",), (" ", "\t", ""))
_NOISE: tuple[tuple[str, ...], ...] = (
    ("Segmentation fault", "\x00\x1b[2J\ud800\ufffe"),
    ("[]", "null", "3", '"ok"', "NaN"),
    ("{", "}", '{"type": "result"', "}}}}"),
    ("[" * 100_000, '{"a":' * 100_000, '{"n": ' + "9" * 5_000 + "}"),
    ("x" * 9_000_000, '{"x": "' + "y" * 9_000_000),
)
_NAMES = (
    *("type", "subtype", "is_error", "result", "text", "message", "content", "role", "item", "part", "data"),
    *("error", "errors", "usage", "tokens", "cost", "total_cost_usd", "session_id", "sessionID", "id"),
    *("status", "reason", "outcome", "stats", "exitCode", "modelUsage", "permission_denials", "summary"),
)
_VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 1e308, 10**400, "x", "\x00\ud800", "--option", [], {}, [None], [{}], {"x": {}}),
    {name: [name] for name in _NAMES},
)


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at.

    Attributes:
        name: of what was looked at, such as ``command.review``.
        text: what was seen; of what is not ok, what is wrong.
    """

    name: str
    ok: bool
    text: str


def assert_contract(agent: object, settings: AgentSettings | None = None) -> None:
    """Raise an `AssertionError` that names everything in which an agent does not keep the contract."""
    wrong = [f"{one.name}: {one.text}" for one in check_contract(agent, settings) if not one.ok]
    assert not wrong, "\n".join(wrong)


def check_contract(
    agent: object, settings: AgentSettings | None = None, about: str = ""
) -> tuple[Checked, ...]:
    """Look at an agent without running it.

    Args:
        agent: anything.
        settings: what the settings would say of it.
        about: only what has a name that begins so.
    """
    wrong = misfits(agent)
    if wrong:
        return tuple(Checked("attributes", False, one) for one in wrong)
    with tempfile.TemporaryDirectory() as folder:
        looks = _looks(agent, settings or AgentSettings(), Path(folder))  # type: ignore[arg-type]
        return tuple(_checked(name, look) for name, look in looks if name.startswith(about))


def _looks(agent: Agent, settings: AgentSettings, folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "attributes", lambda: "it has everything that an agent needs"
    yield "family", lambda: _host_takes("family", agent.family)
    for role in sorted(agent.roles):
        yield from _of_role(
            agent, Assignment(role, folder / "worktree", "attempt-1", folder / "attempt"), settings
        )
    yield "report.nothing", lambda: _of_nothing(agent)
    yield "report.noise", lambda: _of_noise(agent)
    yield "report.events", lambda: _of_events(agent)


def _of_role(
    agent: Agent, task: Assignment, settings: AgentSettings
) -> Iterator[tuple[str, Callable[[], str]]]:
    role = task.role.value
    yield f"command.{role}", lambda: _command(agent, task, settings)
    yield f"prompt.{role}", lambda: _prompt(agent.command(task, settings), task.directory)
    yield f"extra_args.{role}", lambda: _extra_args(agent, task, settings)
    if agent.resumes and task.role is Role.IMPLEMENT:
        yield "session", lambda: _session(agent, task, settings)
    yield f"permissions.{role}", lambda: _permissions(agent, task.role)


class _Broken(Exception):
    """A promise is not kept; the message says which."""


def _checked(name: str, look: Callable[[], str]) -> Checked:
    try:
        return Checked(name, True, look())
    except _Broken as broken:
        return Checked(name, False, str(broken))
    except Exception as error:  # noqa: BLE001 - whatever an agent raises is a finding
        return Checked(name, False, f"it raised {error!r}"[:400])


def _command(agent: Agent, task: Assignment, settings: AgentSettings) -> str:
    built = agent.command(task, settings)
    wrong = command_misfits(built)
    if wrong:
        raise _Broken("; ".join(wrong))
    if not all(built.argv):
        raise _Broken(f"the argv must be words that are not empty: {built.argv!r}")
    env = {**settings.env, **built.env}
    spoken = (*built.argv, *env, *env.values(), *built.default_env.values())
    if any("\x00" in word for word in spoken):
        raise _Broken("a word or a variable holds a zero byte, which no process can be given")
    # Of the paths of the task a word may hold what it likes; people name their folders.
    plain = agent.command(replace(task, workspace=Path("/w"), directory=Path("/a")), settings)
    said = (*plain.argv[1:], *settings.env.values(), *plain.env.values(), *plain.default_env.values())
    for word in (one for one in said if not is_path(one)):
        if word.partition("=")[0].lower() in BANNED_FLAGS or banned_part(word):
            raise _Broken(f"{word!r} is what the host bans, or allows the same: do without it")
    if agent.command(task, settings) != built:
        raise _Broken("the same task gives another command each time: it must depend on nothing else")
    return shlex.join(built.argv)


def _prompt(built: AgentCommand, directory: Path) -> str:
    wanted = {"stdin": "", "file": str(directory / PROMPT_FILE), "argument": PROMPT_WORD}.get(built.prompt)
    if wanted is None:
        raise _Broken(f"prompt must be stdin, file or argument, not {built.prompt!r}")
    if not any(wanted in word for word in built.argv):
        raise _Broken(f"prompt is {built.prompt!r}, so a word of the argv must hold {wanted}")
    how = {"stdin": "on standard input", "file": "in a file", "argument": "as a word: 128 KiB at most"}
    return f"the prompt is given {how[built.prompt]}"


def _extra_args(agent: Agent, task: Assignment, settings: AgentSettings) -> str:
    extra = ("--one-more", "word of a person")
    built = agent.command(task, replace(settings, extra_args=extra))
    if built.function:
        return "a function takes no arguments"
    if not all(word in built.argv for word in extra):
        raise _Broken("extra_args of the settings do not reach the argv: add them as they are")
    return "extra_args of the settings reach the argv"


def _session(agent: Agent, task: Assignment, settings: AgentSettings) -> str:
    argv = agent.command(replace(task, session="session-1"), settings).argv
    if not any("session-1" in word for word in argv):
        raise _Broken("resumes is true, but the session does not reach the argv")
    if any("session-1" in word for word in agent.command(task, settings).argv):
        raise _Broken("the argv without a session holds one that was given before")
    return shlex.join(argv)


def _permissions(agent: Agent, role: Role) -> str:
    allowed = agent.permissions(role)
    wrong = permission_misfits(allowed)
    if wrong:
        raise _Broken("; ".join(wrong))
    words = {
        "approval_mode": allowed.approval_mode,
        "sandbox_mode": allowed.sandbox_mode,
        "network_mode": allowed.network_mode,
    }
    return ", ".join(_host_takes(name, word) for name, word in words.items())


def _host_takes(name: str, word: object) -> str:
    if not isinstance(word, str) or not word:
        raise _Broken(f"{name} must be a word, not {word!r}")
    if forbidden_word(word):
        raise _Broken(f"{name} is {word!r}, and the host refuses what contains {forbidden_word(word)!r}")
    return f"{name} {word}"


def _of_nothing(agent: Agent) -> str:
    for lines in _NOTHING:
        for exit_code in _EXIT_CODES:
            if _read(agent, lines, exit_code).outcome is Outcome.OK:
                raise _Broken(f"exit code {exit_code} without any output is ok: want a positive result")
    return "no output is no result, whatever the exit code"


def _of_noise(agent: Agent) -> str:
    trusting = False
    for lines in _NOISE:
        for exit_code in _EXIT_CODES:
            found = _read(agent, lines, exit_code)
            if found.outcome is not Outcome.OK:
                continue
            trusting = found.by_exit_code and exit_code == 0
            if not trusting:
                raise _Broken(f"{lines[0][:40]!r} with exit code {exit_code} is ok: want a positive result")
    return "text with the exit code 0 is a result" if trusting else "noise is never a result"


def _of_events(agent: Agent) -> str:
    for value in _VALUES:
        lines = tuple(
            json.dumps(event) for event in (dict.fromkeys(_NAMES, value), {"type": "result", "x": value})
        )
        for exit_code in _EXIT_CODES:
            _read(agent, lines, exit_code)
    return "no event of another shape makes report() raise"


def _read(agent: Agent, lines: tuple[str, ...], exit_code: int | None) -> AgentReport:
    stderr = lines[0][:1_000] if lines else ""
    found = agent.report(iter(lines), stderr, exit_code)
    wrong = report_misfits(found)
    if wrong:
        raise _Broken("; ".join(wrong))
    if agent.report(iter(lines), stderr, exit_code) != found:
        raise _Broken("the same output gives another report each time")
    return found
