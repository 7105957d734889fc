"""How often agents are paid for the same failure, by ours and by the reference, on the real host."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lab import Lab, Setup, drive, install_reference, read_agent_log
from real_mission import Mission, make_mission, side_by_side
from rows import BenchmarkFailed, Bound, Row

TOPOLOGY = "lanes"
LIMIT_S = 900.0
MOST_BROKEN = 4
MOST_GATES = 1
MOST_IDLE = 2


@dataclass(frozen=True, slots=True)
class Spent:
    """What one orchestrator paid for: attempts by role, and what became of the WPs."""

    implement: int
    review: int
    gates: int
    end: str


def measure(setup: Setup) -> list[Row]:
    """Drive missions that cannot end well, by the reference and by ours."""
    commands = {"reference": install_reference(setup.cache), "ours": setup.ours}
    with setup.lab() as lab:
        mission = prepared(lab, 6)
        broken = {name: spend(lab, mission, name, one, "broken") for name, one in commands.items()}
    with setup.lab() as lab:
        mission = prepared(lab, 1)
        idle = {name: spend(lab, mission, name, one, "idle") for name, one in commands.items()}
        log = lab.folder / "gates.txt"
        gate = {"ours": ("--gate", f"echo run >> '{log}'; echo the tests are red; exit 1")}
        refused = {
            name: spend(lab, mission, name, one, "refuse", gate.get(name, ()))
            for name, one in commands.items()
        }
    theirs, ours = refused["reference"], refused["ours"]
    return [
        Row(
            "6 WPs, an agent that always fails: attempts",
            ", ".join(f"{name} {one.implement} ({one.end})" for name, one in broken.items()),
            broken["ours"].implement,
            Bound(MOST_BROKEN, "attempts"),
        ),
        Row(
            "1 WP, the same red content each time: runs of its gate",
            f"reference {theirs.review} reviews after {theirs.implement} attempts ({theirs.end}), "
            f"ours {ours.gates} after {ours.implement} ({ours.end})",
            ours.gates,
            Bound(MOST_GATES, "runs"),
        ),
        Row(
            "1 WP, an agent that changes nothing: attempts",
            ", ".join(
                f"{name} {one.implement} and {one.review} reviews ({one.end})" for name, one in idle.items()
            ),
            idle["ours"].implement,
            Bound(MOST_IDLE, "attempts"),
        ),
    ]


def prepared(lab: Lab, wps: int) -> Mission:
    return make_mission(lab.folder / "mission", lab.host, lab.env, edges=side_by_side(wps), topology=TOPOLOGY)


def spend(
    lab: Lab, mission: Mission, name: str, command: str, play: str, options: Sequence[str] = ()
) -> Spent:
    """Drive the mission with agents that play so, and count them."""
    lab.install(mission, agent_seconds=0.5, play=play)
    result = drive(lab, mission, f"{name}-{play}", command, options=options, limit_s=LIMIT_S)
    if result.cost.timed_out:
        raise BenchmarkFailed(f"{name}, {play}: did not end within {LIMIT_S:.0f} s")
    roles = Counter(one["role"] for one in read_agent_log(lab.agent_log) if one["event"] == "start")
    log = lab.folder / "gates.txt"
    gates = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    lanes = ", ".join(f"{count} {lane}" for lane, count in sorted(Counter(result.lanes.values()).items()))
    return Spent(roles["implement"], roles["review"], gates, f"exit {result.cost.exit_code}, {lanes}")
