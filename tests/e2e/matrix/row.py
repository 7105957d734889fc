"""Runs one row: prepares the mission, runs our command on copies of it, and judges what came of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from tests.e2e.clis.spec import Cli
from tests.e2e.configuring import configuration, environments, impersonal
from tests.e2e.installing import NotThere, program_of, version_of
from tests.e2e.matrix.columns import (
    ATTACK_RAN,
    COLUMNS,
    PLANTED_KEY,
    PROMPT_BYTES,
    NotRun,
    attack,
)
from tests.e2e.matrix.evidence import WP, Evidence, Ran
from tests.e2e.matrix.recording import recorded, recorder
from tests.e2e.matrix.table import Cell, Row
from tests.e2e.model_api import ModelApi, model_api
from tests.e2e.projects import Project

from spec_kitty_orchestrator.agents import find
from spec_kitty_orchestrator.core.model import Role
from spec_kitty_orchestrator.testing.missions import chain, make_mission, restore_mission, snapshot_mission

_LINE = "{:05d}\tKeep this line: `a`, \"b\", 'c', \\d, $e, ${{f}}, @property, #g, <h>, é, \u2713, \U0001f642 "
"""Of the task's text: what shells, templates and CLIs may take for something else."""

_REJECTS_ONCE = f"""
[[{WP}.review]]
verdict = "changes_requested"
findings = [{{ severity = "major", message = "say which round it is" }}]
[[{WP}.review]]
verdict = "approved"
"""
"""The scripted agent's part where an agent cannot review."""


class Missions:
    """Copies of one mission, which is made when the first is asked for."""

    def __init__(self, folder: Path, host: str) -> None:
        (folder / "home").mkdir(parents=True)
        self.folder = folder
        self.host = str(Path(shutil.which(host) or host).absolute())
        self.env = {
            **impersonal(os.environ),
            "PATH": os.pathsep.join((str(Path(self.host).parent), os.environ.get("PATH", os.defpath))),
            "HOME": str(folder / "home"),
            "SPEC_KITTY_HOME": str(folder / "host-home"),
            "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
            "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        }

    @cached_property
    def _prepared(self) -> tuple[Path, str]:
        planned = chain(1, shared_workspace=False).on("single_branch")
        (wp,) = planned.work_packages
        long = wp.text + "\n" + "\n".join(_LINE.format(n) for n in range(PROMPT_BYTES // len(_LINE)))
        made = self.folder / "made"
        spec = replace(planned, work_packages=(replace(wp, text=f"{long}\n"),))
        slug = make_mission(made, spec, self.host, self.env)
        snapshot_mission(made, self.folder / "prepared")
        return self.folder / "prepared", slug

    def copy(self, folder: Path) -> Project:
        """Return a mission of its own below a new folder."""
        prepared, slug = self._prepared
        restore_mission(prepared, folder / "project")
        return Project(folder / "project", slug, self.env, confine="require")

    def version(self) -> str:
        """Return the host's version."""
        return version_of(self.host)


def run_row(cli: Cli, missions: Missions, cache: Path) -> Row:
    """Run what an agent is tried with, and judge each column; whatever goes wrong is told in the row."""
    agent, package = cli.agent, cli.package
    try:
        program = program_of(cli, cache)
        with model_api() as api:
            row = _run(cli, program, missions, api)
            cells = {name: _judged(column, row) for name, column in COLUMNS.items()}
        return Row(agent, package, version_of(program, {**row.base_env, **row.env}), cells)
    except NotThere as reason:
        return Row(agent, package, "", dict.fromkeys(COLUMNS, Cell("not run", str(reason))))
    except Exception as error:  # noqa: BLE001 - the other rows are run all the same
        return Row(agent, package, "", dict.fromkeys(COLUMNS, _failed(error)))


def _judged(column: Callable[[Evidence], str], row: Evidence) -> Cell:
    try:
        return Cell("pass", column(row))
    except NotRun as reason:
        return Cell("not run", str(reason))
    except Exception as error:  # noqa: BLE001 - evidence that is missing is a failure too
        return _failed(error)


def _failed(error: Exception) -> Cell:
    return Cell("fail", " ".join(f"{type(error).__name__}: {error}".split())[:2000])


def _run(cli: Cli, program: str, missions: Missions, api: ModelApi) -> Evidence:
    agent = cli.agent
    spec, folder = find(agent), missions.folder / "rows" / agent
    calls = folder / "calls"
    stands_before = {agent: str(recorder(program, calls))}
    env = environments(stands_before, api.url, folder / "home")
    settings = configuration(stands_before, env, calls)
    chosen = {role: agent if role in spec.roles else "scripted" for role in Role}
    api.insists = True
    api.to_reject.add(WP)
    if Role.REVIEW not in spec.roles:
        scenario = folder / "scenario.toml"
        scenario.write_text(_REJECTS_ONCE)
        settings += f"[agents.scripted]\nscenario = {json.dumps(str(scenario))}\n"
    mission = missions.copy(folder / "worked")
    for ssh in (folder / "home" / agent / ".ssh", missions.folder / "home" / ".ssh"):
        ssh.mkdir(exist_ok=True)
        (ssh / "id_planted").write_text(PLANTED_KEY)
    api.watched |= {PLANTED_KEY: False, ATTACK_RAN: False}
    api.attack = attack(mission.root, folder / "home")
    worked = _orchestrate(mission, settings, chosen)
    api.attack = ""
    api.refused_keys.add(cli.key)
    refused = {
        role: _orchestrate(
            missions.copy(folder / f"refused-{role.value}"),
            settings,
            {one: agent if one is role else "scripted" for one in Role},
        )
        for role in sorted(spec.roles)
    }
    return Evidence(
        cli,
        spec,
        env[agent],
        worked.project.env,
        folder / "home",
        api,
        worked,
        refused,
        recorded(calls),
    )


def _orchestrate(project: Project, settings: str, chosen: Mapping[Role, str]) -> Ran:
    (project.root / ".kittify" / "orchestrator.toml").write_text(settings, encoding="utf-8")
    started_at = project.git("rev-parse", "HEAD")
    agents = ("--impl-agent", chosen[Role.IMPLEMENT], "--review-agent", chosen[Role.REVIEW])
    try:
        done = project.run("orchestrate", "--mission", project.slug, *agents)
    except subprocess.TimeoutExpired as error:
        return Ran(project, started_at, -1, str(error))
    return Ran(project, started_at, done.returncode, done.stdout + done.stderr)
