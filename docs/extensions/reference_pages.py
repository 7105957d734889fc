"""The reference: what modules offer, each under the name by which it is imported, from their docstrings."""

import inspect
import re
import types
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module
from itertools import chain

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation

import spec_kitty_orchestrator.testing

__all__ = ["connect", "lines"]

PACKAGE = "spec_kitty_orchestrator"
ALIASES = (
    ("core.run_events", "AnyEvent RunEvent Line"),
    ("core.events", "Event"),
    ("core.operator_events", "OperatorEvent"),
    ("core.commands", "Command"),
    ("core.scheduler", "Decision"),
    ("core.ranking", "Order"),
    ("agents.function", "Function"),
)
"""Names of unions that are too long for a signature, each after those that it is a part of."""


def lines(wanted: str) -> Iterator[str]:
    """Yield the Markdown of names of modules.

    `ports core.events` are all names that a package itself offers of each, or where it offers none, those
    of its `__all__`. `core.model: *` are all others, and `core.limits: Rest` some of them.
    """
    modules, _, names = wanted.partition(":")
    for module in chain.from_iterable(map(_expanded, modules.split())):
        found = import_module(f"{PACKAGE}.{module}")
        _, offered = _offered(found)
        others = [name for name in found.__all__ if name not in offered]
        if names.split() not in ([], ["*"]):
            others = [name for name in others if name in names.split()]
        yield from ("", "```{eval-rst}")
        for name in others if names else offered or others:
            yield from _entry(found, name)
        yield "```"


def _expanded(module: str) -> list[str]:
    """Return the modules of `testing.*`, which are those whose names the package offers."""
    if not module.startswith("testing.") or not module.endswith(".*"):
        return [module]
    inner = module.removeprefix("testing.").removesuffix("*")
    homes = spec_kitty_orchestrator.testing._HOMES
    return [f"testing.{one}" for one in homes if one.startswith(inner) and "." not in one.removeprefix(inner)]


def _entry(module: types.ModuleType, name: str) -> Iterator[str]:
    made = getattr(module, name)
    place = f"{_place(module, name)}.{name}"
    if inspect.isclass(made):
        yield from (f".. autoclass:: {place}", "   :members:")
        if issubclass(made, Enum):
            yield "   :undoc-members:"
    elif inspect.isroutine(made):
        yield f".. autofunction:: {place}"
    else:
        # The analyzer finds what stands below an assignment only where that is.
        about = ModuleAnalyzer.for_module(module.__name__).find_attr_docs().get(("", name), [])
        yield from (f".. py:data:: {place}", "", *(f"   {line}" for line in about), "")
        if typing.get_origin(made) and not isinstance(made, types.UnionType):
            spelled = re.sub(r"[\w.]+\.(?=\w)", "", stringify_annotation(made))
            yield f"   It is short for ``{spelled}``."
        if isinstance(made, types.UnionType):
            links = (f":py:class:`~{one.__module__}.{one.__qualname__}`" for one in typing.get_args(made))
            yield f"   One of {', '.join(links)}."
    yield ""


def _place(module: types.ModuleType, name: str) -> str:
    package, names = _offered(module)
    return package if name in names else module.__name__


def _offered(module: types.ModuleType) -> tuple[str, list[str]]:
    """Return the package from which names of a module are imported, and which these are."""
    for package in (spec_kitty_orchestrator.testing, spec_kitty_orchestrator):
        inner = module.__name__.removeprefix(f"{package.__name__}.")
        if inner in package._HOMES:
            return package.__name__, package._HOMES[inner].split()
    return "", []


@cache
def _spelled() -> dict[str, str]:
    """Return each alias as Sphinx spells what it stands for."""
    made = {}
    for module, names in ALIASES:
        found = import_module(f"{PACKAGE}.{module}")
        for name in names.split():
            spelled = stringify_annotation(getattr(found, name), "smart")
            made[spelled] = f"~{_place(found, name)}.{name}"
    return made


def _shorten(*given: typing.Any) -> tuple[str, str] | None:
    _app, _what, _name, made, _options, signature, returned = given
    if inspect.isclass(made) and (typing.Protocol in made.__mro__ or issubclass(made, Enum)):
        return "", ""  # nobody makes one by calling it
    # What a dataclass makes anew for each object is no Python, and what follows it would be read as none.
    for long, alias in {**_spelled(), "<factory>": "..."}.items():
        signature = signature and signature.replace(long, alias)
        returned = returned and returned.replace(long, alias)
    return signature, returned


def _complete(_app: Sphinx, env: BuildEnvironment) -> None:
    described = env.domains["py"].objects
    for package in (spec_kitty_orchestrator, spec_kitty_orchestrator.testing):
        for name in package.__all__:
            if not name.startswith("__") and f"{package.__name__}.{name}" not in described:
                logging.getLogger(__name__).warning(f"the reference lacks {package.__name__}.{name}")


def connect(app: Sphinx) -> None:
    """Let signatures use the names of unions, and no public name be left out."""
    app.connect("autodoc-process-signature", _shorten)
    app.connect("env-check-consistency", _complete)
