"""`[[notify]]`: what is refused, and that nothing that is secret is said."""

from pathlib import Path

import pytest

from spec_kitty_orchestrator.config import load
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.settings import Settings
from spec_kitty_orchestrator.settings.notify_section import check_url, filled, names, secrets


def loaded(root: Path, text: str) -> Settings:
    file = root / ".kittify" / "orchestrator.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return load(root, {}, {}, ("claude-code", "codex"))


def test_a_place_is_told_who_needs_a_person_and_the_end_unless_it_says_otherwise(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, '[[notify]]\nurl = "https://example.test/hook"\n').notify
    assert (one.on, one.format, one.token) == (("needs_person", "ended"), "cloudevents", None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs exactly one of command, url and bell = true"),
        ('bell = true\nurl = "https://a.test"', "needs exactly one of command, url and bell = true"),
        ("bell = false", "needs exactly one of command, url and bell = true"),
        ('bell = true\nformat = "slack"', "format is for a url"),
        ("bell = true\non = []", "on: at least one occasion is needed, and none twice"),
        ('bell = true\non = ["ended", "ended"]', "on: at least one occasion is needed, and none twice"),
        ('bell = true\non = ["end"]', "on.0: input should be"),
        ('command = "notify-send x"', "command: must be a list of words"),
        ("command = []", "command: its first word must be the program"),
        ('url = "ftp://a.test"', "must be an address that begins with https://"),
        ('url = "https://a b.test"', "must be an address that begins with https://"),
        ('url = "https://[::1"', "must be an address that begins with https://"),
        ('url = "https://me:hunter2@a.test/"', "holds a user or a password"),
        ('url = "http://a.test/hook"', "http sends everything readable"),
        ('url = "https://a.test/$HOOK"', "url: a variable is written ${NAME}"),
        ('url = "https://a.test"\ntoken = "tk_12345678"', "token: must name a variable that holds it"),
        ('bell = true\nname = "a b"', "name: must be a short name"),
        ("bell = true\nbel = 1", "unknown key; did you mean bell?"),
    ],
)
def test_what_is_wrong_is_said_with_the_place_in_the_file(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"[[notify]]\nbell = true\n\n[[notify]]\n{text}\n")
    told = str(refused.value)
    assert "orchestrator.toml:" in told
    assert "[[notify]] 2" in told
    assert why in told
    assert not {"hunter2", "tk_12345678"} & set(told.replace(":", " ").replace("@", " ").split())


def test_two_places_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two places are named a"):
        loaded(tmp_path, '[[notify]]\nbell = true\nname = "a"\n' * 2)


def test_places_without_a_name_are_called_by_their_kind(tmp_path: Path) -> None:
    url = '[[notify]]\nurl = "https://a.test"\nformat = "slack"\n'
    text = (
        url * 2
        + '[[notify]]\nbell = true\n[[notify]]\ncommand = ["x"]\n[[notify]]\nbell = true\nname = "b"\n'
    )
    assert names(loaded(tmp_path, text).notify) == ["slack", "slack-2", "bell", "command", "b"]


def test_variables_are_filled_in_and_what_they_hold_is_secret(tmp_path: Path) -> None:
    text = '[[notify]]\nurl = "https://a.test/${TOPIC}"\ntoken = "${TOKEN}"\n'
    places = loaded(tmp_path, text).notify
    environ = {"TOPIC": "of-mine-1\n", "TOKEN": "tk_12345678", "OTHER": "x"}
    assert filled("https://a.test/${TOPIC}", environ) == "https://a.test/of-mine-1"
    assert set(secrets(places, environ)) == {"of-mine-1", "tk_12345678", "https://a.test/of-mine-1"}
    assert list(secrets(places, {})) == []
    with pytest.raises(ValueError, match="the variable TOPIC is not set"):
        filled("https://a.test/${TOPIC}", {"TOPIC": ""})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_may_be_told_without_tls(host: str) -> None:
    check_url(f"http://{host}:8080/x", allow_http=False)
    check_url("http://intranet.test/x", allow_http=True)
