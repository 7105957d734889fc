"""A run as a part of a job of CI: what its service is told in the log, and what the job hands on.

Whatever fails here is said, and changes nothing about the run.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from spec_kitty_orchestrator.app.checks.clone import complete
from spec_kitty_orchestrator.app.forecasts import start_of
from spec_kitty_orchestrator.app.project import Project
from spec_kitty_orchestrator.app.report import Found
from spec_kitty_orchestrator.core import advice
from spec_kitty_orchestrator.core.describe import PROGRAM, command_line, count, note
from spec_kitty_orchestrator.core.findings import Open, Severity, still_open
from spec_kitty_orchestrator.core.model import MissionState
from spec_kitty_orchestrator.core.recorder import record
from spec_kitty_orchestrator.core.records import replace
from spec_kitty_orchestrator.core.report import Report
from spec_kitty_orchestrator.errors import JournalError
from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator.machine.environment import search_path
from spec_kitty_orchestrator.machine.files import write_private
from spec_kitty_orchestrator.machine.journal import JsonlJournal, SystemClock
from spec_kitty_orchestrator.views.ci import Service, buildkite, github, gitlab
from spec_kitty_orchestrator.views.ci.notes import Note, figures, notes
from spec_kitty_orchestrator.views.report.markdown import MOST_BYTES, fenced, markdown
from spec_kitty_orchestrator.views.report.texts import Texts

__all__ = ["Job"]

AGENT = "buildkite-agent"
AGENT_LIMIT_S = 10.0
"""For one of its calls, which asks a server."""

VARIABLES = "ci.env"
"""Beside the journal: what GitLab passes on to later jobs."""

MOST_TAILS = 20

SMALLEST_SUMMARY = 2000
"""Bytes; with less room there is no use in one."""


class Job:
    """The job that a run is a part of; where it is none of a service that we know, it does nothing.

    Args:
        service: whose job it is, None if it is none.
        project: the user's.
        environ: the service's variables.
        write: prints one line as it is, for the service.
        say: tells people.
    """

    def __init__(
        self,
        service: Service | None,
        project: Project,
        environ: Mapping[str, str],
        write: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self.service = service
        self._project, self._environ = project, environ
        self._write, self._say = write, say
        self._clock = SystemClock()
        self._section = ""
        self._delivered: tuple[Report, Texts] | None = None

    def opens(self, title: str, *, folded: bool = True) -> None:
        """Begin a group of lines; the one before it ends."""
        self.closes()
        match self.service:
            case Service.GITHUB:
                self._write(github.group(title))
            case Service.GITLAB:
                self._write(gitlab.section(title, self._clock.now(), folded=folded))
            case Service.BUILDKITE:
                self._write(buildkite.group(title, folded=folded))
        self._section = title

    def closes(self) -> None:
        """End the group that is open; one of Buildkite's ends where the next one begins."""
        if self._section and self.service is Service.GITHUB:
            self._write(github.END)
        elif self._section and self.service is Service.GITLAB:
            self._write(gitlab.end(self._section, self._clock.now()))
        self._section = ""

    async def complete(self, mission: str) -> None:
        """Make in the job's clone what git did not copy of a mission. Raises `WorkspaceError`."""
        if self.service is not None:
            await to_thread.run_sync(complete, self._project.root, mission)

    async def answer(self, mission: MissionState) -> list[str]:
        """Return what a person must do before a start, in at most four lines; nothing if nobody is needed."""
        if self.service is None:
            return []
        report = await standing(self._project, mission)
        needs = advice.needs(report)
        if not needs:
            return []
        texts = Texts(report, self._project.redactor, self._project.root, self._project.root)
        first, *others = needs
        command = advice.next_commands(report).get(first.wps[0].id, first.steps[0][1])
        lines = [f"{texts.line(report.headline)}."]
        lines += [texts.note(f"{', '.join(one.id for one in first.wps)}: {first.reason}"), f"  {command}"]
        if others:
            status = command_line("status", "--mission", mission.slug)
            return [*lines, f"  {count(len(others), 'other reason')}: {status}"]
        return [*lines, f"  {advice.to_go_on(mission.slug, begun=True)}"]

    def refused(self, reason: str) -> None:
        """Tell the service why there is no run."""
        told = note(self._project.redactor.text(reason))
        if self.service is Service.GITHUB:
            self._write(github.annotation(Note(Severity.ERROR, "the run did not start", told)))
            self._summarize("### 🔴 The run did not start\n\n" + fenced(told) + "\n")
            self._append("GITHUB_OUTPUT", github.outputs([("reason", told), ("resumable", "false")]))

    def deliver(self, found: Found) -> None:
        """Hand on what became of the run; in a thread, as it writes files and may ask a server."""
        if self.service is None:
            return
        report = found.report
        texts = Texts(report, self._project.redactor, self._project.root, found.journal.parent)
        self._delivered = report, texts
        page = texts.path(str(found.page)) if found.page.exists() else ""
        told = list(figures(report, texts, page))
        match self.service:
            case Service.GITHUB:
                self._append("GITHUB_OUTPUT", github.outputs(told))
                self._summarize(report, texts)
            case Service.GITLAB:
                write_private(found.journal.with_name(VARIABLES), gitlab.variables(told))
            case Service.BUILDKITE:
                self._annotate(report, texts, told)

    def _summarize(self, what: Report | str, texts: Texts | None = None) -> None:
        path = self._environ.get("GITHUB_STEP_SUMMARY", "")
        before = 0
        with suppress(OSError):
            before = Path(path).stat().st_size
        room = github.LARGEST_SUMMARY - before - 1
        if path and room < SMALLEST_SUMMARY:
            self._say("warning: the summary of this step is full: that of the run is left out")
            return
        if isinstance(what, Report):
            assert texts is not None
            what = markdown(what, texts, most_bytes=min(MOST_BYTES, room))
        self._append("GITHUB_STEP_SUMMARY", what)

    def _append(self, variable: str, text: str) -> None:
        """Append to the file that a variable of the service names, on a line of its own."""
        path = self._environ.get(variable, "")
        if not path:
            return
        try:
            with Path(path).open("a+b") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - 1))
                begins = size == 0 or file.read(1) == b"\n"
                file.write(("" if begins else "\n").encode() + text.encode("utf-8", "replace"))
        except OSError as error:
            self._say(f"warning: {variable}: {path} cannot be written: {error.strerror or error}")

    def _annotate(self, report: Report, texts: Texts, told: Sequence[tuple[str, str]]) -> None:
        agent = shutil.which(AGENT, path=search_path(self._environ))
        if agent is None:
            return
        page = markdown(report, texts, pictures=False)
        context, style = f"{PROGRAM}-{report.mission}"[:100], buildkite.style(report)
        self._ask((agent, "annotate", "--context", context, "--style", style), page)
        self._ask((agent, "meta-data", "set", buildkite.META_DATA), json.dumps(dict(told)))

    def _ask(self, argv: Sequence[str], text: str) -> None:
        env = dict(self._environ)
        call = partial(
            child.run, argv, cwd=self._project.root, env=env, limit_s=AGENT_LIMIT_S, stdin=text.encode()
        )
        try:
            reply = anyio.run(call)
        except (OSError, TimeoutError) as error:
            self._say(f"warning: {AGENT} {argv[1]}: {error or 'it took too long'}")
            return
        if reply.rc:
            self._say(f"warning: {AGENT} {argv[1]} failed with exit code {reply.rc}")

    def ends(self) -> None:
        """Put notes where they belong, and the ends of what failed into groups, after all else was told."""
        if self.service is None or self._delivered is None:
            return
        report, texts = self._delivered
        found = notes(report, texts)
        if self.service is Service.GITHUB:
            for text in github.annotations(found):
                self._write(text)
        elif found:
            needed = any(one.severity is Severity.ERROR for one in found)
            title = "What needs you" if needed else "What was left open"
            self.opens(f"{title}: {count(len(found), 'note')}", folded=False)
            for one in found:
                self._say(str(one))
        red = [one for one in still_open(report) if one.gate and one.tail]
        for gate in red[:MOST_TAILS]:
            self._tail(gate, texts)
        if len(red) > MOST_TAILS:
            self._say(f"{len(red) - MOST_TAILS} more gates are red; the report has their output")
        self.closes()

    def _tail(self, one: Open, texts: Texts) -> None:
        self.opens(f"{texts.line(one.wp.id)}: gate {texts.line(one.by)} is red")
        for line in texts.block(one.tail).splitlines():
            self._say(line)


async def standing(project: Project, mission: MissionState) -> Report:
    """Return the report of a mission as a start finds it."""
    recorder = record((), project.policy)
    with suppress(JournalError):
        recorder = record(
            await JsonlJournal(project.directory(mission.slug), project.root).read(), project.policy
        )
    state = await start_of(project, mission, project.policy)
    report = recorder.report(SystemClock().now(), active=False, state=state)
    wps = tuple(replace(one, title=one.title or mission.titles.get(one.id, "")) for one in report.wps)
    return replace(report, mission=mission.slug, wps=wps)
