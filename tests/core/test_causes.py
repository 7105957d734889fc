"""One cause is told once, whatever it stopped, and keeps its number whatever is retried."""

from spec_kitty_orchestrator.core.causes import by_cause, noted
from spec_kitty_orchestrator.core.events import Parked, WorkspaceFailed
from spec_kitty_orchestrator.core.model import Lane, MissionState, Phase, Result
from spec_kitty_orchestrator.core.operator_events import Retried
from spec_kitty_orchestrator.core.run import fold
from spec_kitty_orchestrator.core.run_events import Entry
from spec_kitty_orchestrator.core.work_package import WorkPackage

from .builders import IMPLEMENTING, NOON, POLICY, start_at


def parked(name: str, note: str, **parts: object) -> WorkPackage:
    return WorkPackage(name, phase=Phase.FINISHED, result=Result.PARKED, note=note, **parts)  # type: ignore[arg-type]


def test_work_packages_that_were_left_for_like_reasons_have_one_cause() -> None:
    wps = [parked("WP01", "no room in /a"), parked("WP02", "git broke"), parked("WP03", "no room in /b/c")]
    causes = noted((), wps)
    assert by_cause(causes, wps) == {"c1": ("WP01", "WP03"), "c2": ("WP02",)}


def test_who_is_done_skipped_or_at_work_has_no_cause() -> None:
    wps = [
        WorkPackage("WP01", note="waits"),
        WorkPackage("WP02", phase=Phase.FINISHED, result=Result.DONE, note="approved"),
        parked("WP03", "not now", skipped=True),
    ]
    assert noted((), wps) == ()


def test_a_cause_keeps_its_number_in_the_journal_when_another_one_is_settled() -> None:
    names = {"WP01": "no room", "WP02": "git broke"}
    mission = MissionState("m", dict.fromkeys(names, Lane.PLANNED), {})
    lines = [start_at(mission)]
    entries = [
        Entry(NOON, name, event)
        for name, why in names.items()
        for event in (*IMPLEMENTING, WorkspaceFailed(why), Parked(Lane.BLOCKED))
    ]
    state = fold([*lines, *entries, Entry(NOON, "WP01", Retried())], POLICY)
    assert by_cause(state.causes, state.wps.values()) == {"c2": ("WP02",)}
