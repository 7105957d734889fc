"""The settings: which layer wins, and what each mistake is called."""

from pathlib import Path

import pytest

from spec_kitty_orchestrator.config import CONFIG_FILE, Settings, load, seconds
from spec_kitty_orchestrator.errors import ConfigError

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


def test_the_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    run = read(tmp_path).run
    assert (run.max_concurrent, run.actor) == (4, "spec-kitty-orchestrator")
    assert (run.impl_agents, run.review_agents) == (("claude-code",), ("codex",))
    assert (run.finish_lane, run.subtasks) == ("done", "report")
    assert (run.timeout, run.review_timeout) == (3600, 1800)
    assert (run.max_attempts, run.max_review_cycles) == (6, 3)


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
    "value", ["", "soon", "-3", "0", 0, -1, "5 apples", "1d", True, None, "nan", "inf", "m"]
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
        ("[run]\nfinish_lane = 'merged'\n", 2, "[run] finish_lane: input should be 'done' or 'approved'"),
        ("[run]\ntimeout = 'soon'\n", 2, "[run] timeout: 'soon' is not a duration"),
        ("[run]\nreview_agents = []\n", 2, "[run] review_agents: at least one agent is needed"),
        ("[run]\nreview_agents = ['codex', 'codex']\n", 2, "[run] review_agents: an agent is listed twice"),
        ("[run]\nactor = ''\n", 2, "[run] actor: must be printable text"),
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
