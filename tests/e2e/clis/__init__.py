"""The agents' real CLIs: one file for each, named for its agent.

To add one:

1. Write `<agent>.py` here with a `CLI` (`spec.py` says what that holds); it is found by being here.
2. If it asks an API that no file of `model_api/dialects` reads yet, add one with a `DIALECT`.
3. If its tools or their arguments have names of their own, add those to `model_api/tools.py`.
4. Run its row: `python3 bootstrap.py nox -s agents-real -- AGENT`, or, with CLIs that are installed already,
   `SKO_TEST_AGENTS='DIR/*/node_modules/.bin' python -m tests.e2e.matrix AGENT`.
5. When it passes, record it with `--record`: that writes its row of `data/matrix.json` and docs/agents.md.
"""

import importlib
import pkgutil
from collections.abc import Mapping

from tests.e2e.clis.spec import Cli


def _found() -> dict[str, Cli]:
    modules = (importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__))
    clis: list[Cli] = [module.CLI for module in modules if hasattr(module, "CLI")]
    return {cli.agent: cli for cli in sorted(clis, key=lambda cli: cli.agent)}


CLIS: Mapping[str, Cli] = _found()
"""By the name of the agent."""
