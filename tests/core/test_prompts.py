"""Which prompt with which parts."""

import json
from dataclasses import replace
from typing import Any

import pytest

from spec_kitty_orchestrator.core.events import Recorded
from spec_kitty_orchestrator.core.implementing import read_report
from spec_kitty_orchestrator.core.model import PLANNING_LANE, Lane, Workspace
from spec_kitty_orchestrator.core.prompts import (
    PLACEHOLDERS,
    REQUIRED,
    Prompts,
    checked,
    elsewhere,
    implement_prompt,
    review_prompt,
)
from spec_kitty_orchestrator.core.verdict import Ruling, read_verdict
from spec_kitty_orchestrator.core.work_package import WorkPackage, worked
from spec_kitty_orchestrator.errors import ConfigError

from .builders import HEAD, IMPLEMENTING, REJECTING, REVIEWING, SPACE, drive


def template(name: str) -> str:
    return name + "\n" + "\n".join(f"{part}=${{{part}}}" for part in sorted(PLACEHOLDERS[name]))


PROMPTS = Prompts(template("implement"), template("rework"), template("review"))
REWORKED, _ = drive((*REJECTING, Recorded(Lane.IN_PROGRESS)))


def implement(wp: WorkPackage, task: str = "the task", tick: str = "") -> str:
    return implement_prompt(PROMPTS, wp, mission="m", attempt_id="i9", task=task, tick=tick)


def review(wp: WorkPackage, diff: str = "the diff") -> str:
    return review_prompt(PROMPTS, wp, mission="m", attempt_id="r9", task="the task", stat="1 file", diff=diff)


def test_an_implementer_is_told_of_work_that_an_earlier_attempt_left_uncommitted() -> None:
    wp, _ = drive(IMPLEMENTING)
    parts: Any = {"mission": "m", "attempt_id": "i9", "task": "", "tick": ""}
    told = "is in the workspace and not committed"
    assert told in implement_prompt(PROMPTS, wp, **parts, left=True)
    assert told not in implement_prompt(PROMPTS, wp, **parts)


@pytest.mark.parametrize(("shell", "words"), [(True, "Read the changed files"), (False, "You have no shell")])
def test_a_reviewer_is_told_how_it_can_see_the_changes(shell: bool, words: str) -> None:
    wp, _ = drive(REVIEWING)
    prompts = replace(PROMPTS, review="${look}")
    parts: Any = {"mission": "m", "attempt_id": "r9", "task": "", "stat": "", "diff": ""}
    assert review_prompt(prompts, wp, **parts, shell=shell).startswith(words)


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_a_template_with_all_its_parts_is_accepted(name: str) -> None:
    assert checked(name, template(name), "file") == template(name)


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_a_template_that_lacks_what_the_agent_needs_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="it must contain") as caught:
        checked(name, "nothing", "prompts/x.md")
    assert all(f"${{{part}}}" in str(caught.value) for part in REQUIRED[name])
    assert "prompts/x.md" in str(caught.value)


def test_an_unknown_part_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no such part: taks; the parts are .*task"):
        checked("review", template("review") + "${taks}", "file")


@pytest.mark.parametrize("odd", ["costs $5", "${", "a $ b"])
def test_a_stray_dollar_is_refused_with_the_way_to_write_one(odd: str) -> None:
    with pytest.raises(ConfigError, match=r"\$\$"):
        checked("implement", template("implement") + odd, "file")


def test_the_first_attempt_gets_the_implement_text_and_a_report_to_fill_in() -> None:
    wp, _ = drive(IMPLEMENTING)
    text = implement(wp)
    assert text.startswith("implement\n")
    assert "round=1" in text
    assert "name them in your report" in text
    assert '"attempt": "i9"' in text
    assert "Run this" in implement(wp, tick="Run this")


def test_a_planning_artifact_may_be_a_file_of_the_mission_and_is_told_where_the_code_is() -> None:
    planning = Workspace("/w", "/w/WP02.md", PLANNING_LANE, "m-planning", "feature", "feature")
    wp = WorkPackage("WP02", ("WP01", "WP03", "WP09"), workspace=planning)
    code = WorkPackage("WP01", workspace=SPACE)
    told = elsewhere(wp, {"WP01": code, "WP02": wp, "WP03": replace(wp, id="WP03")})
    assert told.endswith(f"- WP01: branch {SPACE.branch}, in {SPACE.path}")
    assert elsewhere(replace(code, dependencies=("WP02",)), {"WP02": wp}) == ""
    for one, words in ((wp, "other files of that folder"), (code, "below `kitty-specs/` or `.kittify/`")):
        text = implement_prompt(PROMPTS, one, mission="m", attempt_id="a1", task="", tick="")
        assert words in text


def test_work_that_was_sent_back_gets_the_rework_text_with_what_to_mend() -> None:
    text = implement(REWORKED)
    assert text.startswith("rework\n")
    assert "From review:\n\n- rename it" in text
    assert "round=2" in text


def test_what_was_rejected_is_shown_even_when_the_feedback_was_taken_before() -> None:
    text = implement(worked(REWORKED, feedback=()))
    assert text.startswith("rework\n")
    assert "- rename it" in text


def test_a_reviewer_sees_the_earlier_findings() -> None:
    wp, _ = drive(REVIEWING)
    assert "earlier=none" in review(wp)
    assert f"earlier=Of {HEAD} by bob:\n\n- rename it" in review(worked(REWORKED, head=HEAD))


def test_the_objects_in_the_prompts_are_what_the_readers_accept_once_filled_in() -> None:
    wp, _ = drive(REVIEWING)
    shown = json.loads(review(wp).split("verdict=")[1].split("\n")[0])
    unfilled = read_verdict(json.dumps(shown), attempt_id="r9", head=HEAD, reviewer="bob")
    assert unfilled.ruling is Ruling.UNUSABLE
    filled = json.dumps(shown | {"verdict": "approved"})
    assert read_verdict(filled, attempt_id="r9", head=HEAD, reviewer="bob").ruling is Ruling.APPROVED
    report = json.loads(implement(wp).split("report=")[1].split("\n")[0]) | {"subtasks_done": ["T001"]}
    assert read_report(json.dumps(report), "i9").subtasks_done == ("T001",)


def test_parts_are_data_and_are_never_looked_at_for_placeholders() -> None:
    wp, _ = drive(REVIEWING)
    assert "costs $5 ${verdict} ${nonsense}" in review(wp, diff="costs $5 ${verdict} ${nonsense}")
    assert "task=$task ${report}" in implement(wp, task="$task ${report}")
