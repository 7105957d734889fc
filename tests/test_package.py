import ast
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.wheel import WheelBuilder

import spec_kitty_orchestrator

ROOT = Path(__file__).parents[1]
NAME = "spec-kitty-orchestrator"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    directory = tmp_path_factory.mktemp("dist")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(directory))
    with zipfile.ZipFile(built) as archive:
        return frozenset(archive.namelist())


def project() -> dict[str, object]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(table, dict)
    return table


def test_the_package_says_the_version_that_is_installed() -> None:
    assert spec_kitty_orchestrator.__version__ == metadata.version(NAME) == project()["version"]


def test_the_changelog_opens_with_the_version() -> None:
    found = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found
    assert found[1] == project()["version"]


def test_the_public_names_are_sorted_and_exist() -> None:
    names = spec_kitty_orchestrator.__all__
    assert list(names) == sorted(set(names))
    assert [name for name in names if not hasattr(spec_kitty_orchestrator, name)] == []


@pytest.mark.parametrize("name", ["spec_kitty_orchestrator", "spec_kitty_orchestrator.core"])
def test_importing_the_package_or_the_core_loads_nothing_else(name: str) -> None:
    text = f"import sys; before = set(sys.modules); import {name}; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} == {"spec_kitty_orchestrator", name}


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = spec_kitty_orchestrator.nonsense
    assert {*spec_kitty_orchestrator.__all__} <= {*dir(spec_kitty_orchestrator)}


def public_modules() -> list[ModuleType]:
    """Return the modules that the docstring of the package tells to be public, beside itself."""
    table = (spec_kitty_orchestrator.__doc__ or "").split("=\n")[1]
    named = [name for line in table.splitlines() for name in re.findall(r"`([a-z_.]+)`", line)]
    return [import_module(f"spec_kitty_orchestrator.{name}") for name in named]


def described(module: ModuleType) -> set[str]:
    """Return the constants and aliases of a module that are followed by a text."""
    body = ast.parse(inspect.getsource(module)).body
    texts = {
        place
        for place, node in enumerate(body)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    made = [(place, node) for place, node in enumerate(body) if isinstance(node, ast.Assign | ast.AnnAssign)]
    found: set[str] = set()
    for place, node in made:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        if place + 1 in texts:
            found |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found


def test_every_public_thing_is_documented() -> None:
    silent = []
    for offering in (spec_kitty_orchestrator, *public_modules()):
        lazy = getattr(offering, "_HOMES", {})
        homes = {name: f"{offering.__name__}.{home}" for home in lazy for name in lazy[home].split()}
        for name in {*offering.__all__} - {"__version__"}:
            home, thing = import_module(homes.get(name, offering.__name__)), getattr(offering, name)
            made = inspect.isclass(thing) or inspect.isroutine(thing)
            if not (thing.__doc__ if made else name in described(home)):
                silent.append(f"{home.__name__}.{name}")
    assert silent == []


def test_the_typed_program_names_public_things_alone_and_all_that_the_package_calls_its_own() -> None:
    tree = ast.parse((ROOT / "tests" / "typed_api.py").read_text())
    public = {module.__name__ for module in public_modules()}
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spec_kitty_orchestrator"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                assert node.module in {"spec_kitty_orchestrator", *public} or whole in public, whole
                named.add(alias.name)
    offered = {*spec_kitty_orchestrator.__all__}
    errors = {one for one in offered if one in import_module("spec_kitty_orchestrator.errors").__all__}
    assert offered - errors - {"__version__"} - named == set()


def test_the_command_is_installed_under_its_name() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name=NAME)
    assert callable(command.load())


def test_a_wheel_ships_the_types_and_the_prompts(wheel: frozenset[str]) -> None:
    prompts = {f"spec_kitty_orchestrator/prompts/{name}.md" for name in ("implement", "rework", "review")}
    assert wheel >= {"spec_kitty_orchestrator/py.typed", *prompts}


def test_a_wheel_holds_every_module_and_nothing_from_outside_the_package(wheel: frozenset[str]) -> None:
    source = ROOT / "src"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == modules
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"spec_kitty_orchestrator"}


@pytest.mark.parametrize("name", ["cli", "core", "driver", "host", "machine", "agents", "testing"])
def test_each_room_can_be_imported_on_its_own(name: str) -> None:
    assert import_module(f"spec_kitty_orchestrator.{name}").__doc__


def test_the_readme_gives_a_reason_for_each_dependency() -> None:
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    names = sorted(re.split(r"[^A-Za-z0-9_-]", dependency)[0] for dependency in dependencies)
    table = (ROOT / "README.md").read_text().split("## Dependencies")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| ([a-z0-9]+) \| ", table, re.MULTILINE)[1:]) == names


def test_the_readme_lists_each_exit_code_of_an_error() -> None:
    errors = import_module("spec_kitty_orchestrator.errors")
    codes = {thing.exit_code for thing in vars(errors).values() if hasattr(thing, "exit_code")}
    table = (ROOT / "README.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
    # What a run comes to is no error: all well, not all well, stalled, budget, quota, SIGINT, SIGTERM.
    codes |= {0, 1, 6, 7, 75, 130, 143}
    assert codes == {int(code) for code in re.findall(r"\b\d+\b", table)}
