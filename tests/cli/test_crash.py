"""A bug of ours: one message, exit code 3, and a private report without secrets."""

import stat
from pathlib import Path

import pytest

from spec_kitty_orchestrator import cli
from spec_kitty_orchestrator.errors import HostMissing, InvalidTransition

SECRET = "s3cr3t-value-of-a-provider"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("PROVIDER_API_KEY", SECRET)
    return tmp_path


def run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "command_line", lambda: fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_an_unexpected_error_is_reported_in_a_private_file(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ExceptionGroup("many", [ValueError(f"no {SECRET}")]), monkeypatch) == 3
    shown = capsys.readouterr().err
    (report,) = repository.rglob("crash-*.txt")
    assert str(report) in shown
    assert "Traceback" not in shown
    assert SECRET not in shown
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert "Traceback" in report.read_text()
    assert SECRET not in report.read_text()


def test_an_event_that_fits_no_edge_leaves_its_story(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(InvalidTransition("WP01", "no edge", ["claimed", "submitted"]), monkeypatch) == 3
    (report,) = repository.rglob("crash-*.txt")
    assert "claimed\nsubmitted" in report.read_text()


def test_an_expected_error_leaves_no_report(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ExceptionGroup("one", [HostMissing("no host")]), monkeypatch) == 3
    assert capsys.readouterr().err == "error: no host\n"
    assert not list(repository.rglob("crash-*"))
