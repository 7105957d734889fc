"""Settings of ours for a CLI that takes a file of a machine's defaults, which lie below everybody's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["machine_defaults", "ours", "system_defaults"]

_FOLDER = Path(__file__).with_name("settings")


def ours(name: str) -> Path:
    """Return the path of a file of settings that comes with this package."""
    return _FOLDER / name


def system_defaults(linux: str, mac: str) -> tuple[Path, ...]:
    """Return where whoever runs a machine puts defaults of their own for a CLI with folders of these names.

    Ours must not take their place.
    """
    folders = (Path("/etc", linux), Path("/Library/Application Support", mac))
    return tuple(folder / "system-defaults.json" for folder in folders)


def machine_defaults(variable: str, name: str, own: Sequence[Path]) -> Mapping[str, str]:
    """Return the variable that names our file; nothing where one of `own`, the machine's files, is there.

    That file may hold how the CLI logs in here, and the CLI reads only one.
    """
    return {} if any(_is_there(path) for path in own) else {variable: str(ours(name))}


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Whoever may not look at it may not read it either.
        return False
