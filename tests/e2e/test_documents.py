"""Work packages of code that own documents of their mission too, as older hosts planned them."""

import re
from collections.abc import Callable

import pytest
from tests.e2e.projects import Project, work_package

from spec_kitty_orchestrator.testing.missions import TOPOLOGIES, MissionSpec

pytestmark = pytest.mark.real_host

PLANNED = MissionSpec(
    (
        work_package(1, "src/one"),
        work_package(2, "src/two", ("WP01",)),
        work_package(3, "src/three", ("WP02",)),
    )
)
WRITTEN = """
[WP01.implement.edits]
"src/one/m01.py" = "one\\n"
".kittify/words.yaml" = "words\\n"
"kitty-specs/{slug}/data-model.md" = "model\\n"

[WP02.implement.edits]
"kitty-specs/{slug}/plan.md" = "plan\\n"
"kitty-specs/{slug}/contracts/api.md" = "api\\n"
"kitty-specs/{slug}/spec.md" = "not its own\\n"
"kitty-specs/{slug}/status.json" = "not its own\\n"
"""


def own_documents(mission: Project) -> None:
    """Let work packages own documents, which today's host does not plan, but carries out."""
    folder = mission.root / "kitty-specs" / mission.slug
    code = ("src/one/**", ".kittify/words.yaml", "data-model.md")
    for wp, owned in (("WP01", code), ("WP02", ("plan.md", "contracts/**"))):
        file = next((folder / "tasks").glob(f"{wp}*.md"))
        named = [one if one[0] in ".s" else f"kitty-specs/{mission.slug}/{one}" for one in owned]
        listed = "owned_files:\n" + "".join(f"- {one}\n" for one in named)
        text, found = re.subn(r"owned_files:\n(?:\s*- .*\n)+", listed, file.read_text())
        assert found == 1
        file.write_text(text)
    mission.git("commit", "--quiet", "--all", "--message", "docs: own documents")


@pytest.mark.parametrize(
    "topology", ["lanes_with_coord", *(pytest.param(one, marks=pytest.mark.long) for one in TOPOLOGIES[:3])]
)
def test_documents_that_a_work_package_owns_are_reviewed_and_merged_with_its_code(
    project: Callable[[MissionSpec], Project], topology: str
) -> None:
    mission = project(PLANNED.on(topology))
    own_documents(mission)
    folder = f"kitty-specs/{mission.slug}"
    spec = mission.git("show", f"feature/demo:{folder}/spec.md")
    mission.follow(WRITTEN.format(slug=mission.slug))
    done = mission.orchestrate("--merge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert mission.lanes() == {"WP01": "done", "WP02": "done", "WP03": "done"}
    head = mission.approved("WP02")
    changed = mission.git("show", "--name-only", "--format=", head).splitlines()
    assert changed == [f"{folder}/contracts/api.md", f"{folder}/plan.md"]
    found = {
        name: mission.git("show", f"feature/demo:{folder}/{name}")
        for name in ("data-model.md", "plan.md", "contracts/api.md", "spec.md")
    }
    assert found == {"data-model.md": "model", "plan.md": "plan", "contracts/api.md": "api", "spec.md": spec}
    assert mission.git("show", "feature/demo:.kittify/words.yaml") == "words"
    assert mission.git("show", "feature/demo:src/three/m03.py")
