"""What the host says, as models: unknown fields are ignored, missing ones are an error that names them.

Nothing here trusts the host: any bytes lead to a value or to a `HostError`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from spec_kitty_orchestrator.core.model import Lane, MissionState, Workspace
from spec_kitty_orchestrator.core.plain_text import begun, ended, plain
from spec_kitty_orchestrator.errors import HostCrash, HostIncompatible, HostRefusal, ProjectIncompatible
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.machine.redaction import ours

__all__ = [
    "INCOMPATIBLE",
    "SUBTASKS_NOT_FOUND",
    "TASKS_NOT_FINALIZED",
    "ContractVersion",
    "ReadyData",
    "WorkspaceData",
    "explains",
    "read_data",
    "read_envelope",
    "read_mission_state",
    "read_ticks",
    "read_validation",
]

TASKS_NOT_FINALIZED = "TASKS_NOT_FINALIZED"
"""Code of the refusal that we make of a mission with work packages that the host has no lane for."""
SUBTASKS_NOT_FOUND = "SUBTASKS_NOT_FOUND"
"""Code of the refusal that we make of a `mark-status` answer that misses subtasks."""

INCOMPATIBLE = frozenset({4, 5, 6})
"""Exit codes with which the host refuses every change of a project, whatever is asked, and only says why.

The project is older than the host, or newer, or its metadata cannot be read. Reads are answered all the same.
"""

_CUT = re.compile(r"^([^\s\u2500-\u257f]{80})\n(?=\S)", re.MULTILINE)
"""A word that is longer than a line of the host's, which writes to no terminal, is cut at the line's end."""
_BOX_ENDS = "\u2570"
_TRACEBACK = "Traceback (most recent call last):"
_MISSING_MODULE = ("ImportError", "ModuleNotFoundError")
_ADVICE = re.compile(r" For further information visit \S+")
_TAIL_LINES = 12
_TAIL_CHARS = 2000
_SHOWN_CHARS = 200
_MOST_ITEMS = 3
_MESSAGE_CHARS = 8_000
_UPGRADE = (
    "upgrade spec-kitty and spec-kitty-orchestrator, then run: spec-kitty orchestrator-api contract-version"
)

Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\z", max_length=200)]
"""A mission or work package: it becomes part of paths, so it may not lead anywhere else."""


class _Wire(BaseModel):
    """What the host prints; keys that a newer one adds are passed over."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)


class Envelope(_Wire):
    """What every command of the contract prints as its last line."""

    success: bool
    error_code: str | None = None
    data: dict[str, object] = Field(default_factory=dict)


class ContractVersion(_Wire):
    """`data` of contract-version."""

    api_version: str
    min_supported_provider_version: str | None = None


class WorkPackageState(_Wire):
    """One work package in `data` of mission-state."""

    wp_id: Name
    lane: str
    dependencies: tuple[str, ...] = ()


class MissionStateData(_Wire):
    """`data` of mission-state. `summary` counts the work packages whose lane was ever recorded."""

    mission_slug: Name
    summary: dict[str, int] | None = None
    work_packages: tuple[WorkPackageState, ...]


class ReadyWorkPackage(_Wire):
    """One work package that the host lets start."""

    wp_id: Name


class ReadyData(_Wire):
    """`data` of list-ready."""

    ready_work_packages: tuple[ReadyWorkPackage, ...]


class WorkspaceData(_Wire):
    """The part about the worktree in `data` of resolve-workspace and start-implementation."""

    workspace_path: str = Field(min_length=1)
    prompt_path: str
    lane_id: str | None = None
    lane_branch: str | None = None
    lane_base_ref: str | None = None

    def workspace(self) -> Workspace:
        """Return the domain's word for it."""
        return Workspace(
            path=self.workspace_path,
            prompt_path=self.prompt_path,
            lane_id=self.lane_id,
            branch=self.lane_branch,
            base_ref=self.lane_base_ref,
        )


class TickedSubtask(_Wire):
    """One subtask in the answer of mark-status."""

    id: str
    outcome: str


class TickAnswer(_Wire):
    """The answer of mark-status, which is not an envelope: either `results` or `error`."""

    results: tuple[TickedSubtask, ...] | None = None
    error: str | None = None


Model = TypeVar("Model", bound=BaseModel)


def split_answer(call: str, reply: Reply) -> tuple[str, tuple[str, ...]]:
    """Return the last line of stdout and the lines before it; blank lines do not count.

    Raises:
        ProjectIncompatible: there is none, because the host changes nothing in this project.
        HostCrash: there is none.
    """
    text = reply.stdout.decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if lines:
        return lines[-1], tuple(line.rstrip() for line in lines[:-1])
    told = _told(reply)
    if reply.rc in INCOMPATIBLE and told.strip():
        raise ProjectIncompatible(reply.rc, begun(_sentences(told), _TAIL_CHARS))
    exception = begun(_exception(told), _MESSAGE_CHARS)
    if reply.rc > 0 and exception:
        raise HostCrash(call, f"the host crashed with exit code {reply.rc}: {exception}", exception)
    raise HostCrash(call, f"the host printed nothing and {_ending(reply)}")


def explains(reply: Reply) -> bool:
    """Tell whether a host that failed without an answer says why, so that nothing else can be the cause.

    That a module of its own is missing may be due to how it was started.
    """
    told = _told(reply)
    if reply.rc in INCOMPATIBLE:
        return bool(told.strip())
    exception = _exception(told)
    return reply.rc > 0 and exception != "" and not exception.startswith(_MISSING_MODULE)


def _exception(stderr: str) -> str:
    """Return the exception that a traceback ends with, whole and in one line, "" if there is no traceback.

    A traceback is drawn as a box, whose inside tells nobody anything who does not write the host, or it is
    Python's own. What led to the exception stands before it, in tracebacks of their own.
    """
    _, box, after = stderr.rpartition(_BOX_ENDS)
    if not box:
        _, found, frames = stderr.rpartition(_TRACEBACK)
        lines = frames.splitlines() if found else []
        begins = next((at for at, line in enumerate(lines) if line and not line[0].isspace()), len(lines))
        after = "\n".join(["", *lines[begins:]])
    return _ADVICE.sub("", " ".join(after.partition("\n")[2].split()))


def _sentences(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line if line.endswith((".", ":", "!", "?")) else f"{line};" for line in lines).rstrip(";")


def read_envelope(call: str, reply: Reply) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Return `data` of a success, and the lines that the host printed before the envelope.

    Raises:
        HostRefusal: an error envelope.
        HostCrash: no envelope.
    """
    line, before = split_answer(call, reply)
    envelope = parse_line(call, line, Envelope, reply)
    if envelope.success:
        return envelope.data, before
    raise refusal(call, envelope)


def refusal(call: str, envelope: Envelope) -> HostRefusal:
    """Turn an error envelope into an error; its `data.message` may be missing."""
    code = envelope.error_code or "UNKNOWN_ERROR"
    message = envelope.data.get("message")
    words = message if isinstance(message, str) and message else "the host gave no reason"
    if not message and envelope.data:
        words += f": {_shown(json.dumps(envelope.data))}"
    words = ours().head(words, _MESSAGE_CHARS)
    if code == "USAGE_ERROR":
        words += f" ({_UPGRADE})"
    return HostRefusal(call, code, words, envelope.data)


def parse_line(call: str, line: str, model: type[Model], reply: Reply) -> Model:
    """Parse the last line of stdout.

    Raises:
        HostCrash: it is not a JSON object of the expected shape.
    """
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise HostCrash(
            call,
            f"the last line of stdout is not the JSON expected ({_first(error)}): "
            f"{_shown(line)!r}; the host {_ending(reply)}. Is this executable spec-kitty?",
        ) from None


def read_data(call: str, data: Mapping[str, object], model: type[Model]) -> Model:
    """Parse `data` of a success.

    Raises:
        HostIncompatible: a field is missing or of another type; the message names it.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise HostIncompatible(
            f"the host's answer to {call} cannot be used: {_first(error)}; {_UPGRADE}"
        ) from None


def read_mission_state(data: Mapping[str, object]) -> MissionState:
    """Read `data` of mission-state.

    Raises:
        HostIncompatible: a field is missing, or a lane is unknown.
        HostRefusal: `TASKS_NOT_FINALIZED`; such work packages are shown as planned and start nowhere.
    """
    call = "mission-state"
    state = read_data(call, data, MissionStateData)
    lanes = {wp.wp_id: _lane(call, wp) for wp in state.work_packages}
    if state.summary is not None and sum(state.summary.values()) < len(lanes):
        raise HostRefusal(
            call,
            TASKS_NOT_FINALIZED,
            "the tasks of this mission are not finalized; run: "
            f"spec-kitty agent mission finalize-tasks --mission {state.mission_slug}",
            data,
        )
    return MissionState(state.mission_slug, lanes, {wp.wp_id: wp.dependencies for wp in state.work_packages})


def read_ticks(call: str, reply: Reply) -> None:
    """Check the answer of mark-status.

    Raises:
        HostRefusal: a subtask was not found, or the command refused altogether.
        HostCrash: no answer.
    """
    line, _ = split_answer(call, reply)
    answer = parse_line(call, line, TickAnswer, reply)
    if answer.results is None:
        code = (answer.error or "UNKNOWN_ERROR").upper()
        raise HostRefusal(call, code, f"subtasks were not marked: {_shown(line)}")
    missing = [ticked.id for ticked in answer.results if ticked.outcome == "not_found"]
    if missing:
        words = f"no such subtasks in tasks.md: {', '.join(missing)}"
        raise HostRefusal(call, SUBTASKS_NOT_FOUND, words, {"not_found": missing})


def read_validation(call: str, reply: Reply) -> None:
    """Check the answer of a command that validates, which is no envelope: `error`, and lists that explain it.

    Raises:
        HostRefusal: it objects to something.
        HostCrash: no answer.
    """
    line, _ = split_answer(call, reply)
    refused = parse_line(call, line, TickAnswer, reply).error
    if refused is None:
        return
    answer: Mapping[str, object] = json.loads(line)
    lists = [(key, value) for key, value in answer.items() if isinstance(value, list) and value]
    # What is told at length in one text is told once more in a list.
    words = [
        begun(refused, _SHOWN_CHARS),
        *(f"{key.replace('_', ' ')}: {_items(value)}" for key, value in lists),
    ]
    code = str(answer.get("error_code") or "")
    raise HostRefusal(call, code, _sentences(plain("; ".join(words))), answer)


def _items(values: Sequence[object]) -> str:
    words = (" ".join(map(str, one.values())) if isinstance(one, dict) else str(one) for one in values)
    more = f" and {len(values) - _MOST_ITEMS} more" if len(values) > _MOST_ITEMS else ""
    return ", ".join(begun(one, _SHOWN_CHARS) for one in list(words)[:_MOST_ITEMS]) + more


def _lane(call: str, wp: WorkPackageState) -> Lane:
    try:
        return Lane(wp.lane)
    except ValueError:
        raise HostIncompatible(
            f"the host's answer to {call} cannot be used: {wp.wp_id} is in the unknown lane "
            f"{_shown(wp.lane)!r}; {_UPGRADE}"
        ) from None


def _shown(text: str) -> str:
    return ours().head(text, _SHOWN_CHARS)


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def _told(reply: Reply) -> str:
    # Of a secret that is cut in two, only one half would be found.
    return ours().text(_CUT.sub(r"\1", plain(reply.stderr.decode("utf-8", "replace"))))


def _ending(reply: Reply) -> str:
    how = f"ended with exit code {reply.rc}" if reply.rc >= 0 else f"was killed by signal {-reply.rc}"
    lines = [line.rstrip() for line in _told(reply).splitlines() if line.strip()]
    tail = ended("\n".join(lines[-_TAIL_LINES:]), _TAIL_CHARS)
    return f"{how}; the end of its stderr:\n{tail}" if tail else f"{how}, with nothing on stderr"
