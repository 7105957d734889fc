"""Whether the host can record a mission's lanes: the branch that it commits them to, and what else it names.

No call of the host tells which branches it protects, so its rule stands here; the contract tests hold it
against the real host. Where its settings cannot be read, nothing is claimed: the host says it itself.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from spec_kitty_orchestrator.app.checks import Finding, error, line, warning
from spec_kitty_orchestrator.app.repository import (
    PROJECT,
    MissionFiles,
    finalize_command,
    has_branch,
    on_a_remote,
)
from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import BRANCHES, Git

__all__ = ["ALLOW", "check_target"]

NETWORK_LIMIT_S = 10.0
ALLOW = "SPEC_KITTY_ALLOW_PROTECTED_BRANCH_COMMITS"
"""The host's variable with which it protects nothing."""
ALWAYS_PROTECTED = frozenset({"main", "master"})
"""What the host protects, with the default branch of `origin`, where its settings name nothing else."""

_NAMES = re.compile(
    r"^protection:[^\S\n]*(?:#.*)?\n"
    r"(?:[^\S\n]+(?!protected_branches:)\S.*\n|[^\S\n]*\n)*"
    r"[^\S\n]+protected_branches:[^\S\n]*(?P<inline>\S.*)?\n"
    r"(?P<items>(?:[^\S\n]*-.*\n)*)",
    re.MULTILINE,
)
_ITEM = re.compile(r"""[\s,\[-]*(["']?)([A-Za-z0-9][\w./-]*)\1[\s,\]]*(?:#.*)?""")
_ASSIGNED = re.compile(rf"""^\s*(?:export\s+)?{ALLOW}\s*=\s*["']?(\w*)["']?\s*$""", re.MULTILINE)


def check_target(files: MissionFiles, here: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the branches of a mission with work left, while the branch `here` is checked out.

    Args:
        files: of the mission.
        here: "" for a detached HEAD.
        environ: of the host's calls.
    """
    target, branch = files.target_branch, files.status_branch(here)
    if branch and is_protected(files.root, branch, environ):
        text = (
            f"the host keeps the mission's lanes on {branch}, which it protects, so it refuses every change: "
            f"give the mission another branch, or set {ALLOW}=1"
        )
        yield error("mission.target", text, retarget_command(files))
    elif target and not has_branch(files.root, target):
        # Where the host commits lanes elsewhere, the target is needed by the merge alone.
        make, so = (error, "every change") if branch == target else (warning, "to merge")
        text = f"the mission's target branch {target} is not in this repository, so the host refuses {so}"
        yield make("mission.target", text, restore_command(files))
    else:
        yield from _lanes(files)


def _lanes(files: MissionFiles) -> Iterator[Finding]:
    base, target = files.in_lanes("target_branch"), files.target_branch
    if not base or not target or base == target:
        return
    # The lanes grow from the mission's own branch, which is made of the other one when the first begins.
    made = any(has_branch(files.root, one) for one in (base, files.in_lanes("mission_branch")))
    text = f"lanes.json names {base} as the mission's target branch, and meta.json {target}"
    make = warning if made else error
    yield make(
        "mission.target", text if made else f"{text}; there is no {base}", finalize_command(files.slug)
    )


def retarget_command(files: MissionFiles) -> str:
    """Return the command that gives a mission a branch of its own, from what is checked out."""
    branch = f"feature/{files.slug}"
    made = () if has_branch(files.root, branch) else ("--create",)
    switch = line("git", "-C", files.root, "switch", *made, branch)
    return f"{switch} && {finalize_command(files.slug)} {line('--target-branch', branch)}"


def restore_command(files: MissionFiles) -> str:
    """Return the command that brings a missing target branch back, or gives the mission another."""
    target = files.target_branch
    if there := on_a_remote(files.root, target):
        return line("git", "-C", files.root, "branch", "--track", target, there)
    return retarget_command(files)


def is_protected(root: Path, branch: str, environ: Mapping[str, str]) -> bool:
    """Tell whether the host surely refuses to commit to a branch."""
    if _allowed(root, environ):
        return False
    try:
        text = read_whole(root / PROJECT / "config.yaml", links=True).decode("utf-8", "replace")
    except OSError:
        text = ""
    if "protected_branches" not in text:
        return branch in ALWAYS_PROTECTED or branch == default_branch(root)
    names = _named(f"{text}\n")
    return names is not None and branch in names


def default_branch(root: Path) -> str:
    """Return what the host takes for the default branch of `origin`, "" for none; may ask the network.

    Of a name that git knows here the host reads only what follows the last slash.
    """
    git = Git(root)
    with suppress(WorkspaceError):
        known = git.ask_now("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD", timeout_s=NETWORK_LIMIT_S)
        if known.rc == 0:
            return known.text.rpartition("/")[2]
        told = git.ask_now("ls-remote", "--symref", "origin", "HEAD", timeout_s=NETWORK_LIMIT_S).text
        named = (one.split()[1] for one in told.splitlines() if one.startswith("ref: "))
        return next(named, "").removeprefix(BRANCHES)
    return ""


def _named(text: str) -> Collection[str] | None:
    """Return the branches that the host's settings name, None if they are written in a way not known here."""
    found = _NAMES.search(text)
    if found is None:
        return None
    inline, items = (found["inline"] or "").split(" #")[0].strip(), found["items"].splitlines()
    if inline.startswith("[") and inline.endswith("]") and not items:
        items = [one for one in inline[1:-1].split(",") if one.strip()]
    elif inline or not items:
        return None
    read = [_ITEM.fullmatch(one) for one in items]
    return None if None in read else {one[2] for one in read if one}


def _allowed(root: Path, environ: Mapping[str, str]) -> bool:
    """Tell whether the host's variable is set, in the environment or in one of its files for that."""
    value = environ.get(ALLOW)
    home = Path(environ.get("SPEC_KITTY_HOME") or Path("~/.spec-kitty").expanduser())
    for file in (root / PROJECT / ".kitty.env", home / ".kitty.env"):
        if value is None:
            with suppress(OSError):
                given = _ASSIGNED.findall(read_whole(file, links=True).decode("utf-8", "replace"))
                value = given[-1] if given else None
    return (value or "").lower() in ("1", "true", "yes")
