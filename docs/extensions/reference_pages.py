"""The reference: what modules offer, each under the name by which it is imported, from their docstrings."""

import inspect
import types
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation

import spec_kitty_orchestrator

__all__ = ["connect", "lines"]

PACKAGE = "spec_kitty_orchestrator"
ALIASES = (
    ("core.run_events", "AnyEvent RunEvent Line"),
    ("core.events", "Event"),
    ("core.operator_events", "OperatorEvent"),
    ("core.commands", "Command"),
    ("core.scheduler", "Decision"),
)
"""Names of unions that are too long for a signature, each after those that it is a part of."""


def lines(wanted: str) -> Iterator[str]:
    """Yield the Markdown of names of modules: `ports core.events` of all, `core.limits: Rest` of some.

    Of a module whose names the package itself offers, all are those.
    """
    modules, _, names = wanted.partition(":")
    for module in modules.split():
        found = import_module(f"{PACKAGE}.{module}")
        offered = spec_kitty_orchestrator._HOMES.get(module, "").split()
        yield from ("", "```{eval-rst}")
        for name in names.split() or offered or found.__all__:
            yield from _entry(found, name)
        yield "```"


def _entry(module: types.ModuleType, name: str) -> Iterator[str]:
    made = getattr(module, name)
    place = PACKAGE if name in _offered(module) else module.__name__
    if inspect.isclass(made):
        yield from (f".. autoclass:: {place}.{name}", "   :members:")
        if issubclass(made, Enum):
            yield "   :undoc-members:"
    elif inspect.isroutine(made):
        yield f".. autofunction:: {place}.{name}"
    else:
        yield from (f".. autodata:: {place}.{name}", "   :no-value:")
    yield ""


def _offered(module: types.ModuleType) -> list[str]:
    return spec_kitty_orchestrator._HOMES.get(module.__name__.removeprefix(f"{PACKAGE}."), "").split()


@cache
def _spelled() -> dict[str, str]:
    """Return each alias as Sphinx spells what it stands for."""
    made = {}
    for module, names in ALIASES:
        found = import_module(f"{PACKAGE}.{module}")
        place = {name: PACKAGE if name in _offered(found) else found.__name__ for name in names.split()}
        made |= {
            stringify_annotation(getattr(found, name), "smart"): f"~{place[name]}.{name}" for name in place
        }
    return made


def _shorten(*given: typing.Any) -> tuple[str, str] | None:
    _app, _what, _name, _made, _options, signature, returned = given
    for long, alias in _spelled().items():
        signature = signature and signature.replace(long, alias)
        returned = returned and returned.replace(long, alias)
    return signature, returned


def _complete(_app: Sphinx, env: BuildEnvironment) -> None:
    described = env.domains["py"].objects
    for name in spec_kitty_orchestrator.__all__:
        if not name.startswith("__") and f"{PACKAGE}.{name}" not in described:
            logging.getLogger(__name__).warning(f"the reference lacks {PACKAGE}.{name}")


def connect(app: Sphinx) -> None:
    """Let signatures use the names of unions, and no public name be left out."""
    app.connect("autodoc-process-signature", _shorten)
    app.connect("env-check-consistency", _complete)
