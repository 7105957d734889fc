"""Whether agents can do their work: their flags and policies, their cost, their CLIs on this machine.

Nothing is spent. What a CLI prints is not trusted: it is read for a version and for nothing else.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Literal

import anyio
import anyio.to_thread

from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.function import FunctionAgent, address
from spec_kitty_orchestrator.agents.spec import Agent, HasSandbox, ListsModels, Login, Moved
from spec_kitty_orchestrator.agents.versions import compare, read_version, spelled_range
from spec_kitty_orchestrator.app.checks import Finding, Level, edit, error, line, ok, warning
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.config import CONFIG_FILE
from spec_kitty_orchestrator.core import host_rules
from spec_kitty_orchestrator.core.model import PolicyMetadata, Role
from spec_kitty_orchestrator.errors import ConfigError, UsageError
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.places import PRIVATE_TMP
from spec_kitty_orchestrator.machine.probe import ask
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = [
    "ANSWER_LIMIT_S",
    "Installed",
    "check_agent",
    "check_agents",
    "check_sandboxes",
    "find_installed",
    "missing",
    "preflight",
    "selected",
    "why_refused",
]

MOST_AT_ONCE = 2
"""CLIs that are asked at once: starting one occupies a core for a second or two."""
ANSWER_LIMIT_S = 20.0
"""The slowest one seen needs 2.5 s; a busy machine needs several times that."""

_CANNOT_RUN = (126, 127)
"""The exit codes of a shell that cannot start a program; other failures may mean an unknown `--version`."""
LoginState = Literal["yes", "no", "unknown"]
_OF_NPM = re.compile(r"npm install -g @?[^ @]+")
_WAY_TO_LOG_IN = re.compile(r"run `([^`]+)`(?! with)|set ([A-Z][A-Z0-9_]+)")


def selected(project: Project) -> list[tuple[Role, str]]:
    """Return each role with each of its agents, in the order of fallback."""
    run = project.settings.run
    agents = {Role.IMPLEMENT: run.impl_agents, Role.REVIEW: run.review_agents}
    return [(role, name) for role, names in agents.items() for name in names]


def preflight(project: Project, runner: ConfiguredAgents) -> list[Finding]:
    """Check the selected agents before a run: nothing is asked of the host, and no CLI is started."""
    # On other machines it is the workers that need them.
    here = () if project.settings.run.elsewhere else project.agents
    absent = (missing(name, runner) for name in here if runner.executable(name) is None)
    return [*check_agents(project, runner), *absent]


def check_agents(project: Project, runner: ConfiguredAgents) -> list[Finding]:
    """Check the flags, policies, families and costs of the agents that a run may use."""
    found = [
        error("agent.away", project.away[name].refusal, about=name, kind=UsageError)
        for name in dict.fromkeys(one for _, one in selected(project) if one in project.away)
    ]
    for name in project.agents:
        roles = [role for role, one in selected(project) if one == name]
        found += check_agent(name, runner, project.root, roles)
    demands = (
        ("review.independent", "--require-independent-review", project.policy.independent_review, _dependent),
        ("budget.counted", "--strict-budget", project.policy.budget.strict, _uncounted),
    )
    for identity, option, strict, reasons in demands:
        make, said = (error, f"{option}: ") if strict else (warning, "")
        found += [make(identity, said + one, "spec-kitty-orchestrator agents") for one in reasons(project)]
    return found


def _uncounted(project: Project) -> Iterator[str]:
    for name, (agent, _) in project.agents.items():
        if project.policy.budget.limits_cost and not agent.reports_cost:
            yield (
                f"agent {name} does not report its cost, so the cost limit does not count it; "
                "--max-tokens and --max-duration do"
            )


def _dependent(project: Project) -> Iterator[str]:
    """Name each implementer without enough independent reviewers."""
    run, families = project.settings.run, project.policy.families
    needed = run.needed_approvals if run.require_independent_review else 1
    for name in run.impl_agents:
        family = families[name]
        others = [one for one in run.review_agents if families[one] != family]
        if len(others) < needed:
            short = f"only {len(others)} of the reviewers" if others else "no reviewer"
            yield (
                f"{short} ({', '.join(run.review_agents)}) is of another family than the implementer "
                f"{name} ({family}): its review is not independent"
            )


def check_agent(name: str, runner: ConfiguredAgents, root: Path, roles: Iterable[Role]) -> Iterator[Finding]:
    """Check one agent's scenario, the words of its command, and that it may have some roles."""
    agent, settings = runner.agent(name)
    fix = edit(root / CONFIG_FILE)
    if settings.scenario is not None and not settings.scenario.is_file():
        text = f"[agents.{name}] scenario: there is no file {settings.scenario}"
        yield error("agent.scenario", text, fix, name, ConfigError)
    for told in _banned(name, runner):
        yield error("agent.extra_args", f"[agents.{name}] {told}; remove it", fix, name)
    for role in sorted(roles):
        if role not in agent.roles:
            has = f"it can only {' and '.join(sorted(agent.roles))}; select another one for that"
            yield error("agent.roles", f"agent {name} is selected to {role}, but {has}", about=name)
            continue
        for reason in why_refused(runner.policy(name, role)):
            yield error("agent.policy", f"agent {name}, role {role}: {reason}", fix, name)


def _banned(name: str, runner: ConfiguredAgents) -> Iterator[str]:
    """Find words of a command and of its settings that the host does not allow, under whatever name."""
    agent, settings = runner.agent(name)
    # Our own paths can be part of an argument; these two match no rule.
    commands = [runner.command(name, role, Path("/w"), "attempt", Path("/a")) for role in sorted(agent.roles)]
    is_path = host_rules.is_path
    words = {word: "its command" for one in commands for word in one.argv[1:] if not is_path(word)}
    words |= {value: "env" for value in settings.env.values() if not is_path(value)}
    words |= dict.fromkeys(settings.extra_args, "extra_args")
    for word, place in words.items():
        flag = word.partition("=")[0]
        if flag.lower() in host_rules.BANNED_FLAGS:
            yield (
                f"{place}: {flag} is banned by the host: it refuses every policy that declares it, "
                "and we declare what we use"
            )
        elif host_rules.banned_part(word) or host_rules.other_name(agent.name, word):
            yield (
                f"{place}: {word} allows what the host's banned flags allow, "
                "so the policy that we declare would be untrue"
            )


def why_refused(policy: PolicyMetadata) -> Iterator[str]:
    """Apply the host's rules for policies, so that a refusal is known before the first claim."""
    for name, value in asdict(policy).items():
        word = host_rules.forbidden_word(value) if isinstance(value, str) else ""
        if word:
            yield f"the host refuses a policy whose {name} contains {word!r}: {value!r}"
        if value == "":
            yield f"the policy's {name} is empty"
    for flag in policy.dangerous_flags:
        yield f"the host refuses a policy with {flag}"


def missing(name: str, runner: ConfiguredAgents) -> Finding:
    """Report that an agent's program is missing."""
    agent, settings = runner.agent(name)
    program = settings.executable or agent.executable
    where = "is not an executable file" if os.sep in program else "is not on PATH"
    how = f"install it ({agent.install})" if agent.install else "install it"
    key = "correct command" if isinstance(agent, Declared) else "set executable"
    text = f"agent {name} is not installed: {program} {where}; {how} or {key} in [agents.{name}]"
    return error("agent.installed", text, agent.install, name)


@dataclass(frozen=True)
class Installed:
    """One agent's CLI.

    Attributes:
        program: the name or path that is looked for.
        path: where it is, None if it is not installed.
        findings: what is right and wrong with it.
        version: "" if it is not known.
        login: whether it is logged in, as far as that is visible without a request; "yes" if it need not be.
        login_by: what shows it.
    """

    program: str
    path: str | None
    findings: tuple[Finding, ...]
    version: str = ""
    login: LoginState = "unknown"
    login_by: str = ""

    @property
    def untested(self) -> list[str]:
        """Why its version is not known to work."""
        told = (one for one in self.findings if one.level is not Level.OK)
        return [one.text for one in told if one.id == "agent.version"]


async def find_installed(
    runner: ConfiguredAgents, names: Collection[str], *, thorough: bool = True
) -> Mapping[str, Installed]:
    """Examine the CLIs of agents, a few at once; only if `thorough` their logins and models too."""
    found: dict[str, Installed] = {}
    limiter = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def look(name: str) -> None:
        async with limiter:
            found[name] = await _look(runner, name, thorough=thorough)

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(look, name)
    return {name: found[name] for name in names}


async def _look(runner: ConfiguredAgents, name: str, *, thorough: bool) -> Installed:
    agent, settings = runner.agent(name)
    if isinstance(agent, FunctionAgent):
        here = address(agent.function)
        told = ok("agent.version", f"agent {name}: the function {here} of this program", about=name)
        return Installed(here, here, (told,), login="yes", login_by="none is needed")
    program, env = _called(runner, name)
    path = await anyio.to_thread.run_sync(runner.locate, program, env)
    if path is None:
        return Installed(program, None, (missing(name, runner),))
    version, told = await _version(name, agent, path, env)
    if not thorough or told.level is Level.ERROR:
        return Installed(program, path, (told,), version)
    login, by = await _login(agent.login, path, env)
    findings = (told, _login_finding(name, agent.login, login, by), *await _sandbox(name, runner, path, env))
    if settings.model and isinstance(agent, ListsModels):
        listing = (agent.executable, *agent.models_command)
        findings += await _model(name, settings.model, listing, path, env)
    return Installed(program, path, findings, version, login, by)


def _called(runner: ConfiguredAgents, name: str) -> tuple[str, Mapping[str, str]]:
    """Return an agent's program as its command names it, and the environment in which that is asked."""
    agent, _ = runner.agent(name)
    command = runner.command(name, min(agent.roles), Path.cwd(), "version", Path.cwd())
    return command.argv[0], runner.environment(name, command, "")


async def _version(name: str, agent: Agent, path: str, env: Mapping[str, str]) -> tuple[str, Finding]:
    # A program without tested versions is the user's own: it might take the argument for a task.
    if not agent.versions:
        return "", ok("agent.version", f"agent {name}: at {path}", about=name)
    answer = await ask([path, "--version"], env, ANSWER_LIMIT_S)
    version = read_version(answer.stdout) or read_version(answer.stderr)
    if not version or answer.exit_code != 0:
        said = next((one for one in (answer.stderr + answer.stdout).splitlines() if one.strip()), "")
        ended = f"ended with exit code {answer.exit_code}" if answer.exit_code else "reports no version"
        text = f"agent {name}: `{path} --version` {answer.failure or f'{ended}: {ours().head(said, 200)!r}'}"
        make = warning if answer.started and answer.exit_code not in _CANNOT_RUN else error
        return version, make("agent.version", text, agent.install, name)
    tested = f"than those tested ({spelled_range(agent.versions)})"
    match compare(version, agent.versions):
        case "newer":
            text = f"agent {name}: version {version} is newer {tested}"
            return version, warning("agent.version", text, about=name)
        case "older":
            text = f"agent {name}: version {version} is older {tested}; update it"
            of_npm = _OF_NPM.fullmatch(agent.install)
            newer = f"{agent.install}@{agent.versions[-1]}" if of_npm else agent.install
            if isinstance(agent, Moved):
                newer = f"{agent.earlier} && {newer}"
            return version, warning("agent.version", text, newer, name)
    return version, ok("agent.version", f"agent {name}: {version} at {path}", about=name)


async def check_sandboxes(
    runner: ConfiguredAgents, names: Collection[str], limit_s: float = ANSWER_LIMIT_S
) -> list[Finding]:
    """Let the CLIs that confine commands themselves confine one, all at once; nothing is spent.

    What has not answered in time is left for the run to find out.
    """
    found: list[Finding] = []

    async def look(name: str) -> None:
        program, env = _called(runner, name)
        path = await anyio.to_thread.run_sync(runner.locate, program, env)
        if path is not None:
            found.extend(await _sandbox(name, runner, path, env))

    with anyio.move_on_after(limit_s):
        async with anyio.create_task_group() as tasks:
            for name in names:
                if isinstance(runner.agent(name)[0], HasSandbox):
                    tasks.start_soon(look, name)
    return found


async def _sandbox(
    name: str, runner: ConfiguredAgents, path: str, env: Mapping[str, str]
) -> tuple[Finding, ...]:
    agent, settings = runner.agent(name)
    if not isinstance(agent, HasSandbox):
        return ()
    if runner.confined:
        env = {**env, "TMPDIR": PRIVATE_TMP}
    answer = await ask([path, *agent.sandbox_command], env, ANSWER_LIMIT_S)
    why = agent.sandbox_failure(f"{answer.stderr}\n{answer.stdout}") if answer.exit_code else ""
    if not why:
        return ()
    # What somebody adds to its arguments may choose another sandbox.
    make = warning if settings.extra_args else error
    return (make("agent.sandbox", f"agent {name}: {why}", agent.sandbox_fix(why, settings, env), name),)


async def _login(login: Login, path: str, env: Mapping[str, str]) -> tuple[LoginState, str]:
    if login == Login():
        return "yes", "none is needed"
    for variable in login.variables:
        if env.get(variable):
            return "yes", f"{variable} is set"
    for name in login.files:
        file = _expanded(name, env)
        if file and await anyio.Path(file).exists():
            return "yes", f"{name} exists"
    if not login.command:
        return "unknown", ""
    shown = " ".join((Path(path).name, *login.command))
    answer = await ask([path, *login.command], env, ANSWER_LIMIT_S)
    if answer.exit_code is None:
        return "unknown", f"`{shown}` {answer.failure}"
    return ("no" if answer.exit_code else "yes"), f"`{shown}` says so"


def _expanded(name: str, env: Mapping[str, str]) -> Path | None:
    """Expand the path of a file; return None if a variable in it is not set, or if nobody has a home."""
    known = {variable: value for variable, value in env.items() if value}
    if name.startswith("~/") and "HOME" in known:
        name = f"$HOME{name[1:]}"
    with suppress(KeyError, ValueError, RuntimeError):
        return Path(Template(name).substitute(known)).expanduser()
    return None


def _login_finding(name: str, login: Login, state: LoginState, by: str) -> Finding:
    if state == "yes":
        return ok("agent.login", f"agent {name} is logged in: {by}", about=name)
    way = _WAY_TO_LOG_IN.match(login.how)
    fix = (way[1] or f"export {way[2]}='…'") if way else ""
    text = f"agent {name} is not logged in: {by}; {login.how}, unless a provider of your own needs none"
    if state == "unknown":
        seen = f" ({by})" if by else ""
        text = f"agent {name}: nothing shows that it is logged in{seen}; if it is not, {login.how}"
    return warning("agent.login", text, fix, name)


async def _model(
    name: str, model: str, listing: tuple[str, ...], path: str, env: Mapping[str, str]
) -> tuple[Finding, ...]:
    answer = await ask([path, *listing[1:]], env, ANSWER_LIMIT_S)
    if answer.exit_code != 0 or model in answer.stdout.split():
        return ()
    fix = line(*listing)
    # The project's own settings may add models, and were not read where the CLI was asked.
    text = f"`{fix}` does not list its model {model}: unless the project's own settings add it, attempts fail"
    return (warning("agent.model", f"agent {name}: {text}", fix, name),)
