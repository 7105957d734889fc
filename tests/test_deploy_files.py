"""The files that the documentation offers for a cluster are valid, and call what there is."""

import shlex
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from spec_kitty_orchestrator.app.worker import HAND_BACK_S
from spec_kitty_orchestrator.cli.worker import worker
from spec_kitty_orchestrator.machine.stopping import STOP_GRACE_S

FILES = Path(__file__).parents[1] / "docs" / "deploy" / "files"
LONGEST_LEAVE_S = HAND_BACK_S + STOP_GRACE_S
SCRIPTS = [path.name for path in sorted(FILES.iterdir()) if path.suffix in (".sh", ".sbatch")]


def unit(name: str) -> ConfigParser:
    read = ConfigParser(interpolation=None, delimiters=("=",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((FILES / name).read_text().replace("\\\n", ""))
    return read


def manifests() -> list[Any]:
    return list(YAML(typ="safe").load_all(FILES / "kubernetes.yaml"))


def calls() -> list[list[str]]:
    """Return the words of each call of `worker` in the files."""
    texts = [unit("worker.service")["Service"]["ExecStart"]]
    texts += (FILES / "worker.sbatch").read_text().replace("\\\n", "").splitlines()
    found = [shlex.split(one) for one in texts if "orchestrator worker" in one]
    pods = [one["spec"]["template"]["spec"] for one in manifests() if one["kind"] == "StatefulSet"]
    return found + [container["command"] for pod in pods for container in pod["containers"]]


def test_each_call_of_a_worker_has_options_that_there_are() -> None:
    app = typer.Typer()
    app.command()(worker)
    command = typer.main.get_command(app)
    assert len(calls()) == 3
    for words in calls():
        given = [one for one in words[words.index("worker") + 1 :] if one != "&"]
        with command.make_context("worker", given) as context:
            assert str(context.params["address"]).startswith("tls://")
            assert all(context.params[name] for name in ("tls_ca", "tls_cert", "tls_key"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_one(name: str) -> None:
    shell = "bash" if name.endswith(".sbatch") else "sh"
    subprocess.run([shell, "-n", FILES / name], check=True)


def test_a_worker_has_the_time_to_hand_its_work_back() -> None:
    service = unit("worker.service")["Service"]
    assert service["Restart"] == "always"
    assert int(service["TimeoutStopSec"]) > LONGEST_LEAVE_S
    pod = next(one for one in manifests() if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > LONGEST_LEAVE_S
    assert "--signal=B:TERM@180" in (FILES / "worker.sbatch").read_text()
    assert LONGEST_LEAVE_S < 180


def test_what_pods_mount_is_there() -> None:
    for one in manifests():
        if one["kind"] not in ("Deployment", "StatefulSet"):
            continue
        spec = one["spec"]
        pod = spec["template"]["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == volumes
