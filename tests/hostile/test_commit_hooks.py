"""Commit hooks and filters that an agent can write, and what our own calls of git run of them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.conftest import skip_unless_here
from tests.machine.conftest import BRANCH, Lane, git

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.hooks import HookRules
from spec_kitty_orchestrator.machine.sandbox import Sandbox, find
from spec_kitty_orchestrator.machine.workspaces import GitWorkspaces
from spec_kitty_orchestrator.ports import CommitRefusal

pytestmark = pytest.mark.asyncio


def husky(lane: Lane, script: str, name: str = "pre-commit") -> None:
    """Let the project keep its hooks in the worktree, where the agent edits one."""
    git(lane.root, "config", "core.hooksPath", ".husky")
    lane.write(f".husky/{name}", f"#!/bin/sh\n{script}\n")
    (lane.path / ".husky" / name).chmod(0o755)


async def test_a_hook_gets_the_environment_of_an_agent(
    lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SKO_ACTOR"):
        monkeypatch.setenv(name, "only-ours")
    monkeypatch.setenv("MY_VARIABLE", "passed")
    husky(lane, f"env > {tmp_path}/seen")

    lane.git = GitWorkspaces(lane.root, "m", hooks=HookRules(passed=["MY_*"]))
    await lane.committed()

    seen = (tmp_path / "seen").read_text()
    assert "only-ours" not in seen
    assert "MY_VARIABLE=passed" in seen


async def test_a_hook_cannot_reach_the_repository_by_git(lane: Lane) -> None:
    husky(
        lane,
        "git branch evil && git tag evil && git config user.name evil "
        "&& git update-ref refs/heads/main $(git commit-tree -m evil HEAD^{tree})",
    )
    lane.write("a.py", "a = 2\n")

    await lane.committed()

    assert git(lane.root, "tag") == ""
    assert git(lane.root, "branch", "--format=%(refname:short)").split() == sorted(["main", BRANCH])
    assert git(lane.root, "rev-parse", "main") == lane.base
    assert git(lane.root, "config", "user.name") == "A Person"


async def test_what_a_hook_stages_and_writes_into_the_message_is_committed(lane: Lane) -> None:
    husky(lane, "echo formatted > a.py; git add a.py")
    husky(lane, 'echo "Signed-off-by: Somebody" >> "$1"', "commit-msg")
    lane.write("a.py", "a=2\n")

    evidence = await lane.committed("WP01: work")

    assert git(lane.root, "show", f"{evidence.head}:a.py") == "formatted"
    assert git(lane.path, "log", "-1", "--format=%B").split() == [
        *("WP01:", "work", "Signed-off-by:", "Somebody")
    ]
    assert git(lane.path, "status", "--porcelain") == ""
    assert git(lane.path, "log", "-1", "--format=%an") == "A Person"


async def test_large_files_that_a_hook_stages_are_kept_under_their_true_names(lane: Lane) -> None:
    data = b"large\n"
    name = hashlib.sha256(data).hexdigest()
    script = f"mkdir -p $GIT_DIR/lfs/objects/x; echo large | tee $GIT_DIR/lfs/objects/x/{name}"
    husky(lane, f"{script} > $GIT_DIR/lfs/objects/x/{'0' * 64}; echo oid {name} > a.py; git add a.py")
    lane.write("b.py", "b = 2\n")

    await lane.committed()

    kept = lane.root / ".git" / "lfs" / "objects" / "x"
    assert [path.name for path in kept.iterdir()] == [name]
    assert (kept / name).read_bytes() == data


async def test_what_a_hook_adds_is_judged_like_what_an_agent_commits(lane: Lane) -> None:
    husky(lane, "echo KEY=1 > .env; git add -f .env")
    lane.write("a.py", "a = 2\n")

    assert ".env" in await lane.refused()


async def test_hooks_find_the_primary_checkout_beside_git_s_common_folder(lane: Lane, tmp_path: Path) -> None:
    (lane.root / "policy.txt").write_text("of the primary\n")
    husky(lane, f'cat "$(git rev-parse --git-common-dir)/../policy.txt" > {tmp_path}/seen')
    lane.write("a.py", "a = 2\n")

    await lane.committed()

    assert (tmp_path / "seen").read_text() == "of the primary\n"


@pytest.mark.parametrize(
    "ruin", ["mkfifo {ref}", "ln -s /dev/zero {ref}", "mkdir {ref}", "head -c 9000000 /dev/zero >{ref}"]
)
async def test_a_hook_that_ruins_its_copy_of_the_branch_makes_no_commit_and_no_wait(
    lane: Lane, ruin: str
) -> None:
    ref = f'"$GIT_DIR/refs/heads/{BRANCH}"'
    husky(lane, f"rm -f {ref} && {ruin.format(ref=ref)}", "post-commit")
    lane.write("a.py", "a = 2\n")

    assert isinstance(await lane.commit(), CommitRefusal)


async def test_hooks_can_be_switched_off(lane: Lane) -> None:
    husky(lane, "exit 1")
    lane.write("a.py", "a = 2\n")

    lane.git = GitWorkspaces(lane.root, "m", hooks=None)
    await lane.committed()


async def test_hooks_are_confined_by_what_confines_agents(lane: Lane, tmp_path: Path) -> None:
    seen: list[tuple[Path, Sequence[Path]]] = []

    def confine(
        argv: Sequence[str], cwd: Path, env: Mapping[str, str], writable: Sequence[Path]
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        seen.append((cwd, writable))
        return ["env", "CONFINED=1", *argv], env

    husky(lane, f'echo "$CONFINED" > {tmp_path}/seen; pwd')
    lane.write("a.py", "a = 2\n")

    lane.git = GitWorkspaces(lane.root, "m", hooks=HookRules(confine=confine))
    await lane.committed()

    assert (tmp_path / "seen").read_text() == "1\n"
    assert [cwd for cwd, _ in seen] == [lane.path]
    assert not any(path.is_relative_to(lane.root) for _, paths in seen for path in paths)


@pytest.mark.parametrize(
    "script",
    [
        "lint-staged",
        "exec nothing-there",
        "env nothing-there",
        "./a.py",
        "bash node_modules/.bin/lint-staged || bash -c node_modules/.bin/lint-staged",
        "echo 'husky - pre-commit script failed (code 127)' >&2; exit 1",
    ],
)
async def test_a_hook_whose_program_is_not_there_is_no_refusal(lane: Lane, script: str) -> None:
    husky(lane, script)
    lane.write("new.py")

    with pytest.raises(WorkspaceError, match="cannot run"):
        await lane.commit()

    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    assert (lane.path / "new.py").exists()


@pytest.mark.parametrize("words", ["404: not found", "a.py:1: error: module not found", "permission denied"])
async def test_a_hook_that_looks_for_things_in_the_work_is_a_refusal(lane: Lane, words: str) -> None:
    husky(lane, f"echo '{words}' >&2; exit 1")
    lane.write("a.py", "a = 2\n")

    assert words in await lane.refused()


BOOKKEEPING = (
    *("post-index-change", "reference-transaction", "post-checkout"),
    *("post-commit", "fsmonitor-watchman"),
)


async def test_bookkeeping_runs_no_hook(lane: Lane, tmp_path: Path) -> None:
    for name in BOOKKEEPING:
        lane.hook(name, f"echo {name} >> {tmp_path}/ran")
    git(lane.root, "config", "core.fsmonitor", f"{tmp_path}/nothing")

    before = await lane.git.fingerprint(lane.workspace)
    lane.write("a.py", "a = 3\n")
    await lane.git.restore("WP01", lane.workspace, before, "1")
    lane.write("a.py", "a = 4\n")
    await lane.git.rescue("WP01", lane.workspace, "2")
    await lane.git.state(lane.workspace)

    assert not (tmp_path / "ran").exists()


def filtered(lane: Lane, command: str) -> None:
    git(lane.root, "config", "filter.strip.clean", command)
    lane.write(".gitattributes", "*.txt filter=strip\n")


async def test_a_filter_that_was_configured_before_the_run_makes_what_is_committed(
    lane: Lane, tmp_path: Path
) -> None:
    program = tmp_path / "clean"
    program.write_text("#!/bin/sh\ntr a-z A-Z\n")
    program.chmod(0o755)
    filtered(lane, str(program))
    lane.write("a.txt", "text\n")

    evidence = await lane.committed()

    assert git(lane.root, "show", f"{evidence.head}:a.txt") == "TEXT"


@pytest.mark.parametrize(
    "how",
    [
        *("./strip.sh", "sh strip.sh", "/bin/sh ./strip.sh", "{path}/strip.sh", "sh -c 'cat; ./strip.sh'"),
        *("env sh strip.sh", '"$(git rev-parse --show-toplevel)"/strip.sh', "cat | ./strip.sh"),
    ],
)
async def test_a_filter_that_lies_in_the_worktree_never_runs(lane: Lane, tmp_path: Path, how: str) -> None:
    lane.write("strip.sh", f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    (lane.path / "strip.sh").chmod(0o755)
    filtered(lane, how.format(path=lane.path))
    lane.write("a.txt", "text\n")

    evidence = await lane.committed()
    await lane.git.fingerprint(lane.workspace)

    assert not (tmp_path / "ran").exists()
    assert git(lane.root, "show", f"{evidence.head}:a.txt") == "text"


@pytest.mark.parametrize("scope", ["--local", "--worktree"])
async def test_a_filter_that_is_configured_during_the_run_never_runs(
    lane: Lane, tmp_path: Path, scope: str
) -> None:
    await lane.git.state(lane.workspace)
    if scope == "--worktree":
        git(lane.root, "config", "extensions.worktreeConfig", "true")
    program = tmp_path / "clean"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    git(lane.path, "config", scope, "filter.st=r.clean", str(program))
    git(lane.path, "config", scope, "filter.st=r.required", "true")
    lane.write(".gitattributes", "*.txt filter=st=r\n")
    lane.write("a.txt", "text\n")

    await lane.committed()
    await lane.git.fingerprint(lane.workspace)

    assert not (tmp_path / "ran").exists()


async def test_a_signing_program_that_is_configured_during_the_run_never_runs(
    lane: Lane, tmp_path: Path
) -> None:
    await lane.git.state(lane.workspace)
    program = tmp_path / "gpg"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    program.chmod(0o755)
    for setting in (("gpg.program", str(program)), ("user.signingkey", "nobody"), ("commit.gpgsign", "true")):
        git(lane.path, "config", *setting)
    lane.write("a.txt", "text\n")

    with pytest.raises(WorkspaceError, match="sign"):
        await lane.commit()

    assert not (tmp_path / "ran").exists()


async def test_a_confined_hook_writes_in_its_worktree_alone(lane: Lane, tmp_path: Path) -> None:
    sandbox = Sandbox(find(), lane.root, tmp_path / "own")
    skip_unless_here(sandbox.failure)

    def confine(
        argv: Sequence[str], cwd: Path, env: Mapping[str, str], writable: Sequence[Path]
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        around = sandbox.around(argv, env, cwd, "hooks", mission="m", writes=True, writable=writable)
        return (*around.wrapper, *argv), around.env

    hooks = lane.root / ".git" / "hooks"
    script = f"for one in {tmp_path}/out {hooks}/post-merge {lane.root}/.git/config; do echo x >>$one; done"
    husky(lane, f"({script}) 2>/dev/null; echo formatted > a.py; git add a.py")
    lane.write("a.py", "a=2\n")
    lane.git = GitWorkspaces(lane.root, "m", hooks=HookRules(confine=confine))

    evidence = await lane.committed()

    assert git(lane.root, "show", f"{evidence.head}:a.py") == "formatted"
    assert not (tmp_path / "out").exists()
    assert not (hooks / "post-merge").exists()
    assert "\nx\n" not in (lane.root / ".git" / "config").read_text()


async def test_a_filter_that_is_configured_during_the_run_does_not_check_files_out(
    lane: Lane, tmp_path: Path
) -> None:
    lane.write(".gitattributes", "*.py filter=evil\n")
    await lane.committed()
    git(lane.root, "worktree", "remove", "--force", str(lane.path))
    git(lane.root, "config", "filter.evil.smudge", f"touch {tmp_path}/ran; cat")

    await lane.git.ensure("WP01", lane.workspace, ())

    assert (lane.path / "a.py").read_text() == "a = 1\n"
    assert not (tmp_path / "ran").exists()
