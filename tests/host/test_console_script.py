"""Whatever the host's executable is, the Python program behind it is found, or told to be none."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from tests.host.fake_host import ENV, Pulse, install, make_pulse

from spec_kitty_orchestrator.host.console_script import ConsoleScript, resolve

pytestmark = pytest.mark.anyio

BOUND_S = 30.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    yield from make_pulse(tmp_path / "pulse")


async def find(
    executable: Path, env: Mapping[str, str] = ENV, limit_s: float = BOUND_S
) -> ConsoleScript | None:
    with anyio.fail_after(BOUND_S), blockbuster_ctx("spec_kitty_orchestrator"):
        return await resolve(str(executable), executable.parent, env, limit_s)


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def program(path: Path, first: str = "") -> Path:
    """Write a Python program whose first line may be another one."""
    script = install(path.parent, path.name)
    _, _, rest = script.read_text().partition("\n")
    return executable(script, f"{first or f'#!{sys.executable}'}\n{rest}")


def assert_runs(found: ConsoleScript | None, script: Path, *options: str) -> Mapping[str, str]:
    assert found is not None
    assert Path(found.python[0]).samefile(sys.executable)
    assert (found.python[1:], found.script, found.module) == (options, str(script), "")
    assert not any("PROBE" in name or "sitecustomize" in value for name, value in found.env.items())
    return found.env


async def test_a_script_of_a_virtual_environment(tmp_path: Path) -> None:
    script = program(tmp_path / "spec-kitty")
    found = await find(script)
    assert {**assert_runs(found, script), "LC_CTYPE": ""} == {**ENV, "LC_CTYPE": ""}
    assert found is not None
    assert found.python == (sys.executable,)


async def test_the_environment_is_kept_as_it_is_given(tmp_path: Path) -> None:
    script = program(tmp_path / "spec-kitty")
    for path in ("/a:/b", "/a:", ":/a"):
        env = assert_runs(await find(script, {**ENV, "PYTHONPATH": path, "ODD": "\udcff"}), script)
        assert (env["PYTHONPATH"], env["ODD"]) == (path, "\udcff")
    assert "PYTHONPATH" not in assert_runs(await find(script, {**ENV, "LC_ALL": "C"}), script)
    assert "LC_CTYPE" not in assert_runs(await find(script, {**ENV, "LC_ALL": "C"}), script)


async def test_a_link_to_a_script(tmp_path: Path) -> None:
    program(tmp_path / "real")
    link = tmp_path / "spec-kitty"
    link.symlink_to("real")
    assert_runs(await find(link), link)


async def test_a_shell_trampoline(tmp_path: Path) -> None:
    first = f"#!/bin/sh\n'''exec' '{sys.executable}' \"$0\" \"$@\"\n' '''"
    script = program(tmp_path / "spec-kitty", first)
    assert_runs(await find(script), script)


async def test_options_in_the_first_line_of_env(tmp_path: Path) -> None:
    script = program(tmp_path / "spec-kitty", f"#!/usr/bin/env -S {sys.executable} -u -X dev")
    assert_runs(await find(script), script, "-u", "-X", "dev")


@pytest.mark.parametrize("exec_", ["exec ", ""])
async def test_a_wrapper_with_what_it_set(exec_: str, tmp_path: Path) -> None:
    script = program(tmp_path / "real")
    text = (
        f'#!/bin/bash\nexport SET=yes PYTHONPATH=/before:$PYTHONPATH\nunset GREETING\n{exec_}{script} "$@"\n'
    )
    env = assert_runs(await find(executable(tmp_path / "spec-kitty", text)), script)
    assert env["SET"] == "yes"
    assert env["PYTHONPATH"] == "/before:"
    assert "GREETING" not in env


async def test_a_module(tmp_path: Path) -> None:
    (tmp_path / "kitty").mkdir()
    (tmp_path / "kitty" / "__main__.py").write_text("print('never')")
    text = f'#!/bin/sh\nexec {sys.executable} -u -m kitty "$@"\n'
    found = await find(executable(tmp_path / "spec-kitty", text))
    assert found is not None
    assert (found.python[1:], found.script, found.module) == (("-u",), "", "kitty")


@pytest.mark.parametrize("options", ["-I", "-E", "-sE", "-IS"])
async def test_a_first_line_that_shuts_the_environment_out_is_read(options: str, tmp_path: Path) -> None:
    script = program(tmp_path / "spec-kitty", f"#!{sys.executable} {options}")
    found = await find(script)
    assert found == ConsoleScript((sys.executable, options), str(script), "", ENV, plain=True)


UNKNOWN = {
    "a command line": f'#!/bin/sh\nexec {sys.executable} -c "print(1)" "$@"\n',
    "more arguments": f'#!/bin/sh\nexec {sys.executable} real --verbose "$@"\n',
    "fewer arguments": f"#!/bin/sh\nexec {sys.executable} real\n",
    "another folder": f'#!/bin/sh\ncd /; exec {sys.executable} "$OLDPWD"/real "$@"\n',
    "an environment that is shut out behind a wrapper": f'#!/bin/sh\nexec {sys.executable} -I real "$@"\n',
    "standard input": f'#!/bin/sh\nexec {sys.executable} - "$@" < real\n',
    "a shell script": "#!/bin/sh\necho hello\n",
    "a shell script that fails": "#!/bin/sh\nexit 7\n",
    "another interpreter": "#!/usr/bin/awk -f\nBEGIN {}\n",
    "a first line that is not text": "#!/bin/sh \udcff'\necho\n",
}


@pytest.mark.parametrize("text", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_what_cannot_be_run_in_another_way_is_not_resolved(text: str, tmp_path: Path) -> None:
    program(tmp_path / "real")
    script = tmp_path / "spec-kitty"
    script.write_bytes(text.encode("utf-8", "surrogateescape"))
    script.chmod(0o755)
    assert await find(script) is None


async def test_a_binary_is_not_resolved() -> None:
    assert await find(Path("/bin/echo")) is None


async def test_a_file_that_cannot_be_executed_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(OSError, match="text"):
        await find(tmp_path / "text")


async def test_an_executable_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await find(tmp_path / "gone")


async def test_a_program_that_hangs_is_stopped(tmp_path: Path, pulse: Pulse) -> None:
    script = executable(tmp_path / "spec-kitty", f"#!/bin/sh\nexec 9>{pulse.path}; printf x >&9; sleep 60\n")
    with pytest.raises(TimeoutError):
        await find(script, limit_s=1)
    assert await pulse.read() == b"x"
    assert await pulse.read() == b""


async def test_nothing_is_left_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulse: Pulse
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    await find(program(tmp_path / "spec-kitty"))
    hangs = executable(tmp_path / "hangs", f"#!/bin/sh\nexec 9>{pulse.path}; printf x >&9; sleep 60\n")
    async with anyio.create_task_group() as group:
        group.start_soon(find, hangs)
        assert await pulse.read() == b"x"
        group.cancel_scope.cancel()
    assert os.listdir(temporary) == []  # noqa: PTH208 - a name is enough


@pytest.mark.parametrize(
    ("first", "plain"),
    [
        (f"#!{sys.executable}", True),
        (f"#!{sys.executable} -I", True),
        (f"#!{sys.executable} -I -s", False),
        (f"#!/bin/sh\n''':'\necho notice\nexec {sys.executable} \"$0\" \"$@\"\n'''", False),
    ],
    ids=["an interpreter", "an option", "two options, which the system hands over as one", "a shell first"],
)
async def test_only_a_script_that_the_system_itself_gives_to_python_is_plain(
    first: str, plain: bool, tmp_path: Path
) -> None:
    found = await find(program(tmp_path / "spec-kitty", first))
    assert found is not None
    assert found.plain is plain
