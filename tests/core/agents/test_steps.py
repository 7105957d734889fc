"""What the lines of each CLI tell people: steps, one a line, from real transcripts and from garbage."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.agents.records import DATA, RECORDED, lines_of, record, report
from tests.core.agents.test_hostile_output import KINDS, NAMES

from spec_kitty_orchestrator.agents import BUILT_IN, find
from spec_kitty_orchestrator.agents.content import words
from spec_kitty_orchestrator.agents.declared import Declared
from spec_kitty_orchestrator.agents.steps import LONGEST_STEP, Part, Step, StepKind, StepReader, TellsSteps
from spec_kitty_orchestrator.agents.tools import told_call
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.settings.agent_section import AgentSection

SHAPES = (
    *("message", "content", "item", "part", "tool_call", "state", "data", "input", "args", "arguments"),
    *("parameters", "usage", "tokens", "changes", "path", "command", "timestamp", "name", "toolName", "tool"),
    *("shellToolCall", "result", "stats", "file_path", "messages", "message_type", "otid", "id", "subtype"),
)
TYPES = (
    *("user", "tool_result", "thinking", "tool_call", "item.started", "command_execution", "file_change"),
    *("reasoning", "tool.execution_start", "tool.execution_complete", "auto_approval", "assistant_message"),
    *(
        "reasoning_message",
        "tool_execution_start",
        "tool_execution_end",
        "agent_end",
        "bash",
        "Write",
        "grep",
    ),
    *("2026-11-22T06:47:24.143Z", "0001-01-01T00:00:00+23:59", "*** Update File: a\n", "bash -lc 'x"),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from((*KINDS, *TYPES)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*NAMES, *SHAPES, "type")), inner, max_size=6)
    ),
    max_leaves=16,
)
LINES = (
    VALUES.map(lambda value: json.dumps(value, default=str))
    | st.text(max_size=200)
    | st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
)


def told(agent: object, lines: list[str], places: tuple[str, ...] = ("/home/dev/wt",)) -> list[Step]:
    reader = StepReader(agent, places)
    return [*(step for line in lines for step in reader.read(line)), *reader.rest()]


def spelled(agent: str, case: str, longest: int = 46) -> list[str]:
    return [f"{one.kind} {one.text}"[:longest] for one in told(find(agent), lines_of(agent, case))]


def check(step: Step) -> None:
    assert isinstance(step.kind, StepKind)
    assert 0 < len(step.text) <= LONGEST_STEP
    assert step.text == plain(step.text) == " ".join(step.text.split())
    assert step.tokens >= 0
    assert step.at is None or step.at.tzinfo is UTC
    assert step.ok in ((None,) if step.kind not in (StepKind.FAILS, StepKind.ENDS) else (True, False))


TRANSCRIPTS = [(agent, file.stem) for agent in RECORDED for file in sorted((DATA / agent).glob("*.stdout"))]


@pytest.mark.parametrize(("agent", "case"), TRANSCRIPTS)
def test_the_steps_of_a_real_transcript_are_printable_lines(agent: str, case: str) -> None:
    for step in told(find(agent), lines_of(agent, case)):
        check(step)
        assert not step.text.startswith('{"type"')


@pytest.mark.parametrize("agent", RECORDED)
def test_the_steps_of_a_success_are_what_was_done_then_said_and_that_it_ended(agent: str) -> None:
    steps = told(find(agent), lines_of(agent, "success"))
    assert [one.kind for one in steps][-2:] == [StepKind.SAYS, StepKind.ENDS]
    assert (steps[-1].text, steps[-1].ok) == ("finished", True)
    assert steps[-2].text.startswith("DONE: ")


COUNTS = [(agent, case) for agent in RECORDED if agent != "copilot" for case in record(agent)["successes"]]


@pytest.mark.parametrize(("agent", "case"), COUNTS)
def test_the_tokens_of_all_steps_are_those_of_the_report(agent: str, case: str) -> None:
    used = report(agent, case).usage
    assert sum(one.tokens for one in told(find(agent), lines_of(agent, case))) == (
        used.input_tokens + used.output_tokens
    )


EXACT = {
    ("claude-code", "success"): [
        "edits hello.txt",
        "runs echo hi > b.txt; ls",
        "says DONE: completed 2 step(s). [result 1] Fil",
        "ends finished",
    ],
    ("claude-code", "429x2"): [
        "fails a request ended with status 429",
        "edits hello.txt",
        "says DONE: completed 1 step(s). [result 1] Fil",
        "ends finished",
    ],
    ("claude-code", "sigint"): [
        "runs sleep 300.112",
        "fails The user doesn't want to proceed with th",
        "ends [ede_diagnostic] result_type=user last_co",
    ],
    ("codex", "home_below_tmp"): [
        "runs mkdir -p \"$(dirname 'hello.txt')\" && prin",
        "fails exit code 1: bwrap: execvp codex-linux-s",
    ],
    ("gemini", "success"): [
        "edits hello.txt",
        "runs echo hi > b.txt; touch /home/dev/outside-",
        "edits /home/dev/outside-gemini.txt",
        'fails Path not in workspace: Attempted path "/',
        'says DONE: completed 3 step(s). [result 1] {"o',
        "ends finished",
    ],
    ("kilocode", "refused_permission"): [
        "edits /home/dev/lab/ws/kilocode/success_noauto",
        "runs echo hi > b.txt; touch ../outside.txt; ls",
        "fails The user rejected permission to use this",
        "ends run ended with an auto-rejected permissio",
    ],
    ("cursor", "success"): [
        "thinks Planning",
        "says I'll write the file.",
        "edits /wt/a.txt",
        "says DONE: a.txt is written.",
        "ends finished",
    ],
    ("cursor", "refused_tool"): [
        "says I'll run it.",
        "runs touch x",
        "fails shell: rejected",
        "says I could not run the command.",
        "ends finished",
    ],
}


@pytest.mark.parametrize(("agent", "case"), EXACT)
def test_the_steps_of_some_transcripts_are_exactly_these(agent: str, case: str) -> None:
    wanted = EXACT[agent, case]
    found = [one for one in spelled(agent, case) if not one.startswith("says Model metadata")]
    assert found[: len(wanted)] == wanted


def test_a_time_that_a_cli_tells_is_that_of_its_steps() -> None:
    first = told(find("opencode"), lines_of("opencode", "success"))[0]
    assert first.at == datetime(2026, 11, 22, 6, 55, 19, 627000, UTC)
    assert told(find("codex"), lines_of("codex", "success"))[0].at is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(BUILT_IN)), st.lists(LINES, max_size=8))
def test_garbage_never_raises_and_never_becomes_more_than_one_printable_line(
    agent: str, lines: list[str]
) -> None:
    for step in told(find(agent), lines):
        check(step)


@pytest.mark.parametrize("agent", BUILT_IN)
def test_every_built_in_agent_tells_steps(agent: str) -> None:
    assert isinstance(find(agent), TellsSteps)


def test_an_agent_that_tells_no_steps_says_its_lines() -> None:
    lines = ["\x1b[31mred\x1b[0m\tand green\r\n", "\n", "x" * 10_000 + "\n"]
    assert [(one.kind, one.text) for one in told(object(), lines)] == [
        ("says", "red and green"),
        ("says", "x" * (LONGEST_STEP - 1) + "…"),
    ]


def test_pieces_of_a_text_are_one_step_until_something_else_comes() -> None:
    pieces = [
        {"type": "message", "role": "assistant", "content": "All is", "delta": True},
        {"type": "message", "role": "assistant", "content": " well.", "delta": True},
        {"type": "tool_use", "tool_name": "run_shell_command", "parameters": {"command": "ls"}},
    ]
    reader = StepReader(find("gemini"))
    assert reader.read(json.dumps(pieces[0])) == reader.read(json.dumps(pieces[1])) == []
    assert [f"{one}" for step in reader.read(json.dumps(pieces[2])) for one in (step.kind, step.text)] == [
        *("says", "All is well."),
        *("runs", "ls"),
    ]
    reader.read(json.dumps(pieces[0]))
    assert [one.text for one in reader.rest()] == ["All is"]
    assert reader.rest() == []


def test_a_text_in_many_pieces_costs_bounded_memory() -> None:
    class Endless:
        def steps(self, line: str) -> list[Part]:
            return [Part(StepKind.SAYS, line)]

    reader = StepReader(Endless())
    for _ in range(100):
        assert reader.read("x" * 100_000) == []
    assert len(reader.rest()[0].text) == LONGEST_STEP
    assert "x" * 100_000 not in repr(vars(reader))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cd /a/wt && ls /a/wt/src/x.py", "cd . && ls src/x.py"),
        ("see /a/wt.", "see .."),
        ("at /a/wt-2/x, not /b/a/wt/x", "at wt-2/x, not /b/a/wt/x"),
        ("/a/notes in '/a/'", "notes in '.'"),
        ("https://x/a/wt/y", "https://x/a/wt/y"),
    ],
)
def test_paths_of_the_worktree_and_the_repository_are_cut(said: str, shown: str) -> None:
    assert [one.text for one in told(None, [said], ("/a", "/a/wt/"))] == [shown]


def test_what_must_not_be_shown_is_taken_out_before_a_text_is_cut() -> None:
    reader = StepReader(None, redact=lambda text: text.replace("k" * 500, "[redacted]"))
    assert [one.text for one in reader.read("it is " + "k" * 500 + " really")] == ["it is [redacted] really"]


def test_a_plug_in_with_a_bug_hides_nothing_but_its_own_steps() -> None:
    class Broken:
        def steps(self, line: str) -> object:
            if line == "bad":
                raise KeyError(line)
            return [line, None, Step(StepKind.SAYS, "fine")]

    assert [one.text for one in told(Broken(), ["bad", "good"])] == ["fine"]


@pytest.mark.parametrize(
    ("tool", "given", "call"),
    [
        ("Bash", {"command": "ls"}, ("runs", "ls")),
        ("shell", {"command": ["sh", "-c", "ls -l"]}, ("runs", "ls -l")),
        ("shell", {"command": "/usr/bin/zsh -lc 'a && b'"}, ("runs", "a && b")),
        ("shell", {"command": "bash -lc 'a"}, ("runs", "bash -lc 'a")),
        ("NotebookEdit", {"notebook_path": "n.ipynb"}, ("edits", "n.ipynb")),
        ("apply_patch", {"input": "*** Begin Patch\n*** Add File: a b.py\n+x\n"}, ("edits", "a b.py")),
        ("Grep", {"pattern": "TODO", "path": "src"}, ("reads", "TODO in src")),
        ("Read", {"file_path": "a.py", "limit": 3}, ("reads", "a.py")),
        ("Task", {"description": "look", "prompt": "long"}, ("uses", "Task look")),
        ("TodoWrite", {"todos": []}, ("uses", "TodoWrite")),
        ("mcp__db__query", {"query": "select 1"}, ("uses", "mcp__db__query select 1")),
        ("write", {}, ("uses", "write")),
    ],
)
def test_a_call_of_a_tool_is_told_by_what_it_does(
    tool: str, given: dict[str, object], call: tuple[str, str]
) -> None:
    assert told_call(tool, given) == call


def test_the_content_of_a_message_is_a_text_or_blocks() -> None:
    assert (
        words("plain") == words([{"type": "text", "text": "pl"}, {"type": "text", "text": "ain"}]) == "plain"
    )
    assert words(None) == words([1, None]) == ""


@pytest.mark.parametrize(
    ("output", "line", "steps"),
    [
        ("text", "any words", ["says any words"]),
        ("json:answer", '{"answer": "done"}', ["says done"]),
        ("jsonl:text", '{"text": "hi", "error": "no"}', ["says hi"]),
        ("jsonl:kind=say:text", '{"kind": "log", "text": "hi"}', []),
        ("jsonl:text", "noise", []),
    ],
)
def test_an_agent_of_ones_own_says_what_its_declaration_points_at(
    output: str, line: str, steps: list[str]
) -> None:
    section = AgentSection.model_validate({"command": ["mine"], "output": output})
    declaration = section.declaration("mine")
    assert declaration is not None
    assert [f"{one.kind} {one.text}" for one in told(Declared(declaration), [line])] == steps
