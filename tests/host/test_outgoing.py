"""Whatever we are given, the host gets valid UTF-8 without NUL, within its bounds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_kitty_orchestrator.core.model import PolicyMetadata
from spec_kitty_orchestrator.core.plain_text import plain
from spec_kitty_orchestrator.errors import HostError
from spec_kitty_orchestrator.host import outgoing
from spec_kitty_orchestrator.ports import ReviewResult

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def test_a_lone_surrogate_is_replaced_and_a_pair_is_joined() -> None:
    assert plain("a\ud800b") == "a\ufffdb"
    assert plain("\ud83d\ude00") == "\U0001f600"


def test_newlines_and_leading_dashes_are_kept() -> None:
    assert outgoing.note("--force\n\t\N{CAT FACE}") == "--force\n\t\N{CAT FACE}"


def test_a_note_is_cut_at_a_character_boundary_and_says_so() -> None:
    cut = outgoing.note("\N{CAT FACE}" * 10_000)
    assert len(cut.encode()) <= outgoing.NOTE_BYTES
    assert cut.startswith("\N{CAT FACE}" * 4000)
    assert cut.endswith("(cut)")


def test_a_note_at_the_bound_is_untouched() -> None:
    assert outgoing.note("x" * outgoing.NOTE_BYTES) == "x" * outgoing.NOTE_BYTES


def test_a_nul_inside_json_does_not_reach_the_host() -> None:
    text = outgoing.review(ReviewResult("codex", "approved", "attempt@sha", "a\0b\ud800"))
    assert json.loads(text)["summary"] == "ab\ufffd"


def test_the_policy_has_the_names_of_the_host() -> None:
    policy = PolicyMetadata("sko", "0.2.0", "anthropic", "on_request", "workspace_write", "none", ("--x",))
    assert json.loads(outgoing.policy(policy)) == {
        "orchestrator_id": "sko",
        "orchestrator_version": "0.2.0",
        "agent_family": "anthropic",
        "approval_mode": "on_request",
        "sandbox_mode": "workspace_write",
        "network_mode": "none",
        "dangerous_flags": ["--x"],
    }


def test_an_argument_beyond_the_kernels_bound_is_refused_before_it_is_sent() -> None:
    with pytest.raises(HostError, match="longer than"):
        outgoing.arguments(["x" * 131_071])


@given(ANY_TEXT)
def test_every_text_can_be_an_argument(text: str) -> None:
    sent = outgoing.note(text)
    assert len(sent.encode("utf-8")) <= outgoing.NOTE_BYTES
    assert "\0" not in sent


def test_the_longest_review_fits_in_one_argument() -> None:
    hard = "\x01" * 100_000
    outgoing.arguments([outgoing.review(ReviewResult(hard, "approved", hard, hard))])


def test_text_for_the_host_is_redacted_before_it_is_cut() -> None:
    def redact(text: str) -> str:
        return text.replace("hidden" * 10_000, "-")

    review = json.loads(
        outgoing.review(ReviewResult("codex", "approved", "id@sha", "hidden" * 10_000), redact)
    )

    assert review == {"reviewer": "codex", "verdict": "approved", "reference": "id@sha", "summary": "-"}
