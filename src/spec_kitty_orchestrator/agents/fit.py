"""Whether an object has what the protocol of agents wants, for objects that others have made."""

from collections.abc import Mapping

from spec_kitty_orchestrator.agents.spec import Login
from spec_kitty_orchestrator.core.model import Role

_WANTED: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "family": (str,),
    "executable": (str,),
    "environment": (tuple,),
    "roles": (frozenset,),
    "versions": (tuple,),
    "install": (str,),
    "login": (Login,),
    "shell_in_review": (bool,),
    "traces": (tuple,),
    "resumes": (bool,),
    "reports_cost": (bool,),
    "caps_cost": (bool,),
}
_CALLED = ("command", "permissions", "report")
_FILLED = ("name", "family", "executable", "roles")
_NOTHING = object()


def misfits(agent: object) -> list[str]:
    """Say of each attribute and method of the protocol what is wrong with it; nothing, if all are right."""
    found = []
    for name, kinds in _WANTED.items():
        value = getattr(agent, name, _NOTHING)
        wanted = " or ".join(kind.__name__ for kind in kinds)
        if value is _NOTHING:
            found.append(f"it has no {name} ({wanted})")
        elif not isinstance(value, kinds):
            found.append(f"its {name} is not a {wanted}: {value!r}"[:300])
        elif name in _FILLED and not value:
            found.append(f"its {name} is empty")
        elif isinstance(value, tuple) and not all(isinstance(one, str) for one in value):
            found.append(f"its {name} holds something that is not text: {value!r}"[:300])
        elif isinstance(value, frozenset) and not all(isinstance(one, Role) for one in value):
            found.append(f"its {name} holds something that is not a Role: {value!r}"[:300])
    found += [f"it has no method {name}" for name in _CALLED if not callable(getattr(agent, name, None))]
    return found
