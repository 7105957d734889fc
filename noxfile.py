"""Every chore of a developer: `python3 bootstrap.py nox -l` lists them.

The host is the real one, in an environment of its own; sessions find its `spec-kitty` first on PATH and
in `SKO_TEST_HOST`. Set that variable yourself to test with another host.
"""

import os
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "typing", "typed-api", "architecture", "docs", "all-tests"]
nox.options.reuse_venv = "yes"
# Also where CI is set: the tests run on each Python that is installed, whichever these are.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

PROJECT = nox.project.load_toml("pyproject.toml")
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = sorted({"3.11", "3.12", "3.13", "3.14", THIS_PYTHON}, key=lambda version: int(version[2:]))
# Half of a laptop; the real host takes a core for each of its calls.
WORKERS = "2"
WITH_WAITS = ("-n", "3", "--dist", "worksteal")
"""One more than elsewhere, for tests that wait for agents."""


def group(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups."""
    return nox.project.dependency_groups(PROJECT, *names)


def with_host(session: nox.Session) -> dict[str, str]:
    """Install the host if need be, and return the environment in which it is found and stays quiet."""
    found = session.run(sys.executable, "bootstrap.py", "host", external=True, silent=True, stderr=None)
    host = Path(str(found).strip().splitlines()[-1])
    return {
        "SKO_TEST_HOST": str(host),
        "PATH": os.pathsep.join([session.bin, str(host.parent), os.environ.get("PATH", os.defpath)]),
        "SPEC_KITTY_NO_UPGRADE_CHECK": "1",
        "SPEC_KITTY_ENABLE_SAAS_SYNC": "0",
        "SPEC_KITTY_HOME": str(Path(tempfile.gettempdir(), f"spec-kitty-home-{os.getuid()}")),
    }


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    # Only looked at, never run: neither our own package nor any bytecode is needed.
    needed = PROJECT["project"]["dependencies"]
    session.install("--no-compile", *needed, *group("typing", "test", "chores"))
    session.run("mypy")


@nox.session(name="typed-api")
def typed_api(session: nox.Session) -> None:
    """Check with mypy and pyright that what others import is typed, in an environment as theirs."""
    # Apart from `typing`: pyright only finds a package that is installed, and mypy must not find it twice.
    session.install("--no-compile", ".[dask]", *group("typed-api"))
    program = Path("tests", "typed_api.py").resolve()
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run("mypy", "--strict", str(program))
        session.run("pyright", "--verifytypes", "spec_kitty_orchestrator", "--ignoreexternal")
        session.run("pyright", str(program))


@nox.session
def architecture(session: nox.Session) -> None:
    """Check that each room imports only what it may."""
    session.install("--no-compile", *group("architecture"))
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": "src"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of docs/ into build/site, with warnings as errors, and run each example of it."""
    session.install("--no-compile", ".", *group("docs"))
    for what in ("doctest", "html"):
        # Both read the pages only once.
        pages = ["-d", "build/pages", "docs", "build/site" if what == "html" else "build/examples"]
        fresh = ["-E"] if what == "doctest" else []
        session.run("sphinx-build", "-q", "-W", "--keep-going", "-j", "auto", *fresh, "-b", what, *pages)


@nox.session
def schema(session: nox.Session) -> None:
    """Write the JSON Schema of the events anew from the models."""
    session.install("-e", ".", *group("test"))
    session.run("python", "-m", "tests.event_schema")


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of the documentation anew; it needs chromium."""
    session.install("-e", ".", *group("test"))
    session.run("python", "-m", "tests.views.pictures", "docs/pictures")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests that need no real host; or, with arguments, pytest with these."""
    # Not editable: what is tested is what a wheel holds.
    session.install(".", *group("test"))
    chosen = session.posargs or ["-n", WORKERS, "-m", "not real_host and not real_agents"]
    session.run("pytest", *chosen, env=with_host(session))


@nox.session(name="all-tests")
def all_tests(session: nox.Session) -> None:
    """Run the tests of both `tests` and `e2e` in one environment at once, as CI does."""
    session.install(".", *group("test"))
    # The real host's tests wait for agents a third of the time: the others run meanwhile.
    chosen = session.posargs or [*WITH_WAITS, "-m", "not long"]
    session.run("pytest", *chosen, env=with_host(session))


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the tests on the real host, and those with the agents' real CLIs where npm is installed."""
    session.install(".", *group("test"))
    chosen = session.posargs or [*WITH_WAITS, "-m", "(real_host or real_agents) and not long"]
    session.run("pytest", *chosen, env=with_host(session))


@nox.session
def long(session: nox.Session) -> None:
    """Run the tests that take minutes each, which CI has a cheaper one of."""
    session.install(".", *group("test"))
    session.run("pytest", *(session.posargs or ["-n", WORKERS, "-m", "long"]), env=with_host(session))


@nox.session(name="agents-real")
def agents_real(session: nox.Session) -> None:
    """Run every agent's real CLI from npm through a real mission, and print what holds: `-- codex qwen`.

    With `--record` the rows are kept, and docs/agents.md shows them. A row takes one minute or two. With
    `--latest` it tries what npm's registry has today instead, and says what that changes.
    """
    session.install(".", *group("test"))
    env = with_host(session)
    session.run("python", "-m", "tests.e2e.matrix", "--host", env["SKO_TEST_HOST"], *session.posargs, env=env)


@nox.session(name="public-missions")
def public_missions(session: nox.Session) -> None:
    """Try doctor, dry-run and a run with scripted agents on missions of clones: `-- CLONE[:MISSION,…] …`."""
    session.install(".", *group("test"))
    session.run("python", "-m", "tests.e2e.public_missions", *session.posargs, env=with_host(session))


@nox.session
def faults(session: nox.Session) -> None:
    """Kill the command, then its warm host, in real missions: `-- --kills 50 --topology lanes coord`."""
    session.install(".", *group("test"))
    env = with_host(session)
    session.run("python", "-m", "tests.faults.kill_the_command", *session.posargs, env=env)
    session.run("python", "-m", "tests.faults.kill_the_warm_host", *session.posargs, env=env)


@nox.session(name="cluster-faults")
def cluster_faults(session: nox.Session) -> None:
    """Kill the command, a worker and the scheduler in real missions on a cluster: `-- --kills 20`."""
    session.install(".", *group("test"))
    env = with_host(session)
    session.run("python", "-m", "tests.faults.kill_the_cluster", *session.posargs, env=env)


@nox.session(python=["3.11", "3.13"])
def minimums(session: nox.Session) -> None:
    """Test with the oldest dependencies that pyproject.toml allows, on the oldest and the newest Python."""
    floors = [requirement.replace(">=", "==") for requirement in PROJECT["project"]["dependencies"]]
    session.install(".", *floors, *group("test"))
    rooms = [f"tests/{room}" for room in ("core", "driver", "host", "machine")]
    session.run(
        "pytest", "-n", WORKERS, "-m", "not real_host and not real_agents", *(session.posargs or rooms)
    )


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo mission on the real host."""
    session.install(".")
    session.run("python", "examples/demo.py", *session.posargs, env=with_host(session))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what must hold, in one table (`-- --help`), or run another script of benchmarks/."""
    session.install(".[dask]")
    named = session.posargs and session.posargs[0].endswith(".py")
    script, *options = session.posargs if named else ["table.py", *session.posargs]
    session.run("python", f"benchmarks/{script}", *options, env=with_host(session))
