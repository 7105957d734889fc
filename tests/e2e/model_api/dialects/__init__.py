"""One file for each API that CLIs speak; each holds a `DIALECT`, which is found by being here."""

import importlib
import pkgutil

from tests.e2e.model_api.dialects.spec import Dialect

DIALECTS: tuple[Dialect, ...] = tuple(
    importlib.import_module(f"{__name__}.{found.name}").DIALECT
    for found in pkgutil.iter_modules(__path__)
    if found.name != "spec"
)
