"""`[agents.<name>]`: the settings of each agent, and agents of one's own that they declare."""

from pathlib import Path

import pytest

from spec_kitty_orchestrator.config import CONFIG_FILE, load
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.declaration import Condition

KNOWN = ("claude-code", "codex", "plugged")


def read(root: Path, text: str, name: str = "bot") -> AgentSection:
    file = root / CONFIG_FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return load(root, {}, {}, KNOWN).agents[name]


def refusal(root: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(root, text)
    return str(caught.value).removeprefix(f"{root / CONFIG_FILE}:")


def test_ten_lines_make_an_agent(tmp_path: Path) -> None:
    section = read(
        tmp_path,
        """[agents.bot]
command = ["bot", "-m", "{model}"]
model = "big"
prompt = "file"
output = "jsonl:type=result:result"
ok = "type=result,is_error=false"
roles = ["review"]
review_args = ["--read-only"]
sandbox = { review = "read_only" }
family = "acme"
""",
    )
    own = section.declaration("bot")
    assert own is not None
    assert (own.name, own.family, own.command, own.prompt) == (
        "bot",
        "acme",
        ("bot", "-m", "{model}"),
        "file",
    )
    assert (own.output.kind, own.output.path) == ("jsonl", ("result",))
    assert own.ok == (Condition(("type",), "result"), Condition(("is_error",), "false"))
    assert own.roles == {Role.REVIEW}
    assert own.role_args[Role.REVIEW] == ("--read-only",)
    assert own.sandbox == {Role.IMPLEMENT: "custom", Role.REVIEW: "read_only"}
    assert own.network == {Role.IMPLEMENT: "custom", Role.REVIEW: "custom"}


def test_three_lines_make_one_too_and_nothing_is_claimed_of_it(tmp_path: Path) -> None:
    own = read(tmp_path, '[agents.bot]\ncommand = ["bot"]\nsandbox = "none"').declaration("bot")
    assert own is not None
    assert (own.family, own.prompt, own.output.kind, own.roles) == ("bot", "stdin", "text", frozenset(Role))
    assert set(own.approval.values()) == {"custom"}
    assert own.sandbox == {Role.IMPLEMENT: "none", Role.REVIEW: "none"}


def test_a_section_without_a_command_makes_none(tmp_path: Path) -> None:
    text = '[agents.codex]\nmax_concurrent = 2\ntimeout = "5m"\npermissions = "least"\n'
    section = read(tmp_path, text, "codex")
    assert section.declaration("codex") is None
    assert (section.max_concurrent, section.timeout) == (2, 300)


def test_an_agent_of_a_plug_in_can_be_configured(tmp_path: Path) -> None:
    assert read(tmp_path, '[agents.plugged]\nmodel = "m"\n', "plugged").model == "m"


OWN = '[agents.bot]\ncommand = ["bot"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[agents.bot]\ncommand = "bot --quiet"',
            "2: [agents.bot] command: must be a list of words, as in [",
        ),
        ("[agents.bot]\ncommand = []", "2: [agents.bot] command: its first word must be the program"),
        (
            '[agents.bot]\ncommand = ["{model}"]\nmodel = "m"',
            "2: [agents.bot] command: its first word must be",
        ),
        ('[agents.bot]\ncommand = ["bot", ""]', "2: [agents.bot] command: holds an empty word"),
        (
            '[agents.bot]\ncommand = ["bot", "{promt}"]',
            "2: [agents.bot] command: there is no {promt}; known: ",
        ),
        (OWN + 'review_args = ["{x}"]', "3: [agents.bot] review_args: there is no {x}"),
        (OWN + 'prompt = "pipe"', "3: [agents.bot] prompt: input should be 'stdin', 'file' or 'argument'"),
        (
            OWN + 'output = "jsonl:result=:x"',
            "3: [agents.bot] output: 'result=' is not a condition; write PATH=",
        ),
        (OWN + "output = 3", "3: [agents.bot] output: must be text"),
        (OWN + 'ok = "type"\noutput = "json:x"', "3: [agents.bot] ok: 'type' is not a condition"),
        (OWN + 'error = "a b"', "3: [agents.bot] error: 'a b' is not a path"),
        (OWN + "roles = []", "3: [agents.bot] roles: at least one role is needed"),
        (OWN + 'roles = ["plan"]', "3: [agents.bot] roles.0: input should be 'implement' or 'review'"),
        (OWN + 'sandbox = "monkey"', "3: [agents.bot] sandbox.implement: the host refuses a policy in which"),
        (OWN + 'network = { plan = "none" }', "3: [agents.bot] network.plan"),
        (OWN + 'family = "keyless"', "3: [agents.bot] family: the host refuses a policy in which a value"),
        (OWN + 'traces = ["../x"]', "3: [agents.bot] traces.0: '../x' is not the name of a file or folder"),
        (OWN + 'timeout = "soon"', "3: [agents.bot] timeout: 'soon' is not a duration"),
        (OWN + "max_concurrent = 0", "3: [agents.bot] max_concurrent: input should be greater than or equal"),
        (OWN + 'executable = "/bin/bot"', "1: [agents.bot]: executable cannot stand beside command"),
        (OWN + 'scenario = "x.toml"', "1: [agents.bot]: scenario cannot stand beside command"),
        (OWN + 'model = "m"', "1: [agents.bot]: it has a model, but not {model} in any word"),
        ('[agents.bot]\ncommand = ["bot", "{model}"]', "1: [agents.bot]: it has {model}, but not a model"),
        (
            '[agents.bot]\ncommand = ["bot", "{prompt}"]',
            '1: [agents.bot]: {prompt} is for prompt = "argument"',
        ),
        (OWN + 'review_args = ["{prompt_file}"]', '1: [agents.bot]: {prompt_file} is for prompt = "file"'),
        (OWN + 'review_args = ["{session}"]', "1: [agents.bot]: {session} is for resume_args"),
        (OWN + 'output = "json:x"\nresume_args = ["-r"]', "1: [agents.bot]: resume_args lacks {session}"),
        (
            OWN + 'resume_args = ["-r", "{session}"]',
            "1: [agents.bot]: resume_args and session, where the output",
        ),
        (
            OWN + 'output = "json:x"\nsession = "id"',
            "1: [agents.bot]: resume_args and session, where the output",
        ),
        (
            OWN + 'ok = "a=b"\ncost = "c"',
            '1: [agents.bot]: with output = "text" there is nothing to look into',
        ),
        (
            OWN + 'roles = ["implement"]\nreview_args = ["x"]',
            "1: [agents.bot]: review_args is given, but review",
        ),
        ('[agents.bot]\nmodel = "m"', "1: unknown agent 'bot'"),
        ('[agents.bot]\nroles = ["review"]', "1: [agents.bot]: roles: only for an agent of your own"),
        ('[agents.codex]\noutput = "text"', "1: [agents.codex]: output: only for an agent of your own"),
        ('[agents.codex]\ncommand = ["x"]', "2: [agents.codex] command: codex is known already; give yours"),
        ('[agents.plugged]\ncommand = ["x"]', "2: [agents.plugged] command: plugged is known already"),
        (
            '[agents.monkey]\ncommand = ["x"]',
            "1: [agents.monkey] the host refuses a family that contains 'key'",
        ),
        ('[agents."my bot"]\ncommand = ["x"]', "1: [agents.my bot] must be a short name of letters"),
        (OWN + "comand = 3", "3: [agents.bot] comand: unknown key; did you mean command?"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(tmp_path, text).startswith(told)


def test_a_name_that_nobody_knows_is_answered_with_how_to_make_it_one(tmp_path: Path) -> None:
    told = refusal(tmp_path, '[agents.my-bot]\nmodel = "m"\n')
    assert "unknown agent 'my-bot'" in told
    assert told.endswith("; `command = [...]` in [agents.my-bot] makes it one of your own")


@pytest.mark.parametrize("value", ['"full"', '"yolo"', "true", '""'])
def test_more_than_the_least_permissions_are_refused_with_the_hosts_own_reason(
    tmp_path: Path, value: str
) -> None:
    told = refusal(tmp_path, f"[agents.codex]\npermissions = {value}\n")
    assert told.startswith('2: [agents.codex] permissions: only "least" is possible')
    assert "contains a banned flag: '--dangerously-skip-permissions'. Banned flags must never appear" in told


def test_own_agents_can_be_chosen_and_misspelt_ones_find_them(tmp_path: Path) -> None:
    text = '[run]\nimpl_agents = ["my-bot"]\nmax_per_agent = { my-bot = 1 }\n'
    text += '[agents.my-bot]\ncommand = ["bot"]\n'
    assert read(tmp_path, text, "my-bot").command == ("bot",)
    assert "did you mean my-bot?" in refusal(tmp_path, text.replace('["my-bot"]', '["my-bt"]'))
