"""Which prompt with which parts; the texts are Markdown files that a person can read and override.

A template's `${name}` is replaced by a part; parts are data and are never looked at for placeholders.
"""

import json
from collections.abc import Iterable, Mapping
from string import Template

from spec_kitty_orchestrator.core.approval import is_planning
from spec_kitty_orchestrator.core.model import Outcome, Role
from spec_kitty_orchestrator.core.records import dataclass
from spec_kitty_orchestrator.core.verdict import Verdict, feedback_text
from spec_kitty_orchestrator.core.work_package import WorkPackage
from spec_kitty_orchestrator.errors import ConfigError

__all__ = [
    "PLACEHOLDERS",
    "REQUIRED",
    "Prompts",
    "checked",
    "elsewhere",
    "implement_prompt",
    "resumed_prompt",
    "review_prompt",
]

_ALWAYS = frozenset({"mission", "wp", "attempt", "round", "workspace", "branch", "base"})

PLACEHOLDERS = {
    "implement": _ALWAYS | {"task", "tick", "commit", "kept", "report"},
    "rework": _ALWAYS | {"task", "tick", "commit", "kept", "report", "feedback"},
    "resumed": _ALWAYS | {"task_file", "report", "feedback", "stat"},
    "review": _ALWAYS | {"head", "task", "stat", "diff", "earlier", "delta", "look", "gates", "verdict"},
}
"""The parts that each template may name."""

REQUIRED = {
    "implement": frozenset({"task", "report"}),
    "rework": frozenset({"task", "feedback", "report"}),
    "resumed": frozenset({"feedback", "report"}),
    "review": frozenset({"task", "verdict"}),
}
"""The parts without which an agent could not do what is asked, or its answer could not be used."""


_WITH_SHELL = "Read the changed files in the workspace."
_CONFINED_SHELL = (
    "Read the changed files in the workspace. You have a shell and may run the tests; nothing can be written "
    "but /tmp."
)
_WITHOUT_SHELL = (
    "You have no shell: the changes stand below, and files that are named there without their changes are "
    "to be read in the workspace with your own tools."
)

_COMMIT = (
    "You need not commit: what you leave in the workspace is committed for you. If you commit, commit on "
    "this branch only, and never rewrite commits that were there before you."
)
_CONFINED_COMMIT = (
    "Do not commit, the system does not let you: what you leave in the workspace is committed for you. "
    "Besides the workspace only /tmp can be written, and the caches of tools, which are this mission's own."
)
_LEFT = (
    "\n- An earlier attempt was cut off. What it had written is in the workspace and not committed: look at "
    "it first (`git status`, `git diff`), and go on from there."
)

_KEPT = "below `kitty-specs/` or `.kittify/` what `owned_files` of the work package does not name"
_KEPT_OF_PLANNING = (
    "below `.kittify/` what `owned_files` of the work package does not name, nor the tasks and records that "
    "spec-kitty keeps in `kitty-specs/{mission}/` (other files of that folder may be part of the work)"
)


@dataclass(frozen=True)
class Prompts:
    """The templates. Build them with `checked` when they come from a person.

    Attributes:
        resumed: rework for an implementer that goes on with its session; "" for the text of other rework.
    """

    implement: str
    rework: str
    review: str
    resumed: str = ""


def checked(name: str, text: str, source: str) -> str:
    """Return a template's text if it can be filled in.

    Args:
        name: `implement`, `rework`, `resumed` or `review`.
        text: the template.
        source: where it comes from, for the message.

    Raises:
        ConfigError: a placeholder is malformed, unknown, or one that is needed is missing.
    """
    template = Template(text)
    if not template.is_valid():
        raise ConfigError(f"{source}: a `$` stands where no ${{name}} follows; write `$$` for a dollar sign")
    used = frozenset(template.get_identifiers())
    unknown, missing = used - PLACEHOLDERS[name], REQUIRED[name] - used
    if unknown:
        known = ", ".join(sorted(PLACEHOLDERS[name]))
        raise ConfigError(f"{source}: no such part: {', '.join(sorted(unknown))}; the parts are {known}")
    if missing:
        raise ConfigError(f"{source}: it must contain " + ", ".join(f"${{{one}}}" for one in sorted(missing)))
    return text


def implement_prompt(
    prompts: Prompts,
    wp: WorkPackage,
    *,
    mission: str,
    attempt_id: str,
    task: str,
    tick: str,
    confined: bool = False,
    left: bool = False,
) -> str:
    """Fill in the prompt of an implement attempt: the rework text when there is something to mend.

    `task` is the work package's own Markdown; `tick` tells the agent how to tick a subtask, "" if it cannot;
    one that is `confined` cannot commit; `left` tells that uncommitted work of an earlier attempt is there.
    """
    again = wp.work.feedback or wp.review.rejected
    parts = _common(wp, Role.IMPLEMENT, mission, attempt_id, task if again else task + _told(wp))
    parts["tick"] = tick or "You cannot tick subtasks yourself; name them in your report."
    parts["commit"] = (_CONFINED_COMMIT if confined else _COMMIT) + (_LEFT if left else "")
    parts["kept"] = _KEPT_OF_PLANNING.format(mission=mission) if is_planning(wp) else _KEPT
    parts["report"] = _report_object(attempt_id)
    if not again:
        return Template(prompts.implement).substitute(parts)
    parts["feedback"] = _feedback(wp) + _told(wp)
    return Template(prompts.rework).substitute(parts)


def resumed_prompt(prompts: Prompts, wp: WorkPackage, *, mission: str, attempt_id: str, stat: str) -> str:
    """Fill in the prompt for an implementer that goes on with its session, and so knows the rest.

    `stat` is the `git diff --stat` of the work so far.
    """
    assert wp.workspace is not None
    parts = _common(wp, Role.IMPLEMENT, mission, attempt_id, "")
    parts |= {
        "task_file": wp.workspace.prompt_path,
        "stat": stat or "(nothing is committed yet)",
        "report": _report_object(attempt_id),
        "feedback": (_feedback(wp) or _unfinished(wp)) + _told(wp),
    }
    return Template(prompts.resumed).substitute(parts)


def _unfinished(wp: WorkPackage) -> str:
    if wp.outcomes[-1:] == (Outcome.CANCELED,):
        return (
            "A person had your last attempt stopped; what you had done is still in the workspace, and not "
            "committed. Go on with the work."
        )
    return f"Your last attempt ended without a result ({wp.note}). Go on with the work."


def _told(wp: WorkPackage) -> str:
    """Return what people said of it while it was under way, as an end of the text that an agent works by."""
    if not wp.work.told:
        return ""
    said = "\n\n".join(wp.work.told)
    return (
        f"\n\nWhat a person has said of it since, the newest last; it holds where the text differs:\n\n{said}"
    )


def elsewhere(wp: WorkPackage, wps: Mapping[str, WorkPackage]) -> str:
    """Say where the work is on which a planning artifact depends, as its workspace lacks it; "" if none."""
    needed = [one for one in map(wps.get, wp.dependencies) if one is not None and not is_planning(one)]
    places = [
        f"- {one.id}: branch {one.workspace.branch}, in {one.workspace.path}"
        for one in needed
        if one.workspace is not None
    ]
    if not places or not is_planning(wp):
        return ""
    told = "The work of these is not in this workspace; read it where it is, and change nothing there:"
    return "\n".join(("\n", told, *places))


def _feedback(wp: WorkPackage) -> str:
    said = "\n\n".join(f"From {one.source}:\n\n{one.text}" for one in wp.work.feedback)
    said = said or _earlier(wp.review.rejected)
    if not said or not wp.work.uncommitted:
        return said
    return (
        f"{said}\n\nWhat you left in the workspace and the commit does not hold:\n{wp.work.uncommitted}\n"
        "What of that belongs to the work must be where git neither ignores nor refuses it."
    )


def _report_object(attempt_id: str) -> str:
    return json.dumps({"attempt": attempt_id, "subtasks_done": [], "summary": "", "no_change_reason": ""})


def review_prompt(
    prompts: Prompts,
    wp: WorkPackage,
    *,
    mission: str,
    attempt_id: str,
    task: str,
    stat: str,
    diff: str,
    delta: str = "",
    shell: bool = True,
    confined: bool = False,
) -> str:
    """Fill in the prompt of a review attempt; the verdict object in it lacks nothing but the verdict.

    `delta` is the diff since the commit that was rejected last; `shell` says whether it can run git, and
    `confined` whether the system keeps it from writing.
    """
    parts = _common(wp, Role.REVIEW, mission, attempt_id, task + _told(wp))
    parts |= {
        "head": wp.work.head,
        "stat": stat + _apart(wp),
        "diff": diff,
        "earlier": _earlier(wp.review.rejected) or "none",
    }
    parts["delta"] = delta or "none: no review has rejected this work, or nothing was changed since"
    with_shell = _CONFINED_SHELL if confined else _WITH_SHELL
    parts["look"] = with_shell if shell else _WITHOUT_SHELL
    parts["gates"] = wp.work.gates_told or "There are none."
    shown = {
        "attempt": attempt_id,
        "head": wp.work.head,
        "verdict": "<approved or changes_requested>",
        "summary": "",
        "findings": [{"severity": "", "file": "", "line": 0, "message": ""}],
    }
    parts["verdict"] = json.dumps(shown)
    return Template(prompts.review).substitute(parts)


def _common(wp: WorkPackage, role: Role, mission: str, attempt_id: str, task: str) -> dict[str, str]:
    assert wp.workspace is not None
    return {
        "mission": mission,
        "wp": wp.id,
        "attempt": attempt_id,
        "round": str(wp.rounds(role) + 1),
        "workspace": wp.workspace.path,
        "branch": wp.workspace.branch or "the branch that is checked out",
        "base": wp.work.base,
        "task": task,
    }


def _apart(wp: WorkPackage) -> str:
    if not wp.work.uncommitted:
        return ""
    return (
        "\n\nThese are in the workspace and NOT in the commit: they are not under review, and a merge does "
        f"not bring them. The work must do without them:\n{wp.work.uncommitted}"
    )


def _earlier(rejected: Iterable[Verdict]) -> str:
    return "\n\n".join(f"Of {one.head} by {one.reviewer}:\n\n{feedback_text(one)}" for one in rejected)
