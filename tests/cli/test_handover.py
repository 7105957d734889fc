"""A run goes on in another clone: what goes along, what stays, and what is refused."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.journals import SLUG, event, process, read_journal, start_line, write_journal
from tests.cli.working import at_work, host_of_one

from spec_kitty_orchestrator.machine.lock import MissionLock
from spec_kitty_orchestrator.machine.orphans import find_orphans
from spec_kitty_orchestrator.machine.process import MARKER

Project = Any  # the class lives in conftest, which tests cannot import
FEATURE, LANE = "feature/demo", f"kitty/mission-{SLUG}-lane-a"
PLACE = f".worktrees/{SLUG}-lane-a"
LOGS = f".kittify/logs/{SLUG}/WP01"
REVIEWED = f"{LOGS}/02-review-scripted"
SECRET = "sk-live-0f9e8d7c6b5a49382716"
RESCUED = f"refs/spec-kitty-orchestrator/{SLUG}/WP01/before-1"


@dataclass
class Pair:
    """A clone in which a run was stopped, another one of the same repository, and the file between them."""

    a: Project
    b: Project
    pack: Path

    def handed_over(self) -> Path:
        """Export in the first clone; return the file."""
        done = self.a.run("export", str(self.pack))
        assert done.returncode == 0, done.stderr
        return self.pack

    def take(self, project: Project | None = None) -> "subprocess.CompletedProcess[str]":
        """Import, in the second clone if none is named."""
        done: subprocess.CompletedProcess[str] = (project or self.b).run("import", str(self.pack))
        return done

    def refuses(self, *words: str) -> None:
        """Check that an import is refused in these words, and that it changed nothing."""
        before = state(self.b)
        done = self.take()
        assert done.returncode == 2, done.stdout + done.stderr
        for word in words:
            assert word in done.stderr
        assert state(self.b) == before


def state(project: Project) -> object:
    """Return all that an import could change."""
    found = {one.relative_to(project.root): one for one in sorted(project.root.rglob("*")) if one.is_file()}
    files = {
        str(name): one.read_bytes()
        for name, one in found.items()
        if name.parts[0] != ".git" and name.name != ".gitignore"
    }
    return files, [project.git(*one) for one in (("for-each-ref",), ("worktree", "list"), ("status", "-s"))]


@pytest.fixture
def pair(project: Project, tmp_path: Path) -> Pair:
    """A mission whose work package is implemented, reviewed and sent back, and half mended."""
    project.git("clone", "-q", "--bare", str(project.root), str(tmp_path / "origin.git"))
    project.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    project.git("fetch", "-q", "origin")
    other = tmp_path / "elsewhere" / "clone"
    project.git("clone", "-q", "--branch", FEATURE, f"file://{tmp_path / 'origin.git'}", str(other))
    (other / ".git" / "info" / "exclude").write_text("/.worktrees/\n")
    place = project.root / PLACE
    project.git("worktree", "add", "-q", "-b", LANE, str(place))
    (place / "a.py").write_text("A = 1\n")
    project.git("-C", str(place), "add", "a.py")
    project.git("-C", str(place), "commit", "-qm", "work")
    project.git("update-ref", RESCUED, LANE)
    (place / "a.py").write_text("A = 2\n")
    (place / "new.py").write_text("B = 1\n")
    (place / ".env").write_text(f"KEY={SECRET}\n")
    head = project.git("rev-parse", LANE).strip()
    (project.root / REVIEWED).mkdir(parents=True)
    (project.root / REVIEWED / "review.md").write_text(f"it prints {SECRET}\n")
    (project.root / REVIEWED / "process.json").write_text("{}")
    write_journal(project, *story(project.git("rev-parse", FEATURE).strip(), head))
    (project.root / ".kittify" / "orchestrator" / ".gitignore").write_text("*\n")
    (project.root / ".kittify" / "logs" / ".gitignore").write_text("*\n")
    project.env["MY_API_KEY"] = SECRET
    clone = replace(project, root=other, env={**project.env, "HOME": str(other.parent)})
    return Pair(project, clone, tmp_path / "run.pack")


def story(base: str, head: str) -> list[dict[str, object]]:
    """Tell of an implementer, of a reviewer that rejects, and of a rework that is stopped."""
    workspace = {"path": PLACE, "prompt_path": f"kitty-specs/{SLUG}/tasks/WP01-a.md", "lane_id": "lane-a"}
    workspace |= {"branch": LANE, "base_ref": FEATURE}
    verdict = {"ruling": "changes_requested", "attempt_id": "review-1", "head": head, "reviewer": "scripted"}
    finding = {"severity": "major", "file": "a.py", "line": 1, "message": "two"}

    def opened(id_: str, number: int, role: str, **parts: object) -> dict[str, object]:
        attempt = {"id": id_, "number": number, "role": role, "agent": "scripted"}
        place = f"{LOGS}/{number:02d}-{role}-scripted"
        return event("WP01", "attempt_opened", attempt={**attempt, "directory": place, **parts})

    def exited(id_: str, outcome: str = "ok", **parts: object) -> dict[str, object]:
        report = {"outcome": outcome, "session": f"session-of-{id_}", "usage": {"cost_usd": 1.5}}
        return event("WP01", "agent_exited", attempt_id=id_, report=report, **parts)

    lanes = {"WP01": "planned"}
    return [
        start_line(mission={"slug": SLUG, "lanes": lanes, "dependencies": {}}, settings={"max_cost": "40"}),
        event("WP01", "resolving"),
        event("WP01", "workspace_resolved", workspace=workspace),
        event("WP01", "scheduled", lane="planned", workspace=workspace),
        event("WP01", "claimed", workspace=workspace, head=base),
        event("WP01", "assigned", role="implement", agent="scripted"),
        opened("implement-1", 1, "implement"),
        exited("implement-1"),
        event("WP01", "committed", evidence={"base": base, "head": head}),
        event("WP01", "submitted"),
        event("WP01", "assigned", role="review", agent="scripted"),
        opened("review-1", 2, "review", head=head),
        exited("review-1", verdict={**verdict, "summary": "mend it", "findings": [finding]}),
        event("WP01", "recorded", lane="in_progress"),
        event("WP01", "assigned", role="implement", agent="scripted"),
        opened("implement-2", 3, "implement"),
        exited("implement-2", "canceled"),
        {"line": "end", "at": start_line()["at"], "exit_code": 7, "summary": "0 of 1 complete"},
    ]


def test_branches_uncommitted_work_reviews_and_the_journal_go_along(pair: Pair) -> None:
    pair.handed_over()
    assert pair.pack.stat().st_mode & 0o777 == 0o600
    done = pair.take()
    assert done.returncode == 0, done.stderr
    assert f"resume --mission {SLUG}" in done.stdout
    place = pair.b.root / PLACE
    assert pair.b.git("-C", str(place), "branch", "--show-current").strip() == LANE
    assert pair.b.git("-C", str(place), "status", "--short").splitlines() == [" M a.py", "?? new.py"]
    assert (place / "a.py").read_text() == "A = 2\n"
    assert pair.b.git("rev-parse", RESCUED, LANE) == pair.a.git("rev-parse", RESCUED, LANE)
    assert (pair.b.root / REVIEWED / "review.md").read_text() == "it prints [redacted]\n"
    assert [one["event"]["kind"] for one in read_journal(pair.b)[-2:]] == ["handed_over", "imported"]
    assert "$4.50" in pair.b.run("status").stdout
    for words in (("logs", "WP01", "--attempt", "1"), ("logs", "WP01", "--attempt", "1", "--view", "raw")):
        assert "its output is not here" in pair.b.run(*words).stdout


def test_secrets_processes_and_what_belongs_to_this_machine_stay(pair: Pair) -> None:
    done = pair.a.run("export", str(pair.pack))
    assert ".env: may hold secrets" in done.stdout
    content = gzip.decompress(pair.pack.read_bytes())
    assert SECRET.encode() not in content
    assert b"process.json" not in content
    assert str(pair.a.root).encode() not in content
    pair.take()
    assert not (pair.b.root / PLACE / ".env").exists()
    assert (pair.a.root / PLACE / ".env").exists()


def test_the_run_goes_on_in_one_place_until_it_is_taken_back(pair: Pair) -> None:
    pair.handed_over()
    for refused in (pair.a.run("resume"), pair.a.run("retry", "WP01"), pair.a.orchestrate()):
        assert refused.returncode == 4
        assert f"import --take-back --mission {SLUG}" in refused.stderr
    assert "handed over" in pair.a.run("status").stdout
    assert SLUG not in pair.a.run("inbox").stdout
    back = pair.a.run("import", "--take-back")
    assert back.returncode == 0
    assert read_journal(pair.a)[-1]["event"]["kind"] == "imported"
    assert pair.a.run("import", "--take-back").returncode == 2


def test_the_last_pack_brings_the_run_home(pair: Pair) -> None:
    pair.handed_over()
    pair.take()
    place = str(pair.b.root / PLACE)
    pair.b.git("-C", place, "add", "a.py")
    pair.b.git("-C", place, "commit", "-qm", "what was half mended")
    (pair.b.root / PLACE / "new.py").write_text("B = 2\n")
    assert pair.b.run("export", str(pair.pack)).returncode == 0
    (pair.a.root / PLACE / "new.py").write_text("B = 3\n")
    assert "new.py" in pair.take(pair.a).stderr
    (pair.a.root / PLACE / "new.py").write_text("B = 1\n")
    done = pair.take(pair.a)
    assert done.returncode == 0, done.stderr
    assert pair.a.git("-C", str(pair.a.root / PLACE), "status", "--short").splitlines() == [
        "?? .env",
        "?? new.py",
    ]
    assert (pair.a.root / PLACE / "new.py").read_text() == "B = 2\n"
    kinds = [one["event"]["kind"] for one in read_journal(pair.a)[-4:]]
    assert kinds == ["handed_over", "imported", "handed_over", "imported"]


def test_an_import_can_be_done_again_and_an_old_pack_changes_nothing(pair: Pair) -> None:
    pair.handed_over()
    pair.take()
    before = state(pair.b)
    again = pair.take()
    assert again.returncode == 0
    assert "imported before" in again.stdout
    assert state(pair.b) == before
    with (pair.b.root / ".kittify" / "orchestrator" / SLUG / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps({"seq": 99, **event("", "agent_back", agent="scripted")}) + "\n")
    pair.refuses("has gone on here since this pack")


def test_an_active_run_and_one_whose_agents_work_on_are_not_exported(pair: Pair) -> None:
    lock = MissionLock(pair.a.root / ".kittify" / "orchestrator" / SLUG, SLUG)
    with lock:
        done = pair.a.run("export", str(pair.pack))
    assert done.returncode == 4
    assert "an active run cannot be exported" in done.stderr
    (pair.a.root / REVIEWED / "command.json").write_text(json.dumps({"attempt": "review-1-abcdef"}))
    with process(
        "print(1, flush=True); import sys; sys.stdin.read()", env={MARKER: "review-1-abcdef"}
    ) as agent:
        done = pair.a.run("export", str(pair.pack))
        assert done.returncode == 4
        assert str(agent.pid) in done.stderr
        assert f"abort --mission {SLUG}" in done.stderr
    assert not pair.pack.exists()
    assert read_journal(pair.a)[-1]["line"] == "end"


def test_an_attempt_that_ended_with_its_machine_is_lost_before_it_is_packed(
    project: Project, tmp_path: Path
) -> None:
    host_of_one(project)
    with at_work(project, "--impl-agent", "one", "--review-agent", "two") as working:
        working.run.kill()
        working.run.wait()
        for one in find_orphans(project.root / ".kittify" / "logs" / SLUG):
            os.kill(one.child.pid, signal.SIGKILL)
        assert working.agent_is_gone()
    done = project.run("export", str(tmp_path / "run.pack"))
    assert done.returncode == 0, done.stderr
    exited, handed_over = (one["event"] for one in read_journal(project)[-2:])
    assert exited["report"]["outcome"] == "lost"
    assert handed_over["kind"] == "handed_over"


def test_a_clone_that_lacks_the_base_or_is_of_another_repository_is_told_so(
    pair: Pair, tmp_path: Path
) -> None:
    pair.a.git("commit", "-q", "--allow-empty", "-m", "newer")
    pair.a.git("push", "-q", "origin", FEATURE)
    pair.a.git("-C", str(pair.a.root / PLACE), "merge", "-q", FEATURE)
    pair.handed_over()
    pair.refuses("this clone lacks the commit", "git fetch")
    pair.b.git("fetch", "-q", "origin")
    assert pair.take().returncode == 0
    stranger = tmp_path / "stranger"
    shutil.copytree(pair.b.root, stranger, ignore=shutil.ignore_patterns(".git", ".worktrees", ".kittify"))
    other = replace(pair.b, root=stranger)
    other.git("init", "-q", "-b", FEATURE)
    other.git("add", "-A")
    other.git("commit", "-qm", "alike")
    assert "lacks the commit" in pair.take(other).stderr
    assert pair.b.run("export", "--whole", str(pair.pack)).returncode == 0
    assert "another history" in pair.take(other).stderr


def test_commits_and_edits_that_are_in_the_way_are_named(pair: Pair) -> None:
    (pair.a.root / "kitty-specs" / "note").write_text("1\n")
    pair.a.git("add", "kitty-specs/note")
    pair.a.git("commit", "-qm", "status")
    pair.handed_over()
    (pair.b.root / "kitty-specs" / "note").write_text("mine\n")
    pair.refuses("uncommitted changes in", "kitty-specs/note")
    (pair.b.root / "kitty-specs" / "note").unlink()
    pair.b.git("commit", "-q", "--allow-empty", "-m", "mine")
    pair.refuses(f"{FEATURE} holds commits here that the run's has not")
    pair.b.git("reset", "-q", "--hard", "HEAD^")
    (pair.b.root / PLACE).mkdir(parents=True)
    pair.refuses("is in the way of a worktree")
    (pair.b.root / PLACE).rmdir()
    assert pair.take().returncode == 0
    assert (pair.b.root / "kitty-specs" / "note").read_text() == "1\n"


Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def repacked(pack: Path, change: Change, kind: bytes = tarfile.REGTYPE) -> None:
    """Write a pack anew after a change of its manifest and its files, with hashes that fit."""
    with tarfile.open(pack) as archive:
        files = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest, files)
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        manifest["members"][name] = {"sha256": digest, "size": len(content)}
    with tarfile.open(pack, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            about = tarfile.TarInfo(name)
            about.size, about.type = len(content), kind if name != "manifest.json" else tarfile.REGTYPE
            about.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(about, io.BytesIO(content))


def _journal(old: str, new: str) -> Change:
    def change(_: dict[str, Any], files: dict[str, bytes]) -> None:
        assert old.encode() in files["journal.jsonl"]
        files["journal.jsonl"] = files["journal.jsonl"].replace(old.encode(), new.encode())

    return change


def _manifest(**changes: object) -> Change:
    def change(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        for name, value in changes.items():
            manifest[name] = {**manifest[name], **value} if isinstance(value, dict) else value

    return change


def _renamed(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
    manifest["target"] = "other"
    manifest["refs"]["refs/heads/other"] = manifest["refs"].pop(f"refs/heads/{FEATURE}")
    manifest["checkouts"] = [one for one in manifest["checkouts"] if one["branch"] != FEATURE]


def _file(name: str) -> Change:
    return lambda _, files: files.update({name: b"x"})


TAMPERED: dict[str, tuple[Change, str]] = {
    "a path that leads out of the repository": (_journal(LOGS, ".kittify/logs/../../.."), "names the place"),
    "an absolute path": (_journal(f'"{PLACE}"', '"/tmp"'), "names the place"),
    "a worktree that is none": (_journal(f'"path": "{PLACE}"', '"path": "src"'), "names the place"),
    "a journal of another mission": (_journal(f'"slug": "{SLUG}"', '"slug": "x"'), "the mission x"),
    "a branch of somebody else's": (
        _manifest(refs={"refs/heads/main": "1" * 40}),
        "main is no ref",
    ),
    "a branch that only sounds like it": (
        _manifest(refs={f"refs/heads/x-{SLUG}": "1" * 40}),
        "is no ref of the mission",
    ),
    "more branches than any run has": (
        _manifest(refs={f"refs/heads/kitty/mission-{SLUG}-lane-{one}": "1" * 40 for one in range(5001)}),
        "larger than any run",
    ),
    "a tag": (_manifest(refs={f"refs/tags/{SLUG}": "1" * 40}), "is no ref of the mission"),
    "a commit that is not there": (_manifest(refs={RESCUED: "1" * 40}), "does not hold all of the commits"),
    "another target": (_manifest(target=LANE), "is no ref of the mission"),
    "the name of another branch for the target": (_renamed, "is not for the branch other"),
    "a later format": (_manifest(schema=9), "has the schema 9, but this version reads 1"),
    "a mission with a path for a name": (_manifest(mission="../x"), "damaged or was changed: the mission"),
    "a worktree outside": (
        _manifest(checkouts=[{"path": ".worktrees/..", "branch": LANE}]),
        "damaged or was changed: the worktree",
    ),
    "a hook": (_file("hooks/post-checkout"), "the file 'hooks/post-checkout'"),
    "a command that would be started": (
        _file("logs/WP01/03-implement-scripted/command.json"),
        "the file 'logs/WP01/03-implement-scripted/command.json'",
    ),
    "a log with a path for a name": (_file("logs/WP01/../x"), "the file 'logs/WP01/../x'"),
    "a bundle that is none": (_file("repository.bundle"), "no bundle of git's"),
    "nothing but a manifest": (lambda _, files: files.clear(), "is incomplete"),
}


def test_a_pack_with_what_no_export_writes_is_refused(pair: Pair) -> None:
    whole = pair.handed_over().read_bytes()
    for change, words in TAMPERED.values():
        pair.pack.write_bytes(whole)
        repacked(pair.pack, change)
        pair.refuses(words)


def test_what_is_no_pack_or_a_part_of_one_is_refused(pair: Pair, tmp_path: Path) -> None:
    whole = pair.handed_over().read_bytes()
    packed = gzip.decompress(whole)
    other = gzip.compress(packed.replace(b"it prints", b"it prompts"[:9]))
    for content in (b"", b"garbage", whole[:-20], whole[: len(whole) // 2], gzip.compress(b"x" * 999), other):
        pair.pack.write_bytes(content)
        pair.refuses(str(pair.pack))
    repacked_link = tmp_path / "links"
    repacked_link.write_bytes(whole)
    repacked(repacked_link, lambda _, __: None, tarfile.SYMTYPE)
    pair.pack.write_bytes(repacked_link.read_bytes())
    pair.refuses("is no plain file")
    pair.pack.unlink()
    pair.refuses("there is no file")
    assert pair.b.run("import").returncode == 2


def test_a_manifest_of_a_size_below_nothing_is_not_read_without_a_bound(pair: Pair) -> None:
    pair.handed_over()
    header = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.USTAR_FORMAT))
    header[124:136], header[148:156] = b"\xff" * 12, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    pair.pack.write_bytes(gzip.compress(bytes(header) + b"{}"))
    pair.refuses("does not begin with manifest.json")


def test_what_git_ignores_here_is_not_written_over(pair: Pair) -> None:
    pair.handed_over()
    pair.b.git("worktree", "add", "-q", "-b", LANE, str(pair.b.root / PLACE), FEATURE)
    (pair.b.root / ".git" / "info" / "exclude").write_text("/.worktrees/\nnew.py\n")
    (pair.b.root / PLACE / "new.py").write_text("mine\n")
    pair.refuses(f"uncommitted changes in {pair.b.root / PLACE} are in the way: new.py")
    (pair.b.root / PLACE / "new.py").write_text("B = 1\n")
    assert pair.take().returncode == 0


def test_nothing_is_unpacked_through_a_link(pair: Pair, tmp_path: Path) -> None:
    pair.handed_over()
    (tmp_path / "outside").mkdir()
    (pair.b.root / ".kittify").mkdir(exist_ok=True)
    (pair.b.root / ".kittify" / "orchestrator").symlink_to(tmp_path / "outside")
    done = pair.take()
    assert done.returncode == 2
    assert "is a link" in done.stderr
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_an_import_left_that_was_cut_off_at_its_end_makes_no_later_one_remove_work(pair: Pair) -> None:
    pair.handed_over()
    pair.take()
    identity = read_journal(pair.b)[-1]["event"]["pack"]
    left = {"pack": identity, "made": [PLACE]}
    (pair.b.root / ".kittify" / "orchestrator" / SLUG / "import.json").write_text(json.dumps(left))
    assert pair.take().returncode == 0
    assert pair.b.run("export", str(pair.pack)).returncode == 0
    (pair.b.root / PLACE / "new.py").write_text("written since\n")
    assert "new.py" in pair.take().stderr
    assert (pair.b.root / PLACE / "new.py").read_text() == "written since\n"


KILLED = """
import os, sys
from spec_kitty_orchestrator.machine import child
from spec_kitty_orchestrator import cli
left, run = int(sys.argv.pop(1)), child.run
async def counted(*args, **named):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return await run(*args, **named)
child.run = counted
cli.main()
"""


def killed(project: Project, *args: str) -> Iterator[int]:
    """Run a command again and again, and kill it before its first call of git, its second one and so on."""
    for calls in range(0, 200, 12):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(calls), *args],
            cwd=project.root,
            env={**project.env, "PATH": f"{project.bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        assert done.returncode == -9, done.stderr
        yield calls


def test_an_export_that_is_killed_leaves_the_run_here_and_is_done_again(pair: Pair) -> None:
    lines = read_journal(pair.a)
    for _ in killed(pair.a, "export", str(pair.pack)):
        assert read_journal(pair.a) == lines
        assert not pair.pack.exists()
    assert pair.take().returncode == 0


def test_an_import_that_is_killed_is_done_again_with_the_same_result(pair: Pair) -> None:
    pair.handed_over()
    for _ in killed(pair.b, "import", str(pair.pack)):
        assert not (pair.b.root / ".kittify" / "orchestrator" / SLUG / "journal.jsonl").exists()
    place = pair.b.root / PLACE
    assert pair.b.git("-C", str(place), "status", "--short").splitlines() == [" M a.py", "?? new.py"]
    assert read_journal(pair.b)[-1]["event"]["kind"] == "imported"
    records = pair.b.root / ".kittify" / "orchestrator" / SLUG
    assert {one.name for one in records.iterdir()} == {".gitignore", "journal.jsonl"}
