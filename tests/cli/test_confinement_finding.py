"""What doctor and a run say where nothing is confined."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from spec_kitty_orchestrator.app.checks import Level
from spec_kitty_orchestrator.app.checks.machine import check_confinement
from spec_kitty_orchestrator.settings import Settings


@dataclass
class Here:
    """A project on a machine where confinement fails for this reason."""

    unconfined: str
    settings: Settings
    functions: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("why", "fix"),
    [
        ("bubblewrap (bwrap) is not installed", "sudo apt-get install bubblewrap"),
        ("/usr/bin/bwrap does not work here: setting up uid map: Permission denied", ""),
        ("it is for Linux only", ""),
    ],
)
@pytest.mark.parametrize(("confine", "level"), [("auto", Level.WARNING), ("require", Level.ERROR)])
def test_only_what_is_missing_is_to_be_installed(why: str, fix: str, confine: str, level: Level) -> None:
    here = Here(why, Settings.model_validate({"run": {"confine": confine}}))
    found = check_confinement(cast("Any", here))
    assert (found.level, found.fix) == (level, fix)
    assert why in found.text
    assert fix in found.text
