"""Events that no stored transcript shows: what is a result, and which words are the final text."""

import json

import pytest
from tests.core.agents.records import lines_of, told

from spec_kitty_orchestrator.agents.claude_code import ClaudeCode
from spec_kitty_orchestrator.agents.pi import Pi
from spec_kitty_orchestrator.core.model import Outcome

Event = dict[str, object]

OK, FAILED, CRASHED = Outcome.OK, Outcome.FAILED, Outcome.CRASHED


def text(words: object) -> Event:
    return {"role": "assistant", "content": [{"type": "text", "text": words}]}


def letta(piece: str, **more: object) -> Event:
    return {"type": "message", "message_type": piece, **more}


def letta_said(words: object, name: str = "a") -> Event:
    return letta("assistant_message", content=words, otid=name)


def pi(reason: str, tokens: int, *content: Event, error: str = "") -> Event:
    usage = {"totalTokens": tokens, "input": tokens}
    said: Event = {"role": "assistant", "content": list(content), "stopReason": reason, "usage": usage}
    return {"type": "message_end", "message": said | ({"errorMessage": error} if error else {})}


def item(kind: str, moment: str = "completed", **more: object) -> Event:
    return {"type": f"item.{moment}", "item": {"type": kind, **more}}


def copilot(kind: str, **data: object) -> Event:
    return {"type": kind, "data": data}


SUCCESS: Event = {"type": "result", "subtype": "success", "is_error": False, "result": "VERDICT"}
GEMINI_SAID: Event = {"type": "message", "role": "assistant", "content": "VERDICT", "delta": True}
TOOL_OF_GEMINI: Event = {"type": "tool_use", "tool_name": "run_shell_command"}
PI_WORDS: Event = {"type": "text", "text": "VERDICT"}
PI_CALL: Event = {"type": "toolCall", "name": "bash"}
PI_SAID = pi("stop", 5, PI_WORDS)
PI_END: Event = {"type": "agent_end", "messages": []}
WORKS: Event = {"type": "assistant", "parent_tool_use_id": None, "message": {}}
SUBAGENT: Event = {"type": "assistant", "parent_tool_use_id": "toolu_1", "message": {}}
CODEX_SAID = item("agent_message", text="VERDICT")
CURSOR_SAID: Event = {"type": "assistant", "message": text("VERDICT")}
CURSOR_TOOL: Event = {"type": "tool_call", "subtype": "completed"}
OPENCODE_SAID: Event = {"type": "text", "part": {"text": "VERDICT"}}

GOOD: dict[str, list[Event]] = {
    "augment": [SUCCESS],
    "claude-code": [SUCCESS],
    "codex": [CODEX_SAID, {"type": "turn.completed"}],
    "copilot": [copilot("assistant.message", content="VERDICT"), {"type": "result", "exitCode": 0}],
    "cursor": [SUCCESS],
    "gemini": [{"type": "init"}, GEMINI_SAID, {"type": "result", "status": "success"}],
    "letta": [letta_said("VERDICT"), {"type": "result", "subtype": "success", "result": "x"}],
    "opencode": [OPENCODE_SAID, {"type": "step_finish", "part": {"reason": "stop"}}],
    "pi": [PI_SAID, PI_END],
    "qwen": [{"type": "result", "is_error": False, "result": "VERDICT"}],
}
"""The shortest output of each CLI that is a success; the last event says so."""


@pytest.mark.parametrize("agent", GOOD)
def test_a_result_that_says_success_is_one(agent: str) -> None:
    found = told(agent, *GOOD[agent])
    assert (found.outcome, found.text, found.detail) == (OK, "VERDICT", "")


@pytest.mark.parametrize(
    ("agent", "changes"),
    [
        *(
            (agent, {"is_error": wrong})
            for agent in ("claude-code", "qwen")
            for wrong in (None, "false", 0, True)
        ),
        *(("augment", {"is_error": wrong}) for wrong in (None, 0, True)),
        *(("augment", {"subtype": wrong}) for wrong in ("error_max_turns", "empty_completion")),
        *(("augment", {"result": wrong}) for wrong in (None, " \n")),
        *(("copilot", {"exitCode": wrong}) for wrong in (1, None, False, "0")),
        ("cursor", {"is_error": True}),
        ("cursor", {"is_error": None}),
        ("cursor", {"subtype": "error"}),
        ("cursor", {"result": "", "subtype": None}),
        *(("gemini", {"status": wrong}) for wrong in (None, "ok", True, "error")),
        ("letta", {"subtype": None}),
        ("letta", {"subtype": "error", "result": "max turns"}),
        ("letta", {"is_error": True}),
    ],
)
def test_any_other_result_has_failed(agent: str, changes: Event) -> None:
    *before, last = GOOD[agent]
    found = told(agent, *before, last | changes)
    assert (found.outcome, found.text) == (FAILED, "")


@pytest.mark.parametrize(
    ("agent", "later", "outcome"),
    [
        ("augment", {"type": "started"}, CRASHED),
        ("claude-code", WORKS, CRASHED),
        ("codex", {"type": "turn.started"}, CRASHED),
        ("copilot", copilot("assistant.turn_start"), CRASHED),
        ("copilot", copilot("assistant.message", content="wait"), CRASHED),
        ("copilot", copilot("session.error", errorType="query"), FAILED),
        ("copilot", copilot("assistant.idle", aborted=True), CRASHED),
        ("copilot", copilot("abort"), CRASHED),
        ("cursor", {"type": "tool_call", "subtype": "started"}, CRASHED),
        ("gemini", GEMINI_SAID, CRASHED),
        ("gemini", TOOL_OF_GEMINI, CRASHED),
        ("letta", letta("usage_statistics", total_tokens=5), CRASHED),
        ("letta", {"type": "error", "message": "no"}, FAILED),
        ("pi", {"type": "agent_start"}, CRASHED),
        ("qwen", WORKS, CRASHED),
        ("qwen", {"type": "system", "subtype": "retry", "data": {"attempt": 1}}, Outcome.OVERLOADED),
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1, -9])
def test_what_goes_on_after_its_result_takes_it_back(
    agent: str, later: Event, outcome: Outcome, exit_code: int
) -> None:
    assert told(agent, *GOOD[agent], later, exit_code=exit_code).outcome is outcome


@pytest.mark.parametrize(
    ("agent", "events"),
    [
        ("claude-code", [*GOOD["claude-code"], SUBAGENT]),
        ("qwen", [*GOOD["qwen"], SUBAGENT]),
        (
            "copilot",
            [
                GOOD["copilot"][0],
                {**copilot("assistant.message", content="s"), "agentId": "x"},
                GOOD["copilot"][1],
            ],
        ),
        (
            "copilot",
            [
                GOOD["copilot"][0],
                copilot("assistant.message", parentToolCallId="c", content="s"),
                GOOD["copilot"][1],
            ],
        ),
        (
            "pi",
            [
                PI_SAID,
                {"type": "message_end", "message": {"role": "user", "content": [{"type": "text"}]}},
                PI_END,
            ],
        ),
        ("codex", [item("command_execution"), CODEX_SAID, item("reasoning"), {"type": "turn.completed"}]),
        ("codex", [item("command_execution"), CODEX_SAID, item("error"), {"type": "turn.completed"}]),
        ("codex", [item("command_execution"), CODEX_SAID, item("todo_list"), {"type": "turn.completed"}]),
    ],
)
def test_what_others_say_or_what_is_no_work_undoes_neither_the_result_nor_the_final_text(
    agent: str, events: list[Event]
) -> None:
    found = told(agent, *events)
    assert (found.outcome, found.text) == (OK, "VERDICT")


LETTA_END = GOOD["letta"][-1] | {"result": "VERDICT"}
LETTA_TOOL = letta("tool_return_message")
PARTS = [{"type": "text", "text": "VER"}, {"type": "text", "text": "DICT"}]


@pytest.mark.parametrize(
    ("agent", "after", "outcome"),
    [
        *(
            ("codex", [item(kind)], OK)
            for kind in ("command_execution", "file_change", "mcp_tool_call", "new")
        ),
        ("codex", [item("command_execution", "started")], OK),
        ("codex", [item("todo_list", "updated")], OK),
        ("codex", [{"type": "turn.started"}], OK),
        ("cursor", [{"type": "tool_call", "subtype": "started"}], FAILED),
        ("cursor", [CURSOR_TOOL, {"type": "assistant", "message": {"content": []}}], FAILED),
        ("cursor", [{"type": "assistant", "message": text("")}], FAILED),
        ("gemini", [TOOL_OF_GEMINI, {"type": "tool_result", "output": "approved"}], FAILED),
        *(
            ("letta", [after], FAILED)
            for after in (
                {"type": "auto_approval", "tool_call": {"name": "Read"}},
                letta("approval_request_message"),
                letta("tool_call_message"),
                LETTA_TOOL,
                letta("stop_reason", stop_reason="requires_approval"),
                letta("event_message", event_type="retry", event_data={}),
            )
        ),
        ("letta", [LETTA_TOOL, letta_said("")], FAILED),
        ("letta", [LETTA_TOOL, letta("reasoning_message", reasoning="VERDICT")], FAILED),
        ("opencode", [{"type": "tool_use"}], FAILED),
        ("opencode", [{"type": "step_start"}], FAILED),
    ],
)
def test_what_was_said_before_a_tool_is_no_final_text_though_the_result_repeats_it(
    agent: str, after: list[Event], outcome: Outcome
) -> None:
    said = {"cursor": [CURSOR_SAID], "letta": [letta_said("VERDICT")]}.get(agent, GOOD[agent][:-1])
    last = LETTA_END if agent == "letta" else GOOD[agent][-1]
    found = told(agent, *said, *after, last)
    assert (found.outcome, found.text) == (outcome, "")


@pytest.mark.parametrize(
    ("agent", "events", "words"),
    [
        (
            "cursor",
            [CURSOR_TOOL, SUCCESS],
            "VERDICT",
        ),  # A result stands for a stream in which nothing was said.
        (
            "gemini",
            [
                *GOOD["gemini"][:2],
                TOOL_OF_GEMINI,
                {"type": "tool_result", "output": "approved"},
                *(GEMINI_SAID | {"content": word} for word in ("Re", "jected.")),
                GOOD["gemini"][-1],
            ],
            "Rejected.",
        ),
        *(
            (
                "letta",
                [
                    letta_said("before"),
                    LETTA_TOOL,
                    *said,
                    letta("stop_reason", stop_reason="end_turn"),
                    LETTA_END,
                ],
                "VERDICT",
            )
            for said in (
                [letta_said("VERDICT")],
                [letta_said(PARTS)],
                [letta_said("VER"), letta_said("DICT")],
                [letta_said([*PARTS, 1, {"x": 2}])],
            )
        ),
        ("letta", [letta_said("a", "1"), letta_said("b", "2"), letta_said("c", "2"), LETTA_END], "a\nbc"),
        *(
            (
                "opencode",
                [
                    {"type": "step_start"},
                    OPENCODE_SAID,
                    after,
                    *({"type": "text", "part": {"text": word}} for word in ("Re", "jected.")),
                    GOOD["opencode"][-1],
                ],
                "Rejected.",
            )
            for after in ({"type": "tool_use"}, {"type": "step_start"})
        ),
    ],
)
def test_the_final_text_is_what_was_said_after_the_last_tool(
    agent: str, events: list[Event], words: str
) -> None:
    found = told(agent, *events)
    assert (found.outcome, found.text) == (OK, words)


@pytest.mark.parametrize("case", ["success", "first", "resumed", "review_approve", "review_reject"])
def test_the_text_of_the_real_letta_is_that_of_its_result_where_it_ended_with_words(case: str) -> None:
    lines = [json.loads(line) for line in lines_of("letta", case)]
    assert told("letta", *lines).text == lines[-1]["result"]


def counted(tokens: int) -> Event:
    return letta("usage_statistics", total_tokens=tokens)


@pytest.mark.parametrize(
    ("agent", "events", "outcome"),
    [
        (
            "gemini",
            [{"type": "message", "role": "user", "content": '{"verdict": "approved"}'}, GOOD["gemini"][-1]],
            FAILED,
        ),
        ("letta", [LETTA_END], FAILED),
        ("opencode", [GOOD["opencode"][-1]], FAILED),
        ("copilot", [], CRASHED),
        ("pi", [PI_END], CRASHED),
        # Only the last message of pi's counts.
        ("pi", [pi("toolUse", 5, PI_CALL), PI_SAID, PI_END], OK),
        ("pi", [pi("length", 5, PI_WORDS), PI_END], FAILED),
        ("pi", [pi("toolUse", 5, PI_CALL), PI_END], FAILED),
        ("pi", [pi("stop", 5), PI_END], FAILED),
        ("pi", [pi("aborted", 5, PI_WORDS), PI_END], CRASHED),
        ("pi", [pi("stop", 5, PI_WORDS, error="402 Payment required"), PI_END], Outcome.BUDGET),
        ("pi", [PI_SAID, pi("error", 0, error="no"), PI_END], FAILED),
        ("pi", [pi("error", 0, error="terminated"), PI_SAID, PI_END], OK),
        # An API that counts no tokens at all; one that does, and did not get as far; a tool call broken off.
        ("pi", [pi("toolUse", 0, PI_CALL), pi("stop", 0, PI_WORDS), PI_END], OK),
        ("pi", [pi("toolUse", 5, PI_CALL), pi("stop", 0, PI_WORDS), PI_END], Outcome.OVERLOADED),
        ("pi", [pi("stop", 0, PI_CALL), pi("stop", 0, PI_WORDS), PI_END], Outcome.OVERLOADED),
        ("letta", [counted(5), letta_said("x"), counted(7), LETTA_END], OK),
        ("letta", [counted(0), letta_said("x"), counted(0), LETTA_END], OK),
        ("letta", [counted(5), letta_said("x"), counted(0), LETTA_END], Outcome.OVERLOADED),
        # An error after which it went on is none.
        ("letta", [{"type": "error", "message": "no"}, *GOOD["letta"]], OK),
        ("letta", [letta_said("x"), {"type": "error", "message": "no"}, LETTA_END], FAILED),
        ("copilot", [copilot("session.error", errorType="query"), *GOOD["copilot"]], OK),
        (
            "copilot",
            [GOOD["copilot"][0], copilot("session.error", errorType="query"), GOOD["copilot"][1]],
            FAILED,
        ),
        ("gemini", [{"type": "error", "severity": "warning", "message": "not yet"}, *GOOD["gemini"]], OK),
    ],
)
def test_an_end_without_a_final_text_or_with_an_error_is_no_success(
    agent: str, events: list[Event], outcome: Outcome
) -> None:
    assert told(agent, *events).outcome is outcome


@pytest.mark.parametrize("words", ["Loop detected, stopping execution", "Maximum session turns exceeded", ""])
def test_a_success_of_gemini_that_was_cut_short_has_failed(words: str) -> None:
    *before, last = GOOD["gemini"]
    found = told("gemini", *before, {"type": "error", "severity": "warning", "message": words}, last)
    assert (found.outcome, found.text) == (FAILED, "")
    assert found.detail == (words or "an error without words")


def test_what_a_cli_could_not_end_well_is_told_by_what_was_missing() -> None:
    assert (
        told("letta", letta_said("VERDICT"), LETTA_TOOL, LETTA_END).detail == "it ended without a final text"
    )
    cut = told("cursor", CURSOR_SAID | {"session_id": "s-1"}, exit_code=-15)
    assert (cut.outcome, cut.session) == (CRASHED, "s-1")
    assert cut.detail == "it ended with 'no result'; exit code -15"


def test_prose_about_an_error_does_not_make_a_finished_run_fail() -> None:
    prose = "The test expects: API Error 429, rate limit, authentication_failed, Quota exceeded."
    assert told("claude-code", SUCCESS | {"result": prose}).outcome is OK
    assert told("codex", item("agent_message", text=prose), GOOD["codex"][-1]).outcome is OK


def test_a_claude_with_commands_in_the_background_goes_on_after_its_result() -> None:
    began: Event = {"type": "system", "subtype": "background_tasks_changed", "tasks": [{}]}
    ended = began | {"tasks": []}

    def goes_on(*events: Event) -> bool:
        return ClaudeCode().goes_on(json.dumps(one) for one in events)

    assert not goes_on(WORKS, SUCCESS)
    assert goes_on(began, WORKS, SUCCESS)
    assert not goes_on(began, WORKS, SUCCESS, ended, WORKS, SUCCESS)


def called(tool: str) -> Event:
    """Return a call of a tool, as claude and qwen tell it."""
    message = {"content": [{"type": "tool_use", "name": tool}, "x"]}
    return {"type": "assistant", "parent_tool_use_id": None, "message": message}


def test_refused_tools_of_qwen_are_told_although_it_finished() -> None:
    denials = [{"tool_name": "write_file"}, {"tool_name": "edit"}, "x"]
    calls = [called("write_file"), called("edit"), called("run_shell_command")]
    found = told("qwen", *calls, GOOD["qwen"][0] | {"permission_denials": denials})
    assert (found.outcome, found.detail) == (OK, "3 tool calls were refused: edit, write_file")


@pytest.mark.parametrize(
    ("billing", "cost_usd"),
    [
        ({"usage_unit": "usd", "total_cost": 0.25}, 0.25),
        ({"usage_unit": "credits", "total_cost": 40}, None),
        ({"usage_unit": "usd", "total_cost": -1}, None),
        ("usd", None),
    ],
)
def test_what_augment_cost_is_told_where_the_account_is_billed_in_dollars(
    billing: object, cost_usd: float | None
) -> None:
    assert told("augment", SUCCESS | {"billing": billing}).usage.cost_usd == cost_usd


def test_what_copilot_used_is_read_from_the_line_that_follows_its_output() -> None:
    spent = {
        "totalPremiumRequestCost": 2,
        "modelMetrics": {
            "m-1": {"usage": {"inputTokens": 3600, "outputTokens": 102, "cacheReadTokens": 150}},
            "m-2": {"usage": {"inputTokens": 400, "outputTokens": 8}},
        },
    }
    found = told("copilot", *map(json.loads, lines_of("copilot", "success")), spent)
    assert found.outcome is OK
    assert (found.usage.input_tokens, found.usage.output_tokens) == (4000, 110)
    assert (found.usage.cost_usd, found.usage_is_cumulative) == (None, True)
    assert told("copilot", spent).outcome is CRASHED


def test_pieces_of_messages_of_pi_are_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    whole = json.loads

    def watched(line: str) -> object:
        parsed.append(line)
        return whole(line)

    monkeypatch.setattr("spec_kitty_orchestrator.agents.json_lines.json.loads", watched)
    ends = [json.dumps(PI_SAID), json.dumps(PI_END)]
    assert Pi().report(['{"type":"message_update","message":{}}', *ends], "", 0).outcome is OK
    assert parsed == ends


REFUSED = "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted\n"


def ran(output: str, exit_code: int) -> Event:
    return item("command_execution", aggregated_output=output, exit_code=exit_code, status="?")


@pytest.mark.parametrize(
    ("calls", "outcome"),
    [
        ([ran(REFUSED, 1), ran(f"x\n{REFUSED}", 1)], Outcome.INVALID_REQUEST),
        ([ran("error running landlock: NotEnforced", 101)], Outcome.INVALID_REQUEST),
        ([ran(REFUSED, 1), item("file_change", status="failed")], Outcome.INVALID_REQUEST),
        ([ran(REFUSED, 1), ran("", 0)], OK),
        ([ran(REFUSED, 1), ran("no such file", 1)], OK),
        ([ran(REFUSED, 0)], OK),
        ([ran(REFUSED, 1), item("file_change", status="completed")], OK),
        ([ran(REFUSED, 1), item("mcp_tool_call", status="completed")], OK),
        ([ran("I ran bwrap: it said no", 1)], OK),
        ([], OK),
    ],
)
def test_a_codex_whose_sandbox_started_none_of_its_commands_has_done_nothing_whatever_it_says(
    calls: list[Event], outcome: Outcome
) -> None:
    found = told("codex", *calls, CODEX_SAID, {"type": "turn.completed"})
    assert found.outcome is outcome
    assert bool(found.text) is (outcome is OK)
    assert found.detail.startswith("" if outcome is OK else "its sandbox cannot start a command: ")


@pytest.mark.parametrize(
    ("calls", "outcome"),
    [([], Outcome.INVALID_REQUEST), ([ran(REFUSED, 1)], Outcome.INVALID_REQUEST), ([ran("", 0)], OK)],
)
def test_a_codex_that_says_at_its_start_that_its_sandbox_has_no_helper_need_not_tell_of_its_commands(
    calls: list[Event], outcome: Outcome
) -> None:
    said = 'WARNING: Refusing to create helper binaries under temporary dir "/tmp" (codex_home: "/tmp/x")'
    found = told("codex", *calls, CODEX_SAID, {"type": "turn.completed"}, stderr=said)
    assert found.outcome is outcome
    assert found.detail.startswith("" if outcome is OK else "its sandbox cannot start a command: ")


def gemini_tool(name: str, refused: bool) -> list[Event]:
    used: Event = {"type": "tool_use", "tool_name": name, "tool_id": name}
    error = {"type": "policy_violation"} if refused else {}
    return [used, {"type": "tool_result", "tool_id": name, "error": error}]


def copilot_tool(name: str, refused: bool) -> list[Event]:
    done = copilot("tool.execution_complete", toolCallId=name, error={"code": "denied" if refused else "x"})
    return [copilot("tool.execution_start", toolCallId=name, toolName=name), done]


def opencode_tool(name: str, refused: bool) -> list[Event]:
    why = "The user has specified a rule which prevents you from using this specific tool call."
    return [{"type": "tool_use", "part": {"tool": name, "state": {"error": why if refused else ""}}}]


def denied(agent: str, *names: str) -> list[Event]:
    return [GOOD[agent][0] | {"permission_denials": [{"tool_name": name} for name in names]}]


REFUSED_CALLS: list[tuple[str, list[Event], str]] = [
    ("claude-code", [called("Read"), called("Bash"), *denied("claude-code", "Bash")], "Bash"),
    ("claude-code", [called("Bash"), called("Edit"), *denied("claude-code", "Edit", "Bash")], "Bash, Edit"),
    ("claude-code", [called("Bash"), called("Bash"), *denied("claude-code", "Bash")], ""),
    ("claude-code", [called("Read"), *denied("claude-code", "Read")], ""),
    ("qwen", [called("run_shell_command"), *denied("qwen", "run_shell_command")], "run_shell_command"),
    ("gemini", [*gemini_tool("read_file", False), *gemini_tool("replace", True), *GOOD["gemini"]], "replace"),
    (
        "gemini",
        [*gemini_tool("replace", False), *gemini_tool("run_shell_command", True), *GOOD["gemini"]],
        "",
    ),
    ("copilot", [*copilot_tool("bash", True), *copilot_tool("view", False), *GOOD["copilot"]], "bash"),
    ("copilot", [*copilot_tool("bash", True), *copilot_tool("create", False), *GOOD["copilot"]], ""),
    ("opencode", [*opencode_tool("write", True), *opencode_tool("read", False), *GOOD["opencode"]], "write"),
    ("opencode", [*opencode_tool("write", True), *opencode_tool("bash", False), *GOOD["opencode"]], ""),
    ("kilocode", [*opencode_tool("edit", True), *GOOD["opencode"]], "edit"),
]


@pytest.mark.parametrize(("agent", "events", "names"), REFUSED_CALLS)
def test_an_agent_that_was_refused_all_that_would_have_changed_or_run_something_is_told_as_such(
    agent: str, events: list[Event], names: str
) -> None:
    found = told(agent, *events)
    told_so = "the CLI's own rules refused every command and edit that it tried: "
    assert (found.outcome, found.refused) == (OK, bool(names))
    assert (found.detail == told_so + names) is bool(names)
