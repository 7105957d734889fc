"""A coordinator's repository with the worktree of one lane, and machines to which it travels."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spec_kitty_orchestrator.cluster.checkouts import Checkouts
from spec_kitty_orchestrator.cluster.shipment import Applied, Packed, Shipment
from spec_kitty_orchestrator.cluster.shipping import Shipping

BRANCH = "kitty/mission-m-lane-a"
MISSION = "001-m"


def git(path: Path, *args: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *args], cwd=path, check=True, capture_output=True, timeout=30, input=stdin)
    return os.fsdecode(done.stdout).removesuffix("\n")


def tree(path: Path) -> dict[str, tuple[str, bytes]]:
    """Return what is in a folder, besides what is git's own: kind and content of each file and link."""
    found = {}
    for place, folders, files in os.walk(path):
        folders[:] = [one for one in folders if one != ".git"]
        for name in (*files, *folders):
            at = Path(place) / name
            key = os.fsdecode(os.fsencode(at.relative_to(path)))
            if at.is_symlink():
                found[key] = "link", os.fsencode(at.readlink())
            elif at.is_file() and name != ".git":
                found[key] = "program" if os.access(at, os.X_OK) else "file", at.read_bytes()
    return found


_PATTERN: list[Path] = []


@dataclass
class Home:
    """The coordinator's side."""

    root: Path
    path: Path
    shipping: Shipping
    number: int = 0
    machines: dict[str, Checkouts] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> "Home":
        """Make it; the first one is the pattern of all others."""
        root, path = folder / "home" / "project", folder / "home" / "lane-a"
        if not _PATTERN:
            _PATTERN.append(cls._make(Path(tempfile.mkdtemp()) / "home"))
        shutil.copytree(_PATTERN[0], folder / "home", symlinks=True)
        (path / ".git").write_text(f"gitdir: {root}/.git/worktrees/lane-a\n")
        (root / ".git/worktrees/lane-a/gitdir").write_text(f"{path}/.git\n")
        # Git remembers when files were made, and these are new.
        git(path, "update-index", "-q", "--refresh")
        return cls(root, path, Shipping(root, MISSION))

    @staticmethod
    def _make(home: Path) -> Path:
        root, path = home / "project", home / "lane-a"
        root.mkdir(parents=True)
        git(root, "init", "-q", "-b", "main")
        git(root, "config", "user.name", "A Person")
        git(root, "config", "user.email", "person@example.org")
        (root / ".gitignore").write_text("*.log\nbuild/\n")
        folders = (f"folder-{number}/{name}" for number in range(1, 5) for name in ("a.py", "b.py"))
        for name in (*(f"{number}.py" for number in range(1, 13)), *folders):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(f"# {name}\n" * 5)
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "start")
        git(root, "worktree", "add", "-q", "-b", BRANCH, str(path))
        return home

    def machine(self, name: str = "one") -> Checkouts:
        folder = self.root.parent.parent / f"machine-{name}"
        return self.machines.setdefault(name, Checkouts(folder))


@dataclass
class Trip:
    """One attempt on a machine, step by step."""

    home: Home
    machine: Checkouts
    attempt: str
    shipment: Shipment
    there: Path
    files: Path
    packed: Packed | None = None

    @classmethod
    async def out(cls, home: Home, machine: str = "one", clone: str = "") -> "Trip":
        home.number += 1
        attempt = f"a{home.number}"
        checkouts = home.machine(machine)
        files = home.root.parent.parent / "files" / attempt
        files.mkdir(parents=True)
        shipment = await home.shipping.snapshot(home.path)
        have = await checkouts.have(shipment.project, clone)
        sent = await home.shipping.bundle(attempt, shipment, have, files / "out")
        there = await checkouts.check_out(attempt, shipment, files / "out" if sent else None)
        return cls(home, checkouts, attempt, shipment, there, files)

    async def back(self) -> Applied:
        await self.pack()
        return await self.apply()

    async def pack(self) -> Packed:
        self.packed = await self.machine.pack(self.attempt, self.shipment, self.files / "back")
        return self.packed

    async def apply(self) -> Applied:
        assert self.packed is not None
        file = self.files / "back"
        return await self.home.shipping.apply(
            self.attempt, self.home.path, self.shipment, self.packed.back, file if file.exists() else None
        )

    async def done(self) -> None:
        await self.machine.drop(self.attempt, self.shipment.project)
        await self.home.shipping.forget(self.attempt)


Edit = Callable[[Path], object]
