"""Which file of a work package the host cannot read, use or find: it often does not tell where.

Or does not say before it is too late: an upgrade reads those of all missions.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from spec_kitty_orchestrator.app.checks import Finding, edit, error, line, some, warning
from spec_kitty_orchestrator.app.repository import MISSIONS, finalize_command
from spec_kitty_orchestrator.core.describe import clean
from spec_kitty_orchestrator.core.model import Lane, MissionState
from spec_kitty_orchestrator.core.plain_text import begun
from spec_kitty_orchestrator.errors import HostError, HostRefusal
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.machine.git import Git
from spec_kitty_orchestrator.machine.task_file import front_matter_of, read_task_file

__all__ = [
    "restoring_file",
    "stops_upgrade",
    "told_by_the_host",
    "unreadable_file",
    "unusable_files",
    "without_file",
]

_LONGEST_REASON = 300
_LONGEST_OBJECTION = 600
_LINE = re.compile(r"\bline (\d+), column \d+")
_AT = re.compile(r' in "<[^>]*>", line .*')
_FIELD = re.compile(
    r"validation errors? for \S+ (?P<key>[A-Za-z_]\w*)\S* (?P<reason>.+?)"
    r" \[type=(?P<kind>\w+), input_value=(?P<value>.*?), input_type=\w+\]"
)
_EXTRA = re.compile(r"(?<!\S)([A-Za-z_]\w*) Extra inputs are not permitted \[type=extra_forbidden")
_MISSING = "missing"
_ID = "work_package_id"
_MISSION_NAME = re.compile(r"[A-Za-z0-9][\w-]*(?:\.[\w-]+)*", re.ASCII)
_KEY_OR_ITEM = re.compile(r"\s|-(\s|$)|[#}\]]|.*:(\s|$)")
"""How a line of a mapping in YAML can look that is not empty."""
_WP = re.compile(r"\bWP\d{2}\b")
_SUBTASKS = re.compile(r"""^["']?subtasks["']?\s*:""", re.MULTILINE)
_NO_SUBTASKS = r'$_ .= "subtasks: []\n" if $. == 1; close ARGV if eof'
_OF_A_WP = re.compile(r"\s{0,3}#{1,6}\s+(?:Work Package\s+)?(WP\d+)\b", re.IGNORECASE)
_TICKED = re.compile(r"-\s*\[[ xX]\]\s*(T\d+)\b")
_NO_BOX = r"s/-\s*\[[ xX]\]\s*/- / if {}; close ARGV if eof"
_UNSUBMITTED = (Lane.PLANNED, Lane.CLAIMED, Lane.IN_PROGRESS)


@dataclass(frozen=True)
class _Place:
    """A line of a file, counted from 1, and what the host says of it."""

    file: Path
    line: int
    reason: str


def unreadable_file(root: Path, slug: str, exception: str) -> Finding | None:
    """Return which task file made the host end with this exception, None if it was none of them."""
    files = sorted((root / MISSIONS / slug / "tasks").glob("WP*.md"))
    places = [*_named(files, exception)] or [*_with_the_field(files, exception)]
    if not places:
        return None
    first, *others = places
    more = f" (and {len(others)} more with the same)" if others else ""
    where = f"{first.file.relative_to(root)}, line {first.line}"
    text = f"the host cannot read {where}: {begun(first.reason, _LONGEST_REASON)}{more}"
    extra = dict.fromkeys(_EXTRA.findall(exception))
    mend = _without(root, files, [*extra]) if extra else _naming(files) if _ID in first.reason else ""
    return error("mission.files", text, mend or edit(first.file))


def _without(root: Path, files: Sequence[Path], keys: Sequence[str]) -> str:
    """Return the command that makes comments of keys, and of what belongs to them, in all files."""
    mends, changed = [], []
    for file in files:
        places = [_Place(file, at, "") for key in keys if (at := _line_of(file, key))]
        spans = [f"$. >= {one.line} && $. <= {one.line + _text(one).count(chr(10))}" for one in places]
        if spans:
            mends.append(line("perl", "-pi", "-e", f'$_ = "# $_" if {" || ".join(spans)}', file))
            changed.append(file)
    keep = line("git", "-C", root, "commit", "-m", "Leave out what spec-kitty does not know", "--", *changed)
    return " && ".join([*mends, keep]) if mends else ""


def _naming(files: Sequence[Path]) -> str:
    """Return the command that gives files the ids that their names begin with, "" if all have these."""
    mends = []
    for file in files:
        at, named = _line_of(file, _ID), re.match(r"WP\d+", file.name)
        if at and named and named[0] not in _text(_Place(file, at, "")):
            mends.append(line("perl", "-pi", "-e", f"s/:.*/: {named[0]}/ if $. == {at}", file))
    return " && ".join(mends)


def stops_upgrade(root: Path) -> tuple[str, str]:
    """Return what ends `spec-kitty upgrade` before its end, and a command that mends that; "" if unknown.

    It reads the files of all work packages, and makes paths of the names of all missions.
    """
    folders = sorted(one for one in (root / MISSIONS).glob("[!.]*") if one.is_dir())
    files = [file for folder in folders for file in sorted((folder / "tasks").glob("WP*.md"))]
    broken = {file: at for file in files if (at := _not_yaml(file))}
    misnamed = [one for one in folders if not _MISSION_NAME.fullmatch(one.name)]
    told, mends = [], []
    if broken:
        places = [f"{file.relative_to(root)}, line {at}" for file, at in broken.items()]
        told.append(f"what is not YAML: {some(places)}")
        mends.append(edit(*broken))
    if pairs := [(one.relative_to(root), _renamed(one).relative_to(root)) for one in misnamed]:
        names = some([old for old, _ in pairs])
        told.append(f"names with more than letters, digits, - and _: {names}")
        mends += [line("git", "-C", root, "mv", "--", *pair) for pair in pairs]
        paths = [path for pair in pairs for path in pair]
        mends.append(line("git", "-C", root, "commit", "-m", "Rename missions", "--", *paths))
    return " and ".join(told), " && ".join(mends)


def _renamed(folder: Path) -> Path:
    """Return a path for a mission that the host accepts, and that is free."""
    name = re.sub(r"[\W.]+", "-", folder.name, flags=re.ASCII).strip("-_") or "mission"
    free = (folder.with_name(name if at == 1 else f"{name}-{at}") for at in range(1, 99))
    return next(one for one in free if not one.exists())


def _not_yaml(file: Path) -> int:
    """Return a line of the front matter that cannot be YAML, as far as lines alone tell; 0 without one."""
    with suppress(OSError, ValueError):
        lines = front_matter_of(file).splitlines()
        return next((at for at, line in enumerate(lines, 2) if line and not _KEY_OR_ITEM.match(line)), 0)
    return 0


async def told_by_the_host(root: Path, slug: str, host: HostClient, found: list[Finding]) -> list[Finding]:
    """Have the host check the tasks that it is to finalize by these findings, and say what it objects to.

    That takes it seconds, so it is asked only then.
    """
    command = finalize_command(slug)
    if not any(command in one.fix for one in found):
        return found
    try:
        await host.check_tasks(slug)
    except HostRefusal as refused:
        return await to_thread.run_sync(_with_objection, root, slug, refused, found)
    except HostError:
        pass  # what is wrong with it is found by what a run asks of it
    return found


def _with_objection(root: Path, slug: str, refused: HostRefusal, found: list[Finding]) -> list[Finding]:
    folder = root / MISSIONS / slug
    wps = dict.fromkeys(_WP.findall(json.dumps(refused.data)))
    files = [file for wp in wps for file in _files_of(folder, wp)] or [folder / "tasks.md"]
    why = clean(refused.message, _LONGEST_OBJECTION)
    told = f"; the host does not finalize its tasks as they are: {why}"
    return [
        replace(one, text=one.text + told, fix=f"{edit(*files)} && {one.fix}")
        if finalize_command(slug) in one.fix
        else one
        for one in found
    ]


def unusable_files(root: Path, state: MissionState) -> Iterator[Finding]:
    """Say of which work packages that are still to be submitted the host could not take the work then."""
    folder = root / MISSIONS / state.slug
    lacking: list[Path] = []
    named: dict[str, tuple[str, ...]] = {}
    for wp, lane in state.lanes.items():
        files = _files_of(folder, wp) if lane in _UNSUBMITTED else []
        if len(files) > 1:
            names = some([one.name for one in files])
            text = f"the host cannot tell which of these is the file of {wp}: {names}"
            yield error("mission.files", text, edit(*files), wp)
        elif files and (matter := _matter(files[0])) and not _SUBTASKS.search(matter):
            lacking += files
        elif files:
            with suppress(OSError, ValueError):
                named[wp] = read_task_file(files[0]).subtasks
    yield from _misplaced(root, folder / "tasks.md", named)
    if lacking:
        names = some([one.relative_to(root) for one in lacking])
        text = f"the host takes no work for review whose file does not name its subtasks: {names}"
        add = line("perl", "-pi", "-e", _NO_SUBTASKS, *lacking)
        keep = line("git", "-C", root, "commit", "-m", f"Name the subtasks of {state.slug}", "--", *lacking)
        yield error("mission.files", text, f"{add} && {keep}")


def _misplaced(root: Path, tasks: Path, named: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Warn of subtasks that the host would tick for another work package than the one whose file names them.

    It goes by the heading above the first box of each in tasks.md, and by those files where it has no box.
    """
    try:
        boxes = [*_boxes(tasks.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return
    first = {task: under for _, task, under in reversed(boxes)}
    wrong = {task: wp for wp, some_of in named.items() for task in some_of if first.get(task, wp) != wp}
    if not wrong:
        return
    where = tasks.relative_to(root)
    told = some([f"{task} of {wp} stands below {first[task]}" for task, wp in wrong.items()])
    why = "the host would tick these for another work package, and not take the work"
    lines = [at for at, task, under in boxes if task in wrong and under != wrong[task]]
    mend = line("perl", "-pi", "-e", _NO_BOX.format(" || ".join(f"$. == {at}" for at in lines)), tasks)
    keep = line(
        "git", "-C", root, "commit", "-m", "Leave subtasks to the work packages that name them", "--", tasks
    )
    both = any(task in named.get(first[task], ()) for task in wrong)
    yield warning("mission.files", f"{why}: in {where}, {told}", edit(tasks) if both else f"{mend} && {keep}")


def _boxes(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the boxes of subtasks below the heading of a work package: line, subtask, work package."""
    under = ""
    for at, one in enumerate(text.split("\n"), 1):
        if heading := _OF_A_WP.match(one):
            under = heading[1].upper()
        elif under and (box := _TICKED.search(one)):
            yield at, box[1], under


def _files_of(folder: Path, wp: str) -> list[Path]:
    """Return the files that the host takes for a work package's."""
    return sorted(
        one for one in (folder / "tasks").glob("WP*.md") if re.match(rf"{re.escape(wp)}[-_.]", one.name)
    )


def _matter(file: Path) -> str:
    with suppress(OSError, ValueError):
        return front_matter_of(file)
    return ""


def without_file(wp: str) -> str:
    """Say that the file of a work package is missing, without which the host does not know it."""
    return f"its file tasks/{wp}*.md is missing"


def restoring_file(root: Path, slug: str, wp: str) -> str:
    """Return the command that brings the deleted file of a work package back, "" if git knows none."""
    folder, named = f"{MISSIONS}/{slug}/tasks", re.compile(rf"{re.escape(wp)}(?!\d).*\.md")
    if any(named.fullmatch(path.name) for path in (root / folder).glob("*.md")):
        return ""
    for commit, path in _deleted(root, folder, wp):
        if named.fullmatch(path.rpartition("/")[2]):
            checkout = line("git", "-C", root, "checkout", commit, "--", path)
            keep = line("git", "-C", root, "commit", "-m", f"Restore the file of {wp}", "--", path)
            return checkout if commit == "HEAD" else f"{checkout} && {keep}"
    return ""


def _deleted(root: Path, folder: str, wp: str) -> Iterator[tuple[str, str]]:
    """Yield files that begin with its id, and a commit with each: `HEAD` if the deletion is not committed."""
    git = Git(root)
    yield from (
        ("HEAD", path) for path in git.ask_now("ls-tree", "-z", "--name-only", "HEAD", f"{folder}/").paths
    )
    words = ("log", "-z", "--no-renames", "--diff-filter=D", "--name-only", "--format=%h")
    commit = ""
    for told in git.ask_now(*words, "--", f":(glob){folder}/{wp}*.md").text.replace("\0", "\n").split("\n"):
        if told.startswith(folder):
            yield f"{commit}^", told
        else:
            commit = told or commit


def _named(files: Sequence[Path], exception: str) -> Iterator[_Place]:
    """Find the file whose path the exception holds; lines are counted from the front matter's first."""
    for file in files:
        if str(file) in exception:
            line = _LINE.search(exception)
            before, _, after = exception.partition(str(file))
            reason = _AT.sub("", after).strip(" :;") or before.partition(": ")[2].strip(" :;")
            yield _Place(file, int(line[1]) + 1 if line else 1, reason)


def _with_the_field(files: Sequence[Path], exception: str) -> Iterator[_Place]:
    """Find the files that have the key, with the value, or that lack the key, which the exception names."""
    found = _FIELD.search(exception)
    if found is None:
        return
    key, reason, kind, value = found.groups()
    having = [_Place(file, line, f"{key}: {reason}") for file in files if (line := _line_of(file, key))]
    if kind == _MISSING:
        known = {one.file for one in having}
        yield from (_Place(file, 1, f"{key}: {reason}") for file in files if file not in known)
        return
    # The value of a long one is cut in the middle.
    start = value.strip("'\"[]{}").partition("...")[0].partition("'")[0]
    same = [one for one in having if start and start in _text(one)]
    yield from same or having


def _line_of(file: Path, key: str) -> int:
    """Return the line of a key at the top level of the front matter, 0 without one."""
    with suppress(OSError, ValueError):
        lines = front_matter_of(file).splitlines()
        return next((at for at, line in enumerate(lines, 2) if line.startswith(f"{key}:")), 0)
    return 0


def _text(place: _Place) -> str:
    """Return a key with what belongs to it."""
    first, *rest = front_matter_of(place.file).splitlines()[place.line - 2 :]
    end = next((at for at, line in enumerate(rest) if re.match(r"\w", line)), len(rest))
    return "\n".join((first, *rest[:end]))
