"""What is looked up for an advice never ends what it is for: the summary of a run, the plan of a dry run."""

from typing import Any

import pytest
from tests.cli.working import ONE, SLUG, at_work, host_of_one, lane_of

Project = Any  # the class lives in conftest, which tests cannot import

BREAKS = {
    "git's index is torn": "pathlib.Path('.git/index').write_bytes(b'torn')",
    "the repository calls itself bare": "os.system('git config core.bare true')",
    "the mission's own file is torn": f"pathlib.Path('kitty-specs/{SLUG}/meta.json').write_text('{{')",
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_run_that_completed_everything_ends_well_though_its_advice_cannot_be_looked_up(
    project: Project, how: str
) -> None:
    host_of_one(project, after=f'if args.get("--to") == "done":\n    {BREAKS[how]}\n')
    with at_work(project, *ONE) as working:
        working.let_the_agent_end()
        code, told = working.ended()
    assert (code, lane_of(project)) == (0, "done"), told
    assert "on the host: 1 done" in told
    assert "WP01  done, 2 attempts" in told
    assert "Traceback" not in told


def test_a_dry_run_tells_the_hosts_refusal_of_one_work_package_and_plans_the_others(project: Project) -> None:
    words = "lanes.json has no lane for WP02"
    refuses = (
        'if call == "resolve-workspace" and wp == "WP02":\n'
        f'    code, data = "WORKSPACE_ERROR", dict(message="{words}")\n'
    )
    host_of_one(project, after=refuses)
    (project.bin / "spec-kitty.d" / "lanes").write_text('{"WP01": "planned", "WP02": "planned"}')
    done = project.run("orchestrate", "--mission", SLUG, "--dry-run", *scripted())
    told = done.stdout + done.stderr
    assert "ExceptionGroup" not in told
    assert words in told
    assert "WP02" in told
    assert "WP01  planned" in done.stdout


def test_a_dry_run_tells_a_host_that_gives_no_answer_in_words(project: Project) -> None:
    host_of_one(project, after='if call == "resolve-workspace":\n    sys.exit("boom")\n')
    done = project.run("orchestrate", "--mission", SLUG, "--dry-run", *scripted())
    assert "ExceptionGroup" not in done.stdout + done.stderr
    assert done.returncode == 3
    assert "boom" in done.stderr


def scripted() -> tuple[str, ...]:
    return ("--impl-agent", "scripted", "--review-agent", "scripted")
