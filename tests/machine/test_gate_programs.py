"""Which program a gate would run, seen without running it."""

from pathlib import Path

import pytest

from spec_kitty_orchestrator.machine.gates import missing_program

SHELL = ("/bin/sh", "-c")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("there", "x"), None),
        (("nosuch", "x"), "nosuch"),
        (("./here",), None),
        (("./plain",), "./plain"),
        (("./gone",), "./gone"),
        (("/bin/sh", "./script.sh"), None),
        ((*SHELL, "there -q | nosuch"), None),
        ((*SHELL, "nosuch -q"), "nosuch"),
        ((*SHELL, "nosuch|there"), "nosuch"),
        ((*SHELL, "A=1 B=x nosuch"), "nosuch"),
        ((*SHELL, "A='x y' nosuch"), None),
        ((*SHELL, "A=1 there"), None),
        ((*SHELL, "cd src && nosuch"), None),
        ((*SHELL, "test -f x"), None),
        ((*SHELL, "(nosuch)"), None),
        ((*SHELL, "! nosuch"), None),
        ((*SHELL, "if there; then nosuch; fi"), None),
        ((*SHELL, '"nosuch"'), None),
        ((*SHELL, "$TOOL x"), None),
        ((*SHELL, "'unbalanced"), None),
        ((*SHELL, "A=1"), None),
        ((*SHELL, "~nosuchuser/x -q"), "~nosuchuser/x"),
        ((*SHELL, "# a comment"), None),
        ((*SHELL, "./gone --all"), "./gone"),
        ((*SHELL, "PATH=$PWD/node_modules/.bin:$PATH nosuch ."), None),
        ((*SHELL, "export PATH=x; nosuch"), None),
        ((*SHELL, "MYPATH=x nosuch"), "nosuch"),
        ((*SHELL, "nosuch . || true"), None),
        ((*SHELL, "f() { :; }; f"), None),
        ((*SHELL, "f () { :; }; f"), None),
    ],
)
def test_a_program_is_missing_only_where_that_is_sure(
    tmp_path: Path, command: tuple[str, ...], missing: str | None
) -> None:
    for file in (tmp_path / "bin" / "there", tmp_path / "root" / "here", tmp_path / "root" / "plain"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o644 if file.name == "plain" else 0o755)
    assert missing_program(command, tmp_path / "root", {"PATH": str(tmp_path / "bin")}) == missing
