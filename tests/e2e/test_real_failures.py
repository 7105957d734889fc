"""What the real CLIs make of failures of the model's API, and what a mission makes of it, on each role."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from tests.e2e.bench import LIMIT_S, Bench
from tests.e2e.model_api import INPUT_TOKENS, OUTPUT_TOKENS, Fault, ModelApi

from spec_kitty_orchestrator.core.model import AgentReport, Lane, Outcome, Result, Role
from spec_kitty_orchestrator.ports import AttemptRequest

pytestmark = pytest.mark.real_agents

BOTH = ("claude-code", "codex")
STRAIGHT = (("claude-code", Role.IMPLEMENT), ("codex", Role.REVIEW))
CROSSED = (("codex", Role.IMPLEMENT), ("claude-code", Role.REVIEW))


def mostly(ones: tuple[tuple[str, Role], ...]) -> list[Any]:
    """Try these agents in these roles, and with time the others too.

    What an agent calls its failure is the agent's, what a mission makes of that is the role's: each is tried.
    """
    others = STRAIGHT if ones is CROSSED else CROSSED
    return [*ones, *(pytest.param(*one, marks=pytest.mark.long) for one in others)]


RESET_S = 7200
FEW_RETRIES = {"CLAUDE_CODE_MAX_RETRIES": "1"}
"""The CLI's own wait grows with each; what it does without is shown by a test of its own."""
PLAN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "a-plan"}

LIMITED = Fault(429, {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "slow down"})
OVERLOADED = Fault(529, {"type": "overloaded_error", "code": "server_overloaded", "message": "Overloaded"})
REFUSED = Fault(401, {"type": "authentication_error", "code": "invalid_api_key", "message": "refused"})
UNKNOWN = Fault(
    404,
    {
        "type": "not_found_error",
        "code": "model_not_found",
        "message": "The requested model 'stand-in' does not exist.",
    },
)


def plan_is_used_up() -> Fault:
    """Answer as both vendors do when a plan's limit is reached."""
    reset = int(time.time()) + RESET_S
    return Fault(
        429,
        {"type": "usage_limit_reached", "message": "limit", "plan_type": "plus", "resets_at": reset},
        {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": str(reset),
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
        },
    )


@pytest.fixture
def bench(clis: Mapping[str, str], api: ModelApi, tmp_path: Path) -> Iterator[Bench]:
    """A bench that must be left without a process."""
    (tmp_path / "bench").mkdir()
    made = Bench(tmp_path / "bench", clis, api, {"claude-code": dict(FEW_RETRIES)})
    yield made
    left = made.alive()
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    assert left == []


def fail(
    bench: Bench, agent: str, role: Role, fault: Fault, ends_with: frozenset[Outcome] = frozenset()
) -> list[AgentReport]:
    """Run a mission in which a role's requests fail, check what always holds, and return its reports."""
    bench.api.faults[role.value] = fault
    implementer, reviewer = (agent, "scripted") if role is Role.IMPLEMENT else ("scripted", agent)
    result = bench.run(implementer, reviewer, ends_with)
    (wp,) = result.work_packages
    assert not {one.to_lane for one in bench.host.events} & {Lane.APPROVED, Lane.DONE}
    assert wp.review.rejected == ()
    assert wp.review.verdict is None
    if not ends_with:
        assert (result.exit_code, wp.result) == (1, Result.PARKED)
        assert bench.host.lanes["WP01"] is (Lane.BLOCKED if role is Role.IMPLEMENT else Lane.IN_REVIEW)
    assert bench.alive() == []
    if role is Role.REVIEW:
        assert [one.outcome for one in bench.reports(Role.IMPLEMENT)] == [Outcome.OK]
    return bench.reports(role)


@pytest.mark.parametrize(("agent", "role"), mostly(STRAIGHT))
@pytest.mark.parametrize(
    ("fault", "outcome", "attempts"),
    [
        pytest.param(OVERLOADED, Outcome.OVERLOADED, 4, id="529"),
        pytest.param(REFUSED, Outcome.AUTH, 2, id="401"),
        pytest.param(UNKNOWN, Outcome.INVALID_REQUEST, 2, id="unknown model"),
        pytest.param(Fault(cuts=True), Outcome.OVERLOADED, 4, id="reset mid-stream"),
    ],
)
def test_a_failure_is_named_and_tried_again_as_often_as_its_kind_deserves(
    bench: Bench, agent: str, role: Role, fault: Fault, outcome: Outcome, attempts: int
) -> None:
    assert [one.outcome for one in fail(bench, agent, role, fault)] == [outcome] * attempts


@pytest.mark.parametrize(("agent", "role"), mostly(CROSSED))
@pytest.mark.parametrize("told", [True, False], ids=["with a reset", "without"])
def test_a_rate_limit_is_known_as_such_with_the_time_of_its_end(
    bench: Bench, agent: str, role: Role, told: bool
) -> None:
    if told and agent == "claude-code":
        bench.env[agent].update(PLAN)
    fault = plan_is_used_up() if told else LIMITED
    (report,) = fail(bench, agent, role, fault, frozenset({Outcome.RATE_LIMITED}))
    assert report.outcome is Outcome.RATE_LIMITED
    if told:
        assert report.retry_after_s is not None
        # Codex tells it without the seconds, and reading it takes a moment.
        assert RESET_S - LIMIT_S <= report.retry_after_s <= RESET_S + 60
    else:
        assert report.retry_after_s is None


@pytest.mark.parametrize(("agent", "role"), mostly(STRAIGHT))
def test_a_request_that_hangs_ends_with_our_time_limit(bench: Bench, agent: str, role: Role) -> None:
    bench.limit_s = 8.0
    reports = fail(bench, agent, role, Fault(hangs=True))
    assert [one.outcome for one in reports] == [Outcome.TIMEOUT] * 2


@pytest.mark.parametrize("agent", BOTH)
def test_a_cli_that_is_stopped_while_it_waits_for_a_limit_says_so(bench: Bench, agent: str) -> None:
    bench.limit_s = 8.0
    config = bench.root / "home" / "codex" / "config.toml"
    config.write_text(config.read_text().replace("stream_max_retries = 0", "stream_max_retries = 1"))
    # So long that the CLI still waits, and so short that it does wait.
    fault = replace(LIMITED, headers={"retry-after": "50"})
    (report,) = fail(bench, agent, Role.IMPLEMENT, fault, frozenset({Outcome.RATE_LIMITED}))
    assert report.outcome is Outcome.RATE_LIMITED
    assert report.detail.startswith("no result within 8s")


def test_claude_gives_up_soon_by_itself(bench: Bench) -> None:
    bench.env["claude-code"].clear()
    (report,) = fail(bench, "claude-code", Role.REVIEW, LIMITED, frozenset({Outcome.RATE_LIMITED}))
    assert report.outcome is Outcome.RATE_LIMITED
    assert not report.detail.startswith("no result within")


@pytest.mark.parametrize("agent", BOTH)
def test_a_network_that_is_down_is_no_fault_of_the_agents(bench: Bench, agent: str) -> None:
    bench.limit_s = 10.0
    gone = "http://127.0.0.1:9"
    bench.env["claude-code"]["ANTHROPIC_BASE_URL"] = gone
    config = bench.root / "home" / "codex" / "config.toml"
    config.write_text(config.read_text().replace(bench.api.url, gone))
    ended = frozenset({Outcome.OVERLOADED})
    reports = fail(bench, agent, Role.IMPLEMENT, Fault(), ended)
    assert [one.outcome for one in reports] == [Outcome.OVERLOADED]


@pytest.mark.parametrize("agent", ["claude-code", "codex", "opencode"])
def test_a_session_is_gone_on_with_in_the_same_worktree(bench: Bench, agent: str) -> None:
    runner = bench.agents()

    def attempt(number: int, session: str, round_: int) -> AgentReport:
        prompt = (
            f"Role: implement\nWork package: WP01\nAttempt: a{number}\nRound: {round_}\n"
            f"Workspace: {bench.workspace.path}\n\ncreate_intent:\n- m{number}.py\n"
        )
        request = AttemptRequest(
            f"{bench.root.parent.name}-{agent}-{number}",
            "demo",
            "WP01",
            number,
            Role.IMPLEMENT,
            agent,
            bench.workspace,
            prompt,
            session=session,
        )

        async def run() -> AgentReport:
            with anyio.fail_after(2 * LIMIT_S):
                return await runner.run(await runner.open(request))

        return anyio.run(run)

    first = attempt(1, "", 1)
    assert first.outcome is Outcome.OK, first.detail
    assert first.session
    second = attempt(2, first.session, 2)
    assert second.outcome is Outcome.OK, second.detail
    assert second.session == first.session
    for number in (1, 2):
        assert (Path(bench.workspace.path) / f"m{number}.py").exists()
    told = "\n".join(bench.api.conversations["a2"])
    assert "Attempt: a1" in told
    assert "Attempt: a2" in told
    own = (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS)
    counted = 2 if second.usage_is_cumulative else 1
    assert (second.usage.input_tokens, second.usage.output_tokens) == (own[0] * counted, own[1] * counted)


def test_claude_ends_an_attempt_that_has_cost_enough(bench: Bench) -> None:
    runner = bench.agents()
    prompt = (
        f"Role: implement\nWork package: WP01\nAttempt: a1\nRound: 1\n"
        f"Workspace: {bench.workspace.path}\n\ncreate_intent:\n- m1.py\n"
    )
    request = AttemptRequest(
        f"{bench.root.parent.name}-cap",
        "demo",
        "WP01",
        1,
        Role.IMPLEMENT,
        "claude-code",
        bench.workspace,
        prompt,
        max_cost_usd=0.0001,
    )

    async def run() -> AgentReport:
        with anyio.fail_after(2 * LIMIT_S):
            return await runner.run(await runner.open(request))

    report = anyio.run(run)
    assert report.outcome is Outcome.BUDGET
    assert report.usage.cost_usd
