"""A repository with its settings, prompts and agents, read once before anything runs."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path

from spec_kitty_orchestrator.agents import BUILT_IN, find, names, plugins
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.function import FunctionAgent
from spec_kitty_orchestrator.agents.spec import Agent, AgentSettings
from spec_kitty_orchestrator.app import own_agents
from spec_kitty_orchestrator.app.own_agents import Away
from spec_kitty_orchestrator.app.repository import find_repo_root
from spec_kitty_orchestrator.app.trust import Named, named_programs
from spec_kitty_orchestrator.config import changed, given_gates, load, read_text, record
from spec_kitty_orchestrator.core.model import Lane
from spec_kitty_orchestrator.core.orders import Changed
from spec_kitty_orchestrator.core.policy import Budget, Gate, OnRateLimit, Patience, Policy
from spec_kitty_orchestrator.core.prompts import Prompts, checked
from spec_kitty_orchestrator.errors import ConfigError, OrchestratorError, PreflightError
from spec_kitty_orchestrator.machine.agent_commands import ConfiguredAgents
from spec_kitty_orchestrator.machine.commit_rules import TRACES, CommitRules
from spec_kitty_orchestrator.machine.logs import JOURNALS
from spec_kitty_orchestrator.machine.redaction import Redactor, secret_values
from spec_kitty_orchestrator.machine.sandbox import Rules, Sandbox
from spec_kitty_orchestrator.machine.sandbox import find as find_bubblewrap
from spec_kitty_orchestrator.settings import RunSettings, Settings, as_option
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.notify_section import secrets

__all__ = [
    "Project",
    "all_names",
    "bare_project",
    "check_prompts",
    "find_agent",
    "kept_options",
    "open_project",
    "redactor_of",
    "settings_around",
]

PROMPTS = Path(".kittify") / "orchestrator" / "prompts"
_ROLES = ("implement", "rework", "review", "resumed")


@dataclass(frozen=True)
class Project:
    """What a run needs to know about the repository.

    Attributes:
        root: the primary checkout, absolute.
        agents: those that the run may use, by their configured name.
        redactor: knows the secrets of our environment and of the settings.
        named: programs that files of the repository name; none may run unless it is trusted.
        recorded: the settings as the journal keeps them, for a start that resumes with them.
        given: agents of the program that drives the run, by their names.
        away: the same of the program that began the run, as it recorded them, where they are not given now.
    """

    root: Path
    settings: Settings
    prompts: Prompts
    agents: Mapping[str, tuple[Agent, AgentSettings]]
    redactor: Redactor
    named: Named
    recorded: Mapping[str, object] = field(default_factory=dict)
    given: Mapping[str, Agent] = field(default_factory=dict)
    away: Mapping[str, Away] = field(default_factory=dict)

    @cached_property
    def unconfined(self) -> str:
        """Why nothing is confined, "" if the system confines agents; runs a command the first time."""
        return "[run] confine is off" if self.settings.run.confine == "off" else self._sandbox.failure

    @property
    def sandbox(self) -> Sandbox | None:
        """Where agents, gates and commit hooks run, None where nothing is confined."""
        return None if self.unconfined else self._sandbox

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of agents that are functions of this program, which nothing can confine."""
        return tuple(name for name, (one, _) in self.agents.items() if isinstance(one, FunctionAgent))

    @cached_property
    def _sandbox(self) -> Sandbox:
        cluster = self.settings.cluster
        keys = (self.root / Path(one).expanduser() for one in (cluster.tls_cert, cluster.tls_key) if one)
        rules = Rules(**self.settings.confine.model_dump())
        rules = replace(rules, hidden=(*rules.hidden, *map(str, keys)))
        known = {**BUILT_IN, **{agent.name: agent for agent, _ in self.agents.values()}}
        states = {name: agent.state for name, agent in known.items()}
        return Sandbox(find_bubblewrap(), self.root, self.root / JOURNALS / ".sandbox", rules, states)

    @property
    def policy(self) -> Policy:
        """The settings on which decisions depend."""
        return self._policy(self.settings.run)

    def changed(self, recorded: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
        """Return what becomes of a run's recorded settings with changes. Raises `ConfigError`."""
        run = changed(recorded, changes, (*all_names(self.settings), *self.given, *self.away))
        return Changed({**recorded, **run.model_dump(mode="json")}, self._policy(run))

    def _policy(self, run: RunSettings) -> Policy:
        agents = {name: agent for name, (agent, _) in self.agents.items()}
        shells = ("always", "confined") if self.sandbox else ("always",)
        # Also an agent that is not selected now may have written what is reviewed.
        families = {name: section.family or name for name, section in self.settings.agents.items()}
        families |= {name: one.family for name, one in self.away.items()}
        families |= {name: one.family for name, one in {**BUILT_IN, **agents, **self.given}.items()}
        most = dict(run.max_per_agent)
        for name, section in self.settings.agents.items():
            if section.max_concurrent is not None:
                most[name] = min(most.get(name, section.max_concurrent), section.max_concurrent)
        return Policy(
            impl_agents=run.impl_agents,
            review_agents=run.review_agents,
            max_attempts=run.max_attempts,
            max_review_cycles=run.max_review_cycles,
            finish_lane=Lane(run.finish_lane),
            tick_subtasks=run.subtasks == "report",
            families=families,
            independent_review=run.require_independent_review,
            review_quorum=run.needed_approvals,
            session_resume=run.session_resume,
            resuming=tuple(name for name, agent in agents.items() if agent.resumes),
            without_shell=tuple(name for name, one in agents.items() if one.shell_in_review not in shells),
            confined=self.sandbox is not None,
            max_concurrent=run.max_concurrent,
            max_per_agent=most,
            patience=Patience(OnRateLimit(run.on_rate_limit), run.max_wait),
            budget=Budget(
                max_cost_usd=run.max_cost,
                max_tokens=run.max_tokens,
                max_duration_s=run.max_duration,
                max_cost_per_wp_usd=run.max_cost_per_wp,
                hard=run.budget_hard,
                strict=run.strict_budget,
            ),
            gates=tuple(Gate(one.name, one.command, one.timeout) for one in self.settings.gates),
            # Where all else runs on machines, which have it done there, only commit hooks may need it here.
            setup=_setup(run) if run.commit_hooks or not run.executor else (),
        )

    @property
    def setup(self) -> tuple[Gate, ...]:
        """What worktrees need, here or on a machine of a cluster."""
        return _setup(self.settings.run)

    @property
    def commit_rules(self) -> CommitRules:
        """What may be committed; the agents' own files are those of all that are known here."""
        run = self.settings.run
        traces = TRACES.union(*(agent.traces for agent, _ in self.agents.values()))
        return CommitRules(traces, run.max_file_size, run.secret_files, run.allow_files, self.redactor)

    def find(self, name: str) -> tuple[Agent, AgentSettings]:
        """Return an agent that the run may not use now. Raises as `find_agent`, and if it is away."""
        if name in self.away:
            return self.away[name].stand_in(), AgentSettings()
        return find_agent(self.root, self.settings, name, self.given)

    def directory(self, mission: str) -> Path:
        """Return the folder of our records of a mission."""
        return self.root / JOURNALS / mission


def _setup(run: RunSettings) -> tuple[Gate, ...]:
    return tuple(
        Gate(f"setup-{number}", command, run.setup_timeout)
        for number, command in enumerate(run.setup, start=1)
    )


def open_project(
    start: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    recorded: Mapping[str, object] | None = None,
    agents: Mapping[str, Agent] | None = None,
) -> Project:
    """Read everything that a run needs from the repository around `start`.

    Args:
        start: any directory in the repository, None for the current one.
        environ: `SKO_*` variables are settings; values of others may be secrets.
        flags: what was given on the command line, named as `config.load` wants it; None for what was not.
        recorded: `Project.recorded` of the run that goes on; None to start with the settings of now.
        agents: of the calling program, such as a `FunctionAgent`, by names that settings may select.

    Raises:
        UsageError: no repository, an unknown agent, or one whose name is taken.
        ConfigError: a setting or a prompt file is wrong.
        PreflightError: an agent of a plug-in cannot be used.
        WorkspaceError: git cannot be run.
    """
    root = find_repo_root(start)
    given = own_agents.given(agents or {})
    away = own_agents.away(recorded or {}, given)
    settings = load(root, environ, flags, (*names(), *given, *away), recorded)
    selected = dict.fromkeys((*settings.run.impl_agents, *settings.run.review_agents))
    found = {name: find_agent(root, settings, name, given) for name in selected if name not in away}
    redactor = redactor_of(environ, settings)
    lines = [(f"gate {one.name}", one.command) for one in settings.gates]
    for which, command in (*lines, *(("[run] setup", one) for one in settings.run.setup)):
        shown = json.dumps(command)
        if redactor.text(shown) != shown:
            raise ConfigError(
                f"{which}: its command holds what looks like a secret, and commands are recorded; "
                "name a variable instead ('… $VAR' in single quotes, expanded by /bin/sh), listed in pass_env"
            )
    prompts = Prompts(**{role: _prompt(root, role) for role in _ROLES})
    effective = {**record(settings, given_gates(flags, recorded)), **own_agents.record(given, away)}
    kept = {name: value for name, value in (recorded or {}).items() if flags.get(name) is None}
    named = named_programs(root, kept)
    return Project(root, settings, prompts, found, redactor, named, effective, given, away)


def kept_options(project: Project, environ: Mapping[str, str], given: Collection[str]) -> str:
    """Return, as options, the settings that a resumed run keeps although the file and variables differ now.

    Those that were `given` now have a reason of their own.
    """
    try:
        now = load(project.root, environ, {}, names()).run
    except ConfigError:
        return ""
    own = [(name, value) for name, value in project.settings.run if name not in given]
    return " ".join(as_option(name, value) for name, value in own if value != getattr(now, name))


def bare_project(root: Path, environ: Mapping[str, str]) -> Project:
    """Return a project with default settings and no agents, for a repository whose settings are wrong."""
    packaged = Prompts(**{role: _packaged(role) for role in _ROLES})
    return Project(root, Settings(), packaged, {}, Redactor(secret_values(environ)), named_programs(root))


def check_prompts(root: Path) -> list[str]:
    """Return what is wrong with the project's own prompts."""
    found = []
    for role in _ROLES:
        try:
            _prompt(root, role)
        except ConfigError as error:
            found.append(str(error))
    return found


def _prompt(root: Path, role: str) -> str:
    """Read the project's own prompt, or the packaged one if it has none."""
    file = root / PROMPTS / f"{role}.md"
    text = read_text(file)
    return _packaged(role) if text is None else checked(role, text, str(file))


def _packaged(role: str) -> str:
    return (resources.files("spec_kitty_orchestrator") / "prompts" / f"{role}.md").read_text(encoding="utf-8")


def settings_around(start: Path, environ: Mapping[str, str], *, anywhere: bool) -> tuple[Path, Settings]:
    """Return the root of the repository around `start` and its settings.

    With `anywhere`, `start` may be outside of any repository; then it is the root, without settings.

    Raises:
        UsageError: there is no repository.
        ConfigError: a setting is wrong.
        PreflightError: it names programs that nobody trusts.
    """
    try:
        root = find_repo_root(start)
    except OrchestratorError:
        if not anywhere:
            raise
        return start, Settings()
    named_programs(root).demand()
    return root, load(root, environ, {}, names())


def all_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all agents: built-in ones, plug-ins, then those of the settings."""
    own = (name for name, section in settings.agents.items() if section.command is not None)
    return (*names(), *own)


def redactor_of(environ: Mapping[str, str], settings: Settings) -> Redactor:
    """Return the redactor for the secrets in our environment and in the settings."""
    known = secret_values(environ, *(section.env for section in settings.agents.values()))
    return Redactor(known.union(secrets(settings.notify, environ)))


def find_agent(
    root: Path,
    settings: Settings,
    name: str,
    given: Mapping[str, Agent] | None = None,
    *,
    only_load: bool = False,
) -> tuple[Agent, AgentSettings]:
    """Return an agent, also one that a program has `given`, with its settings; their paths start at `root`.

    Raises:
        UsageError: there is no such agent.
        PreflightError: it is that of a plug-in, which cannot be loaded or, unless `only_load`, not be used.
    """
    section = settings.agents.get(name, AgentSection())
    declaration = section.declaration(name)
    program = (given or {}).get(name)
    agent = program or (find(name) if declaration is None else Declared(declaration))
    own = AgentSettings(
        executable=section.executable,
        model=section.model,
        extra_args=section.extra_args,
        env=section.env,
        scenario=root / Path(section.scenario).expanduser() if section.scenario else None,
        pass_env=(*settings.run.pass_env, *section.pass_env),
        timeout_s=agent.timeout_s if isinstance(agent, FunctionAgent) else section.timeout,
    )
    if declaration is None and program is None and name not in BUILT_IN and not only_load:
        alone = ConfiguredAgents(root, {name: (agent, own)}, version="")
        try:
            for role in sorted(agent.roles):
                alone.policy(name, role)
        except PreflightError as problem:
            known = ", ".join(plugins.distributions(name))
            raise PreflightError(f"{problem}; fix or uninstall the distribution {known}") from problem
    return agent, own
