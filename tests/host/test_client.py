"""The client: what is sent, how often, how many at once, and what becomes of each kind of failure."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from spec_kitty_orchestrator.core.model import Lane, PolicyMetadata
from spec_kitty_orchestrator.errors import (
    HostCrash,
    HostIncompatible,
    HostMissing,
    HostRefusal,
    HostTimeout,
)
from spec_kitty_orchestrator.host import client as client_module
from spec_kitty_orchestrator.host.client import HostClient
from spec_kitty_orchestrator.host.locate import call_env
from spec_kitty_orchestrator.machine.child import Reply
from spec_kitty_orchestrator.ports import Host, ReviewResult

pytestmark = pytest.mark.anyio

POLICY = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none")
STATE = {"mission_slug": "m", "work_packages": [{"wp_id": "WP01", "lane": "planned", "dependencies": []}]}
WORKSPACE = {"workspace_path": "/w", "prompt_path": "/p"}


def success(data: object) -> Reply:
    return Reply(0, json.dumps({"success": True, "error_code": None, "data": data}).encode(), b"")


EMPTY = Reply(1, b"", b"Traceback")


class RecordingTransport:
    """Answers from a list, whose last item repeats, and keeps what it was asked."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = list(answers)
        self.argv: list[list[str]] = []
        self.env: Mapping[str, str] = {}
        self.limits: list[float] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gate: anyio.Event | None = None
        self.closed = False

    async def call(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float) -> Reply:
        self.argv.append(list(args))
        self.env = env
        self.limits.append(limit_s)
        kinds = ("all", "starts" if "start-implementation" in args else "others")
        for kind in kinds:
            self.running[kind] += 1
            self.most[kind] = max(self.most[kind], self.running[kind])
        if self.gate is not None:
            await self.gate.wait()
        self.running.subtract(kinds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "spec-kitty"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_BACKOFF_S", 0.0)


@pytest.fixture
def connect(executable: Path, tmp_path: Path) -> Callable[..., HostClient]:
    def make(transport: RecordingTransport, **options: object) -> HostClient:
        env = {"PATH": str(executable.parent), "HOME": "/nowhere"}
        return HostClient(tmp_path, transport=transport, env=env, **options)  # type: ignore[arg-type]

    return make


def test_the_host_is_found_on_path_and_its_folder_leads_the_path_of_calls(
    executable: Path, connect: Callable[..., HostClient]
) -> None:
    assert connect(RecordingTransport(EMPTY)).executable == str(executable)


def test_a_missing_host_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(HostMissing, match=r"'spec-kitty' was not found on PATH; .*pipx install"):
        HostClient(tmp_path, env={"PATH": str(tmp_path)})
    with pytest.raises(HostMissing, match="is not an executable file"):
        HostClient(tmp_path, executable=str(tmp_path / "absent"), env={"PATH": ""})


async def test_calls_run_with_the_hosts_folder_on_path_and_no_upgrade_check(
    executable: Path, tmp_path: Path
) -> None:
    transport = RecordingTransport(success({"api_version": "1.5.0"}))
    client = HostClient(
        tmp_path, executable=str(executable), transport=transport, env={"PATH": "/other", "GIT_DIR": "/x"}
    )
    assert await client.check_contract() == "1.5.0"
    assert transport.argv == [[str(executable), "orchestrator-api", "contract-version"]]
    assert transport.env["PATH"] == f"{executable.parent}:/other"
    assert transport.env["SPEC_KITTY_NO_UPGRADE_CHECK"] == "1"
    assert "GIT_DIR" not in transport.env


def test_the_hosts_git_runs_no_hook_and_sees_the_real_objects(tmp_path: Path) -> None:
    env = call_env(os.environ, "/bin/spec-kitty")
    asked = ["git", "config", "--get", "core.hooksPath"]
    told = subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert told.stdout == "/dev/null\n"
    assert env["GIT_NO_REPLACE_OBJECTS"] == "1"


@pytest.mark.parametrize("version", ["1.3.0", "1.10.0", "1.99.1"])
async def test_a_contract_that_we_speak_is_accepted(version: str, connect: Callable[..., HostClient]) -> None:
    client = connect(RecordingTransport(success({"api_version": version})))
    assert await client.check_contract() == version


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"api_version": "1.2.9"}, r"contract 1\.2\.9.*speaks 1\.3\.0.*upgrade the host"),
        ({"api_version": "1.3.0rc1"}, "upgrade the host"),
        ({"api_version": "2.0.0"}, r"contract 2\.0\.0.*upgrade this side"),
        ({"api_version": "2.0.0a1"}, "upgrade this side"),
        ({"api_version": "1.9.0", "min_supported_provider_version": "99"}, "at least 99.*upgrade this side"),
        ({"api_version": "one"}, "upgrade spec-kitty"),
        ({"version": "1.5.0"}, "contract-version.*api_version"),
    ],
)
async def test_a_contract_that_we_do_not_speak_names_the_side_to_upgrade(
    data: dict[str, str], words: str, connect: Callable[..., HostClient]
) -> None:
    with pytest.raises(HostIncompatible, match=words):
        await connect(RecordingTransport(success(data))).check_contract()


async def test_a_read_is_repeated_until_it_is_answered(connect: Callable[..., HostClient]) -> None:
    seen: list[str] = []
    transport = RecordingTransport(EMPTY, TimeoutError(), success(STATE))
    state = await connect(transport, on_call=seen.append).mission_state("m")
    assert state.lanes == {"WP01": Lane.PLANNED}
    assert seen == ["mission-state"] * 3


async def test_a_read_that_is_never_answered_gives_up_after_three_tries(
    connect: Callable[..., HostClient],
) -> None:
    transport = RecordingTransport(EMPTY)
    with pytest.raises(HostCrash, match="resolve-workspace"):
        await connect(transport).resolve_workspace("m", "WP01")
    assert len(transport.argv) == 3


async def test_a_refused_read_is_not_repeated(connect: Callable[..., HostClient]) -> None:
    refused = Reply(1, b'{"success": false, "error_code": "MISSION_NOT_FOUND", "data": {}}', b"")
    transport = RecordingTransport(refused)
    with pytest.raises(HostRefusal):
        await connect(transport).mission_state("m")
    assert len(transport.argv) == 1


MUTATIONS: dict[str, Callable[[HostClient], object]] = {
    "start-implementation": lambda c: c.start_implementation("m", "WP01", "a", POLICY),
    "start-review": lambda c: c.start_review("m", "WP01", "a", POLICY),
    "transition": lambda c: c.transition("m", "WP01", Lane.BLOCKED, "a"),
    "accept-mission": lambda c: c.accept_mission("m", "a"),
    "merge-mission": lambda c: c.merge_mission("m"),
    "mark-status": lambda c: c.tick_subtasks("m", "WP01", ["T001"]),
}


@pytest.mark.parametrize("call", MUTATIONS)
async def test_a_mutation_without_an_answer_is_made_once(
    call: str, connect: Callable[..., HostClient]
) -> None:
    for failure, error in ((EMPTY, HostCrash), (TimeoutError(), HostTimeout)):
        transport = RecordingTransport(failure)
        with pytest.raises(error, match=call):
            await MUTATIONS[call](connect(transport))  # type: ignore[misc]
        assert len(transport.argv) == 1


async def test_a_host_that_cannot_be_started_is_missing(connect: Callable[..., HostClient]) -> None:
    with pytest.raises(HostMissing, match="Permission denied"):
        await connect(RecordingTransport(PermissionError(13, "Permission denied"))).check_contract()


async def test_a_merge_has_a_limit_that_grows_with_its_branches(connect: Callable[..., HostClient]) -> None:
    transport = RecordingTransport(success({"merged": True}))
    client = connect(transport, call_limit_s=50)
    await client.merge_mission("m", 19)
    await client.accept_mission("m", "a")
    assert transport.limits == [600 + 19 * 300, 50]


async def test_a_transition_sends_every_part_as_an_argument_of_its_own(
    executable: Path, connect: Callable[..., HostClient]
) -> None:
    transport = RecordingTransport(success({}))
    await connect(transport).transition(
        "m",
        "WP01",
        Lane.DONE,
        "$(id)",
        policy=POLICY,
        note="--force; rm -rf /\nline",
        review=ReviewResult("codex", "approved", "a1@abc", "ok"),
    )
    (argv,) = transport.argv
    assert argv[:11] == [
        *(str(executable), "orchestrator-api", "transition", "--mission", "m", "--wp", "WP01"),
        *("--to", "done", "--actor", "$(id)"),
    ]
    options = dict(zip(argv[11::2], argv[12::2], strict=True))
    assert options["--note"] == "--force; rm -rf /\nline"
    assert json.loads(options["--policy"])["agent_family"] == "anthropic"
    assert json.loads(options["--review-result-json"])["verdict"] == "approved"


async def test_the_host_is_told_no_secrets(connect: Callable[..., HostClient]) -> None:
    transport = RecordingTransport(success({}), success({}))
    client = connect(transport, clean=lambda text: text.replace("hidden", "-"))

    await client.transition(
        "m",
        "WP01",
        Lane.DONE,
        "a",
        note="hidden",
        review=ReviewResult("codex", "approved", "a1@hidden", "hidden"),
    )

    assert "hidden" not in str(transport.argv)


async def test_a_plain_transition_sends_nothing_more(connect: Callable[..., HostClient]) -> None:
    transport = RecordingTransport(success({}))
    await connect(transport).transition("m", "WP01", Lane.BLOCKED, "a")
    assert transport.argv[0][-4:] == ["--to", "blocked", "--actor", "a"]


async def test_subtasks_are_ticked_in_one_call(connect: Callable[..., HostClient]) -> None:
    results = [{"id": "T001", "outcome": "updated"}, {"id": "T002", "outcome": "already_satisfied"}]
    transport = RecordingTransport(Reply(0, json.dumps({"results": results}).encode(), b""))
    await connect(transport).tick_subtasks("m", "WP01", ["T001", "T002"])
    assert transport.argv[0][1:] == (
        ["agent", "tasks", "mark-status", "T001", "T002", "--status", "done", "--mission", "m", "--json"]
    )


async def test_ticking_nothing_calls_nobody(connect: Callable[..., HostClient]) -> None:
    transport = RecordingTransport(EMPTY)
    await connect(transport).tick_subtasks("m", "WP01", [])
    assert transport.argv == []


@pytest.mark.parametrize("strange", ["--all", "", "T001 T002", "../T1", "T" * 100, "T\0"])
async def test_an_id_that_an_agent_made_up_never_becomes_an_option(
    strange: str, connect: Callable[..., HostClient]
) -> None:
    transport = RecordingTransport(EMPTY)
    with pytest.raises(HostRefusal) as refused:
        await connect(transport).tick_subtasks("m", "WP01", ["T001", strange])
    assert refused.value.code == "SUBTASKS_NOT_FOUND"
    assert transport.argv == []


@pytest.mark.parametrize("mission", ["", "..", "../x", "-m", "a/b", ".hidden"])
async def test_a_name_that_crashes_the_host_is_not_sent(
    mission: str, connect: Callable[..., HostClient]
) -> None:
    transport = RecordingTransport(EMPTY)
    with pytest.raises(HostRefusal) as refused:
        await connect(transport).mission_state(mission)
    assert refused.value.code == "MISSION_NOT_FOUND"
    assert transport.argv == []


@pytest.mark.parametrize(
    ("max_calls", "at_once"),
    [(100, {"all": 6, "starts": 2, "others": 4}), (3, {"all": 3})],
    ids=["two starts and four others", "all kinds together have a bound"],
)
async def test_so_many_calls_run_at_once(
    connect: Callable[..., HostClient], max_calls: int, at_once: dict[str, int]
) -> None:
    transport = RecordingTransport(success({**STATE, **WORKSPACE}))
    transport.gate = anyio.Event()
    client = connect(transport, max_calls=max_calls)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(client.start_implementation, "m", "WP01", "a", POLICY)
                group.start_soon(client.mission_state, "m")
            await anyio.wait_all_tasks_blocked()
            assert transport.running.items() >= at_once.items()
            transport.gate.set()
    assert transport.most.items() >= at_once.items()
    assert len(transport.argv) == 18


def test_one_client_serves_one_event_loop_after_another(connect: Callable[..., HostClient]) -> None:
    client = connect(RecordingTransport(success({"api_version": "1.5.0"})))
    assert anyio.run(client.check_contract) == "1.5.0"
    assert anyio.run(client.check_contract, backend="trio") == "1.5.0"


def test_the_client_is_a_host(connect: Callable[..., HostClient]) -> None:
    host: Host = connect(RecordingTransport(EMPTY))
    assert host is not None


async def test_leaving_the_client_lets_go_of_what_its_transport_keeps(
    executable: Path, tmp_path: Path
) -> None:
    transport = RecordingTransport(success(STATE))
    async with HostClient(tmp_path, executable=str(executable), env={}, transport=transport) as client:
        await client.mission_state("m")
        assert not transport.closed
    assert transport.closed
