"""What loses its parents becomes ours where we ask for it: it ends with its attempt, and stays no zombie."""

import sys
from pathlib import Path

import anyio
import pytest
from tests.hostile.test_processes import DAEMON
from tests.machine import attempts
from tests.machine.attempts import HOLD, LIMIT_S, Children

pytestmark = pytest.mark.asyncio

ATTEMPT = """
import importlib.util, sys, anyio
from spec_kitty_orchestrator.machine.children import take_orphans
take_orphans()
spec = importlib.util.spec_from_file_location("driven", sys.argv[1])
module = sys.modules["driven"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
anyio.run(module.drive, *sys.argv[2:])
"""

ZOMBIES = """
import anyio, os
from pathlib import Path
from spec_kitty_orchestrator.machine import adopted, child, children
adopted.REAP_EVERY_S = 0.01
children.take_orphans()

async def main():
    ours = children.start(["/bin/sh", "-c", "exit 3"])
    line, pids = "sleep 0.01 >/dev/null 2>&1 & echo $!", []
    for _ in range(5):
        reply = await child.run(["/bin/sh", "-c", line], cwd=Path.cwd(), env=dict(os.environ), limit_s=20)
        pids.append(reply.text)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(adopted.keep_reaping)
            while any(Path("/proc", one).exists() for one in pids):
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert ours.wait() == 3

anyio.run(main)
"""

FOREIGN = """
import anyio, os, signal, sys
from pathlib import Path
from spec_kitty_orchestrator.machine import adopted, child, children, process, stopping
adopted.REAP_EVERY_S = 0.01
children.take_orphans()

async def main():
    here, marker = Path(sys.argv[1]), "m-0123456789"
    env = os.environ | {process.MARKER: marker}
    wrapper = await process.spawn(["/bin/sleep", "600"], here, env, here, os.devnull)
    line = "setsid sleep 600 >/dev/null 2>&1 & echo $!"
    reply = await child.run(["/bin/sh", "-c", line], cwd=here, env=dict(os.environ), limit_s=20)
    daemon = process.known(int(reply.text))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(adopted.keep_reaping)
            while daemon in adopted.orphans_since(0.0):
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        os.kill(wrapper.pid, signal.SIGKILL)
        await process.wait(wrapper)
        await stopping.sweep(marker, None, wrapper)
    lives = process.is_running(daemon)
    os.kill(daemon.pid, signal.SIGKILL)
    assert lives

anyio.run(main)
"""


async def test_a_daemon_whose_wrapper_was_killed_ends_with_its_attempt(
    tmp_path: Path, attempt_id: str, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons = Children()
    monkeypatch.setenv("HELD_PORT", daemons.port)
    agent = DAEMON + HOLD + "os.kill(os.getppid(), 9)\n"
    argv = [sys.executable, "-c", ATTEMPT, attempts.__file__, str(tmp_path), attempt_id, agent]

    async with await anyio.open_process(argv, stderr=None) as driver:
        await daemons.up()
        await children.up()
        children.release()
        await daemons.gone()
        with anyio.fail_after(LIMIT_S):
            assert await driver.wait() == 0
    daemons.close()


async def test_orphans_are_waited_for_and_children_of_ours_are_not() -> None:
    with anyio.fail_after(LIMIT_S):
        done = await anyio.run_process([sys.executable, "-c", ZOMBIES], stderr=None, check=False)

    assert done.returncode == 0


async def test_a_daemon_of_our_own_git_outlives_a_killed_wrapper(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT_S):
        argv = [sys.executable, "-c", FOREIGN, str(tmp_path)]
        done = await anyio.run_process(argv, stderr=None, check=False)

    assert done.returncode == 0
