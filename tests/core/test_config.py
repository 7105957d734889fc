"""The settings: which layer wins, and what each mistake is called."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from spec_kitty_orchestrator.config import CONFIG_FILE, load, record
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.quantities import seconds, size, spelled, spelled_size
from spec_kitty_orchestrator.settings import HostSettings, Settings
from spec_kitty_orchestrator.settings.values import Section

KNOWN = ("claude-code", "codex", "scripted")


def read(root: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    if text:
        file = root / CONFIG_FILE
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return load(root, environ or {}, flags, KNOWN)


def refusal(root: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(root, text, environ, **flags)
    return str(caught.value)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert read(tmp_path) == Settings()


@pytest.mark.parametrize("section", Section.__subclasses__())
def test_every_setting_says_what_it_is(section: type[BaseModel]) -> None:
    # Nothing is said of the tables themselves, which have pages.
    keys = {} if section is Settings else section.model_fields
    assert [key for key, field in keys.items() if not field.description] == []


def test_each_layer_wins_over_the_one_before(tmp_path: Path) -> None:
    text = "[run]\nmax_concurrent = 2\nactor = 'file'\nmax_attempts = 5\n"
    environ = {"SKO_ACTOR": "variable", "SKO_MAX_ATTEMPTS": "7"}
    run = read(tmp_path, text, environ, max_attempts=9, max_review_cycles=None).run
    assert (run.max_concurrent, run.actor, run.max_attempts, run.max_review_cycles) == (2, "variable", 9, 3)


def test_the_host_is_configured_by_variables_too(tmp_path: Path) -> None:
    host = read(tmp_path, environ={"SKO_HOST_EXECUTABLE": "/bin/sk", "SKO_HOST_CALL_TIMEOUT": "3m"}).host
    assert (host.executable, host.call_timeout) == ("/bin/sk", 180)


@pytest.mark.parametrize("given", ["codex,claude-code", " codex , claude-code ", ["codex", "claude-code"]])
def test_a_fallback_order_is_a_list_or_words_with_commas(tmp_path: Path, given: object) -> None:
    assert read(tmp_path, impl_agents=given).run.impl_agents == ("codex", "claude-code")


@pytest.mark.parametrize(
    "given",
    [
        "codex=1,claude-code=2",
        " codex = 1 , claude-code = 2 ",
        ["codex=1", "claude-code=2"],
        ["codex=1,claude-code=2"],
    ],
)
def test_limits_per_agent_are_text_with_commas_or_repeated(tmp_path: Path, given: object) -> None:
    assert read(tmp_path, max_per_agent=given).run.max_per_agent == {"codex": 1, "claude-code": 2}


@pytest.mark.parametrize(
    "text", ["[run]\nmax_per_agent = { codex = 1 }\n", "[run.max_per_agent]\ncodex = 1\n"]
)
def test_limits_per_agent_are_a_table_in_the_file(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).run.max_per_agent == {"codex": 1}


def test_limits_per_agent_of_a_later_layer_replace_the_table(tmp_path: Path) -> None:
    environ = {"SKO_MAX_PER_AGENT": "claude-code=2"}
    assert read(tmp_path, "[run.max_per_agent]\ncodex = 1\n", environ).run.max_per_agent == {"claude-code": 2}


@pytest.mark.parametrize("given", ["codex", "codex=", "codex=one", "=1", "codex=1,", "", "codex=1=2"])
def test_what_is_no_limit_of_an_agent_is_refused(tmp_path: Path, given: str) -> None:
    message = refusal(tmp_path, max_per_agent=given)
    assert message.startswith("--max-per-agent: [run] max_per_agent: ")
    assert "write for example codex=1" in message


def test_a_limit_of_an_agent_below_one_names_the_agent(tmp_path: Path) -> None:
    assert refusal(tmp_path, max_per_agent="codex=0").startswith(
        "--max-per-agent: [run] max_per_agent.codex: input should be greater than or equal to 1, not 0"
    )


def test_an_agent_with_two_limits_is_refused(tmp_path: Path) -> None:
    assert "codex is listed twice" in refusal(tmp_path, max_per_agent=["codex=1", "codex=2"])


def test_a_limit_of_an_unknown_agent_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, environ={"SKO_MAX_PER_AGENT": "codx=1"})
    assert message.startswith(
        "environment variable SKO_MAX_PER_AGENT: unknown agent 'codx'; did you mean codex?"
    )


def test_the_transport_is_a_flag_too(tmp_path: Path) -> None:
    environ = {"SKO_HOST_TRANSPORT": "warm"}
    assert read(tmp_path, "[host]\ntransport = 'auto'\n", environ).host.transport == "warm"
    assert read(tmp_path, environ=environ, host_transport="spawn").host.transport == "spawn"
    assert refusal(tmp_path, host_transport="cold").startswith(
        "--host-transport: [host] transport: input should be"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("1", True),
        ("Yes", True),
        ("false", False),
        ("0", False),
        (" no ", False),
    ],
)
def test_a_variable_says_yes_or_no(tmp_path: Path, text: str, expected: bool) -> None:
    environ = {"SKO_HOST_COMMAND_CACHE": text, "SKO_HOST_WARM_MERGE_DRIVERS": text}
    assert read(tmp_path, environ=environ).host == HostSettings(
        command_cache=expected, warm_merge_drivers=expected
    )


def test_a_variable_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, environ={"SKO_HOST_COMMAND_CACHE": "perhaps"})
    assert message.startswith("environment variable SKO_HOST_COMMAND_CACHE: [host] command_cache: ")
    assert "'perhaps'" in message


def test_floors_of_the_machine_are_sizes(tmp_path: Path) -> None:
    text = "[run]\nmin_free_memory = '1GiB'\nmin_free_disk = 0\n"
    run = read(tmp_path, text, {"SKO_MIN_FREE_DISK": "2GB"}, poll_interval="2m").run
    assert (run.min_free_memory, run.min_free_disk, run.poll_interval) == (1024**3, 2 * 1000**3, 120)
    assert read(tmp_path, text).run.min_free_disk == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("512MB", 512_000_000),
        ("2GiB", 2 * 1024**3),
        ("1.5 kB", 1500),
        ("1TiB", 1024**4),
        ("100 b", 100),
        ("4096", 4096),
        (4096, 4096),
        ("0", 0),
        (0, 0),
    ],
)
def test_sizes_are_read(value: object, expected: int) -> None:
    assert size(value) == expected


@pytest.mark.parametrize(
    "value", ["", "much", "-1", -1, "5 apples", "5ib", "1M", "1.MB", 1.5, True, None, "9999999TB", 10**30]
)
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size(value)


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (256_000_000, "256 MB"), (2 * 1024**3, "2.1 GB")],
)
def test_sizes_are_spelled_for_people(amount: int, words: str) -> None:
    assert spelled_size(amount) == words


def test_an_agent_section_is_read_whole(tmp_path: Path) -> None:
    text = """
[agents.codex]
executable = "/opt/codex"
model = "big"
extra_args = ["-c", "a=b"]
env = { HOME = "/tmp/home" }
[agents.scripted]
scenario = "scenario.toml"
"""
    agents = read(tmp_path, text).agents
    assert agents["codex"].extra_args == ("-c", "a=b")
    assert (agents["codex"].executable, agents["codex"].model) == ("/opt/codex", "big")
    assert agents["codex"].env == {"HOME": "/tmp/home"}
    assert agents["scripted"].scenario == "scenario.toml"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("0.5h", 1800),
        ("45", 45),
        (45, 45),
        (1.5, 1.5),
    ],
)
def test_durations_are_read(value: object, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    "value", ["", "soon", "-3", "0", 0, -1, "5 apples", "1d", True, None, "nan", "inf", "m", "9999999h", 1e12]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[run]\nmax_concurent = 3\n", 2, "[run] max_concurent: unknown key; did you mean max_concurrent?"),
        ("\n[rum]\nactor = 'a'\n", 2, "rum: unknown key; did you mean run?"),
        ("actor = 'a'\n", 1, "actor: unknown key"),
        (
            "[run]\nactor = 'a'\n\n[host]\nexecutible = 'x'\n",
            5,
            "[host] executible: unknown key; did you mean",
        ),
        ("[agents.codex]\nmodle = 'x'\n", 2, "[agents.codex] modle: unknown key; did you mean model?"),
        ("[agents.codx]\nmodel = 'x'\n", 1, "unknown agent 'codx'; did you mean codex?"),
        ("[run]\nimpl_agents = ['claud-code']\n", 2, "unknown agent 'claud-code'; did you mean claude-code?"),
        ("[run]\nmax_concurrent = 'four'\n", 2, "[run] max_concurrent: input should be a valid integer"),
        ("[run]\nmax_concurrent = true\n", 2, "[run] max_concurrent: input should be a valid integer"),
        ("[run]\n\n# many\nmax_concurrent = 0\n", 4, "[run] max_concurrent: input should be greater than"),
        ("[run]\nmax_concurrent = 257\n", 2, "[run] max_concurrent: input should be less than"),
        ("[run]\n[run.max_per_agent]\ncodex = 0\n", 3, "[run] max_per_agent.codex: input should be greater"),
        ("[run]\nmax_per_agent = { codex = 'x' }\n", 2, "[run] max_per_agent.codex: input should be a valid"),
        ("[run]\nmax_per_agent = { codx = 1 }\n", 2, "unknown agent 'codx'; did you mean codex?"),
        ("[run]\nmin_free_disk = '1 apple'\n", 2, "[run] min_free_disk: '1 apple' is not a size"),
        ("[run]\npoll_interval = 0\n", 2, "[run] poll_interval: 0 is not a duration"),
        ("[host]\ntransport = 'cold'\n", 2, "[host] transport: input should be 'auto', 'spawn' or 'warm'"),
        ("[host]\ncommand_cache = 1\n", 2, "[host] command_cache: input should be a valid boolean"),
        ("[run]\nfinish_lane = 'merged'\n", 2, "[run] finish_lane: input should be 'done' or 'approved'"),
        ("[run]\ntimeout = 'soon'\n", 2, "[run] timeout: 'soon' is not a duration"),
        ("[run]\nreview_agents = []\n", 2, "[run] review_agents: at least one agent is needed"),
        ("[run]\nreview_agents = ['codex', 'codex']\n", 2, "[run] review_agents: an agent is listed twice"),
        ("[run]\nactor = ''\n", 2, "[run] actor: must be printable text"),
        ("[cluster]\nclone = 'https://t0ken@example.org/a.git'\n", 2, "clone: an address with a password"),
        ("[cluster]\nclone = 'ssh://me:word@example.org/a.git'\n", 2, "clone: an address with a password"),
        ("[host]\ncall_timeout = 5\n", 2, "[host] call_timeout: at least 36s"),
        ("[agents.codex]\nextra_args = 'x'\n", 2, "[agents.codex] extra_args: input should be a valid tuple"),
        ("[agents.codex.env]\nA = 3\n", 2, "[agents.codex] env.A: input should be a valid string"),
        ("run = 3\n", 1, "run: input should be a valid dictionary"),
        ("[run]\nactor = \n", 2, "not valid TOML: Invalid value"),
        ("[run\n", 1, "not valid TOML"),
        ("[run]\nactor = 'a", 2, "not valid TOML"),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / CONFIG_FILE}:{line}: ")
    assert words in message


def test_a_mistake_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    message = refusal(tmp_path, environ={"SKO_MAX_CONCURRENT": "many"})
    assert message.startswith("environment variable SKO_MAX_CONCURRENT: [run] max_concurrent: ")


def test_an_unknown_variable_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, environ={"SKO_MAX_CONCURENT": "3"})
    assert message == (
        "environment variable SKO_MAX_CONCURENT: unknown setting; did you mean SKO_MAX_CONCURRENT?"
    )


def test_a_mistake_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    assert refusal(tmp_path, impl_agents="codx").startswith(
        "--impl-agent: unknown agent 'codx'; did you mean"
    )
    assert refusal(tmp_path, max_concurrent=0).startswith("--max-concurrent: [run] max_concurrent: ")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[run]\nactr = 'a'\nmax_attempts = 0\n", {"SKO_TIMEOUT": "x"})
    assert len(message.splitlines()) == 3


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / CONFIG_FILE
    file.parent.mkdir()
    file.write_bytes(b"[run]\nactor = '\xff'\n")
    assert refusal(tmp_path) == f"{file}: is not UTF-8 text (invalid start byte at byte 15)"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).mkdir(parents=True)
    assert refusal(tmp_path).startswith(f"{tmp_path / CONFIG_FILE}: cannot be read: ")


def test_variables_that_reach_agents_come_from_the_file_or_the_environment(tmp_path: Path) -> None:
    text = "[run]\npass_env = ['A', 'B_*']\n[agents.codex]\npass_env = ['C']\n"

    assert read(tmp_path, text).run.pass_env == ("A", "B_*")
    assert read(tmp_path, text).agents["codex"].pass_env == ("C",)
    assert read(tmp_path, text, {"SKO_PASS_ENV": "D_*, E"}).run.pass_env == ("D_*", "E")
    assert read(tmp_path, text, {"SKO_PASS_ENV": ""}).run.pass_env == ()


@pytest.mark.parametrize("wrong", ["*", "A B", "A=1", "*_KEY", "1A", "A*B", ""])
def test_what_cannot_be_a_variable_or_a_prefix_of_some_is_refused(tmp_path: Path, wrong: str) -> None:
    assert "is not a variable" in refusal(tmp_path, f"[run]\npass_env = ['{wrong}']\n")


GATES = """
[[gates]]
name = "lint"
command = ["ruff", "check"]

[[gates]]
name = "tests"
command = "pytest -q | tee out"
timeout = "5m"
"""


def test_gates_are_lines_for_the_shell_or_lists_of_words(tmp_path: Path) -> None:
    lint, tests = read(tmp_path, GATES).gates
    assert (lint.name, lint.command, lint.timeout) == ("lint", ("ruff", "check"), 900)
    assert (tests.command, tests.timeout) == (("/bin/sh", "-c", "pytest -q | tee out"), 300)


def test_gates_of_flags_come_last_and_are_named_by_their_first_word(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, GATES, gate=["./bin/lint --all", "lint x", "$(x)"]).gates
    assert [one.name for one in found] == ["lint", "tests", "lint-2", "lint-3", "x"]
    assert found[2].command == ("/bin/sh", "-c", "./bin/lint --all")


def test_a_flag_repeats_no_gate_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, GATES, gate=["pytest -q | tee out", "make docs"]).gates
    assert [(one.name, one.timeout) for one in found] == [("lint", 900), ("tests", 300), ("make", 900)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GATES + '[[gates]]\nname = "a/b"\ncommand = "x"', ":11: [[gates]] 3 name: must be a short name"),
        (GATES + '[[gates]]\nname = "lint"\ncommand = "x"', "gates: two gates are named lint"),
        (GATES + '[[gates]]\nname = "a"\ncommand = ""', ":12: [[gates]] 3 command"),
        (GATES + '[[gates]]\nname = "a"\ncommand = []', "[[gates]] 3 command: must be a line for the shell"),
        (GATES + '[[gates]]\nname = "a"', "[[gates]] 3 command: field required"),
        ('[[gates]]\nname = "a"\ncomand = "x"', ":3: [[gates]] 1 comand: unknown key; did you mean command?"),
        ("gates = 3", "gates"),
    ],
)
def test_a_wrong_gate_is_named(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


@pytest.mark.parametrize("off", ["0", "0s", "0m"])
def test_the_stall_timeout_alone_can_be_switched_off(tmp_path: Path, off: str) -> None:
    assert read(tmp_path, stall_timeout=off).run.stall_timeout == 0
    assert read(tmp_path, "[run]\nstall_timeout = 0\n").run.stall_timeout == 0
    assert "is not a duration" in refusal(tmp_path, timeout=off)
    assert "is not a duration" in refusal(tmp_path, stall_timeout="-1s")


@pytest.mark.parametrize(
    ("span_s", "text"),
    [(0.2, "0.2s"), (45, "45s"), (90, "1m30s"), (900, "15m"), (3600, "1h"), (3661, "1h1m1s")],
)
def test_a_span_of_time_is_written_as_it_is_read(span_s: float, text: str) -> None:
    assert spelled(span_s) == text
    assert seconds(text) == span_s


def test_none_takes_a_limit_or_a_list_back_wherever_text_is_given(tmp_path: Path) -> None:
    keys = (
        "max_cost",
        "max_tokens",
        "max_duration",
        "max_cost_per_wp",
        "max_per_agent",
        "pass_env",
        "stall_timeout",
    )
    set_before = "[run]\n" + "".join(f"{key} = 'none'\n" for key in keys)
    nothing: list[object] = [None, None, None, None, {}, (), 0]
    for found in (
        read(tmp_path, set_before),
        read(tmp_path, environ={f"SKO_{key.upper()}": "none" for key in keys}),
        load(tmp_path, {}, dict.fromkeys(keys, "none"), KNOWN),
    ):
        assert [getattr(found.run, key) for key in keys] == nothing


def test_options_are_text_that_is_read_as_variables_are(tmp_path: Path) -> None:
    run = read(tmp_path, max_concurrent="7", budget_hard=True, session_resume="no", review_quorum="1").run
    assert (run.max_concurrent, run.budget_hard, run.session_resume) == (7, True, False)


@pytest.mark.parametrize(
    "given", [{}, {"max_cost": 3.0, "max_per_agent": {"codex": 1}, "review_quorum": "all"}]
)
def test_what_is_recorded_is_what_a_later_start_goes_on_with(
    tmp_path: Path, given: dict[str, object]
) -> None:
    first = read(tmp_path, "[run]\nmax_attempts = 2\npass_env = ['A']\n", {"SKO_TIMEOUT": "90s"}, **given)
    recorded = json.loads(json.dumps(record(first, ["make docs"])))
    again = load(tmp_path / "elsewhere", {"SKO_MAX_ATTEMPTS": "7"}, {"actor": None}, KNOWN, recorded)
    assert again.run == first.run
    assert [one.name for one in again.gates] == ["make"]
    now = load(tmp_path, {}, {"max_cost": "none", "gate": ["none"]}, KNOWN, recorded)
    assert (now.run.max_cost, now.gates) == (None, ())


@pytest.mark.parametrize("gates", [["none", "make"], ["make", "none"], ["none", "none"]])
def test_no_gates_and_a_gate_contradict_each_other(tmp_path: Path, gates: list[str]) -> None:
    assert refusal(tmp_path, gate=gates).startswith("--gate: none means no gates but those of the file")


def test_a_quorum_is_a_number_or_all(tmp_path: Path) -> None:
    lists = "[run]\nreview_agents = ['codex', 'claude-code']\n"
    assert read(tmp_path).run.needed_approvals == 1
    assert read(tmp_path, lists + "review_quorum = 2").run.needed_approvals == 2
    assert read(tmp_path, lists + "review_quorum = 'all'").run.needed_approvals == 2
    assert read(tmp_path, lists, {"SKO_REVIEW_QUORUM": "2"}).run.needed_approvals == 2
    assert read(tmp_path, lists, review_quorum="all").run.needed_approvals == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("3", "[run] review_quorum: 3 approvals are more than the number of reviewers, 1"),
        ("0", "review_quorum"),
        ("'most'", "quorum"),
    ],
)
def test_a_quorum_that_cannot_be_is_an_error(tmp_path: Path, value: str, told: str) -> None:
    assert told in refusal(tmp_path, f"[run]\nreview_quorum = {value}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[agents.codex]\nexecutable = "~nosuchuser/x"\n',
            "2: [agents.codex] executable: '~nosuchuser/x': there is",
        ),
        (
            '[agents.codex]\nscenario = "~nosuchuser/x"\n',
            "2: [agents.codex] scenario: '~nosuchuser/x': there is",
        ),
        (
            '[agents.bot]\ncommand = ["~nosuchuser/x"]\n',
            "2: [agents.bot] command: '~nosuchuser/x': there is no",
        ),
        (
            '[host]\nexecutable = "~nosuchuser/x"\n',
            "2: [host] executable: '~nosuchuser/x': there is no such home",
        ),
        (
            '[[gates]]\nname = "a"\ncommand = ["~nosuchuser/x"]\n',
            "command: '~nosuchuser/x': there is no such home",
        ),
        ('[agents.codex]\nenv = { "A=B" = "c" }\n', "'A=B' cannot be the name of a variable"),
        ('[agents.codex]\nenv = { A = "c\\u0000" }\n', "holds a zero byte, which no process can be given"),
        ('[agents.codex]\nextra_args = ["c\\u0000"]\n', "holds a zero byte, which no process can be given"),
        (f"[run]\nmax_concurrent = {'9' * 5000}\n", "orchestrator.toml: a number has too many digits"),
        (f"[run]\ntimeout = {'9' * 400}\n", "is not a duration; write for example"),
        (f"[run]\nmax_cost = {'9' * 400}\n", "is not an amount of US dollars"),
        (f"[run]\nmax_tokens = {'9' * 400}\n", "is not a large number"),
        (f"a = {'[' * 5000}{']' * 5000}\n", "orchestrator.toml: nested too deep"),
    ],
)
def test_what_no_process_or_parser_can_take_is_a_wrong_setting(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)
