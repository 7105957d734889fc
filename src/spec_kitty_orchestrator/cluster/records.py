"""What the two sides of an attempt on a cluster write down and send: plain data, as JSON.

`placed.json` is the coordinator's: once it is written, the attempt exists on that machine and on no other.
`attempt.json` is the machine's: once it is written, the attempt has begun there, and never begins again.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from spec_kitty_orchestrator.agents.spec import AgentSettings
from spec_kitty_orchestrator.cluster.shipment import Packed, Shipment
from spec_kitty_orchestrator.core.events import GateBegun
from spec_kitty_orchestrator.core.model import AgentReport, Attempt, Role, Workspace
from spec_kitty_orchestrator.core.policy import Gate
from spec_kitty_orchestrator.core.records import dataclass, field, replace
from spec_kitty_orchestrator.machine import files
from spec_kitty_orchestrator.machine.sandbox import Rules
from spec_kitty_orchestrator.ports import AttemptRequest
from spec_kitty_orchestrator.settings.declaration import Declaration

__all__ = [
    "ATTEMPT",
    "ORDER",
    "BegunGate",
    "Confinement",
    "Delivery",
    "GateOrder",
    "Placed",
    "Setup",
    "Wanted",
    "WorkOrder",
    "read",
    "spelled",
    "understood",
    "write",
]

ORDER, ATTEMPT = "order.json", "attempt.json"


@dataclass(frozen=True)
class Confinement:
    """How the kernel confines an attempt, the same on each machine.

    Attributes:
        rules: the project's.
        states: where each known agent keeps its logins and sessions.
    """

    rules: Rules
    states: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class GateOrder:
    """A gate that is to run on a machine, which does so as with an attempt.

    Attributes:
        checkout: names the workspace there, the same for each gate of a turn: each sees what the others left.
        passed: names of our variables that reach it.
    """

    gate: Gate
    checkout: str
    passed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setup:
    """What a checkout of a machine needs before anything else runs in it.

    Attributes:
        gate: all its commands as one, which is run as a gate is.
        line: the same for people.
        env: variables of ours that reach it, with their values.
    """

    gate: Gate
    line: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """Tells it from another setup."""
        return hashlib.sha256("\0".join(self.gate.command).encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True)
class BegunGate:
    """A gate that a machine runs, so that it is found again; the paths are the machine's."""

    begun: GateBegun
    workspace: Workspace


@dataclass(frozen=True)
class Wanted:
    """An attempt that was opened here, so that it can be placed, also by a later start.

    Attributes:
        request: without its prompt, which has a file of its own.
        machine: where it has to be, as that has the session with which it goes on; "" for anywhere.
        gate: that runs instead of an agent.
    """

    request: AttemptRequest
    machine: str = ""
    gate: GateOrder | None = None


@dataclass(frozen=True)
class WorkOrder:
    """All that a machine must know to run an attempt.

    Attributes:
        request: as at home; its workspace and the paths in its prompt are the coordinator's.
        shipment: the workspace.
        settings: of the agent.
        declared: the agent, where the settings declare it; else the machine knows it by its name.
        scenario: for the scripted agent, the text of its scenario.
        timeouts: the longest attempts, in seconds, by role.
        stall_timeout_s: how long nothing may move, 0 for ever.
        confinement: None where agents are not confined.
        env: variables of ours that a person lets through, with their values.
        gate: that runs instead of an agent.
        task: the text of the work package where the prompt only tells its file, which is not there.
        setup: that its checkout needs, None for nothing.
    """

    request: AttemptRequest
    shipment: Shipment
    settings: AgentSettings = field(default_factory=AgentSettings)
    declared: Declaration | None = None
    scenario: str = ""
    timeouts: Mapping[Role, float] = field(default_factory=dict)
    stall_timeout_s: float = 0.0
    confinement: Confinement | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    gate: GateOrder | None = None
    task: str = ""
    setup: Setup | None = None

    @property
    def holder(self) -> str:
        """Who has the workspace on the machine."""
        return self.gate.checkout if self.gate is not None else self.request.id

    @property
    def without_values(self) -> "WorkOrder":
        """The same without what may be secret: all that is needed once the attempt has begun."""
        setup = replace(self.setup, env={}) if self.setup is not None else None
        return replace(self, env={}, settings=replace(self.settings, env={}), setup=setup)


@dataclass(frozen=True)
class Placed:
    """Where an attempt is, for ever, and what was sent there.

    Attributes:
        workspace: absolute path of the worktree here.
        done: whether its result is here and the machine was told to forget it.
        lost: whether the machine was given up, so that what it may hold was never seen.
    """

    attempt: str
    machine: str
    mission: str
    workspace: str
    shipment: Shipment
    done: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Delivery:
    """What a machine hands back of an attempt that has ended.

    Attributes:
        packed: what is in the workspace there.
        size: of the bundle, in bytes; 0 if it has nothing that we lack.
        files: those of the attempt's directory, by name, each with its size and its SHA-256.
    """

    report: AgentReport
    packed: Packed
    size: int
    files: Mapping[str, tuple[int, str]]


Record = TypeVar("Record", Wanted, Placed, WorkOrder, Attempt, Delivery, BegunGate)


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def spelled(record: Record) -> bytes:
    """Write a record as it is sent."""
    return _adapter(type(record)).dump_json(record)


def understood(kind: type[Record], data: bytes) -> Record:
    """Read a record that was sent. Raises `ValueError`."""
    found: Record = _adapter(kind).validate_json(data)
    return found


def write(path: Path, record: Record) -> None:
    """Put a record on the disk, whole and durably. Raises `OSError`."""
    with files.replacing(path) as file:
        file.write(spelled(record))
    # The name, too, must outlive a power failure: what begins elsewhere rests on it.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(kind: type[Record], path: Path) -> Record | None:
    """Return what a file holds, None if there is no such record."""
    try:
        return understood(kind, files.read_whole(path))
    except (OSError, ValueError):
        return None
