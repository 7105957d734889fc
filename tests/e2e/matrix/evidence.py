"""What a row left behind: missions, recorded calls, and what the models' API saw."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.e2e.clis.spec import Cli
from tests.e2e.matrix.recording import RecordedCall
from tests.e2e.model_api import ModelApi
from tests.e2e.projects import Project

from spec_kitty_orchestrator.agents.spec import Agent
from spec_kitty_orchestrator.core.model import Role

WP = "WP01"


@dataclass(frozen=True)
class Tried:
    """One attempt, by its files and by the journal."""

    id: str
    role: Role
    agent: str
    session: str
    directory: Path
    report: Mapping[str, Any]
    tampered: Sequence[str]

    @property
    def prompt(self) -> str:
        """The prompt, as we wrote it."""
        return (self.directory / "prompt.md").read_text(encoding="utf-8")

    @property
    def command(self) -> dict[str, Any]:
        """What we say that ran."""
        loaded: dict[str, Any] = json.loads((self.directory / "command.json").read_text(encoding="utf-8"))
        return loaded


@dataclass(frozen=True)
class Ran:
    """A mission after our command ended.

    Attributes:
        started_at: the commit that it began from.
        exit_code: of our command.
        output: of our command, for whoever looks into a failure.
    """

    project: Project
    started_at: str
    exit_code: int
    output: str

    @cached_property
    def attempts(self) -> list[Tried]:
        """The attempts in their order, as far as they ended."""
        ended = {one["attempt_id"]: one for one in self.project.journal(WP, "agent_exited")}
        return [
            Tried(
                opened["id"],
                Role(opened["role"]),
                opened["agent"],
                opened["session"],
                self.project.root / opened["directory"],
                ended[opened["id"]]["report"],
                ended[opened["id"]]["tampered"],
            )
            for opened in (one["attempt"] for one in self.project.journal(WP, "attempt_opened"))
            if opened["id"] in ended
        ]

    def of(self, role: Role) -> list[Tried]:
        """Return the attempts of one role."""
        return [one for one in self.attempts if one.role is role]

    def outcomes(self) -> str:
        """Tell how the attempts ended, for a message."""
        return "; ".join(
            f"{one.role.value} {one.agent}: {one.report['outcome']} {one.report['detail']}"
            for one in self.attempts
        )


@dataclass(frozen=True)
class Evidence:
    """All of a row.

    Attributes:
        cli: what was tested.
        agent: our module for it.
        env: the variables that our settings give it.
        base_env: the environment in which our command ran.
        home: the folder that the CLI was to keep to.
        worked: the mission in which all went well.
        refused: by role, a mission in which the API refuses that role's key.
        calls: every call of the CLI.
    """

    cli: Cli
    agent: Agent
    env: Mapping[str, str]
    base_env: Mapping[str, str]
    home: Path
    api: ModelApi
    worked: Ran
    refused: Mapping[Role, Ran]
    calls: Sequence[RecordedCall] = field(default_factory=tuple)

    @property
    def own(self) -> list[Tried]:
        """The attempts of the tested agent, in every mission."""
        return [
            one
            for ran in (self.worked, *self.refused.values())
            for one in ran.attempts
            if one.agent == self.cli.agent
        ]
