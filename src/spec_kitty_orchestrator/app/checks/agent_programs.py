"""The agents' CLIs on this machine: path, version and login; nothing is spent.

What they print is not trusted: it is read for a version and for nothing else.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.agents.spec import Agent, ListsModels, Login
from spec_kitty_orchestrator.agents.versions import read_version
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.probe import Answer, ask

MOST_AT_ONCE = 2
"""CLIs that are asked at once: starting one occupies a core for a second or two."""
ANSWER_LIMIT_S = 20.0
"""The slowest one seen needs 2.5 s; a busy machine needs several times that."""

_CANNOT_RUN = (126, 127)
"""The exit codes of a shell that cannot start a program; other failures may mean an unknown `--version`."""


class LoginState(StrEnum):
    """Whether a CLI is logged in, as far as that is visible without a request."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Installed:
    """One agent's CLI.

    Attributes:
        program: the name or path that is looked for.
        path: where it is, None if it is not installed.
        version: "" if it is not known.
        trouble: why the CLI did not say its version, "" if it did or was not asked.
        broken: whether it cannot be run at all.
        login: for an agent that needs no login, `YES`.
        login_by: what shows it.
        model: why the model of the settings may not be there, "" if nothing speaks against it.
    """

    program: str
    path: str | None
    version: str = ""
    trouble: str = ""
    broken: bool = False
    login: LoginState = LoginState.UNKNOWN
    login_by: str = ""
    model: str = ""


async def find_installed(
    runner: ConfiguredAgents, names: Iterable[str], *, thorough: bool = True
) -> Mapping[str, Installed]:
    """Examine the CLIs of agents, a few at once.

    Args:
        runner: knows the agents, and the environment that each gets.
        names: of agents that it knows.
        thorough: whether it is found out who is logged in, and whether the model of the settings is there.
    """
    found: dict[str, Installed] = {}
    limiter = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def one(name: str) -> None:
        async with limiter:
            found[name] = await _look(runner, name, thorough=thorough)

    wanted = list(dict.fromkeys(names))
    async with anyio.create_task_group() as tasks:
        for name in wanted:
            tasks.start_soon(one, name)
    return {name: found[name] for name in wanted}


async def _look(runner: ConfiguredAgents, name: str, *, thorough: bool) -> Installed:
    agent, settings = runner.agent(name)
    command = runner.command(name, min(agent.roles), Path.cwd(), "version", Path.cwd())
    env = runner.environment(name, command, "")
    program = command.argv[0]
    path = await anyio.to_thread.run_sync(runner.locate, program, env)
    if path is None:
        return Installed(program, None)
    version = trouble = ""
    broken = False
    # A program without tried versions is the user's own: it might take the argument for a task.
    if agent.versions:
        answer = await ask([path, "--version"], env, ANSWER_LIMIT_S)
        version = read_version(answer.stdout) or read_version(answer.stderr)
        trouble = "" if version and answer.exit_code == 0 else _trouble(answer)
        broken = not answer.started or answer.exit_code in _CANNOT_RUN
    if not thorough or broken:
        return Installed(program, path, version, trouble, broken)
    state, by = await _login(agent.login, path, env)
    model = await _model(agent, settings.model, path, env)
    return Installed(program, path, version, trouble, broken, state, by, model)


def _trouble(answer: Answer) -> str:
    if answer.failure:
        return answer.failure
    said = next((one for one in (answer.stderr + answer.stdout).splitlines() if one.strip()), "")
    if answer.exit_code == 0:
        return f"reports no version: {said[:200]!r}"
    return f"ended with exit code {answer.exit_code}: {said[:200]!r}"


async def _login(login: Login, path: str, env: Mapping[str, str]) -> tuple[LoginState, str]:
    if login == Login():
        return LoginState.YES, "none is needed"
    for variable in login.variables:
        if env.get(variable):
            return LoginState.YES, f"{variable} is set"
    for name in login.files:
        file = _expanded(name, env)
        if file is not None and await anyio.Path(file).exists():
            return LoginState.YES, f"{name} exists"
    if not login.command:
        return LoginState.UNKNOWN, ""
    shown = " ".join((Path(path).name, *login.command))
    answer = await ask([path, *login.command], env, ANSWER_LIMIT_S)
    if answer.exit_code is None:
        return LoginState.UNKNOWN, f"`{shown}` {answer.failure}"
    return (LoginState.NO if answer.exit_code else LoginState.YES), f"`{shown}` says so"


async def _model(agent: Agent, model: str | None, path: str, env: Mapping[str, str]) -> str:
    if model is None or not isinstance(agent, ListsModels):
        return ""
    answer = await ask([path, *agent.models_command], env, ANSWER_LIMIT_S)
    if answer.exit_code != 0 or model in answer.stdout.split():
        return ""
    return f"`{' '.join((agent.executable, *agent.models_command))}` does not list its model {model}"


def _expanded(name: str, env: Mapping[str, str]) -> str | None:
    """Expand the path of a file; return None if a variable in it is not set."""
    known = {variable: value for variable, value in env.items() if value}
    # Without a home there are no files in it either.
    with suppress(RuntimeError):
        known.setdefault("HOME", str(Path.home()))
    try:
        return Template(re.sub(r"^~(?=/)", "$HOME", name)).substitute(known)
    except (KeyError, ValueError):
        return None
