"""What a confined command finds, and what the kernel keeps it from."""

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.conftest import skip_unless_here

from spec_kitty_orchestrator.agents import BUILT_IN
from spec_kitty_orchestrator.machine.sandbox import Mount, Rules, Sandbox, find, wrapper


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A repository with one worktree, and a HOME with keys and the logins of two agents."""
    (tmp_path / "repo" / "tree").mkdir(parents=True)
    (tmp_path / "repo" / "tree" / ".git").write_text("gitdir: elsewhere\n")
    for name in (".ssh/id", ".one/login", ".one/settings.json", ".two/login", ".config/gh/hosts"):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"the content of {name}")
    (tmp_path / "home" / ".netrc").write_text("the content of .netrc")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    states = {
        "one": ("~/.one/", "~/.absent/", "!~/.one/settings.json", "!~/.one/hooks.json", "!~/.one/hooks/"),
        "two": ("~/.two/",),
    }
    home = tmp_path / "repo" / ".kittify" / "orchestrator" / ".sandbox"
    made = Sandbox(find(), tmp_path / "repo", home, states=states)
    skip_unless_here(made.failure)
    return made


def run(box: Sandbox, script: str, *, writes: bool = True, env: Mapping[str, str] | None = None) -> str:
    tree = box.root / "tree"
    argv = ["/bin/sh", "-c", script]
    around = box.around(argv, env or os.environ, tree, "agents", mission="demo", writes=writes, agent="one")
    done = subprocess.run(
        [*around.wrapper, *argv], cwd=tree, env=dict(around.env), capture_output=True, text=True, timeout=60
    )
    return done.stdout


def test_an_implementer_writes_in_its_worktree_and_its_own_state_and_nowhere_else(box: Sandbox) -> None:
    tried = ("made", "../made", "~/made", "~/.one/made", "~/.two/made", "~/.config/made", "/etc/made")
    told = run(box, "; ".join(f"(echo x >{path}) 2>/dev/null && echo {path}" for path in tried))
    home = Path(os.environ["HOME"])
    assert told.split() == ["made", f"{home}/.one/made"]
    assert (box.root / "tree" / "made").read_text() == "x\n"
    assert (home / ".one" / "made").read_text() == "x\n"
    assert not (box.root / "made").exists()


def test_a_reviewer_writes_nothing_in_the_worktree(box: Sandbox) -> None:
    assert run(box, "touch made; echo x >.git; mkdir folder; rm -rf .git", writes=False) == ""
    assert sorted(path.name for path in (box.root / "tree").iterdir()) == [".git"]
    assert (box.root / "tree" / ".git").read_text() == "gitdir: elsewhere\n"


@pytest.mark.parametrize("attempt", ["echo x >.git", "rm -f .git", "mv .git other", "ln -sf /x .git"])
def test_the_git_file_of_a_worktree_cannot_be_replaced(box: Sandbox, attempt: str) -> None:
    run(box, attempt)
    assert (box.root / "tree" / ".git").read_text() == "gitdir: elsewhere\n"


def test_keys_and_the_logins_of_other_agents_are_not_there(box: Sandbox) -> None:
    told = run(box, "cat ~/.ssh/id ~/.netrc ~/.two/login ~/.config/gh/hosts; cat ~/.one/login; ls -A ~/.ssh")
    assert told == "the content of .one/login"


def test_what_runs_code_later_is_read_only_also_where_it_is_not_there_yet(box: Sandbox) -> None:
    run(
        box, "for one in settings.json hooks.json hooks/x; do echo evil >~/.one/$one; rm -f ~/.one/$one; done"
    )
    own = Path(os.environ["HOME"], ".one")
    assert (own / "settings.json").read_text() == "the content of .one/settings.json"
    assert (own / "hooks.json").read_text() == "{}\n"
    assert list((own / "hooks").iterdir()) == []


def test_a_reviewer_that_must_write_in_the_worktree_does_so_to_no_effect(box: Sandbox) -> None:
    states = {**box.states, "one": ("./.one/",)}
    own = Sandbox(box.program, box.root, box.home, box.rules, states)
    assert run(own, "echo x >.one/y && cat .one/y; echo x >z; mv .one other", writes=False) == "x\n"
    assert sorted(path.name for path in (box.root / "tree").rglob("*")) == [".git", ".one"]


def test_no_folder_is_made_where_a_link_in_the_worktree_leads(box: Sandbox, tmp_path: Path) -> None:
    own = Sandbox(box.program, box.root, box.home, box.rules, {"one": ("./.one/plans/",)})
    (box.root / "tree" / ".one").symlink_to(tmp_path)
    run(own, "true", writes=False)
    assert not (tmp_path / "plans").exists()


def test_a_root_inside_cannot_mount_anything_anew(box: Sandbox) -> None:
    run(
        box,
        "mount -o remount,rw,bind / && touch ../made; umount /tmp; unshare -Urm mount -o remount,rw,bind /",
    )
    told = run(
        box,
        "unshare -Urm /bin/sh -c 'mount -o remount,rw,bind /; touch ../made'; grep CapEff /proc/self/status",
    )
    assert told.split() == ["CapEff:", "0000000000000000"]
    assert not (box.root / "made").exists()


def test_nothing_of_it_outlives_it_and_no_other_process_is_seen(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "repo" / "tree" / "daemon.sh").write_text("echo up >up; sleep 600 & wait\n")
    seen = run(
        box, "(env -i setsid /bin/sh daemon.sh >/dev/null 2>&1 &); until [ -s up ]; do :; done; ls /proc"
    )
    assert (box.root / "tree" / "up").exists()
    assert max(int(name) for name in seen.split() if name.isdigit()) < 200
    left = subprocess.run(["pgrep", "-f", "daemon.sh"], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_sockets_of_others_are_not_there(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "home" / "agent.sock"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        env = {**os.environ, "SSH_AUTH_SOCK": str(path), "DOCKER_HOST": "unix:///run/docker.sock"}
        told = run(box, f"[ -S {path} ] && echo socket; ls /run; env", env=env)
    assert "socket\n" not in told
    assert "SSH_AUTH_SOCK" not in told
    assert "DOCKER_HOST" not in told


def test_caches_of_tools_are_the_missions_own_and_stay(box: Sandbox) -> None:
    told = run(
        box, 'echo x >"$npm_config_cache/x" && echo y >"$XDG_CACHE_HOME/y" && echo "$TMPDIR" && touch /tmp/z'
    )
    assert told == "/tmp\n"
    assert run(box, 'cat "$npm_config_cache/x" "$XDG_CACHE_HOME/y"; ls /tmp/z') == "x\ny\n"
    assert list(box.home.glob("caches/demo/*/x"))


def test_git_does_not_see_what_is_kept_for_it(box: Sandbox) -> None:
    subprocess.run(["git", "init", "-q", box.root], check=True)
    run(box, 'echo x >"$PIP_CACHE_DIR/y"')
    asked = ["git", "status", "--porcelain", "--untracked-files=all", ".kittify"]
    shown = subprocess.run(asked, cwd=box.root, capture_output=True, text=True, check=True)
    assert shown.stdout == ""


def test_a_project_can_open_and_close_more(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "home" / "notes").mkdir()
    (tmp_path / "home" / "notes" / "diary").write_text("dear")
    (tmp_path / "home" / "shared").mkdir()
    rules = Rules(writable=("~/shared",), hidden=("~/notes",), shown=("~/.netrc",), network=("gates",))
    own = Sandbox(box.program, box.root, box.home, rules, box.states)
    told = run(own, "echo x >~/shared/x && cat ~/notes/diary; cat ~/.netrc; tail -n +3 /proc/net/dev | wc -l")
    assert told.split("\n")[0] == "the content of .netrc1"
    assert (tmp_path / "home" / "shared" / "x").exists()


def test_names_are_resolved_as_outside(box: Sandbox) -> None:
    outside = subprocess.run(["getent", "hosts", "localhost"], capture_output=True, text=True, check=False)
    assert run(box, "getent hosts localhost") == outside.stdout
    if Path("/etc/resolv.conf").exists():
        assert run(box, "cat /etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


def test_what_lies_in_a_folder_is_mounted_after_the_folder(tmp_path: Path) -> None:
    mounts = {
        Path("/a/b/c"): Mount("read", folder=False),
        Path("/a"): Mount("empty"),
        Path("/a/b"): Mount("write"),
    }
    argv = wrapper("bwrap", Path("/a/b"), mounts, Path("/n"), network=False, root=False, temporary=("/tmp",))
    text = " ".join(argv)
    assert text.endswith(
        "--unshare-net --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /a "
        "--bind /a/b /a/b --ro-bind /a/b/c /a/b/c --remount-ro /a --chdir /a/b --"
    )
    assert "--die-with-parent" in argv
    assert "--uid" not in argv


def test_root_is_an_ordinary_user_inside(tmp_path: Path) -> None:
    argv = wrapper("bwrap", tmp_path, {}, tmp_path, network=True, root=True)
    assert argv[argv.index("--uid") + 1] != "0"
    assert "--unshare-user" in argv
    assert "--unshare-net" not in argv


@pytest.mark.parametrize(
    ("program", "words"),
    [("", "not installed"), ("/nowhere/bwrap", "cannot be run"), ("/bin/false", "does not work here")],
)
def test_why_it_does_not_work_is_said(tmp_path: Path, program: str, words: str) -> None:
    assert words in Sandbox(program, tmp_path, tmp_path / "own").failure


def test_the_check_leaves_nothing_behind(box: Sandbox, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert Sandbox(box.program, box.root, tmp_path / "other").failure == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_confine_is_found_out(tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    program.chmod(0o755)
    assert "could write outside" in Sandbox(str(program), tmp_path, tmp_path / "own").failure


@pytest.mark.parametrize("agent", [name for name in BUILT_IN if name != "scripted"])
def test_each_agent_names_where_its_cli_keeps_its_state(agent: str) -> None:
    state = BUILT_IN[agent].state
    assert any(not one.startswith("!") for one in state)
    assert all(one.removeprefix("!").startswith(("~/", "$", "./")) for one in state)


def test_no_sandbox_shows_what_a_link_of_an_agent_leads_to(box: Sandbox) -> None:
    own = Path(os.environ["HOME"], ".one")
    (own / "settings.json").unlink()
    (own / "settings.json").symlink_to(own.parent / ".ssh")
    assert run(box, "cat ~/.ssh/id; cat ~/.one/settings.json/id") == ""


@pytest.mark.parametrize("target", ["{home}", "{home}/absent", "made", "{home}/.netrc"])
def test_a_link_in_the_place_of_a_cache_opens_nothing_and_stops_nobody(box: Sandbox, target: str) -> None:
    home = Path(os.environ["HOME"])
    run(box, f'cd "$npm_config_cache/.." && rm -rf npm && ln -s {target.format(home=home)} npm')
    assert run(box, 'echo x >~/evil; touch "$npm_config_cache/x" && echo made') == "made\n"
    assert not (home / "evil").exists()


def test_what_a_project_opens_is_not_where_a_link_of_an_agent_leads(box: Sandbox) -> None:
    own = Sandbox(box.program, box.root, box.home, Rules(writable=("$XDG_CACHE_HOME/built",)), box.states)
    for link in ('"$XDG_CACHE_HOME/built"', '"$XDG_CACHE_HOME/other"; ln -s other "$XDG_CACHE_HOME/built"'):
        run(box, f'rm -f "$XDG_CACHE_HOME"/*; ln -s ~ {link}')
        run(own, "echo x >~/evil")
        assert not Path(os.environ["HOME"], "evil").exists()


def test_the_folder_of_git_stays_read_only_whatever_a_project_opens(box: Sandbox, tmp_path: Path) -> None:
    (box.root / ".git").mkdir()
    own = Sandbox(box.program, box.root, box.home, Rules(writable=(str(tmp_path),)), box.states)
    told = run(own, f"for one in .git .kittify .; do touch {box.root}/$one/x && echo $one; done 2>/dev/null")
    assert told == ".\n"


def test_root_cannot_change_settings_of_the_kernel(box: Sandbox) -> None:
    writable = "find /proc -maxdepth 4 -path '/proc/[0-9]*' -prune -o -type f -writable -print"
    assert run(box, f"{writable} 2>/dev/null | grep -v -e /proc/self/ -e /proc/thread-self/") == ""
    assert run(box, "unshare -Urpfm mount -t proc none /tmp && cd /tmp/sys && ls") == ""


def test_the_state_of_an_agent_is_there_also_in_a_hidden_folder(box: Sandbox, tmp_path: Path) -> None:
    for name in ("one/login", "other/key"):
        (tmp_path / "home" / ".config" / name).parent.mkdir()
        (tmp_path / "home" / ".config" / name).write_text(name)
    rules = Rules(hidden=("~/.config",), shown=("~/.netrc/",))
    own = Sandbox(box.program, box.root, box.home, rules, {"one": ("~/.config/one/",)})
    assert own.failure == ""
    told = run(own, "cd ~/.config && cat one/login && touch x; ls; cat ~/.netrc")
    assert told == "one/loginone\nthe content of .netrc"


def test_a_cli_cannot_change_its_own_program(box: Sandbox) -> None:
    program = Path(os.environ["HOME"], ".one", "packages", "1.0", "cli")
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\nmv ~/.one/packages ~/.one/old; echo evil >~/.one/packages/1.0/cli; echo ran\n"
    )
    program.chmod(0o755)
    around = box.around(
        [str(program)], os.environ, box.root / "tree", "agents", mission="demo", writes=True, agent="one"
    )
    done = subprocess.run([*around.wrapper, program], env=dict(around.env), capture_output=True, timeout=60)
    assert done.stdout == b"ran\n"
    assert "evil" not in program.read_text().partition("\n")[0]
    assert sorted(path.name for path in Path(os.environ["HOME"], ".one").iterdir()).count("old") == 0
