"""Runs one command and accounts for every process that descends from it, detached ones included (Linux).

usage: python tree.py RESULT.json [--limit SECONDS] -- COMMAND …

The runner makes itself a child subreaper, so a process that outlives its parent is handed to it instead of to
init. It waits for all of them; the kernel then adds each one's CPU time to the runner's `RUSAGE_CHILDREN`.
Stdout and stderr pass through. RESULT.json holds one `TreeCost`.

CPU times and the root's peak memory are the kernel's; the tree's memory is sampled four times a second.
"""

import argparse
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.25  # a sample of ten processes costs a few milliseconds
ORPHANS_S = 15.0  # what is left of a tree this long after its root has ended is killed
MIB = 1024 * 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class TreeCost:
    """What one command and all its descendants took; memory in MiB, times in seconds."""

    exit_code: int = 0
    timed_out: bool = False
    wall_s: float = 0.0
    cpu_s: float = 0.0
    root_cpu_s: float = 0.0
    peak_tree_pss_mib: float = 0.0
    peak_root_rss_mib: float = 0.0
    peak_processes: int = 0
    killed_orphans: int = 0


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command name (state, ppid, …), none if it is gone."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    """Return all living descendants of `root`, without `root` itself."""
    found, queue = [], children(root)
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children(pid)
    return found


def children(pid: int) -> list[int]:
    """Return what the process's threads have started, or nothing if it is gone."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [
            int(child) for thread in threads for child in (thread / "children").read_text("ascii").split()
        ]
    except OSError:
        return []


def pss_mib(pid: int) -> float:
    """Return the process's proportional share of memory, or its resident memory where that cannot be read."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return rss_mib(pid)


def rss_mib(pid: int) -> float:
    fields = stat_fields(pid)
    return int(fields[21]) * PAGE_BYTES / MIB if fields else 0.0


def peak_rss_mib(pid: int) -> float:
    """Return the most memory that this process ever held, as the kernel keeps it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def own_cpu_s(pid: int) -> float:
    """Return the CPU time of this one process, without its children; a zombie still tells it."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S if fields else 0.0


def tree_cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its living descendants, with whatever each of them has reaped."""
    every = [stat_fields(one) for one in (pid, *descendants(pid))]
    return sum(int(ticks) for fields in every for ticks in fields[11:15]) / TICKS_PER_S


def clock_s(pid: int) -> float:
    """Return the CPU time of one living process without its children, to the nanosecond.

    Raises:
        OSError: it is gone.
    """
    # Linux: the process's own clock, `clock_getcpuclockid(3)` in the C library.
    return time.clock_gettime((~pid << 3) | 2)


def watch(root: int, cost: TreeCost, stop: threading.Event) -> None:
    """Keep the peaks until told to stop."""
    while not stop.wait(SAMPLE_S):
        tree = descendants(os.getpid())
        cost.peak_processes = max(cost.peak_processes, len(tree))
        cost.peak_tree_pss_mib = max(cost.peak_tree_pss_mib, sum(map(pss_mib, tree)))
        cost.peak_root_rss_mib = max(cost.peak_root_rss_mib, peak_rss_mib(root))


def reap(until: float) -> bool:
    """Collect handed-over processes; false if some still run at `until` (seconds of the monotonic clock)."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)


def stop_late(root: subprocess.Popen[bytes], cost: TreeCost) -> None:
    cost.timed_out = True
    root.kill()


def adopt_orphans() -> None:
    """Have descendants of this process handed to it when their parent ends, instead of to init."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def account(command: list[str], limit_s: float) -> TreeCost:
    """Run `command` to its end and return what its whole tree took."""
    adopt_orphans()
    cost, stop = TreeCost(), threading.Event()
    started = time.monotonic()
    root = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    sampler = threading.Thread(target=watch, args=(root.pid, cost, stop), daemon=True)
    sampler.start()
    alarm = threading.Timer(limit_s, stop_late, (root, cost))
    alarm.daemon = True
    alarm.start()
    os.waitid(os.P_PID, root.pid, os.WEXITED | os.WNOWAIT)
    cost.wall_s = time.monotonic() - started
    alarm.cancel()
    cost.root_cpu_s = own_cpu_s(root.pid)
    cost.exit_code = root.wait()
    if not reap(time.monotonic() + (0.0 if cost.timed_out else ORPHANS_S)):
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                cost.killed_orphans += 1
        reap(time.monotonic() + ORPHANS_S)
    stop.set()
    sampler.join()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost.cpu_s = spent.ru_utime + spent.ru_stime
    return cost


def run(command: list[str], *, cwd: Path, env: dict[str, str], output: Path, limit_s: float) -> TreeCost:
    """Account for `command` in a process of its own; its stdout and stderr go to the file `output`."""
    result = output.with_suffix(".cost.json")
    wrapper = [sys.executable, "-I", __file__, str(result), "--limit", str(limit_s), "--", *command]
    with output.open("wb") as stream:
        subprocess.run(wrapper, cwd=cwd, env=env, stdout=stream, stderr=subprocess.STDOUT, check=True)
    return TreeCost(**json.loads(result.read_text(encoding="utf-8")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    cost = account(options.command, options.limit)
    options.result.write_text(json.dumps(asdict(cost)), encoding="utf-8")


if __name__ == "__main__":
    main()
