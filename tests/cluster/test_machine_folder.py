"""The folder of a machine: private, found again, and one machine's own."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from spec_kitty_orchestrator.cluster import machine_folder
from spec_kitty_orchestrator.cluster.machine_folder import MachineFolder
from spec_kitty_orchestrator.errors import WorkspaceError


def restarted(monkeypatch: pytest.MonkeyPatch, boot: str) -> None:
    monkeypatch.setattr(machine_folder, "boot", lambda: boot)


def test_a_machine_is_found_again_under_its_name(tmp_path: Path) -> None:
    with closing(MachineFolder.open(tmp_path / "state")) as first:
        pass
    with closing(MachineFolder.open(tmp_path / "state")) as second:
        assert (second.path, second.name) == (first.path, first.name)
    assert first.path.parent == tmp_path / "state"


def test_a_folder_that_is_named_from_where_we_are_is_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(MachineFolder.open(Path("state"))) as folder:
        assert folder.path.parent == tmp_path / "state"


def test_several_processes_of_a_machine_share_its_folder(tmp_path: Path) -> None:
    with closing(MachineFolder.open(tmp_path)) as one, closing(MachineFolder.open(tmp_path)) as other:
        assert (one.path, one.name) == (other.path, other.name)


def test_only_its_owner_can_enter_it(tmp_path: Path) -> None:
    with closing(MachineFolder.open(tmp_path / "a" / "b")) as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    with closing(MachineFolder.open(tmp_path)) as folder:
        folder.path.chmod(0o755)
    with closing(MachineFolder.open(tmp_path)) as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_machine_keeps_its_name_when_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(MachineFolder.open(tmp_path)) as before:
        pass
    restarted(monkeypatch, "another-start")
    with closing(MachineFolder.open(tmp_path)) as after:
        assert after.name == before.name
        assert json.loads((after.path / "machine.json").read_text())["boot"] == "another-start"


def test_two_living_machines_of_one_name_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(MachineFolder.open(tmp_path)) as here:
        restarted(monkeypatch, "another-machine")
        with closing(MachineFolder.open(tmp_path)) as there:
            assert there.path != here.path
            assert there.name != here.name


def test_a_record_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    with closing(MachineFolder.open(tmp_path)) as before:
        (before.path / "machine.json").write_text("[1")
    with closing(MachineFolder.open(tmp_path)) as after:
        assert after.path == before.path
        assert after.name


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match=r"the machine's folder .*file cannot be used"):
        MachineFolder.open(tmp_path / "file")


def test_the_usual_place_is_that_of_the_state_of_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(tmp_path))
    with closing(MachineFolder.open()) as folder:
        assert folder.path.parent == tmp_path / "spec-kitty-orchestrator"
