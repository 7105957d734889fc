"""The keys of a table of the settings, from their model: how they are given, their default, what they do."""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx import addnodes
from sphinx.environment import BuildEnvironment

from spec_kitty_orchestrator.settings import SECTIONS, Settings, flag_of, named_fields, written
from spec_kitty_orchestrator.settings.values import Flag, Written

__all__ = ["lines", "parse", "variable"]

NAMES = {str: "text", bool: "`true` or `false`", int: "a number", float: "a number", dict: "a table"}
UNITS = {"DURATION": "a duration", "SIZE": "a size", "USD": "US dollars"}


def lines(wanted: str) -> Iterator[str]:
    """Yield the Markdown of a table, `run`, or of its keys from one to another, `run actor report`."""
    table, *ends = wanted.split()
    fields = _model(table).model_fields
    keys = list(fields)
    first, last = map(keys.index, ends or (keys[0], keys[-1]))
    for key in keys[first : last + 1]:
        field = fields[key]
        if not field.description:
            raise ValueError(f"[{table}] {key} has no docstring")
        yield from ("", f"::::{{setting}} {table}.{key}", " · ".join(_facts(table, key, field)), "")
        yield from (field.description, "::::")


def parse(_env: BuildEnvironment, signature: str, node: addnodes.desc_signature) -> str:
    """Show a setting by its key; its name has the table before it."""
    node += addnodes.desc_name(signature, signature.rpartition(".")[2])
    return signature


def variable(name: str) -> str:
    """Return the variable of a setting, by the name that `named_fields` has for it."""
    return f"SKO_{name.upper()}"


def _model(table: str) -> type[BaseModel]:
    found = Settings.model_fields[table].annotation
    for one in (found, *get_args(found)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    raise ValueError(f"there is no [{table}]")


def _facts(table: str, key: str, field: FieldInfo) -> Iterator[str]:
    yield _kind(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    yield "needed" if field.is_required() else f"default {_default(field)}"
    if table in SECTIONS:
        name = key if table == "run" else f"{table}_{key}"
        if any(isinstance(one, Flag) for one in named_fields()[name][2].metadata):
            yield _option(name, field)
        yield f"`{variable(name)}`"


def _option(name: str, field: FieldInfo) -> str:
    flag = flag_of(name)
    if field.annotation is bool:
        return f"`{flag}`, `--no-{flag.removeprefix('--')}`"
    return f"`{flag} {written(field).metavar}`"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, ""):
        return "none"
    for one in field.metadata:
        if isinstance(one, Written) and one.metavar in UNITS:
            value = one.text(value)
    return f"`{json.dumps(getattr(value, 'kind', value))}`"


def _kind(wanted: Any) -> str:
    """Say what stands in the file."""
    if get_origin(wanted) is Annotated:
        inner, *others = get_args(wanted)
        unit = next((UNITS[one.metavar] for one in others if getattr(one, "metavar", "") in UNITS), "")
        return unit or _kind(inner)
    if get_origin(wanted) is Literal:
        return " or ".join(f'`"{one}"`' for one in get_args(wanted))
    if get_origin(wanted) in (Union, types.UnionType):
        return " or ".join(_kind(one) for one in get_args(wanted) if one is not type(None))
    if get_origin(wanted) is tuple:
        # Words of a small language are kept as they were read, and written as text.
        return "a list"
    return NAMES.get(get_origin(wanted) or wanted, "text")
