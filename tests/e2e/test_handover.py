"""A mission that is longer than a job: each job in a fresh clone with a home of its own, as in CI."""

from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest
from tests.e2e.projects import AGENT_LIMIT_S, COMMAND, SOLO, Gate, Project, Run, is_gone

from spec_kitty_orchestrator.testing.missions import MissionSpec

pytestmark = pytest.mark.real_host

NewProject = Callable[[MissionSpec], Project]
EDIT = 'edits = { "src/one/m01.py" = "ONE = 1\\n" }'


class Jobs:
    """The jobs of one mission: each begins with a clone and the file of the one before."""

    def __init__(self, first: Project) -> None:
        """Let the first one begin where the mission was planned."""
        self._first, self._origin, self._number = first, first.root.parent / "origin.git", 1
        first.git("clone", "-q", "--bare", str(first.root), str(self._origin))
        first.git("symbolic-ref", "HEAD", "refs/heads/main", cwd=self._origin)
        first.git("remote", "add", "origin", str(self._origin))
        first.git("fetch", "-q", "origin")
        self.pack = self._origin.parent / "run.pack"

    def next(self) -> Project:
        """Import what was exported in a fresh clone in another folder, with another home."""
        self._number += 1
        home = self._origin.parent / f"job{self._number}"
        home.mkdir()
        env = {**self._first.env, "HOME": str(home)}
        env |= {f"GIT_{one}": "x@e.org" for one in ("AUTHOR_NAME", "AUTHOR_EMAIL")}
        env |= {f"GIT_{one}": "x@e.org" for one in ("COMMITTER_NAME", "COMMITTER_EMAIL")}
        job = Project(home / "clone", self._first.slug, env)
        branch = self._first.git("branch", "--show-current")
        job.git("clone", "-q", "--branch", branch, str(self._origin), str(job.root), cwd=home)
        if self.pack.exists():
            done = job.run("import", str(self.pack))
            assert done.returncode == 0, done.stderr
        return job

    def end(self, job: Project) -> None:
        """Export, and let nobody go on in this job."""
        done = job.run("export", str(self.pack))
        assert done.returncode == 0, done.stderr
        assert job.run("resume").returncode == 4


def resumed(job: Project) -> Run:
    return Run([str(COMMAND), "resume", "--max-duration", "none"], job.root, job.env)


@pytest.mark.parametrize("topology", ["lanes_with_coord", pytest.param("lanes", marks=pytest.mark.long)])
def test_a_mission_ends_after_several_jobs_and_nothing_is_paid_twice(
    project: NewProject, gate: Gate, topology: str
) -> None:
    job = project(replace(SOLO, topology=topology))
    # The first implementer writes and waits, the next one ends; the reviewer waits, and approves then.
    job.follow(
        f"[[WP01.implement]]\n{EDIT}\n{gate.step}\n[[WP01.implement]]\n{EDIT}\n[WP01.review]\n{gate.step}\n"
    )
    job.git("add", "-f", ".kittify/orchestrator.toml")
    job.git("commit", "-qm", "settings")
    jobs = Jobs(job)
    job = jobs.next()
    with job.start("--ci", "gitlab", "--max-duration", "15s", "--budget-hard") as run:
        implementer = gate.wait(run)
        assert run.end() == 7, run.heard
    assert is_gone(implementer)
    jobs.end(job)

    job = jobs.next()
    (place,) = job.worktrees()
    assert job.git("status", "--porcelain", "--untracked-files=all", cwd=place) == "?? src/one/m01.py"
    with resumed(job) as run:
        reviewer = gate.wait(run)
        run.kill()
    refused = job.run("export", str(jobs.pack))
    assert refused.returncode == 4
    assert "still work here" in refused.stderr
    reviewer.sendall(b".")
    assert is_gone(reviewer)
    psutil.wait_procs(job.strays(), AGENT_LIMIT_S)
    jobs.end(job)

    job = jobs.next()
    with resumed(job) as run:
        assert run.end() == 0, run.heard
    assert job.lanes() == {"WP01": "done"}
    outcomes = [one["report"]["outcome"] for one in job.journal("WP01", "agent_exited")]
    assert outcomes == ["canceled", "ok", "ok"]
    assert len(job.journal("WP01", "attempt_opened")) == 3
    assert job.approved("WP01") == job.git("rev-parse", "HEAD", cwd=job.worktrees()[0])
    for words in (("logs", "WP01"), ("report", "--format", "md")):
        assert job.run(*words).returncode == 0
