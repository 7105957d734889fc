"""Reads the settings of a run: defaults < `.kittify/orchestrator.toml` < `SKO_*` variables < record < flags.

Nothing is guessed: an unknown key, a wrong type or a value out of range is a `ConfigError` that names where
the value came from (file and line, variable or flag) and, for a name, the nearest one that exists.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from spec_kitty_orchestrator.core.host_rules import forbidden_word
from spec_kitty_orchestrator.errors import ConfigError
from spec_kitty_orchestrator.settings import (
    SECTIONS,
    GateSection,
    RunSettings,
    Settings,
    flag_of,
    named_fields,
)
from spec_kitty_orchestrator.settings.agent_section import AgentSection
from spec_kitty_orchestrator.settings.notify_section import NotifySection
from spec_kitty_orchestrator.settings.values import NONE

__all__ = [
    "AGENTS",
    "CONFIG_FILE",
    "TRUST_VARIABLE",
    "changed",
    "given_gates",
    "load",
    "nearest",
    "read_text",
    "record",
]

CONFIG_FILE = Path(".kittify") / "orchestrator.toml"
ENVIRONMENT_PREFIX = "SKO_"
DEVELOPMENT_PREFIX = "SKO_TEST_"
"""Variables for the development of this program; no setting is named so."""
TRUST_VARIABLE = "SKO_TRUST_SETTINGS"
"""Says for one start that the programs which the repository names are trusted; it is no setting of a file."""
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
LIVE = (
    "max_concurrent",
    "max_per_agent",
    "max_attempts",
    "max_review_cycles",
    "max_cost",
    "max_cost_per_wp",
    "max_tokens",
    "max_duration",
    "budget_hard",
    "on_rate_limit",
    "max_wait",
)
"""Settings that can be changed while a run is active."""

_OTHERS = (DEVELOPMENT_PREFIX, TRUST_VARIABLE)
_LISTS: Mapping[str, type[BaseModel]] = {"gates": GateSection, "notify": NotifySection}
AGENTS = "program_agents"
"""Recorded besides the keys of `[run]`: what a program gave a run as agents, which is nowhere but there."""
_GATE = "gate"
_CLUSTER = "cluster_"
"""Besides the keys of `[run]`: lines for the shell that are gates after those of the file."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for the most similar known name, or nothing if none is similar."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


@dataclass(frozen=True)
class _Source:
    """Where values came from, by their path in the settings."""

    file: Path
    text: str
    labels: Mapping[tuple[str, ...], str]

    def of(self, path: tuple[str, ...]) -> str:
        for length in range(len(path), 0, -1):
            label = self.labels.get(path[:length])
            if label is not None:
                return label
        line = _line_of(self.text, path)
        return f"{self.file}:{line}" if line else str(self.file)


def load(
    repo_root: Path,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    known_agents: Collection[str],
    recorded: Mapping[str, object] | None = None,
) -> Settings:
    """Read and check the settings of a repository.

    Args:
        repo_root: the primary checkout; the file is `.kittify/orchestrator.toml` in it and may be absent.
        environ: `SKO_<KEY>` for keys of `[run]`, `SKO_HOST_<KEY>` for those of `[host]`, and so on.
        flags: what was given on the command line, by the variable's name in small letters without `SKO_`:
            `<key>` of `[run]`, `host_<key>` of `[host]`, and `gate`. A value of None means not given.
        known_agents: names that can be configured and chosen besides those of agents that the file declares.
        recorded: what `record` returned for the run that goes on, with `AGENTS`.

    Raises:
        ConfigError: naming every wrong setting, one a line.
    """
    file = repo_root / CONFIG_FILE
    text = read_text(file) or ""
    merged = _parse(file, text)
    problems: list[str] = []
    labels: dict[tuple[str, ...], str] = {}

    def put(name: str, value: object, label: str) -> None:
        section, key, field = named[name]
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _from_text(field, value) if isinstance(value, str) else value
            labels[section, key] = label

    named = named_fields()
    for variable, name in _variables(environ, named, problems).items():
        put(name, environ[variable], f"environment variable {variable}")
    _put_gates(merged, given_gates(flags, recorded), labels)
    for name, value in (recorded or {}).items():
        if name in RunSettings.model_fields or (name.startswith(_CLUSTER) and name in named):
            put(name, value, f"the run's own {flag_of(name)}")
        elif name not in (_GATE, AGENTS):
            problems.append(f"the run was started with a setting that this version does not know: {name}")
    for name, value in flags.items():
        if name != _GATE and name not in named:
            problems.append(f"there is no setting {name!r}{nearest(name, named)}")
        elif value is not None and name != _GATE:
            put(name, value, flag_of(name))
    source = _Source(file, text, labels)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        problems += _explain(error, source)
        raise ConfigError("\n".join(problems)) from None
    problems += _wrong_agents(settings, source, known_agents)
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def changed(
    recorded: Mapping[str, object], changes: Mapping[str, str], known_agents: Collection[str]
) -> RunSettings:
    """Return the recorded `[run]` of a run that is active with changes of `LIVE` settings, written as text.

    Raises:
        ConfigError: naming every wrong one, one a line.
    """
    known = RunSettings.model_fields
    problems = [
        f"{name}: it holds for a whole start; `resume {flag_of(name)} …` changes it"
        if name in known
        else f"{name}: unknown setting{nearest(name, LIVE) or '; known: ' + ', '.join(LIVE)}"
        for name in changes
        if name not in LIVE
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    run: dict[str, object] = {name: value for name, value in recorded.items() if name in known}
    run |= {name: _from_text(known[name], value) for name, value in changes.items()}
    source = _Source(CONFIG_FILE, "", {("run", name): "set" for name in changes})
    try:
        settings = Settings.model_validate({"run": run})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, source))) from None
    if wrong := _unknown_agents(settings, source, known_agents) if "max_per_agent" in changes else []:
        raise ConfigError("\n".join(wrong))
    return settings.run


def record(settings: Settings, gates: Sequence[str]) -> Mapping[str, object]:
    """Return the `[run]` that holds, and the gates that were given, as values of JSON that `load` takes.

    Of a run on a cluster also how that is reached.
    """
    cluster = settings.cluster.model_dump(mode="json", exclude_defaults=True) if settings.run.executor else {}
    reached = {f"{_CLUSTER}{key}": value for key, value in cluster.items()}
    return {**settings.run.model_dump(mode="json"), **reached, _GATE: list(gates)}


def given_gates(flags: Mapping[str, object], recorded: Mapping[str, object] | None) -> tuple[str, ...]:
    """Return the lines of the gates that are no gates of the file: those given now, else those recorded.

    Raises:
        ConfigError: `none` stands beside a gate.
    """
    lines = flags.get(_GATE)
    if lines is None:
        lines = (recorded or {}).get(_GATE)
    found = tuple(map(str, lines)) if isinstance(lines, list | tuple) else ()
    if NONE in found[1:] or found[:1] == (NONE,) != found:
        raise ConfigError(f"--gate: {NONE} means no gates but those of the file; give it alone")
    return () if found == (NONE,) else found


def _put_gates(merged: dict[str, object], lines: Iterable[str], labels: dict[tuple[str, ...], str]) -> None:
    """Add the gates of lines; each is named by the first word of its line."""
    gates = merged.get("gates", [])
    if not isinstance(gates, list | tuple):
        return
    gates = list(gates)
    for line in lines:
        known = [one for one in gates if isinstance(one, dict)]
        if any(one.get("command") in (line, ["/bin/sh", "-c", line]) for one in known):
            continue
        word = (line.split() or [""])[0].rpartition("/")[2]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-._")[:30] or "gate"
        names = {one.get("name") for one in known}
        free = next(one for n in count(1) if (one := name if n == 1 else f"{name}-{n}") not in names)
        labels["gates", str(len(gates))] = "--gate"
        gates.append({"name": free, "command": line})
    if gates:
        merged["gates"] = gates


def read_text(file: Path) -> str | None:
    """Read a file that a person may have written, None if there is none. Raises `ConfigError`."""
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            # A link to a device or a pipe would be read for ever.
            raise ConfigError(f"{file}: is no ordinary file")
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _parse(file: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = where.group(1) if where else str(text.count("\n") + 1)
        reason = str(error).split(" (at ")[0]
        raise ConfigError(f"{file}:{line}: not valid TOML: {reason}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"
        raise ConfigError(f"{file}: {reason}") from None


def _variables(environ: Mapping[str, str], names: Iterable[str], problems: list[str]) -> Mapping[str, str]:
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}": name for name in names}
    chosen = {}
    for variable in sorted(environ):
        if variable in known:
            chosen[variable] = known[variable]
        elif variable.startswith(ENVIRONMENT_PREFIX) and not variable.startswith(_OTHERS):
            problems.append(f"environment variable {variable}: unknown setting{nearest(variable, known)}")
    return chosen


def _from_text(field: FieldInfo, value: str) -> object:
    if field.annotation is int and re.fullmatch(r"[+-]?\d{1,9}", value.strip()):
        return int(value)
    if field.annotation is bool:
        return _TRUTH.get(value.strip().lower(), value)
    return value


def _explain(error: ValidationError, source: _Source) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"])
        name = _dotted(path)
        if detail["type"] == "extra_forbidden":
            fields = _fields(path[:-1])
            reason = f"unknown key{nearest(path[-1], fields) or '; known: ' + ', '.join(fields)}"
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            reason = (
                reason[:1].lower()
                + reason[1:]
                + (f", not {detail['input']!r}"[:120] if "should" in reason else "")
            )
        lines.append(f"{source.of(path)}: {name}: {reason}")
    return lines


def _dotted(path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return path[0]
    if path[0] in _LISTS:
        return f"[[{path[0]}]] {int(path[1]) + 1} {'.'.join(path[2:])}".rstrip()
    table, rest = (path[:2], path[2:]) if path[0] == "agents" else (path[:1], path[1:])
    return f"[{'.'.join(table)}] {'.'.join(rest)}".rstrip()


def _fields(path: tuple[str, ...]) -> list[str]:
    if not path:
        return list(Settings.model_fields)
    return list({**SECTIONS, **_LISTS}.get(path[0], AgentSection).model_fields)


def _wrong_agents(settings: Settings, source: _Source, built_in: Collection[str]) -> list[str]:
    own = {name: section for name, section in settings.agents.items() if section.command is not None}
    known = (*built_in, *(name for name in own if name not in built_in))
    return [
        f"{source.of(('agents', name, key))}: [agents.{name}] {reason}"
        for name, section in own.items()
        for key, reason in _wrong_names(name, section, built_in)
    ] + _unknown_agents(settings, source, known)


def _wrong_names(name: str, section: AgentSection, built_in: Collection[str]) -> Iterable[tuple[str, str]]:
    if name in built_in:
        yield "command", f"command: {name} is known already; give yours another name, for example my-{name}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        yield "", "must be a short name of letters, digits, `.`, `_` and `-`"
    if section.family is None and forbidden_word(name):
        word = forbidden_word(name)
        yield "", f"the host refuses a family that contains {word!r}, as this name does; set family"


def _unknown_agents(settings: Settings, source: _Source, known: Collection[str]) -> list[str]:
    places: list[tuple[tuple[str, ...], str]] = [(("agents", name), name) for name in settings.agents]
    places += [(("run", "impl_agents"), name) for name in settings.run.impl_agents]
    places += [(("run", "review_agents"), name) for name in settings.run.review_agents]
    places += [(("run", "max_per_agent", name), name) for name in settings.run.max_per_agent]
    return [
        f"{source.of(path)}: unknown agent {name!r}{nearest(name, known)} (known: {', '.join(sorted(known))})"
        + (f"; `command = [...]` in [agents.{name}] makes it one of your own" if path[0] == "agents" else "")
        for path, name in places
        if name not in known
    ]


def _line_of(text: str, path: tuple[str, ...]) -> int:
    """Return the line where a key is set, its table's if the key cannot be found, or 0."""
    table: tuple[str, ...] = ()
    best, best_length = 0, 0
    entries: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?([^\[\]]+)\]\]?\s*(#.*)?$", line)
        if header:
            table = _words(header.group(1))
            if line.lstrip().startswith("[["):
                entries[table] = entries.get(table, -1) + 1
                table += (str(entries[table]),)
            here = table
        else:
            key, assigned, _ = line.partition("=")
            if not assigned or not re.fullmatch(r"[A-Za-z0-9_.\"'\s-]+", key):
                continue
            here = table + _words(key)
        common = len(here) if here == path[: len(here)] else 0
        if common > best_length:
            best, best_length = number, common
    return best


def _words(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
