"""Keys of two authorities, made by the script that the documentation offers."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "deploy" / "files" / "make-keys.sh"


@dataclass(frozen=True)
class Keys:
    """The files of one authority with a certificate and its key, and those of another one, in a folder."""

    folder: Path

    @property
    def mine(self) -> tuple[Path, Path, Path]:
        return self._of("mine")

    @property
    def others(self) -> tuple[Path, Path, Path]:
        return self._of("others")

    def _of(self, name: str) -> tuple[Path, Path, Path]:
        folder = self.folder / name
        return folder / "ca.pem", folder / "me.pem", folder / "me.key"

    def make(self) -> "Keys":
        for name in ("mine", "others"):
            (self.folder / name).mkdir()
            subprocess.run(
                ["sh", SCRIPT, "me", "it"], cwd=self.folder / name, check=True, capture_output=True
            )
        return self
