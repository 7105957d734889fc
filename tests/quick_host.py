"""The real host as a program that starts in a moment: a copy of one process that has it imported answers.

The host takes seconds of a core to start, which a run's own warm host would spend anew for each run. What it
answers is the same (contract/test_warm_host.py), and tests marked `anew` show a run with the host itself.
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from spec_kitty_orchestrator.host import merge_driver, zygote
from spec_kitty_orchestrator.host.console_script import ConsoleScript
from spec_kitty_orchestrator.host.warm_process import WarmProcess

# Out of reach, as for an agent in a sandbox, it runs the host itself.
_PROGRAM = """\
#!{python}
import os, runpy, sys
os.environ[{variable!r}] = {token!r}
sys.argv[1:1] = [{host!r}, {address!r}]
runpy.run_path({driver!r}, run_name="__main__")
"""


@contextmanager
def serving(host: str, folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Yield the path of a `spec-kitty` in `folder`, or that of the host where it is no Python program."""
    with Path(host).open("rb") as file:
        words = shlex.split(file.readline(4096).removeprefix(b"#!").decode("utf-8", "replace"))
    if not words or not Path(words[0]).name.startswith("python"):
        yield host
        return
    started_as = ConsoleScript(tuple(words), host, "", dict(env))
    process = WarmProcess(started_as, host, folder, memoize=True, merge_drivers=False)
    try:
        assert process.first_answer() is not None, process.last_words()
        program = folder / "spec-kitty"
        program.write_text(
            _PROGRAM.format(
                python=words[0],
                variable=zygote.TOKEN_VARIABLE,
                token=process.token,
                host=host,
                address=process.address,
                driver=merge_driver.__file__,
            )
        )
        program.chmod(0o700)
        yield str(program)
    finally:
        process.end()
