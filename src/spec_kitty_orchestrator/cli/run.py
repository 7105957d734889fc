"""`orchestrate` and `resume`, the commands that run a mission; what they use is loaded when they do."""

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from spec_kitty_orchestrator.cli import options
from spec_kitty_orchestrator.errors import UsageError

__all__ = ["orchestrate", "resume"]


def _runs_a_mission(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the settings and of `RunOptions`; they reach it as its first argument."""
    _, *own = inspect.signature(command).parameters.values()
    hints = get_type_hints(options.RunOptions, include_extras=True)
    of_this_start = [
        one.replace(annotation=hints[one.name])
        for one in inspect.signature(options.RunOptions).parameters.values()
        if one.name != "settings"
    ]
    settings = options.SETTINGS.values()

    def called(**given: Any) -> None:
        # An option that can be repeated and was not given is an empty list in some versions of typer.
        found = {one.name: value for one in settings if (value := given.pop(one.name)) not in (None, [])}
        rest = {one.name: given.pop(one.name) for one in of_this_start}
        command(options.RunOptions(settings=found, **rest), **given)

    parameters = [*(one.replace(kind=one.KEYWORD_ONLY) for one in own), *of_this_start, *settings]
    # typer reads the options from these.
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called


@_runs_a_mission
def orchestrate(
    given: options.RunOptions,
    mission: Annotated[str, options.mission_option("Slug of the mission.")],
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show the plan.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Put the journal of an earlier run aside and start over.")
    ] = False,
) -> None:
    """Take every work package of a mission from planned to done.

    Interrupt it at any time; the same command goes on where it was, with the options and settings of now,
    and `resume` with those that the run was started with.
    """
    import anyio

    from spec_kitty_orchestrator.app.project import open_project
    from spec_kitty_orchestrator.app.trust import trust_too
    from spec_kitty_orchestrator.cli import dry_run, running

    if plan_only and given.output is options.Output.JSONL:
        raise UsageError("--dry-run runs nothing, so there are no events: leave out --output")
    project = open_project(given.repo_root, os.environ, given.settings)
    if project.named.trusted:
        trust_too(project.root, project.recorded)
    work = running.Work(project, mission, given, fresh=fresh)
    raise typer.Exit(anyio.run(work.main, dry_run.run if plan_only else running.run))


@_runs_a_mission
def resume(
    given: options.RunOptions,
    mission: Annotated[str | None, options.mission_option("Slug; else the only unfinished run's.")] = None,
) -> None:
    """Go on with a run that was interrupted, with its own settings.

    Options given here win over those of the run, and are remembered for the next time; `--host-transport` and
    what is listed under "This start" are not. Variables and the file's `[run]` count as they did when the run
    was started; `orchestrate` goes on with them as they are now. Defaults below are those of a first start.
    """
    import anyio

    from spec_kitty_orchestrator.app.project import kept_options, open_project
    from spec_kitty_orchestrator.app.repository import find_repo_root
    from spec_kitty_orchestrator.app.runs import find_unfinished
    from spec_kitty_orchestrator.app.trust import trust_too
    from spec_kitty_orchestrator.cli import running

    root = find_repo_root(given.repo_root)
    earlier = anyio.run(find_unfinished, root, mission)
    if earlier.started is None:
        raise UsageError(f"the journal of {earlier.mission} holds no run; `orchestrate` starts one")
    project = open_project(root, os.environ, given.settings, earlier.started.settings)
    if project.named.trusted:
        trust_too(project.root, project.recorded)
    work = running.Work(project, earlier.mission, given)
    if kept := kept_options(project, os.environ, given.settings):
        work.say(f"{earlier.mission}: keeps its own {kept}; the file and variables say otherwise now")
    raise typer.Exit(anyio.run(work.main, running.run))
