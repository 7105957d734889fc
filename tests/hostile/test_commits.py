"""What an agent commits, by accident or on purpose, and what may never be in a commit."""

from pathlib import Path

import pytest
from tests.machine.conftest import Lane, git

from spec_kitty_orchestrator.errors import WorkspaceError
from spec_kitty_orchestrator.machine.commit_rules import regenerable

pytestmark = pytest.mark.asyncio

SECRET = "Zx9-known-to-this-machine-41"


def certificate(path: Path, *, key: bool = False) -> None:
    label = "PRIVATE KEY" if key else "CERTIFICATE"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"-----BEGIN {label}-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END {label}-----\n")


def commits_what_it_must_not(lane: Lane) -> None:
    lane.write(".env", "KEY=1\n")
    lane.write("kitty-specs/tasks.md", "forged\n")
    lane.write(".codex/log")
    lane.write("node_modules/left/index.js")
    (lane.path / "big.bin").write_bytes(b"\1" * 5_000_001)
    lane.write("src.py")
    git(lane.path, "add", "-A", "-f")
    git(lane.path, "commit", "-q", "-m", "work")


@pytest.mark.parametrize("after", ["kept", "deleted", "renamed to a tag"])
async def test_a_side_branch_of_the_agent_s_own_is_judged_like_its_other_commits(
    lane: Lane, after: str
) -> None:
    lane.before = await lane.git.before(lane.workspace)
    branch = git(lane.path, "branch", "--show-current")
    git(lane.path, "switch", "-q", "-c", "my-feature")
    commits_what_it_must_not(lane)
    git(lane.path, "switch", "-q", branch)
    git(lane.path, "merge", "-q", "--no-ff", "-m", "merge my feature", "my-feature")
    if after != "kept":
        if after != "deleted":
            git(lane.path, "tag", "v1", "my-feature")
        git(lane.path, "branch", "-q", "-D", "my-feature")
    message = await lane.refused()
    for path in (".env", "kitty-specs/tasks.md", "big.bin", ".codex/log", "node_modules/left/index.js"):
        assert f"committed by the agent: {path}: " in message
    assert "src.py" not in message


async def test_what_a_merge_commit_itself_adds_is_judged(lane: Lane) -> None:
    git(lane.path, "switch", "-q", "-c", "side")
    lane.write("side.py")
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "side")
    git(lane.path, "switch", "-q", "-")
    git(lane.path, "merge", "-q", "--no-ff", "--no-commit", "side")
    lane.write(".env", "KEY=1\n")
    git(lane.path, "add", "-f", ".env")
    git(lane.path, "commit", "-q", "-m", "merge, and more")
    assert ".env: may hold secrets" in await lane.refused()


async def test_commits_of_others_that_are_merged_in_are_not_held_against_the_agent(lane: Lane) -> None:
    git(lane.root, "switch", "-q", "-c", "kitty/m-lane-b")
    (lane.root / "kitty-specs" / "tasks.md").write_text("by the host\n")
    certificate(lane.root / "server.pem", key=True)
    git(lane.root, "add", "-A", "-f")
    git(lane.root, "commit", "-q", "-m", "the dependency")
    git(lane.root, "switch", "-q", "main")
    lane.before = await lane.git.before(lane.workspace)
    git(lane.path, "merge", "-q", "--no-ff", "-m", "merge", "kitty/m-lane-b")
    git(lane.root, "branch", "-q", "-D", "kitty/m-lane-b")
    lane.write("a.py", "a = 2\n")
    await lane.committed()


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_what_the_project_tracks_may_be_changed_whatever_it_is(lane: Lane, commits: bool) -> None:
    lane.write(".env.production", "A=\n")
    certificate(lane.path / "tests" / "server.pem", key=True)
    (lane.path / "data.bin").write_bytes(b"\0" * 5_000_001)
    lane.write("node_modules/mine/index.js")
    git(lane.path, "add", "-A", "-f")
    git(lane.path, "commit", "-q", "-m", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    names = (".env.production", "tests/server.pem", "data.bin", "node_modules/mine/index.js")
    for name in names:
        with (lane.path / name).open("a") as file:
            file.write("B=\n")
    if commits:
        git(lane.path, "commit", "-q", "-am", "by the agent")
    evidence = await lane.committed()
    assert evidence.left_out == ()
    changed = git(lane.path, "diff", "--name-only", lane.base, evidence.head).splitlines()
    assert set(changed) == set(names)


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_what_the_project_tracks_may_be_moved_too(lane: Lane, commits: bool) -> None:
    certificate(lane.path / "server.pem", key=True)
    (lane.path / "data.bin").write_bytes(b"\0" * 5_000_001)
    git(lane.path, "add", "-A")
    git(lane.path, "commit", "-q", "-m", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    (lane.path / "tests").mkdir()
    for name in ("server.pem", "data.bin"):
        (lane.path / name).rename(lane.path / "tests" / name)
    certificate(lane.path / "other.pem", key=True)
    (lane.path / "other.pem").write_text((lane.path / "other.pem").read_text() + "\n")
    if commits:
        git(lane.path, "add", "tests", "server.pem", "data.bin")
        git(lane.path, "commit", "-q", "-m", "by the agent")
    evidence = await lane.committed()
    assert evidence.left_out == ("other.pem: may hold secrets",)
    assert {"tests/server.pem", "tests/data.bin"} <= lane.files()


HARMLESS = {
    ".env.example": "API_KEY=\nURL=http://localhost\n",
    "deploy/.env.test": "DEBUG=1\n",
    "ca.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "verify.key": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
    "id_ed25519.pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here\n",
}
HARMFUL = {
    ".env": "DEBUG=1\n",
    ".env.local": "",
    ".env.sample": "API_KEY=a8d7f6a5s4d3f2a1s0d9\n",
    "both.pem": HARMLESS["ca.pem"] + "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n",
    "deploy-key": "-----BEGIN OPENSSH PRIVATE KEY-----\nMIIB\n",
    "store.p12": "binary",
    "id_rsa.pub": "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n",
}


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_new_files_that_look_like_secrets_are_judged_by_what_they_hold(
    lane: Lane, commits: bool
) -> None:
    for name, text in {**HARMLESS, **HARMFUL}.items():
        lane.write(name, text)
    if commits:
        git(lane.path, "add", "-A", "-f")
        git(lane.path, "commit", "-q", "-m", "all")
        message = await lane.refused()
        for name in HARMFUL:
            assert f"{name}: may hold secrets" in message
            git(lane.path, "reset", "-q", "--soft", lane.base)
            git(lane.path, "reset", "-q")
    evidence = await lane.committed()
    assert {one.partition(":")[0] for one in evidence.left_out} == set(HARMFUL)
    assert set(HARMLESS) <= lane.files()


async def test_the_operator_s_patterns_and_size_decide(lane: Lane) -> None:
    lane.git = lane.with_rules(
        max_bytes=100, secret_files=("*.vault", "conf/prod*"), allow_files=("tests/data/*", ".env.ci")
    )
    lane.write("x.vault")
    lane.write("conf/production.ini")
    lane.write("lib/conf/production.ini")
    lane.write("tests/data/server.key", HARMFUL["both.pem"])
    lane.write("tests/data/large", "x" * 101)
    lane.write(".env.ci", "A=1\n")
    lane.write("other", "x" * 101)
    evidence = await lane.committed()
    assert evidence.left_out == (
        "conf/production.ini: may hold secrets",
        "other: larger than 100 B",
        "x.vault: may hold secrets",
    )


@pytest.mark.parametrize("commits", [False, True], ids=["left to us", "committed by the agent"])
async def test_a_commit_with_a_known_secret_in_it_is_refused(lane: Lane, commits: bool) -> None:
    lane.git = lane.with_rules(secrets=(SECRET,))
    lane.write("a.py", f"token = '{SECRET}'\n")
    lane.write("new.py", f"token = '{SECRET}'\n")
    lane.write("fine.py")
    if commits:
        git(lane.path, "add", "-A")
        git(lane.path, "commit", "-q", "-m", "leak")
        git(lane.path, "rm", "-q", "new.py")
        git(lane.path, "commit", "-q", "-m", "hide")
    head = git(lane.path, "rev-parse", "HEAD")
    message = await lane.refused()
    for name in ("a.py", "new.py"):
        assert f"{name}: holds the value of a secret" in message
    assert "fine.py" not in message
    assert SECRET not in message
    assert git(lane.path, "rev-parse", "HEAD") == head


async def test_a_known_value_that_the_project_keeps_itself_may_stay(lane: Lane) -> None:
    lane.git = lane.with_rules(secrets=(SECRET,))
    lane.write("a.py", f"token = '{SECRET}'\n")
    git(lane.path, "commit", "-q", "-am", "by a person")
    lane.base = git(lane.path, "rev-parse", "HEAD")
    lane.write("a.py", f"token = '{SECRET}'\nmore = 1\n")
    assert (await lane.committed()).head != lane.base


CACHES = {
    "src/__pycache__/": "src/__pycache__/a.cpython-311.pyc",
    "old.pyc": "old.pyc",
    ".venv/": ".venv/lib/site.py",
    "web/node_modules/": "web/node_modules/a/index.js",
    "target/": "target/debug/app",
    ".DS_Store": ".DS_Store",
    ".pytest_cache/": ".pytest_cache/v/cache",
}


async def test_what_a_tool_can_make_again_is_left_out_and_named_once(lane: Lane) -> None:
    for path in CACHES.values():
        lane.write(path)
    lane.write("src/__pycache__/b.cpython-311.pyc")
    lane.write(".venv/pyvenv.cfg", "home = /usr/bin\n")
    lane.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
    lane.write("mod/a/__init__.py")
    (lane.path / "node_modules").symlink_to("/somewhere/node_modules")
    evidence = await lane.committed()
    expected = {f"{name}: can be made again by the tool that made it" for name in (*CACHES, "node_modules")}
    assert set(evidence.left_out) == expected
    assert len(evidence.left_out) == len(expected)
    assert lane.files() == lane.files(lane.base) | {"mod/a/__init__.py"}


async def test_caches_in_commits_of_the_agent_s_own_are_refused(lane: Lane) -> None:
    for path in CACHES.values():
        lane.write(path)
    lane.write(".venv/pyvenv.cfg", "home = /usr/bin\n")
    lane.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
    git(lane.path, "add", "-A", "-f")
    git(lane.path, "commit", "-q", "-m", "all")
    message = await lane.refused()
    for path in CACHES.values():
        assert f"{path}: can be made again" in message


async def test_a_folder_of_which_the_project_keeps_a_part_is_no_cache() -> None:
    assert regenerable(["node_modules/own/b.js"], ["node_modules/own/a.js"]) == {}
    assert regenerable(["build/x", "build/CACHEDIR.TAG"], ["build/keep"]) == {}
    below = ["a/node_modules/own/b.js", "a/b/__pycache__/c.pyc"]
    assert regenerable(below, ["a/node_modules/own/deep/a.js"]) == {below[1]: "a/b/__pycache__/"}


async def test_a_filter_that_cannot_run_is_a_broken_machine_and_leaves_the_work_in_place(lane: Lane) -> None:
    git(lane.root, "config", "filter.lfs.clean", "/nonexistent/git-lfs clean %f")
    git(lane.root, "config", "filter.lfs.required", "true")
    lane.write(".gitattributes", "*.dat filter=lfs\n")
    lane.write("model.dat")
    lane.write("ok.py")
    with pytest.raises(WorkspaceError, match="clean filter 'lfs' failed"):
        await lane.commit()
    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    assert {"model.dat", "ok.py"} <= {path.name for path in lane.path.iterdir()}
    git(lane.root, "config", "filter.lfs.clean", "cat")
    lane.git = lane.with_rules()  # at the next start
    await lane.committed()


async def test_files_that_git_refuses_go_to_the_implementer_with_git_s_reason(lane: Lane) -> None:
    git(lane.root, "config", "core.autocrlf", "input")
    git(lane.root, "config", "core.safecrlf", "true")
    lane.write(".gitattributes", "*.u working-tree-encoding=UTF-16\n")
    (lane.path / "readme.txt").write_bytes(b"a\r\nb\r\n")
    lane.write("text.u", "no mark of a byte order")
    for number in range(20):
        lane.write(f"good{number}.py")
    message = await lane.refused()
    assert "readme.txt: CRLF would be replaced by LF" in message
    assert "BOM is required in 'text.u'" in message
    assert "good" not in message
    assert git(lane.path, "rev-parse", "HEAD") == lane.base
    (lane.path / "readme.txt").write_bytes(b"a\nb\n")
    (lane.path / "text.u").unlink()
    await lane.committed()
    assert {"readme.txt", "good7.py"} <= lane.files()
