"""The stand-in of the models understands our prompts and the tools of the CLIs."""

import json
import urllib.error
import urllib.request
import zlib

import pytest
from tests.e2e.model_api import ModelApi
from tests.e2e.model_api.tasks import Write, find_task
from tests.e2e.model_api.tools import arguments, prepared

PROMPT = 'Role: implement\nAttempt: a1\n\nA task.\n\n{"attempt": "a1"}\n'


def ask(api: ModelApi, body: object, **headers: str) -> str:
    """Send a request of the Chat Completions API."""
    data = json.dumps(body).encode()
    if headers.get("Content-Encoding") == "gzip":
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        data = packer.compress(data) + packer.flush()
    request = urllib.request.Request(f"{api.url}/v1/chat/completions", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.loads(answer.read())["choices"][0]["message"]["content"])


def test_our_prompt_is_found_where_a_cli_wraps_it() -> None:
    found = find_task(["Be brief.", f"<user>\n{PROMPT}</user>", "Go on."])
    assert found
    assert found.line("Attempt") == "a1"


def test_our_prompt_is_found_in_several_parts() -> None:
    found = find_task([PROMPT[:30], PROMPT[30:50], PROMPT[50:], "Go on."])
    assert found
    assert found.prompt == PROMPT


def test_the_last_of_several_prompts_counts() -> None:
    found = find_task([PROMPT, PROMPT.replace("a1", "a2")])
    assert found
    assert found.line("Attempt") == "a2"


def test_arguments_go_by_the_names_of_the_tool_and_the_rest_by_its_types() -> None:
    schema = {
        "properties": {
            "command": {"type": "string"},
            "description": {"type": "string"},
            "background": {"type": ["boolean", "null"]},
            "kind": {"enum": ["a", "b"]},
            "more": {"type": "string"},
        },
        "required": ["command", "description", "background", "kind"],
    }
    filled = arguments(schema, command="ls")
    assert filled == {"command": "ls", "description": "one step", "background": False, "kind": "a"}


def test_a_request_without_a_task_gets_a_title_also_if_it_is_packed(api: ModelApi) -> None:
    body = {"messages": [{"role": "user", "content": "Name this."}]}
    assert ask(api, body) == "A title"
    assert ask(api, body, **{"Content-Encoding": "gzip"}) == "A title"


@pytest.mark.parametrize("header", ["Authorization", "x-goog-api-key"])
def test_a_refused_key_is_refused_in_whichever_header_it_comes(api: ModelApi, header: str) -> None:
    api.refused_keys.add("a-key")
    body = {"messages": [{"role": "user", "content": "Name this."}]}
    value = "Bearer a-key" if header == "Authorization" else "a-key"
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        ask(api, body, **{header: value})
    refused.value.close()


def test_a_folder_is_made_first_only_for_a_tool_that_does_not_make_it() -> None:
    step = Write("/wt/a b/c.py", "x")
    assert prepared(step, {"create": {}}) == ["mkdir -p '/wt/a b'", step]
    assert prepared(step, {"write": {}, "create": {}}) == [step]
    assert prepared("ls", {"create": {}}) == ["ls"]
