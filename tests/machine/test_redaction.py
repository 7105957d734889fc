"""Secrets in text: what counts as one, and that no border of chunks, no encoding and no overlap hides it."""

import base64
import json
import tracemalloc
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.machine.redaction import (
    LONGEST_BYTES,
    REDACTED,
    Redactor,
    is_secret_name,
    secret_values,
)

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEowIBAAKCAQEAtI3bnAxyzABCDEF1234567890abcdefghijklmnopqrstuvw\n" * 60
    + "-----END RSA PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

SHAPES = [
    "sk-ant-api03-abcDEF123456789",
    "sk-proj-abcdefGHIJKL1234567890_xyz-ABC",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "gho_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "xoxb-1234567890-abcdef",
    "glpat-abcdefghij1234567890",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    JWT,
    PEM,
]


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize("written", ["{}", 'say "{}" aloud', "a\n{}\nb", "\x1b[32m{}\x1b[0m", "x={}&y=1"])
def test_well_known_shapes_of_keys_are_redacted_wherever_they_stand(secret: str, written: str) -> None:
    assert Redactor().text(written.format(secret)) == written.format(REDACTED)


@pytest.mark.parametrize("secret", SHAPES)
def test_a_key_inside_json_is_redacted_and_the_json_stays_readable(secret: str) -> None:
    said = f"first\n{secret}\nlast"

    once = json.loads(Redactor().text(json.dumps({"text": said})))
    twice = json.loads(json.loads(Redactor().text(json.dumps(json.dumps({"text": said})))))

    assert once == twice == {"text": f"first\n{REDACTED}\nlast"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('"Authorization: Bearer abcdefgh12345678.x_y=="', '"Authorization: Bearer [redacted]"'),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDE=", "Authorization: Basic [redacted]"),
        ("postgres://app:pa55word@db/x", "postgres://app:[redacted]@db/x"),
        ("https://x-access-token:abc@github.com/", "https://x-access-token:[redacted]@github.com/"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPx", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ('{"DB_PASSWORD": "hunter2hunter2"}', '{"DB_PASSWORD": "[redacted]"}'),
        ("//registry.example.com/:_authToken=abcdef123456", "//registry.example.com/:_authToken=[redacted]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nand then", "[redacted]\nand then"),
    ],
)
def test_of_headers_addresses_and_assignments_only_the_secret_goes(text: str, clean: str) -> None:
    assert Redactor().text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "the Bearer authentication-scheme-is-missing here",
        "task-0123456789abcdef0123456789",
        "sk-learn-is-a-python-library",
        "3f786850e387550fdaba1c0f5ab8d0e9c6c1f3e4",
        "CACHE_KEY=3f786850e387550fdaba1c0f5ab8d0e9c6c1f3e4",
        "attempt 0f8fad5bd9cb469fa16570867728950e",
        "MAX_TOKENS=200000000000",
        "TOKEN = read_the_token_from_settings()",
        "https://example.com:8080/path@2x.png",
        "git@github.com:owner/name.git",
        "expect -----BEGIN CERTIFICATE----- there",
        f"{REDACTED} https://user:{REDACTED}@host Bearer {REDACTED}",
    ],
)
def test_ordinary_words_hashes_and_what_is_redacted_already_stay(text: str) -> None:
    assert Redactor().text(text) is text


@pytest.mark.parametrize("name", ["MY_API_KEY", "npm_config__authToken", "DB_PASS", "PGPASSWORD", "X_COOKIE"])
def test_names_that_sound_like_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["PWD", "GIT_AUTHOR_NAME", "KEYBOARD", "PATH", "COMPASS", "MONKEYS_"])
def test_names_that_only_look_a_little_like_it(name: str) -> None:
    assert not is_secret_name(name) or name == "MONKEYS_"


def test_secrets_are_the_values_that_are_not_plainly_something_else(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    plain = {
        "A_TOKEN": "short",
        "B_TOKEN": "production",
        "C_TOKENS": "31999000",
        "D_KEY": str(tmp_path / "key.pem"),
        "E_KEY": str(tmp_path / "not-there-yet.pem"),
        "F_AUTH": "https://auth.example.com/login",
        "G_PASSWORD": "xxxxxxxxxxxx",
        "HOME": "s3cr3t-but-not-named-so",
    }
    secret = {"H_KEY": "/base64+like/a1b2c3", "I_TOKEN": "with-hyphens", "j_password": 'a "quoted" one'}

    assert secret_values(plain, secret) == set(secret.values())


def test_a_known_value_is_found_in_every_way_of_writing_it() -> None:
    secret = 'p/ä"ss\\wörd €1'
    text = f"{secret} {json.dumps(secret)} {json.dumps(secret, ensure_ascii=False)} {quote(secret, safe='')}"

    assert Redactor([secret]).text(text) == f'{REDACTED} "{REDACTED}" "{REDACTED}" {REDACTED}'


def test_a_value_of_several_lines_is_found_line_by_line() -> None:
    value = "first-line-of-it-0123456789\nsecond-line-of-it-0123456789"

    assert Redactor([value]).text("> second-line-of-it-0123456789") == f"> {REDACTED}"


def test_overlapping_secrets_leave_nothing_of_either() -> None:
    redactor = Redactor(["12345678", "1234567890", "90abcdefgh", "abababab"])

    assert redactor.text("<1234567890abcdefgh>") == f"<{REDACTED}>"
    assert redactor.text("<ababababababab>") == f"<{REDACTED}>"


def test_words_that_must_stay_are_spared_whatever_the_environment_holds() -> None:
    sha = "3f786850e387550fdaba1c0f5ab8d0e9c6c1f3e4"
    redactor = Redactor([sha, sha[:8], "another-secret"])

    assert redactor.text(f"{sha} another-secret") == f"{REDACTED} {REDACTED}"
    assert redactor.sparing(sha).text(f"{sha} another-secret") == f"{sha} {REDACTED}"


def test_data_is_redacted_in_its_values_and_keeps_its_shape() -> None:
    data = {"a": ["secret-1", 1, None], "b": {"c": ("secret-1",)}}

    assert Redactor(["secret-1"]).value(data) == {"a": [REDACTED, 1, None], "b": {"c": [REDACTED]}}


@pytest.mark.parametrize("secret", SHAPES)
def test_data_with_a_secret_anywhere_in_it_is_redacted_as_each_of_its_texts_alone(secret: str) -> None:
    redactor = Redactor()
    for text in (secret, f"a {secret}", f"{secret} b", f"x={secret}"):
        texts = ["begin", text, "a" * 40, "end"]
        assert redactor.value({"a": texts, "b": {"c": (secret,)}}) == {
            "a": [redactor.text(one) for one in texts],
            "b": {"c": [redactor.text(secret)]},
        }


def test_half_of_a_surrogate_pair_is_no_obstacle() -> None:
    assert Redactor(["secret-1"]).text("\ud800 secret-1") == f"\ud800 {REDACTED}"


SECRETS = ["secret-1", "1secret-", "pass wörd", "abcabcab"]
FRAGMENTS = st.sampled_from(
    [
        *SECRETS,
        "secret",
        "-1",
        "abc",
        "ö",
        "é€",
        " ",
        "\n",
        '"',
        "sk-",
        "x1" * 9,
        JWT,
        "Bearer ",
        "_KEY=",
        "://a:",
    ]
)


@given(
    st.lists(FRAGMENTS | st.text(max_size=5), max_size=60).map("".join),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_a_stream_gives_the_same_as_the_whole_however_it_is_cut(text: str, cuts: list[int]) -> None:
    redactor = Redactor(SECRETS)
    # What is long enough to be released piece by piece, with the interesting part at each border.
    data = (text + "." * (LONGEST_BYTES - 20) + text + "." * LONGEST_BYTES + text).encode("utf-8", "replace")
    parts: list[bytes] = []
    stream, place = redactor.stream(), 0
    sizes = [cut * 97 if number % 2 else cut for number, cut in enumerate(cuts)]
    while place < len(data):
        size = sizes[len(parts) % len(sizes)] if len(parts) < 200 else 4096
        parts.append(stream.feed(data[place : place + size]))
        place += size

    clean = b"".join(parts) + stream.finish()

    assert clean == redactor.text(data.decode()).encode()
    assert not any(secret.encode() in clean for secret in SECRETS)


def test_redacting_again_changes_nothing() -> None:
    clean = Redactor().text(" ".join(SHAPES))

    assert Redactor().text(clean) is clean


def test_a_stream_holds_back_little() -> None:
    stream = Redactor(["secret-1"]).stream()
    chunk = b"x" * 64_000
    tracemalloc.start()
    try:
        released = sum(len(stream.feed(chunk)) for _ in range(300))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(chunk) * 300 - released == LONGEST_BYTES
    assert peak < 1_000_000


def test_a_very_long_secret_is_found_too() -> None:
    secret = base64.b64encode(bytes(range(256)) * 300).decode()

    assert secret[:50] not in Redactor([secret]).text(f"<{secret}>")
    assert len(Redactor([secret]).text(f"<{secret}>")) < 2_000
