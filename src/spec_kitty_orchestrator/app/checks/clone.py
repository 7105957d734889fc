"""What a clone lacks of a mission: git copies neither worktrees nor settings, nor always the whole history.

The host takes such a mission for one without tasks, or meets a conflict where there is none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spec_kitty_orchestrator.app.checks import Finding, error, line
from spec_kitty_orchestrator.app.repository import (
    MissionFiles,
    finalize_command,
    mission_files,
    on_a_remote,
    primary_checkout,
    switch_command,
)
from spec_kitty_orchestrator.machine.files import read_whole
from spec_kitty_orchestrator.machine.git import BRANCHES, Git

__all__ = ["CLONE", "WORKTREE", "check_clone", "complete", "define_drivers"]

GIT_LIMIT_S = 30.0
CLONE, WORKTREE = "git.clone", "git.worktree"
"""Findings with which nothing else that the host says of the mission can be believed."""

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_DRIVER = re.compile(r"\smerge=spec-kitty-([a-z][a-z-]*)\b", re.ASCII)


def check_clone(root: Path, slug: str, *, starts: bool = True, read: bool = True) -> list[Finding]:
    """Check that the host finds here what it needs of a mission with work left; not for the event loop.

    Args:
        root: the checkout that is taken for the project's.
        slug: of the mission.
        starts: whether a work package is still to be begun, for which the host makes a worktree.
        read: whether the host found the mission's lanes.

    Raises:
        WorkspaceError: git cannot be run.
    """
    files = mission_files(root, slug)
    elsewhere = _elsewhere(root, files)
    if elsewhere is not None:
        return [elsewhere]
    lacking = list(_Clone(files).lacking(starts=starts, read=read))
    if not lacking:
        return []
    what = "; ".join(one for one, _ in lacking)
    text = f"this clone lacks what the host needs for {slug}: {what}"
    return [error(CLONE, text, " && ".join(fix for _, fix in lacking))]


def complete(root: Path, slug: str) -> None:
    """Make in a fresh clone what the host needs of a mission and git did not copy, of what a fetch brought.

    What cannot be made is left to `check_clone`, which names it. Raises `WorkspaceError`: git cannot be run.
    """
    _Clone(mission_files(root, slug)).complete()
    define_drivers(root)


def define_drivers(root: Path) -> None:
    """Set the host's merge drivers where git does not know them. Raises `WorkspaceError`."""
    for one in _Clone(mission_files(root, "")).undefined_drivers():
        words = (f"merge.spec-kitty-{one}.driver", f"spec-kitty merge-driver-{one} %O %A %B")
        Git(root).ask_now("config", *words, timeout_s=GIT_LIMIT_S)


def _elsewhere(root: Path, files: MissionFiles) -> Finding | None:
    """Say that the host would not look for the mission in this checkout, None if it would."""
    primary, bare = primary_checkout(root)
    if primary == root:
        return None
    branch = files.target_branch
    if bare:
        copy = root.with_name(f"{root.name}-clone")
        named = ("--branch", branch) if branch else ()
        text = (
            f"{root} is a worktree of the bare repository {primary}, and the host works in primary checkouts "
            "alone: run the mission in a clone, and push from there"
        )
        fix = f"{line('git', 'clone', *named, primary, copy)} && {line('cd', copy)}"
        return error(WORKTREE, text, fix)
    text = f"{root} is a linked worktree, but the host works in the primary checkout {primary} alone"
    return error(WORKTREE, text, switch_command(primary, branch) if branch else line("cd", primary))


@dataclass(frozen=True)
class _Clone:
    """The repository of a mission's files, for questions about what is in it."""

    files: MissionFiles

    def lacking(self, *, starts: bool, read: bool) -> Iterator[tuple[str, str]]:
        """Yield what is missing and the command that adds it, in the order in which they can be run."""
        files, branch = self.files, self.files.coordination_branch
        branch = branch if _BRANCH.fullmatch(branch) else ""
        if starts:
            yield from self._history(branch)
        if not branch:
            return
        place = files.coordination_checkout
        if not self._has(BRANCHES + branch):
            fetch = self._fetch(branch)
            if fetch or not read:
                yield f"the branch {branch} with its status", fetch or self._fetch_or_flatten(branch)
            if not fetch:
                return  # where nobody has it, there is nothing to merge with it
        if not (place / ".git").exists():
            # A folder that was deleted is still on git's list.
            again = ("--force",) if place in self._worktrees() else ()
            command = line("git", "-C", files.root, "worktree", "add", *again, place, branch)
            yield f"the worktree {place.relative_to(files.root)} of that branch", command
        if drivers := self.undefined_drivers():
            key, driver = "merge.spec-kitty-$one.driver", "spec-kitty merge-driver-$one %O %A %B"
            setting = f'{line("git", "-C", files.root, "config")} {key} "{driver}"'
            names = " ".join(drivers)
            yield "the host's merge drivers in git's settings", f"for one in {names}; do {setting}; done"

    def complete(self) -> None:
        """Make the branch with the mission's status, and its worktree; nothing is fetched or begun anew."""
        branch, place = self.files.coordination_branch, self.files.coordination_checkout
        if not _BRANCH.fullmatch(branch):
            return
        if not self._has(BRANCHES + branch) and (tracking := on_a_remote(self.files.root, branch)):
            self._ask("branch", branch, tracking)
        if self._has(BRANCHES + branch) and not (place / ".git").exists():
            again = ("--force",) if place in self._worktrees() else ()
            self._ask("worktree", "add", *again, str(place), branch)

    def _history(self, branch: str) -> Iterator[tuple[str, str]]:
        """Yield the history that connects the plan with the branch into which the host merges it."""
        plan = self.files.in_lanes("planning_commit_sha")
        places = (branch, on_a_remote(self.files.root, branch))
        into = next((one for one in places if one and self._has(one)), "HEAD")
        if not _COMMIT.fullmatch(plan) or (self._has(plan) and self._ask("merge-base", plan, into)):
            return
        remote = self._remote(branch)
        shallow = self._ask("rev-parse", "--is-shallow-repository") == "true"
        if shallow and remote:
            fix = line("git", "-C", self.files.root, "fetch", "--unshallow", remote)
            yield "the history back to its plan (the clone is shallow)", fix
        elif not self._has(plan):
            finalize = finalize_command(self.files.slug)
            fetched = f"{line('git', '-C', self.files.root, 'fetch', remote, plan)} || " if remote else ""
            yield f"the commit {plan[:10]} of its plan", fetched + finalize

    def _fetch(self, branch: str) -> str:
        """Return the command that makes the branch from a remote's, "" if no remote can have it."""
        root, remote = self.files.root, self._remote(branch)
        if tracking := on_a_remote(self.files.root, branch):
            return line("git", "-C", root, "branch", branch, tracking)
        fetched = self._ask("config", "--get-all", f"remote.{remote}.fetch")
        if not remote or "refs/heads/*:" in fetched:
            return ""  # it would be known if the remote had had it at the last fetch
        return line("git", "-C", root, "fetch", remote, f"{branch}:{branch}")

    def _fetch_or_flatten(self, branch: str) -> str:
        """Return the command that looks for the branch once more, as the status begins anew without it."""
        git = ("git", "-C", self.files.root)
        ways = [line(*git, "branch", branch, f"{one}/{branch}") for one in self._ask("remote").splitlines()]
        if not ways:
            return self._flatten()
        # Where a remote cannot be asked, nothing else is done.
        return f"{line(*git, 'fetch', '--all')} && {{ {' || '.join(ways)} || {{ {self._flatten()}; }}; }}"

    def _flatten(self) -> str:
        """Return the command that has the host keep the status beside the plan, beginning anew."""
        slug, meta = self.files.slug, self.files.folder / "meta.json"
        flatten = line("spec-kitty", "doctor", "coordination", "--fix", "--mission", slug)
        subject = f"Keep the status of {slug} beside its plan"
        commit = line("git", "-C", self.files.root, "commit", "--message", subject, "--", meta)
        return f"{flatten} && {finalize_command(slug)} && {commit}"

    def undefined_drivers(self) -> list[str]:
        """Return the host's merge drivers that the project names and git does not know."""
        try:
            text = read_whole(self.files.root / ".gitattributes", links=True).decode("utf-8", "replace")
        except OSError:
            return []
        known = self._ask("config", "--get-regexp", r"^merge\.spec-kitty-.*\.driver$")
        defined = {one.split(".")[1].removeprefix("spec-kitty-") for one in known.splitlines()}
        return [one for one in dict.fromkeys(_DRIVER.findall(text)) if one not in defined]

    def _remote(self, branch: str) -> str:
        known = self._ask("remote").splitlines()
        tracking = on_a_remote(self.files.root, branch)
        first = "origin" if "origin" in known else next(iter(known), "")
        return next((one for one in known if tracking == f"{one}/{branch}"), first)

    def _worktrees(self) -> set[Path]:
        listed = self._ask("worktree", "list", "--porcelain").splitlines()
        return {Path(one.removeprefix("worktree ")) for one in listed if one.startswith("worktree ")}

    def _has(self, name: str) -> bool:
        return bool(self._ask("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}"))

    def _ask(self, *args: str) -> str:
        """Return git's output, "" if it failed."""
        reply = Git(self.files.root).ask_now(*args, timeout_s=GIT_LIMIT_S)
        return reply.text if reply.rc == 0 else ""
