"""The composition root: which part implements which port."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version as installed_version
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.core.orders import Changed
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.scheduler import Order
from spec_kitty_orchestrator.driver.engine import Orchestrator
from spec_kitty_orchestrator.driver.parts import Parts
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.host.transport import SpawnTransport, Transport
from spec_kitty_orchestrator.host.warm import WarmTransport
from spec_kitty_orchestrator.machine.gates import LocalGates
from spec_kitty_orchestrator.machine.hooks import HookRules
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.orders import OrderFolder
from spec_kitty_orchestrator.machine.resources import MachineHeadroom
from spec_kitty_orchestrator.machine.runner import LocalAgents
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import AgentRunner, Lock, Observer

__all__ = [
    "VERSION",
    "Say",
    "build",
    "build_agents",
    "build_headroom",
    "build_host",
    "build_parts",
    "build_workspaces",
    "connect",
    "hook_rules",
    "journal",
]

VERSION = installed_version("spec-kitty-orchestrator")
Say = Callable[[str], None]


def build_host(project: Project, say: Say | None = None, on_call: Say | None = None) -> HostClient:
    """Make the client of the configured host, to be closed after use.

    Raises `HostMissing`, and `PreflightError` if the repository names programs that nobody trusts.

    Args:
        project: with the settings of the host.
        say: is told once if calls cannot be answered by a warm host; None for so few calls that starting one
            would cost more than it saves.
        on_call: is told the name of every call that is made.
    """
    project.named.demand()
    settings = project.settings.host
    executable = settings.executable
    if executable is not None and ("/" in executable or executable.startswith("~")):
        # A relative path in the file starts at the repository, wherever we were started.
        executable = str(project.root / Path(executable).expanduser())
    transport: Transport = SpawnTransport()
    if say is not None and settings.transport != "spawn":
        transport = WarmTransport(
            required=settings.transport == "warm",
            memoize=settings.command_cache,
            merge_drivers=settings.warm_merge_drivers,
            say=say,
        )
    return HostClient(
        project.root,
        executable=executable,
        transport=transport,
        call_limit_s=settings.call_timeout,
        on_call=on_call,
        clean=project.redactor.text,
    )


async def connect(project: Project) -> HostClient:
    """Make the client and check that both sides speak the same contract. Raises `HostError`."""
    host = build_host(project)
    await host.check_contract()
    return host


def build_agents(project: Project, say: Say = lambda _: None) -> LocalAgents:
    """Make the runner of the agents, on this machine or on a cluster; `say` gets lines about agents."""
    run, cluster = project.settings.run, project.settings.cluster
    make: Callable[..., LocalAgents] = LocalAgents
    agents = project.agents
    if run.executor:
        # Only who wants a cluster waits for what it loads.
        from spec_kitty_orchestrator.app.cluster import reach, with_whole_paths
        from spec_kitty_orchestrator.cluster.agents import ClusterAgents

        agents = with_whole_paths(project)
        make = partial(
            ClusterAgents,
            transport=partial(reach, project),
            rules=project.commit_rules,
            clone=cluster.clone,
            lost_after_s=cluster.lost_after,
            setup=project.setup,
            passed=run.pass_env,
        )
    return make(
        project.root,
        agents,
        timeouts={Role.IMPLEMENT: run.timeout, Role.REVIEW: run.review_timeout},
        version=VERSION,
        redactor=project.redactor,
        stall_timeout_s=run.stall_timeout,
        say=say,
        # An earlier start may have left an attempt of an agent that this one does not use.
        others=cache(project.find),
        sandbox=project.sandbox,
    )


def build_headroom(project: Project) -> MachineHeadroom:
    """Make the part that knows whether the machine has memory and disk for one more agent."""
    run = project.settings.run
    memory = run.needed_memory
    return MachineHeadroom(project.root, min_free_memory=memory, min_free_disk=run.min_free_disk)


def build_orders(project: Project, mission: str, say: Say) -> OrderFolder:
    """Make the part that takes orders of people; `say` is told of what is none."""

    async def change(recorded: Mapping[str, object], changes: Mapping[str, str]) -> Changed:
        return await to_thread.run_sync(project.changed, recorded, changes)

    return OrderFolder(project.directory(mission), change, say)


def hook_rules(project: Project, mission: str) -> HookRules | None:
    """Tell how the repository's commit hooks run, None if they do not."""
    run, sandbox = project.settings.run, project.sandbox
    if not run.commit_hooks:
        return None

    def confine(
        argv: Sequence[str], cwd: Path, env: Mapping[str, str], writable: Sequence[Path]
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        assert sandbox is not None
        around = sandbox.around(argv, env, cwd, "hooks", mission=mission, writes=True, writable=writable)
        return (*around.wrapper, *argv), around.env

    return HookRules(run.pass_env, confine if sandbox is not None else None)


def journal(project: Project, mission: str) -> JsonlJournal:
    """Open the journal of a mission; nothing is created before the first line."""
    return JsonlJournal(project.directory(mission), project.root, clean=project.redactor.text)


def build_workspaces(project: Project, mission: str, say: Say) -> GitWorkspaces:
    """Make the part that reads and changes worktrees; `say` is told what had to be mended."""
    # A function that reviews could write anywhere, whatever holds the others.
    confined = project.sandbox is not None and not project.functions
    hooks = hook_rules(project, mission)
    return GitWorkspaces(project.root, mission, project.commit_rules, say, hooks, confined=confined)


def build_parts(
    project: Project,
    mission: str,
    *,
    host: HostClient,
    agents: AgentRunner,
    workspaces: GitWorkspaces,
    observer: Observer,
    lock: Lock | None = None,
) -> Parts:
    """Make what a driver of one mission needs, named as the host spells it.

    The lock is given by whoever holds it already, None to make it here.
    """
    run, policy = project.settings.run, project.policy

    def runner(commands: Sequence[Gate], make: Callable[..., LocalGates] = LocalGates) -> LocalGates:
        return make(project.root, mission, commands, project.redactor, run.pass_env, project.sandbox)

    checked: Callable[..., LocalGates] = LocalGates
    if run.executor:
        from spec_kitty_orchestrator.cluster.agents import ClusterAgents
        from spec_kitty_orchestrator.cluster.gates import ClusterGates

        assert isinstance(agents, ClusterAgents)
        checked = partial(ClusterGates, agents)

    return Parts(
        mission,
        run.actor,
        policy,
        lock=lock or MissionLock(project.directory(mission), mission),
        host=host,
        agents=agents,
        workspaces=workspaces,
        journal=journal(project, mission),
        clock=SystemClock(),
        observer=observer,
        prompts=project.prompts,
        version=VERSION,
        tick_command=host.executable,
        # Needed even without gates: those of an earlier start may have to be stopped.
        gates=runner(policy.gates, checked),
        setup=runner(policy.setup),
        settings=project.recorded,
    )


def build(project: Project, mission: str, parts: Parts, order: Order | None = None) -> Orchestrator:
    """Make the orchestrator of one mission from its parts; `order` says who goes first."""
    return Orchestrator(
        parts,
        poll_interval_s=project.settings.run.poll_interval,
        headroom=build_headroom(project),
        orders=build_orders(project, mission, parts.observer.said),
        order=order,
    )
