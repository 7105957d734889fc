"""A warm call cannot tell that it is one: whatever a program can look at is as in a process of its own."""

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from tests.host.fake_host import Gate, Pulse, install, make_pulse, stand

pytestmark = pytest.mark.anyio
pulse = pytest.fixture(name="pulse")(lambda tmp_path: (yield from make_pulse(tmp_path / "pulse")))

LOOKS = {
    "argv": "print(sys.argv, sys.argv[0])",
    "the main module": "m = sys.modules['__main__']; print(__name__, __file__, m.__dict__ is globals())",
    "the import path": "print(sys.path)",
    "the flags of the interpreter": "print(sys.flags, sys.executable, sys.prefix)",
    "the folder": "print(os.getcwd())",
    "the environment": "print(sorted(os.environ.items()))",
    "the environment that a child sees": "sys.stdout.flush(); os.system('env | sort | grep -v ^_=')",
    "stdin is empty": "print(repr(sys.stdin.read()), os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev)",
    "the streams": "print([(s.isatty(), s.encoding, s.errors, s.line_buffering, s.name, s.mode)"
    " for s in (sys.stdin, sys.stdout, sys.stderr)])",
    "kinds of the descriptors": "import stat; print([stat.S_IFMT(os.fstat(n).st_mode) for n in (0, 1, 2)])",
    "handlers of signals": "from signal import *; print([getsignal(s) for s in sorted(valid_signals())])",
    "a session of its own": "print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())",
    "one thread, the main one": "import threading as t; print([one.name for one in t.enumerate()])",
    "the mask of new files": "print(os.umask(0))",
    "no children": "import psutil; print(psutil.Process().children())",
    "output without an end of line": "sys.stdout.write('half a line')",
    "output on both streams": "print('out'); print('err', file=sys.stderr)",
    "a handler at exit": "import atexit; atexit.register(lambda: print('last')); print('first')",
    "a thread that outlives the program": "import threading; threading.Thread(target=lambda:"
    " (threading.main_thread().join(), print('after'))).start(); print('before')",
    "a hook for exceptions": "sys.excepthook = lambda *a: print('hook', a[0].__name__); raise KeyError(1)",
    "exit 0": "sys.exit()",
    "exit 3": "sys.exit(3)",
    "exit -1": "sys.exit(-1)",
    "exit 300": "sys.exit(300)",
    "exit with True": "sys.exit(True)",
    "exit with words": "sys.exit('words')",
    "exit at once": "print('lost'); os._exit(9)",
    "killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import signal; os.kill(os.getpid(), signal.SIGTERM)",
    "no stdout": "sys.stdout.close(); sys.stdout = None # exit",
    "stdout is closed by the program": "print('never seen'); sys.stdout.close() # exit",
    "stdout cannot be written": "print('lost'); os.close(1) # exit",
    "a pipe that nobody reads": "import signal; print(signal.getsignal(signal.SIGPIPE)); r, w = os.pipe();"
    " os.close(r); os.write(w, b'x')",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
async def test_a_warm_call_sees_and_leaves_what_a_process_of_its_own_does(look: str, tmp_path: Path) -> None:
    async with stand(tmp_path, merge_drivers=False) as host:
        await host.start()
        assert await host.is_warm()
        warm, anew = await host.do(look, "and more"), await host.do_anew(look, "and more")
        assert (warm.rc, warm.stdout) == (anew.rc, anew.stdout)
        if not any(word in look for word in ("raise", "pipe", "os.close")):
            assert warm.stderr == anew.stderr
        assert warm.rc < 0 or warm.stdout or warm.stderr or "exit" in look


async def test_an_exception_is_told_on_stderr_and_is_exit_1(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        warm, anew = await host.do("raise KeyError('x')"), await host.do_anew("raise KeyError('x')")
        assert (warm.rc, warm.stdout) == (anew.rc, anew.stdout) == (1, b"")
        assert warm.stderr.splitlines()[-1] == anew.stderr.splitlines()[-1] == b"KeyError: 'x'"


async def test_signals_that_this_process_ignores_are_ignored_by_warm_calls_as_well(tmp_path: Path) -> None:
    look = "import signal; print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP))"
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGINT, signal.SIGHUP)}
    try:
        async with stand(tmp_path) as host:
            await host.start()
            warm, anew = await host.do(look), await host.do_anew(look)
            assert await host.is_warm()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert warm.stdout == anew.stdout
    assert warm.stdout.count(b"SIG_IGN") == 2 or warm.stdout == b"1 1\n"


async def test_a_value_that_is_not_utf_8_and_long_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    strange = os.fsdecode(b"\xff\xfe=\xe9")
    look = (
        "import hashlib; print(os.environb[b'ODD'], hashlib.sha256(repr(sys.argv[4:]).encode()).hexdigest())"
    )
    words = ("€" * 43_000, "a" * 131_070, "", "-x", "tab\tline\n", '"quoted" \\')
    async with stand(tmp_path, env={"ODD": strange}) as host:
        await host.start()
        warm = await host.do(look, *words)
        assert warm.stdout == (await host.do_anew(look, *words)).stdout
        assert b"xff" in warm.stdout
        assert await host.is_warm()


async def test_a_nul_in_an_argument_is_an_os_error_as_in_a_process_of_its_own(tmp_path: Path) -> None:
    async with stand(tmp_path) as host:
        await host.start()
        with pytest.raises(OSError, match="null"):
            await host.call("do", "a\0b")
        assert await host.is_warm()


async def test_what_a_warm_call_starts_inherits_the_standard_streams_alone(tmp_path: Path) -> None:
    look = "sys.stdout.flush(); os.system('ls /proc/self/fd || ls /dev/fd')"
    async with stand(tmp_path) as host:
        await host.start()
        assert (await host.do(look)).stdout == (await host.do_anew(look)).stdout


async def test_a_warm_call_holds_no_descriptor_but_one_that_tells_that_it_lives(tmp_path: Path) -> None:
    look = "import psutil; print(psutil.Process().num_fds())"
    async with stand(tmp_path) as host:
        await host.start()
        # psutil itself holds files of /proc open while it looks.
        assert int((await host.do(look)).stdout) == int((await host.do_anew(look)).stdout) + 1


async def test_two_warm_calls_never_draw_the_same_random_numbers(tmp_path: Path) -> None:
    look = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    async with stand(tmp_path) as host:
        (host.executable.parent / "part.py").write_text(
            "import os, time, random, uuid, tempfile\nrandom.random()\n"
        )
        await host.start()
        first, second = (await host.do(look)).stdout.split(), (await host.do(look)).stdout.split()
        assert not set(first) & set(second)


async def test_what_one_call_changes_in_memory_the_next_does_not_see(tmp_path: Path) -> None:
    look = (
        "print(vars(part).setdefault('pid', os.getpid()) == os.getpid()); os.environ['S'] = ''; os.chdir('/')"
    )
    async with stand(tmp_path) as host:
        await host.start()
        assert [(await host.do(look)).stdout for _ in range(3)] == [b"True\n"] * 3
        assert (
            await host.do("print(os.environ.get('S'), os.getcwd())")
        ).stdout == f"None {host.cwd}\n".encode()


async def test_what_the_host_sets_in_its_environment_when_it_is_imported_is_set_in_every_call(
    tmp_path: Path,
) -> None:
    part = "import os; os.environ.update(NEW='n', GREETING='ho'); del os.environ['DROPPED']"
    look = (
        "print(sorted((n, v) for n, v in os.environ.items() if n in ('NEW', 'GREETING', 'DROPPED', 'KEPT')))"
    )
    async with stand(tmp_path, env={"DROPPED": "d", "KEPT": "k"}) as host:
        (host.executable.parent / "part.py").write_text(part)
        await host.start()
        warm = await host.do(look)
        assert warm.stdout == (await host.do_anew(look)).stdout
        assert warm.stdout == b"[('GREETING', 'ho'), ('KEPT', 'k'), ('NEW', 'n')]\n"
        assert await host.is_warm()


@pytest.mark.parametrize("flags", ["", " -I", " -P", " -S -E"])
async def test_options_of_the_interpreter_are_those_of_the_first_line(flags: str, tmp_path: Path) -> None:
    executable = install(tmp_path / "bin")
    first, _, rest = executable.read_text().partition("\n")
    local = rest.replace("import part\n", "")
    executable.write_text(f"{first}{flags.replace(' -S -E', ' -SE')}\n{local}")
    async with stand(tmp_path, executable=executable, env={"PYTHONPATH": "/nowhere"}) as host:
        await host.start()
        for look in (LOOKS["the flags of the interpreter"], LOOKS["the import path"]):
            assert (await host.do(look)).stdout == (await host.do_anew(look)).stdout
        assert await host.is_warm()


async def test_a_module_is_run_as_with_m(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "kitty"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    program = install(tmp_path / "bin").read_text().partition("\n")[2].replace("import part\n", "")
    (package / "__main__.py").write_text(program)
    wrapper = tmp_path / "bin" / "wrapper"
    wrapper.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={tmp_path / "lib"}:$PYTHONPATH\nexec {sys.executable} -m kitty "$@"\n'
    )
    wrapper.chmod(0o755)
    look = (
        "print(sys.argv[0], sys.path, __name__, __package__, sys.modules[__name__].__spec__.name, __file__)"
    )
    async with stand(tmp_path, executable=wrapper) as host:
        await host.start()
        assert (await host.do(look)).stdout == (await host.do_anew(look)).stdout
        assert await host.is_warm()


async def test_a_call_that_closes_its_output_is_still_awaited(tmp_path: Path, pulse: Pulse) -> None:
    gate = Gate(tmp_path / "gate")
    os.mkfifo(gate.path)
    async with stand(tmp_path) as host:
        await host.start()
        code = (
            "print('early', flush=True)\nos.close(1); os.close(2)\n" + pulse.hold + gate.wait + "os._exit(7)"
        )
        async with anyio.create_task_group() as group:

            async def call() -> None:
                reply = await host.do(code)
                assert (reply.rc, reply.stdout) == (7, b"early\n")

            group.start_soon(call)
            assert await pulse.read() == b"x"
            await gate.open()
