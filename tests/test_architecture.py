"""What import-linter and ruff do not see of the shape of the code."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "spec_kitty_orchestrator"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {
    "agents",
    "app",
    "cli",
    "cluster",
    "core",
    "driver",
    "host",
    "machine",
    "ports",
    "prompts",
    "settings",
    "testing",
    "views",
}
VAGUE = re.compile(r"(base|common|helpers?|managers?|misc|utils?)")


def imported(module: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports name the whole path"
            found.add(node.module or "")
    return found


def test_the_package_has_only_the_known_rooms() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == ROOMS


def public_names(module: Path) -> ast.Assign | None:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return node
    return None


def length(module: Path) -> int:
    """Count the lines of a module without its list of public names and the line before that."""
    names = public_names(module)
    listed = (names.end_lineno or 0) - names.lineno + 2 if names else 0
    return len(module.read_text().splitlines()) - listed


def test_no_module_is_longer_than_400_lines() -> None:
    assert {str(module) for module in MODULES if length(module) > 400} == set()


def test_each_module_with_public_things_lists_them() -> None:
    silent = []
    for module in MODULES:
        things = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        made = [node.name for node in ast.parse(module.read_text()).body if isinstance(node, things)]
        if public_names(module) is None and any(not name.startswith("_") for name in made):
            silent.append(str(module))
    assert silent == []


def test_no_module_uses_what_another_does_not_list() -> None:
    homes = {".".join(one.relative_to(PACKAGE.parent).with_suffix("").parts): one for one in MODULES}
    homes = {name.removesuffix(".__init__"): one for name, one in homes.items()}
    found = {name: public_names(one) for name, one in homes.items()}
    listed = {name: set(ast.literal_eval(one.value)) if one else set() for name, one in found.items()}
    private = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in homes:
                asked = {alias.name for alias in node.names if f"{node.module}.{alias.name}" not in homes}
                private |= {f"{module.name}: {node.module}.{one}" for one in asked - listed[node.module]}
    assert private == set()


def assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield each target with its value; parts of a tuple have their own where they can be told apart."""
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assert isinstance(node, ast.Assign)
            if not isinstance(target, ast.Tuple):
                yield target, node.value
            elif isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=True)
            else:
                yield from ((one, node.value) for one in target.elts)


def untyped(cls: ast.ClassDef) -> Iterator[str]:
    """Yield the public attributes of a class without a type that are more than a constant or argument."""
    begin = [node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    inner = [node for one in begin for node in ast.walk(one)]
    typed = {
        ast.unparse(node.target).removeprefix("self.")
        for node in (*cls.body, *inner)
        if isinstance(node, ast.AnnAssign)
    }
    of_self = ((one, value) for one, value in assigned(inner) if ast.unparse(one).startswith("self."))
    for target, value in (*assigned(cls.body), *of_self):
        name = ast.unparse(target).removeprefix("self.")
        plain = isinstance(value, ast.Constant | ast.Name | ast.UnaryOp | ast.JoinedStr | ast.Lambda)
        if name.isidentifier() and not name.startswith("_") and name not in typed and not plain:
            yield name


def test_public_attributes_say_their_type_where_type_checkers_could_differ() -> None:
    silent = []
    for module in MODULES:
        for node in ast.parse(module.read_text()).body:
            is_enum = isinstance(node, ast.ClassDef) and "Enum" in "".join(map(ast.unparse, node.bases))
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not is_enum:
                silent += [f"{module.name}: {node.name}.{name}" for name in untyped(node)]
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(module) for module in MODULES if VAGUE.fullmatch(module.stem)] == []


def test_no_folder_holds_a_single_file() -> None:
    folders = {module.parent for module in MODULES}
    assert [str(folder) for folder in folders if len([*folder.glob("*.*")]) < 2] == []


@pytest.mark.parametrize("module", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.stem)
def test_core_uses_the_standard_library_and_no_async(module: Path) -> None:
    outside = {
        name
        for name in imported(module)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not name.startswith(("spec_kitty_orchestrator.core", "spec_kitty_orchestrator.errors"))
    }
    assert outside == set()
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not any(isinstance(node, asynchronous) for node in ast.walk(ast.parse(module.read_text())))


@pytest.mark.parametrize("command", ["demo", "test", "nox", "host"])
def test_the_bootstrap_explains_each_chore(command: str) -> None:
    told = subprocess.run([sys.executable, ROOT / "bootstrap.py", "--help"], capture_output=True, text=True)
    assert told.returncode == 0
    assert f"python3 bootstrap.py {command} " in told.stdout


def test_the_bootstrap_refuses_a_chore_that_it_does_not_know() -> None:
    told = subprocess.run([sys.executable, ROOT / "bootstrap.py", "tset"], capture_output=True, text=True)
    assert told.returncode == 2
