"""`python -m tests.e2e.public_missions CLONE …`: what doctor, dry-run and a run say of missions of others.

Each mission is tried in a clone of its own: as it is, and with its work packages taken back to planned.
What doctor advises is pasted, twice at most, until doctor has no error left; then the mission is run with
scripted agents. The table has a row for each trial; exit code 1 if one of them broke a promise: a
traceback, a run that failed after a doctor without an error or the other way round, an error without a mend.
"""

# ruff: noqa: T201 - it prints

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = Path(sys.executable).with_name("spec-kitty-orchestrator")
AGENTS = ("--impl-agent", "scripted", "--review-agent", "scripted")
LIMIT_S = 900.0
"""Longest wait for a command, in seconds: the largest missions have some twenty work packages."""
ROUNDS = 2
"""How often the advice of doctor is followed."""
BY_HAND = ("${EDITOR:-vi}", "pipx ", "spec-kitty-orchestrator resume", "spec-kitty-orchestrator abort")
"""Beginnings of mends that need a person, or are about something else than the mission."""
OTHERWISE = "spec-kitty-orchestrator orchestrate --mission "
"""The beginning of a mend that is to start the run otherwise."""


@dataclass
class Answer:
    """What a command said: `code` is None if it had to be killed."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def line(self) -> str:
        """The last line of its standard error, or of its output."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1] if lines else ""


@dataclass
class Trial:
    """One mission at one commit.

    Attributes:
        findings: errors of the last doctor, as (id, text, fix).
        pasted: mends that were followed, with their exit codes.
        run: None if it was not run.
        broken: promises that did not hold.
    """

    repository: str
    mission: str
    at: str
    work_packages: int = 0
    doctor: Answer | None = None
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    pasted: list[tuple[str, Answer]] = field(default_factory=list)
    dry_run: Answer | None = None
    run: Answer | None = None
    lanes: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


class Clone:
    """A clone of a repository in which one mission is tried."""

    def __init__(self, source: Path, folder: Path, mission: str, env: dict[str, str]) -> None:
        self.root = folder / "clone"
        self.mission = mission
        self.env = env
        self._call("git", "clone", "--quiet", "--shared", "--", str(source), str(self.root), cwd=folder)

    def _call(
        self, *argv: str, cwd: Path | None = None, limit_s: float = LIMIT_S, answers: str = ""
    ) -> Answer:
        begun = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                cwd=cwd or self.root,
                env=self.env,
                input=answers,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Answer(None, "", f"did not end within {limit_s:.0f} s", limit_s)
        return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def target(self) -> str:
        """Return the branch that the mission names."""
        try:
            meta = json.loads((self.root / "kitty-specs" / self.mission / "meta.json").read_text())
        except (OSError, ValueError):
            return ""
        return str(meta.get("target_branch") or "") if isinstance(meta, dict) else ""

    def check_out(self) -> None:
        """Check the mission's target branch out, at the newest commit."""
        self._call("git", "checkout", "--quiet", "--force", "-B", self.target() or "main")

    def forget_lanes(self) -> None:
        """Take back what was done since the work packages had been planned."""
        folder = self.root / "kitty-specs" / self.mission
        events = folder / "status.events.jsonl"
        if not events.exists():
            return
        lines = [json.loads(line) for line in events.read_text().splitlines() if line.strip()]
        first = {str(one.get("wp_id")): one for one in reversed(lines) if "to_lane" in one}
        kept = [one for one in lines if "to_lane" not in one]
        kept += [{**one, "from_lane": "genesis", "to_lane": "planned"} for _, one in sorted(first.items())]
        events.write_text("".join(f"{json.dumps(one)}\n" for one in kept))
        (folder / "status.json").unlink(missing_ok=True)
        self._call("git", "commit", "--quiet", "--no-verify", "-am", "Take the work packages back to planned")

    def ours(self, *args: str) -> Answer:
        """Run our command."""
        return self._call(str(COMMAND), *args)

    def paste(self, fix: str) -> Answer:
        """Run a mend as a person does, who says yes to what is asked."""
        return self._call("bash", "-c", fix, limit_s=300.0, answers="y\n" * 99)


def errors(answer: Answer) -> list[tuple[str, str, str]]:
    """Return the errors among what doctor says."""
    try:
        found = json.loads(answer.out)
    except ValueError:
        return [("doctor", answer.line, "")]
    found = [one for one in found["findings"] if one["level"] == "error"]
    return [(one["id"], one["text"], one["fix"] or "") for one in found]


def try_mission(clone: Clone, trial: Trial, *, runs: bool) -> None:
    """Ask doctor, follow it, and run the mission."""
    asked: tuple[str, ...] = ("--mission", clone.mission)
    folder = clone.root / "kitty-specs" / clone.mission / "tasks"
    trial.work_packages = len(list(folder.glob("WP*.md")))
    for round_ in range(ROUNDS + 1):
        trial.doctor = clone.ours("doctor", "--mission", clone.mission, *AGENTS, "--json")
        trial.findings = errors(trial.doctor)
        mends = dict.fromkeys(fix for _, _, fix in trial.findings if fix and not fix.startswith(BY_HAND))
        if round_ == ROUNDS or not mends:
            break
        for fix in mends:
            if fix.startswith(OTHERWISE):
                asked = ("--mission", *shlex.split(fix.removeprefix(OTHERWISE)))
            else:
                trial.pasted.append((fix, clone.paste(fix)))
    # What is to be started otherwise is started otherwise.
    trial.findings = [one for one in trial.findings if not one[2].startswith(OTHERWISE)]
    trial.dry_run = clone.ours("orchestrate", *asked, *AGENTS, "--dry-run")
    if runs or trial.findings:
        trial.run = clone.ours("orchestrate", *asked, *AGENTS)
        told = clone.ours("status", "--mission", clone.mission, "--format", "json")
        try:
            lanes = [str(one["lane"]) for one in json.loads(told.out)["work_packages"]]
        except (ValueError, KeyError, TypeError):
            lanes = []
        trial.lanes = {lane: lanes.count(lane) for lane in sorted(set(lanes))}
    trial.broken = list(_broken(trial))


def _broken(trial: Trial) -> Iterator[str]:
    for name in ("doctor", "dry_run", "run"):
        answer: Answer | None = getattr(trial, name)
        if answer is None:
            continue
        if "Traceback" in answer.out + answer.err or ("report" in answer.line and answer.code == 3):
            yield f"{name} shows a traceback or wrote a report"
        if answer.code is None:
            yield f"{name} did not end"
    if any(not fix for _, _, fix in trial.findings):
        yield "an error without a mend"
    if any(answer.code != 0 for _, answer in trial.pasted):
        yield "a mend that failed"
    sound = not trial.findings
    if trial.dry_run is not None and sound != (trial.dry_run.code == 0):
        yield f"doctor and dry-run ({trial.dry_run.code}) disagree"
    if trial.run is not None and sound and trial.run.code not in (0, 1):
        yield f"doctor and run ({trial.run.code}) disagree"
    if trial.run is not None and not sound and trial.run.code == 0:
        yield "the run ends well where doctor sees an error"


def main(argv: Sequence[str] | None = None) -> int:
    """Try missions, and print a table."""
    parser = argparse.ArgumentParser(prog="public-missions", description=__doc__)
    parser.add_argument("clones", nargs="+", type=Path, metavar="CLONE[:MISSION,…]")
    parser.add_argument("--no-run", action="store_true", help="doctor and dry-run alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one of N missions of each clone")
    parser.add_argument("--only", choices=("now", "planned"), help="one of the two states")
    parser.add_argument("--details", type=Path, help="a file for all that was said, as JSON lines")
    asked = parser.parse_args(argv)
    env = {**os.environ, "SKO_TRUST_SETTINGS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    env["PATH"] = os.pathsep.join([str(COMMAND.parent), env.get("PATH", os.defpath)])
    worst = 0
    print("| repository | mission | state | WPs | doctor | pasted | dry-run | run | lanes | broken |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for given in asked.clones:
        path, _, named = str(given).partition(":")
        source = Path(path).resolve()
        missions = named.split(",") if named else sorted(p.name for p in (source / "kitty-specs").iterdir())
        for mission in missions[:: asked.every]:
            for at in (asked.only,) if asked.only else ("now", "planned"):
                trial = Trial(source.name, mission, at)
                folder = Path(tempfile.mkdtemp(prefix="public-mission-"))
                try:
                    clone = Clone(source, folder, mission, env)
                    clone.check_out()
                    if at == "planned":
                        clone.forget_lanes()
                    try_mission(clone, trial, runs=not asked.no_run)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                print(row(trial), flush=True)
                worst |= bool(trial.broken)
                if asked.details is not None:
                    with asked.details.open("a") as file:
                        file.write(json.dumps(trial, default=vars) + "\n")
    return worst


def row(trial: Trial) -> str:
    """Write a trial as a line of the table."""
    cells = (
        trial.repository,
        trial.mission,
        trial.at,
        trial.work_packages,
        "; ".join(f"{one} ({text})" for one, text, _ in trial.findings) or "ok",
        "; ".join(f"`{fix}`: {_told(answer)}" for fix, answer in trial.pasted),
        _told(trial.dry_run),
        _told(trial.run),
        ", ".join(f"{count} {lane}" for lane, count in trial.lanes.items()),
        "; ".join(trial.broken),
    )
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _told(answer: Answer | None) -> str:
    if answer is None:
        return ""
    why = f": {answer.line[:160]}" if answer.code else ""
    return f"{answer.code} in {answer.seconds:.0f} s{why}"


if __name__ == "__main__":
    sys.exit(main())
