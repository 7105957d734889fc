"""Takes orders: the command line, and the only place where an `OrchestratorError` ends.

Whatever goes wrong becomes one message on stderr and the exit code of its class; never a traceback.
"""

import builtins
import os
import signal
import sys
from functools import partial
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from spec_kitty_orchestrator.errors import InvalidTransition, OrchestratorError

__all__ = ["COMMANDS", "PROGRAM", "SECTIONS", "ignore", "main", "own_signals"]

PROGRAM = "spec-kitty-orchestrator"
BUG = 3


COMMANDS = {
    "orchestrate": ("run", "Take every work package of a mission from planned to done."),
    "resume": ("run", "Go on with a run that was interrupted, with its own settings."),
    "plan": ("plan", "Show what a run would do, or simulate it with other slots."),
    "pause": ("orders", "Begin nothing new: of a run, an agent or a work package."),
    "continue": ("orders", "Go on after `pause` or `stop`."),
    "stop": ("orders", "Stop the attempt of one work package, and keep its work."),
    "tell": ("orders", "Say something to whoever works on a work package next."),
    "set": ("orders", "Change limits of a run and of its next starts."),
    "drain": ("orders", "End a run once its running attempts have ended."),
    "abort": ("operator", "Stop a run and all its agents, and record that it is over."),
    "retry": ("operator", "Put parked or blocked work packages back to work."),
    "skip": ("operator", "Leave a work package out, so that the rest can go on."),
    "export": ("handover", "Pack a run into one file, to go on in another clone."),
    "import": ("handover", "Unpack an exported run, to go on with it here."),
    "takeover": ("people", "Work on a work package yourself."),
    "handback": ("people", "Give a work package that you took over back to the run."),
    "approve": ("people", "Approve the work of a work package yourself."),
    "status": (
        "status",
        "Show where every work package stands, and what needs you.",
    ),
    "inbox": ("inbox", "Show what needs you, in all missions of the repository."),
    "logs": ("logs", "Show what agents and gates said and did, or follow it."),
    "report": ("report", "Tell what a mission's runs were, as a page or for programs."),
    "watch": ("watch", "Watch a run on the whole screen, and steer it."),
    "events": ("events", "Print the events of a mission as JSON lines, or follow them."),
    "doctor": ("doctor", "Say what would go wrong in a run; nothing is changed."),
    "notify": ("notify", "List where people are told of a run, or send a test message."),
    "trust": ("trust", "Trust the programs that the repository's own files name."),
    "agents": ("agents", "List the available agents, or check one."),
    "worker": ("worker", "Run agents here for missions that are driven elsewhere."),
}
"""The module of each command, and what it does in one line: the first of its docstring."""


SECTIONS = {
    "Run": "orchestrate resume plan abort export import",
    "Steer a run": "pause continue stop tell set drain",
    "Decide": "inbox retry skip takeover handback approve",
    "Look": "status watch logs report events",
    "Set up": "doctor agents trust notify worker",
}
"""Headings of the list of all commands, with those below each."""

AS_GIVEN = frozenset({"status", "inbox", "pause", "continue", "stop", "tell", "drain"})
"""Commands with text and switches alone: typer would load all of pydantic to see that a text is one."""


class _Lazy(TyperCommand):
    """A command whose module is loaded when it is called: the list of all, and the version, need none."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        name = str(self.name)
        spelled = f"{name}_" if iskeyword(name) or hasattr(builtins, name) else name
        made = found = getattr(import_module(f"{__name__}.{COMMANDS[name][0]}"), spelled)
        if not isinstance(found, typer.Typer):
            made = typer.Typer(add_completion=False, rich_markup_mode=None)
            made.command(cls=_Plain if name in AS_GIVEN else _InSections)(found)
        return typer.main.get_command(made).make_context(info_name, args, parent=parent, **extra)


class _InSections(TyperCommand):
    """A command whose help has a section for each heading of its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            if record := one.get_help_record(ctx):
                kind = "Arguments" if one.param_type_name == "argument" else ""
                heading = getattr(one, "rich_help_panel", None) or kind
                sections.setdefault(heading, []).append(record)
        general = "This start" if len(sections) > 2 else "Options"
        for heading, records in sections.items():
            with formatter.section(heading or general):
                formatter.write_dl(records)


class _AsGiven:
    """Options that need no conversion."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in params:
            one.process_value = partial(_as_given, one)
        return params


def _as_given(param: Any, ctx: Any, value: object) -> object:
    return param.callback(ctx, param, value) if param.callback is not None else value


class _Plain(_AsGiven, _InSections):
    """A command with text and switches alone."""


class _Commands(_AsGiven, TyperGroup):
    """All of them, in sections; its own options are switches."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        del ctx
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<11}", COMMANDS[name][1]) for name in names.split()])


app: typer.Typer = typer.Typer(
    name=PROGRAM,
    cls=_Commands,
    help="Runs whole spec-kitty missions: agents implement and review, the host keeps the lanes.",
    no_args_is_help=True,
    # Text in sections is read at any width, and does not wait for what draws boxes.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from spec_kitty_orchestrator import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


def command_line() -> TyperGroup:
    """Make the whole command, with every subcommand still to be loaded."""
    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    for name, (_, line) in COMMANDS.items():
        whole.add_command(_Lazy(name, help=line, rich_markup_mode=None))
    return whole


def ignore(_number: int, _frame: object) -> None:
    """Do nothing about a signal; unlike one that is ignored, it has its usual effect in children."""


_INHERITED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def own_signals() -> None:
    """Free our children of what whoever started us did to signals; what we are to ignore, we ignore."""
    # Where SIGCHLD is ignored, as some supervisors leave it, no exit code of a child would reach us;
    # and agents would inherit the signals that are blocked.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in _INHERITED:
        if signal.getsignal(number) is signal.SIG_IGN:
            # As by `nohup` for us, but a child that ignored it too could not be stopped in order.
            signal.signal(number, ignore)


def main() -> None:
    """Run the command line; the console script `spec-kitty-orchestrator`."""
    own_signals()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Whoever started us closed it and wants to hear nothing.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        command_line()(prog_name=PROGRAM)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last place where anything can be caught
        sys.exit(_fail(error))


def _fail(error: Exception) -> int:
    """Print what went wrong and return the exit code."""
    from spec_kitty_orchestrator.views.console import SteadyConsole

    known = [one for one in _leaves(error) if isinstance(one, OrchestratorError)]
    bugs = [one for one in _leaves(error) if isinstance(one, InvalidTransition) or one not in known]
    console = SteadyConsole(stderr=True)
    for one in known:
        for number, line in enumerate(str(one).splitlines() or [type(one).__name__]):
            console.tell(line, "       " if number else "error: ", "bold red")
    if bugs:
        from spec_kitty_orchestrator.cli import crash

        console.tell(f"this should not happen: {bugs[0]!r}", "error: ", "bold red")
        report = crash.write_report(error)
        console.tell(f"       the details are in {report}" if report else "")
        return BUG
    return min(one.exit_code for one in known)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
